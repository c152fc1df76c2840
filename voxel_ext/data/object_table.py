"""The table of all objects of a label volume larger than memory, from one pass over its blocks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm.auto import tqdm

from voxel_ext.data.label_scan import Box, scan_blocks
from voxel_ext.data.lazy_volume import LazyVolume, open_volume
from voxel_ext.data.object_bounds import check_bounds, keep_objects
from voxel_ext.data.scheduling import block_scheduler
from voxel_ext.errors import InvalidInputError, MissingDataError, check_sizes, require
from voxel_ext.morphology.object_columns import check_voxel_size, statistics_table
from voxel_ext.morphology.runs import check_label_type
from voxel_ext.morphology.spatial_density import SpatialGrid, count_labeled, spatial_density
from voxel_ext.morphology.statistics import ObjectStatistics, measure_objects, merge_statistics

if TYPE_CHECKING:
    import pandas

Source = str | os.PathLike[str] | LazyVolume | ArrayLike

NM_PER_UM = 1000.0

_BLOCK_VOXELS = 1 << 24
_ROWS_AT_ONCE = 1 << 18


def object_statistics(
    labels: Source,
    image: Source | None = None,
    voxel_size: Sequence[float] | None = None,
    *,
    bounds: Sequence[int | None] = (None, None),
    exclude_border: bool = False,
    euler: bool = True,
    density_blocks: int | None = None,
    scheduler: str | None = None,
    num_workers: int = 0,
    block_size: Sequence[int] | int | None = None,
    progress: bool = True,
) -> pandas.DataFrame:
    """Measure all objects of a label volume block by block; objects that lie in many blocks are put together by id.

    Memory: per worker a block of at most 16 million voxels of the labels and of the image (or a stored chunk, where
    that is larger) and about as much again for reading; and about 400 bytes per object. With Euler numbers, blocks are
    read with one voxel more before them, which reads the chunks at their borders more than once.

    Args:
        labels: path of a volume (zarr, HDF5, .npy, NIfTI, TIFF; an array in a container as ``a.h5/labels``), an opened
            one, or an array (D, H, W): integers from 0 (background) to 2**63 - 1.
        image: intensities of the same shape, for the columns ``intensity_...``; None for none.
        voxel_size: (z, y, x) in nm; None for that of the labels' file, or else of the image's.
        bounds: least and greatest number of voxels of the objects to keep, both included; None for no bound.
        exclude_border: leave out objects that touch the border of the volume.
        euler: also compute Euler numbers.
        density_blocks: n of a grid of n x n x n blocks over the volume, for two columns more: ``block_objects``, the
            number of objects (all of the volume) with their centroid in the same block as this one, and
            ``block_volume_fraction``, the fraction of that block that belongs to objects. None for none.
        scheduler: see ``block_scheduler``.
        num_workers: processes on this machine; 0 for this one.
        block_size: (z, y, x) in voxels of the blocks; None for whole chunks.
        progress: show a bar.

    Returns:
        one row per object, ascending by ``id``; the columns are those of ``statistics_table``. It does not depend on
        the number of workers; other blocks change rounding errors only.

    Raises:
        InvalidInputError: labels that are not integers, or have negative or too large ids; an image of another shape or
            with values that are not finite; no voxel size, or two different ones; a volume of several channels; no
            objects, or none that is kept (tells which sizes there are).
        MissingDataError: a file does not exist.
        MissingDependencyError: pandas is not installed.
    """
    require("pandas", extra="em")  # before the work
    lower, upper = check_bounds(bounds)
    volume = open_single(labels, "labels")
    check_label_type(volume.dtype, volume.address)
    picture = None if image is None else open_single(image, "image")
    if picture is not None and picture.spatial_shape != volume.spatial_shape:
        raise InvalidInputError(
            f"{picture.address} has shape {picture.spatial_shape}, but {volume.address} has {volume.spatial_shape}; "
            "expected an image and labels of the same (D, H, W)"
        )
    size = find_voxel_size(voxel_size, volume, picture)
    grid = None if density_blocks is None else SpatialGrid(volume.spatial_shape, density_blocks)
    boxes = _blocks(volume, block_size, euler)
    # a process takes longer to start than one block to measure
    workers = num_workers if scheduler or len(boxes) > 1 else 0
    found = block_scheduler(scheduler, workers).run(_measure_block, boxes, (volume, picture, euler, grid))
    with tqdm(found, "measuring objects", len(boxes), unit="block", disable=not progress) as results:
        statistics, labeled = _add_up(results, grid)
    table = statistics_table(statistics, volume.spatial_shape, size)
    if grid is not None and labeled is not None:
        density = spatial_density(labeled, statistics.geometry.centroid, grid)
        place = tuple(grid.locate(statistics.geometry.centroid).T)
        table["block_objects"] = density.count[place]
        table["block_volume_fraction"] = density.volume_fraction[place]
    return keep_objects(table, lower, upper, exclude_border, volume.address)


def find_voxel_size(
    voxel_size: Sequence[float] | None, labels: LazyVolume, image: LazyVolume | None = None
) -> tuple[float, float, float]:
    """Return the voxel size (z, y, x) in nm: the one given, else that of the files.

    Args:
        voxel_size: in nm, or None.
        labels: the label volume.
        image: an image of the same objects, or None.

    Raises:
        InvalidInputError: not three positive numbers; none given where the files have none, or two different ones.
    """
    if voxel_size is not None:
        return check_voxel_size(voxel_size)
    sizes = [(volume, volume.voxel_size) for volume in (labels, image) if volume is not None and volume.voxel_size]
    if not sizes:
        raise InvalidInputError(
            f"{labels.address} does not tell its voxel size; give voxel_size=(z, y, x) in nanometers, for example "
            "(30, 8, 8), or (1, 1, 1) to have lengths in voxels"
        )
    if len(sizes) == 2 and not np.allclose(sizes[0][1], sizes[1][1], rtol=1e-3):
        raise InvalidInputError(
            f"{sizes[0][0].address} has a voxel size of {sizes[0][1]} and {sizes[1][0].address} of {sizes[1][1]} (z, "
            "y, x; micrometers); give the right one as voxel_size, in nanometers"
        )
    return check_voxel_size([float(value) * NM_PER_UM for value in sizes[0][1]])


def open_single(source: Source, name: str) -> LazyVolume:
    """Open a volume of one channel.

    Args:
        source: see ``open_volume``.
        name: what it is, for messages.

    Raises:
        InvalidInputError: it has several channels, or as ``open_volume``.
        MissingDataError: the path is empty, or as ``open_volume``.
    """
    if isinstance(source, str | os.PathLike) and os.fspath(source) == "":
        raise MissingDataError(f"no {name} are given: {name}={str(source)!r}; set {name} to the path of a volume")
    volume = source if isinstance(source, LazyVolume) else open_volume(source, name=name)
    if volume.shape[0] != 1:
        raise InvalidInputError(f"{volume.address} has {volume.shape[0]} channels; expected {name} (D, H, W) with one")
    return volume


def _blocks(volume: LazyVolume, block_size: Sequence[int] | int | None, euler: bool) -> list[Box]:
    """Blocks of whole chunks; twice as long where voxels before them are read, too."""
    shape = volume.spatial_shape
    if block_size is not None:
        steps = check_sizes("block_size", block_size)
        ranges = [range(0, length, step) for length, step in zip(shape, steps, strict=True)]
        corners = [(z, y, x) for z in ranges[0] for y in ranges[1] for x in ranges[2]]
        return [_box(corner, steps, shape) for corner in corners]
    boxes = scan_blocks(shape, volume.chunks)
    doubled = [2 * part.stop for part in boxes[0]]
    return scan_blocks(shape, doubled) if euler and int(np.prod(doubled)) <= _BLOCK_VOXELS else boxes


def _box(corner: Sequence[int], steps: Sequence[int], shape: Sequence[int]) -> Box:
    z, y, x = (slice(c, min(c + step, n)) for c, step, n in zip(corner, steps, shape, strict=True))
    return z, y, x


Common = tuple[LazyVolume, LazyVolume | None, bool, SpatialGrid | None]
Part = tuple[ObjectStatistics, NDArray[np.int64] | None]


def _measure_block(box: Box, common: Common) -> Part:
    """Read and measure one block, with a voxel more before it for Euler numbers."""
    volume, picture, euler, grid = common
    origin = (box[0].start, box[1].start, box[2].start)
    z, y, x = (int(euler and start > 0) for start in origin)
    wider = [slice(part.start - more, part.stop) for part, more in zip(box, (z, y, x), strict=True)]
    labels = volume.read(wider)[0]
    image = None if picture is None else picture.read(box)[0]
    statistics = measure_objects(
        labels,
        image,
        euler=euler,
        origin=origin,
        overlap=(z, y, x),
        volume_shape=volume.spatial_shape,
        name=volume.address,
    )
    return statistics, None if grid is None else count_labeled(labels[z:, y:, x:], grid, origin)


def _in_order(results: Iterator[tuple[int, Part]]) -> Iterator[Part]:
    """The results of blocks in the blocks' order, in which sums are always rounded the same way."""
    waiting: dict[int, Part] = {}
    following = 0
    for index, result in results:
        waiting[index] = result
        while following in waiting:
            yield waiting.pop(following)
            following += 1


def _add_up(results: Any, grid: SpatialGrid | None) -> Part:
    labeled = None if grid is None else np.zeros((grid.blocks,) * 3, np.int64)
    parts: list[ObjectStatistics] = []
    rows = 0
    for statistics, counts in _in_order(iter(results)):
        parts.append(statistics)
        rows += len(statistics)
        if labeled is not None and counts is not None:
            labeled += counts
        # rarely, so that the work stays proportional to the number of rows
        if rows > max(_ROWS_AT_ONCE, 2 * len(parts[0])):
            parts = [merge_statistics(parts)]
            rows = len(parts[0])
    return merge_statistics(parts), labeled
