"""How densely objects lie in each block of a regular grid over a volume (``spatial_densityf``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology.runs import check_labels


@dataclass(frozen=True)
class SpatialGrid:
    """A volume divided into n x n x n blocks; block k of an axis of length L is the voxels kL/n to (k + 1)L/n, rounded.

    Args:
        shape: (D, H, W) of the volume.
        blocks: n.

    Raises:
        InvalidInputError: n is not from 1 to the shortest axis of the volume.
    """

    shape: tuple[int, int, int]
    blocks: int

    def __post_init__(self) -> None:
        if not isinstance(self.blocks, Integral) or isinstance(self.blocks, bool) or self.blocks < 1:
            raise InvalidInputError(f"blocks={self.blocks!r}; expected a positive whole number of blocks per axis")
        if min(self.shape) < self.blocks:
            raise InvalidInputError(
                f"a volume of shape {tuple(self.shape)} cannot be divided into {self.blocks} blocks per axis; expected "
                f"at most {min(self.shape)}"
            )

    def edges(self, axis: int) -> NDArray[np.int64]:
        """First voxel of each block along an axis, and the end of the last: (n + 1,) int64."""
        return np.arange(self.blocks + 1, dtype=np.int64) * self.shape[axis] // self.blocks

    @property
    def volumes(self) -> NDArray[np.int64]:
        """(n, n, n) voxels of each block."""
        z, y, x = (np.diff(self.edges(axis)) for axis in range(3))
        return z[:, None, None] * y[:, None] * x

    def locate(self, positions: ArrayLike) -> NDArray[np.int64]:
        """Find the block of each position.

        Args:
            positions: (N, 3) in voxels; those outside count to the nearest block.

        Returns:
            (N, 3) indices of blocks.
        """
        # the voxel k reaches from k - 1/2 to k + 1/2
        voxels = np.floor(np.asarray(positions, np.float64).reshape(-1, 3) + 0.5)
        found = [np.searchsorted(self.edges(axis), voxels[:, axis], side="right") - 1 for axis in range(3)]
        return np.clip(np.stack(found, axis=1), 0, self.blocks - 1)


@dataclass(frozen=True)
class SpatialDensity:
    """Objects in each block of a grid.

    Attributes:
        count: (n, n, n) objects whose centroid lies in the block, int64; the sum is the number of objects.
        volume_fraction: (n, n, n) fraction of the block's voxels that belong to objects.
    """

    count: NDArray[np.int64]
    volume_fraction: NDArray[np.float64]


def count_labeled(labels: NDArray, grid: SpatialGrid, origin: Sequence[int] = (0, 0, 0)) -> NDArray[np.int64]:
    """Count the labeled voxels of each block of a grid; counts of the parts of a volume are to be added.

    Args:
        labels: (D, H, W) integers, 0 for background: the volume, or a part of it.
        grid: over the whole volume.
        origin: position (z, y, x) of the part's first voxel.

    Returns:
        (n, n, n) int64.

    Raises:
        InvalidInputError: labels that are no integers (D, H, W), or outside the volume of the grid.
    """
    check_labels(labels)
    ends = [start + length for start, length in zip(origin, labels.shape, strict=True)]
    if min(origin) < 0 or any(end > length for end, length in zip(ends, grid.shape, strict=True)):
        raise InvalidInputError(
            f"labels of shape {labels.shape} at {tuple(origin)} reach outside the volume {tuple(grid.shape)}"
        )
    counts = np.zeros((grid.blocks,) * 3, np.int64)
    if not labels.size:
        return counts
    sums: NDArray = labels != 0
    place: list[slice] = []
    for axis in (2, 1, 0):
        edges = grid.edges(axis)
        first = int(np.searchsorted(edges, origin[axis], side="right")) - 1
        last = int(np.searchsorted(edges, ends[axis], side="left"))
        cuts = np.maximum(edges[first:last] - origin[axis], 0)
        sums = np.add.reduceat(sums, cuts, axis=axis, dtype=np.int32 if axis == 2 else np.int64)
        place.insert(0, slice(first, last))
    counts[tuple(place)] = sums
    return counts


def spatial_density(labeled: NDArray, centroids: ArrayLike, grid: SpatialGrid) -> SpatialDensity:
    """Compute object count and volume fraction per block.

    Args:
        labeled: (n, n, n) labeled voxels of each block, as :func:`count_labeled`.
        centroids: (N, 3) of the objects, in voxels.
        grid: the grid.

    Raises:
        InvalidInputError: counts of another shape than the grid's.
    """
    shape = (grid.blocks,) * 3
    if labeled.shape != shape:
        raise InvalidInputError(f"labeled has shape {labeled.shape}; expected {shape}, as the grid has blocks")
    count = np.zeros(shape, np.int64)
    np.add.at(count, tuple(grid.locate(centroids).T), 1)
    return SpatialDensity(count, labeled / grid.volumes)
