"""Statistics of all objects of a label volume in one pass, from the whole or from blocks that are added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology.euler import euler_numbers
from voxel_ext.morphology.moments import (
    Geometry,
    Intensity,
    geometry_of_runs,
    intensity_of_runs,
    merge_geometry,
    merge_intensity,
)
from voxel_ext.morphology.runs import check_labels, find_runs

Triple = tuple[int, int, int]

_VOXELS_AT_ONCE = 1 << 21

_Rows = TypeVar("_Rows")


@dataclass(frozen=True)
class ObjectStatistics:
    """Statistics of N objects, or of what lies of them in a block.

    Attributes:
        id: (N,) int64, ascending.
        geometry: voxel count, bounding box, centroid and second moments, in voxels of the volume.
        euler_number: (N,) int64, see ``euler_numbers``; None if not asked for. Of a block, what it adds.
        intensity: of an image in the objects' voxels; None without an image.
    """

    id: NDArray[np.int64]
    geometry: Geometry
    euler_number: NDArray[np.int64] | None = None
    intensity: Intensity | None = None

    def __len__(self) -> int:
        return len(self.id)

    @property
    def voxels(self) -> NDArray[np.int64]:
        """(N,) number of voxels."""
        return self.geometry.voxels

    @property
    def covariance(self) -> NDArray[np.float64]:
        """(N, 3, 3) second central moments of the voxels' centers, divided by the number of voxels; in voxels^2."""
        return self.geometry.scatter / np.maximum(self.voxels, 1)[:, None, None]

    @property
    def extent(self) -> NDArray[np.float64]:
        """(N,) fraction of the bounding box that the object fills."""
        return self.voxels / np.prod(self.geometry.upper - self.geometry.lower, axis=1, dtype=np.float64)

    def touches_border(self, shape: Sequence[int]) -> NDArray[np.bool_]:
        """(N,) whether an object has a voxel in the first or last plane of an axis; axes of length 1 do not count.

        Args:
            shape: (D, H, W) of the volume.
        """
        size = np.asarray(shape)
        touching = (self.geometry.lower == 0) | (self.geometry.upper == size)
        return (touching & (size > 1)).any(axis=1)

    def select(self, kept: NDArray[Any]) -> ObjectStatistics:
        """Return some of the objects.

        Args:
            kept: (N,) booleans, or indices.
        """
        return ObjectStatistics(
            self.id[kept],
            _map(self.geometry, kept),
            None if self.euler_number is None else self.euler_number[kept],
            None if self.intensity is None else _map(self.intensity, kept),
        )


