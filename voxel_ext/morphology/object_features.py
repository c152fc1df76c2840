"""The table of classical features: sizes, distances, surfaces, skeletons and intensities of all objects of a volume."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from voxel_ext.errors import InvalidInputError, require
from voxel_ext.morphology.feature_names import CROP_GROUPS, FEATURE_GROUPS, name_features
from voxel_ext.morphology.mesh_features import default_smoothing, mesh_features
from voxel_ext.morphology.object_columns import (
    check_voxel_size,
    columns_of,
    neighbor_columns,
    objects_in_block,
    statistics_table,
)
from voxel_ext.morphology.skeleton_features import skeleton_features
from voxel_ext.morphology.slice_features import slice_features
from voxel_ext.morphology.spatial_density import SpatialGrid, count_labeled
from voxel_ext.morphology.statistics import ObjectStatistics, measure_objects
from voxel_ext.morphology.thickness import thickness_features
from voxel_ext.processes import worker_context

if TYPE_CHECKING:
    import pandas

_BYTES_PER_VOXEL = 120  # of an object's padded bounding box, measured for a sponge; less for smooth objects
_IN_FLIGHT = 4  # masks per worker that wait


def check_features(features: str | Sequence[str], image: bool) -> tuple[str, ...]:
    """Return the names of groups of features, each once.

    Args:
        features: see ``name_features``.
        image: whether there is an image; without, ``"all"`` has no ``intensity``.

    Raises:
        InvalidInputError: as ``name_features``.
    """
    return tuple(dict.fromkeys(name_features(features, image).values()))


def crop_features(
    mask: ArrayLike, voxel_size: Sequence[float] = (1, 1, 1), groups: Sequence[str] = CROP_GROUPS
) -> dict[str, float]:
    """Measure one object on its own.

    Args:
        mask: (D, H, W), not 0 inside the object; what is beyond the array counts as outside.
        voxel_size: (z, y, x) in nm.
        groups: of features; those not in :data:`CROP_GROUPS` need other objects and are passed over.

    Returns:
        the values by column, see :data:`FEATURE_GROUPS`; of ``shape`` those of the mesh.

    Raises:
        InvalidInputError: an empty mask, or one of another shape or type; a voxel size that is not valid.
        MissingDependencyError: edt is not installed.
    """
    found: dict[str, float] = {}
    if {"sphericity", "surface_to_volume", "shape"} & set(groups):
        found.update(mesh_features(mask, voxel_size, curvature="shape" in groups))
    if "skeleton" in groups:
        found.update(skeleton_features(mask, voxel_size))
    if "thickness" in groups:
        found.update(thickness_features(mask, voxel_size))
    if "slices" in groups:
        found.update(slice_features(mask, voxel_size))
    wanted = {column for group in groups for column in FEATURE_GROUPS[group]}
    return {column: value for column, value in found.items() if column in wanted}


def check_crop_memory(
    ids: NDArray[np.int64],
    extents: NDArray[np.int64],
    voxel_size: tuple[float, float, float],
    limit_gib: float,
    name: str = "memory_gib",
) -> None:
    """Refuse objects that take too much memory to be measured by :func:`crop_features`.

    Args:
        ids: (N,) of the objects.
        extents: (N, 3) of their bounding boxes in voxels (z, y, x).
        voxel_size: (z, y, x) in nm.
        limit_gib: most memory that one object may take, in GiB.
        name: of the setting of the limit, for the message.

    Raises:
        InvalidInputError: an object takes more; names the largest and what it needs.
    """
    border = 2 * np.ceil(3 * default_smoothing(voxel_size) / np.array(voxel_size) + 2)
    needed = np.prod(extents + border, axis=1) * _BYTES_PER_VOXEL / 2**30
    if (needed > limit_gib).any():
        worst, many = int(needed.argmax()), int((needed > limit_gib).sum())
        others = f" (and {many - 1} more do, too)" if many > 1 else ""
        raise InvalidInputError(
            f"the object {ids[worst]} has a bounding box of {extents[worst].tolist()} voxels, which takes "
            f"about {needed[worst]:.1f} GiB, more than {name}={limit_gib}{others}; raise it, set the upper one of "
            "bounds so that the object is left out, or measure the volume at a lower resolution"
        )


def object_features(
    labels: NDArray[np.integer],
    image: NDArray | None = None,
    voxel_size: Sequence[float] = (1, 1, 1),
    features: str | Sequence[str] = "all",
    *,
    bounds: tuple[int | None, int | None] | None = None,
    exclude_border: bool = False,
    num_workers: int = 0,
    progress: bool = True,
    neighbors: int = 5,
    radius_nm: float = 2000.0,
    density_blocks: int = 8,
    memory_gib: float = 4.0,
) -> pandas.DataFrame:
    """Measure all objects of a label volume.

    Statistics of all objects come from one pass over the labels; meshes, skeletons and depths from each object's
    bounding box. An object is all voxels with its id, connected or not. The volume's border closes objects that it
    cuts; ``exclude_border`` leaves them out. ``distance`` and ``density`` look at all objects within the bounds, also
    those left out at the border.

    Args:
        labels: (D, H, W) integers from 0 (background) to 2**63 - 1.
        image: (D, H, W) intensities; None for none.
        voxel_size: (z, y, x) in nm.
        features: ``"all"`` or names of groups, see ``name_features``.
        bounds: least and largest number of voxels, both inclusive; None for no bound.
        exclude_border: leave out objects that touch the border of the volume.
        num_workers: processes that measure objects; 0 for this one. They are spawned, so a script needs
            ``if __name__ == "__main__":``.
        progress: show a progress bar.
        neighbors: how many nearest objects ``mean_neighbor_nm`` is of.
        radius_nm: of the ball in which neighbors are counted.
        density_blocks: n of the n x n x n blocks of ``density``, less where the shortest axis has fewer voxels; an
            object has the values of the block where its centroid is.
        memory_gib: most memory that one object may take, estimated from its bounding box.

    Returns:
        a row per object with ``id`` and the columns of the groups, sorted by id. All values are finite, but
        ``nearest_neighbor_nm`` and ``mean_neighbor_nm`` of a single object, NaN as there is no other.

    Raises:
        InvalidInputError: labels that are no ids (D, H, W); an image of another shape; names, sizes or bounds that are
            not valid; no object within the bounds; an object too large for ``memory_gib``.
        MissingDependencyError: pandas or edt is not installed.
    """
    size, groups = check_voxel_size(voxel_size), check_features(features, image is not None)
    lower, upper = _check_bounds(bounds)
    if num_workers < 0:
        raise InvalidInputError(f"num_workers={num_workers}; expected 0 or a number of processes")
    statistics = measure_objects(labels, image if "intensity" in groups else None, euler="shape" in groups)
    counted = statistics.select((statistics.voxels >= lower) & (statistics.voxels <= upper))
    kept = ~(counted.touches_border(labels.shape) & exclude_border)
    if not kept.any():
        raise InvalidInputError(_nothing_left(statistics.voxels, len(counted), bounds))
    table = statistics_table(counted, labels.shape, size)
    if "distance" in groups:
        table = table.assign(**neighbor_columns(table, neighbors, radius_nm))
    if "density" in groups:
        table = table.assign(**_density_columns(labels, table, density_blocks))
    table = table[kept].reset_index(drop=True)
    on_crops = tuple(group for group in groups if group in CROP_GROUPS)
    if on_crops:
        rows = _measure_crops(labels, counted.select(kept), size, on_crops, num_workers, progress, memory_gib)
        table = table.assign(**require("pandas", extra="em").DataFrame(rows))
    return table[["id", *columns_of(groups)]]


def _measure_crops(
    labels: NDArray,
    statistics: ObjectStatistics,
    voxel_size: tuple[float, float, float],
    groups: tuple[str, ...],
    num_workers: int,
    progress: bool,
    memory_gib: float,
) -> list[dict[str, float]]:
    """Measure objects one by one, here or in processes; rows are in the order of the statistics."""
    check_crop_memory(statistics.id, statistics.geometry.upper - statistics.geometry.lower, voxel_size, memory_gib)
    jobs = ((mask, voxel_size, groups) for mask in _masks(labels, statistics))
    bar = tqdm(total=len(statistics), desc="object features", unit="object", disable=not progress)
    results = (crop_features(*job) for job in jobs) if not num_workers else _in_processes(jobs, num_workers)
    rows = []
    with bar:
        for row in results:
            rows.append(row)
            bar.update()
    return rows


def _in_processes(jobs: Iterable[tuple], num_workers: int) -> Iterator[dict[str, float]]:
    """Yield results in order; only a few masks wait at a time."""
    waiting: deque[Future[dict[str, float]]] = deque()
    with ProcessPoolExecutor(num_workers, mp_context=worker_context()) as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(crop_features, *job))
                if len(waiting) >= _IN_FLIGHT * num_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _masks(labels: NDArray, statistics: ObjectStatistics) -> Iterator[NDArray[np.bool_]]:
    geometry = statistics.geometry
    for number, lower, upper in zip(statistics.id, geometry.lower, geometry.upper, strict=True):
        box = tuple(slice(int(a), int(b)) for a, b in zip(lower, upper, strict=True))
        yield labels[box] == labels.dtype.type(number)


def _density_columns(labels: NDArray, table: pandas.DataFrame, blocks: int) -> dict[str, NDArray]:
    shape = (labels.shape[0], labels.shape[1], labels.shape[2])
    grid = SpatialGrid(shape, min(blocks, *shape))
    place, count = objects_in_block(table, grid)
    return {"block_objects": count, "block_volume_fraction": (count_labeled(labels, grid) / grid.volumes)[place]}


def _check_bounds(bounds: tuple[int | None, int | None] | None) -> tuple[float, float]:
    lower, upper = (None, None) if bounds is None else bounds
    low, high = 0 if lower is None else lower, np.inf if upper is None else upper
    if not 0 <= low <= high:
        raise InvalidInputError(
            f"bounds={bounds!r}; expected the least and the largest number of voxels, in this order, or None"
        )
    return low, high


def _nothing_left(voxels: NDArray[np.int64], within: int, bounds: Any) -> str:
    if not len(voxels):
        return "the labels have no objects: all voxels are 0"
    if not within:
        sizes = f"{voxels.min()} to {voxels.max()} voxels"
        return f"none of {len(voxels)} objects is within bounds={bounds!r} voxels; they have {sizes}"
    return f"all {within} objects within the bounds touch the border of the volume; set exclude_border=False"