def measure_objects(
    labels: NDArray,
    image: NDArray | None = None,
    *,
    euler: bool = True,
    origin: Triple = (0, 0, 0),
    overlap: Triple = (0, 0, 0),
    volume_shape: Triple | None = None,
    name: str = "labels",
) -> ObjectStatistics:
    """Measure all objects of a label volume, or what lies of them in a block; add blocks by :func:`merge_statistics`.

    An object is all voxels with its id, connected or not. Runs along x are found and summed up in closed form, so that
    the time does not depend on the number of objects. Memory beside the arrays: about 30 bytes for each of 2 million
    voxels (or of one plane, where that has more), and about 200 bytes per object.

    Args:
        labels: (D, H, W) integers from 0 (background) to 2**63 - 1.
        image: (D, H, W) intensities of the voxels that are measured (those from ``overlap`` on); None for none.
        euler: also compute Euler numbers.
        origin: position (z, y, x) in the volume of the block's first voxel that is measured.
        overlap: (z, y, x), 0 or 1: how many planes before ``origin`` the arrays have. They are not measured, but Euler
            numbers need one along every axis where ``origin`` is not 0.
        volume_shape: (D, H, W) of the volume that a block is part of; None for a whole volume.
        name: what the labels are called in messages.

    Returns:
        a row per id. With an overlap there may be rows of 0 voxels: objects that end there, whose Euler number needs
        them.

    Raises:
        InvalidInputError: labels that are no integers, negative or too large ids; an image of another shape, that is
            not real or has NaN or infinite values in an object; a place of the block that is not in the volume.
    """
    check_labels(labels, name)
    shape = (labels.shape[0], labels.shape[1], labels.shape[2])
    core = (shape[0] - overlap[0], shape[1] - overlap[1], shape[2] - overlap[2])
    if image is not None:
        _check_image(image, core, name)
    ends = (origin[0] + core[0], origin[1] + core[1], origin[2] + core[2])
    whole = ends if volume_shape is None else volume_shape
    _check_place(origin, overlap, ends, whole, euler)
    if 0 in shape:
        return merge_statistics([_empty(euler, image is not None)])
    step = max(_VOXELS_AT_ONCE // (shape[1] * shape[2]), 1)
    parts = []
    for first in range(overlap[0], shape[0], step):
        low = first - (1 if first > overlap[0] else overlap[0])
        rows = slice(low, min(first + step, shape[0]))
        place = (origin[0] + first - overlap[0], origin[1], origin[2])
        part_overlap = (first - low, overlap[1], overlap[2])
        padding = (rows.stop == shape[0] and ends[0] == whole[0], ends[1] == whole[1], ends[2] == whole[2])
        values = None if image is None else image[first - overlap[0] : rows.stop - overlap[0]]
        parts.append(_measure(labels[rows], values, place, part_overlap, padding, euler, name))
    return merge_statistics(parts)


def _measure(
    labels: NDArray,
    image: NDArray | None,
    origin: Triple,
    overlap: Triple,
    last: tuple[bool, bool, bool],
    euler: bool,
    name: str,
) -> ObjectStatistics:
    """Measure a slab; ``last`` tells along which axes it is the last of the volume."""
    runs, volume = find_runs(labels, name)
    start = (origin[0] - overlap[0], origin[1] - overlap[1], origin[2] - overlap[2])
    kept = runs.crop(overlap)
    numbers = None
    if euler:
        pads = [(1 - before, int(after)) for before, after in zip(overlap, last, strict=True)]
        numbers = euler_numbers(np.pad(volume, pads), len(runs.ids))
    intensity = None if image is None else intensity_of_runs(kept, image, overlap)
    return ObjectStatistics(runs.ids, geometry_of_runs(kept, start), numbers, intensity)


def merge_statistics(parts: Sequence[ObjectStatistics]) -> ObjectStatistics:
    """Add up the statistics of blocks that divide a volume.

    Objects are told apart by their ids alone. Counts, bounding boxes, least and greatest intensities and Euler numbers
    are exact; centroids and moments are added relative to the object, with rounding errors of float64.

    Args:
        parts: at least one; all with or all without an image, Euler numbers likewise.

    Returns:
        a row per id that has voxels or an Euler number in any of the parts.

    Raises:
        InvalidInputError: no parts, or parts of different kinds.
    """
    if not parts:
        raise InvalidInputError("there are no statistics to merge; expected at least one part")
    kinds = {(part.euler_number is None, part.intensity is None) for part in parts}
    if len(kinds) > 1:
        raise InvalidInputError(
            "statistics with and without an image, or with and without Euler numbers, cannot be merged; measure all "
            "blocks with the same settings"
        )
    if len(parts) == 1:
        return _without_nothing(parts[0])
    ids, index = np.unique(np.concatenate([part.id for part in parts]), return_inverse=True)
    count = len(ids)
    geometry = _join([part.geometry for part in parts])
    merged = merge_geometry(geometry, index, count)
    intensity, euler = None, None
    if parts[0].intensity is not None:
        joined = _join([part.intensity for part in parts if part.intensity is not None])
        intensity = merge_intensity(joined, geometry.voxels, index, count)
    if parts[0].euler_number is not None:
        euler = np.zeros(count, np.int64)
        np.add.at(euler, index, np.concatenate([p.euler_number for p in parts if p.euler_number is not None]))
    return _without_nothing(ObjectStatistics(ids, merged, euler, intensity))


def _without_nothing(statistics: ObjectStatistics) -> ObjectStatistics:
    """Leave out rows that neither have voxels nor change an Euler number."""
    kept = statistics.voxels > 0
    if statistics.euler_number is not None:
        kept = kept | (statistics.euler_number != 0)
    return statistics if kept.all() else statistics.select(kept)


def _map(rows: _Rows, kept: NDArray[Any]) -> _Rows:
    return type(rows)(*(getattr(rows, field.name)[kept] for field in fields(rows)))  # type: ignore[arg-type]


def _join(parts: Sequence[_Rows]) -> _Rows:
    names = [field.name for field in fields(parts[0])]  # type: ignore[arg-type]
    return type(parts[0])(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _empty(euler: bool, image: bool) -> ObjectStatistics:
    corner, number = np.empty((0, 3), np.int64), np.empty(0)
    geometry = Geometry(np.empty(0, np.int64), corner, corner, np.empty((0, 3)), np.empty((0, 3, 3)))
    intensity = Intensity(number, number, number, number) if image else None
    return ObjectStatistics(np.empty(0, np.int64), geometry, np.empty(0, np.int64) if euler else None, intensity)


def _check_image(image: NDArray, shape: Triple, name: str) -> None:
    if image.shape != shape:
        raise InvalidInputError(
            f"the image has shape {image.shape}, but {name} has {shape}; expected the same (D, H, W)"
        )
    if image.dtype.kind not in "biuf":
        raise InvalidInputError(f"the image has data type {image.dtype}; expected real numbers or integers")


def _check_place(origin: Triple, overlap: Triple, ends: Triple, whole: Triple, euler: bool) -> None:
    for axis, start, before, end, length in zip("zyx", origin, overlap, ends, whole, strict=True):
        if before not in (0, 1) or start < before or not start <= end <= length:
            raise InvalidInputError(
                f"the block from {start} to {end} along {axis}, with an overlap of {before}, does not lie in the "
                f"volume of length {length}; expected an overlap of 0 or 1, and of 1 only where origin is not 0"
            )
        if euler and start > 0 and before == 0:
            raise InvalidInputError(
                f"the block begins at {start} along {axis} without an overlap; Euler numbers need the plane before it: "
                "give overlap=1 there, or euler=False"
            )
