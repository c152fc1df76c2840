"""Counts and bounding boxes of the labeled voxels of all patches of a grid, from summed tables."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from voxel_ext.data.label_scan import LabelBits

# of the tables of the patch rows that are counted at a time
SLAB_BYTES = 128 * 2**20


@dataclass(frozen=True)
class PatchGrid:
    """Patches whose starts are ``origin + k * stride`` for k < counts, per axis (z, y, x)."""

    origin: tuple[int, ...]
    stride: tuple[int, ...]
    patch_size: tuple[int, ...]
    counts: tuple[int, ...]

    def starts(self, axis: int) -> np.ndarray:
        """The starts along an axis, in voxels of the volume."""
        return self.origin[axis] + self.stride[axis] * np.arange(self.counts[axis])

    def rows(self, first: int, last: int) -> PatchGrid:
        """The grid of the rows ``first <= k < last`` along z."""
        origin = (self.origin[0] + first * self.stride[0], *self.origin[1:])
        return PatchGrid(origin, self.stride, self.patch_size, (last - first, *self.counts[1:]))


def count_patches(bits: LabelBits, grid: PatchGrid) -> Iterator[tuple[PatchGrid, np.ndarray, np.ndarray]]:
    """Count the labeled voxels of every patch, slab by slab.

    The starts and ends of the patches divide each axis into cells. A patch's count is the sum of its cells, and its
    bounding box follows from which planes (rows of cells) have a labeled voxel: both from running sums over cells.

    Args:
        bits: the labeled voxels.
        grid: the patches; those of as many rows along z as fit in 128 MiB (at least one) are counted at a time.

    Yields:
        the rows of the grid; their labeled voxels, and the voxels of the bounding boxes of those, both int64 of the
        shape of the rows' ``counts``.
    """
    rows = _rows_at_a_time(grid)
    for first in range(0, grid.counts[0], rows):
        part = grid.rows(first, min(first + rows, grid.counts[0]))
        tables = _Tables(part)
        for start, block in bits.blocks(int(tables.edges[0][0]), int(tables.edges[0][-1])):
            tables.add(start, block)
        yield part, tables.labeled(), tables.extent(0) * tables.extent(1) * tables.extent(2)


def _edges(grid: PatchGrid, axis: int) -> np.ndarray:
    starts = grid.starts(axis)
    return np.union1d(starts, starts + grid.patch_size[axis])


def _rows_at_a_time(grid: PatchGrid) -> int:
    def size(rows: int) -> int:
        edges = [_edges(grid.rows(0, rows), axis) for axis in range(3)]
        cells, voxels = [len(edge) - 1 for edge in edges], [int(edge[-1] - edge[0]) for edge in edges]
        flat = [math.prod(voxels[a] if a == axis else cells[a] for a in range(3)) for axis in range(3)]
        # int64 counts and their running sums; bits, running sums and nearest planes of one axis after the other
        return 24 * math.prod(cells) + sum(flat) + 16 * max(flat)

    rows = 1
    while rows < grid.counts[0] and size(min(2 * rows, grid.counts[0])) <= SLAB_BYTES:
        rows = min(2 * rows, grid.counts[0])
    return rows


class _Tables:
    """Of a slab: labeled voxels by cell, and for each axis which planes by cells of the other two are labeled."""

    def __init__(self, grid: PatchGrid) -> None:
        self.grid = grid
        self.edges = [_edges(grid, axis) for axis in range(3)]
        cells = [len(edge) - 1 for edge in self.edges]
        voxels = [int(edge[-1] - edge[0]) for edge in self.edges]
        self.counts = np.zeros(cells, np.int64)
        self.planes = [
            np.zeros([voxels[a] if a == axis else cells[a] for a in range(3)], np.uint8) for axis in range(3)
        ]

    def add(self, start: np.ndarray, block: np.ndarray) -> None:
        """Add a block (d, h, w) of zeros and ones."""
        inside, cells, voxels, cuts = [], [], [], []
        for edges, low, length in zip(self.edges, start, block.shape, strict=True):
            first, last = max(int(low), int(edges[0])), min(int(low) + length, int(edges[-1]))
            if first >= last:
                return
            a, b = np.searchsorted(edges, first, "right") - 1, np.searchsorted(edges, last, "left")
            inside.append(slice(first - int(low), last - int(low)))
            cells.append(slice(a, b))
            voxels.append(slice(first - int(edges[0]), last - int(edges[0])))
            cuts.append(np.maximum(edges[a:b] - first, 0))
        block = block[tuple(inside)]
        over_z, over_y = _count_planes(block, cuts[0]), _any(block, cuts[1], 1)
        over_zy = np.add.reduceat(over_z, cuts[1], axis=1)
        self.counts[tuple(cells)] += np.add.reduceat(over_zy, cuts[2], axis=2, dtype=np.int64)
        planes = (_any(over_y, cuts[2], 2), _any((over_z > 0).view(np.uint8), cuts[2], 2), _any(over_y, cuts[0], 0))
        for axis, found in enumerate(planes):
            target = [voxels[a] if a == axis else cells[a] for a in range(3)]
            self.planes[axis][tuple(target)] |= found

    def labeled(self) -> np.ndarray:
        """Labeled voxels of every patch."""
        counts = self.counts
        for axis in range(3):
            counts = self._over_patches(counts, axis)
        return counts

    def extent(self, axis: int) -> np.ndarray:
        """Length in voxels of the bounding box of every patch's labeled voxels along an axis; 0 for none."""
        marked: np.ndarray = self.planes[axis]
        for other in range(3):
            if other != axis:
                marked = self._over_patches(marked, other, np.int32) > 0
        marked = np.moveaxis(marked, axis, 0)
        place = np.arange(len(marked), dtype=np.int32)[:, None, None]
        begin = self.grid.starts(axis) - self.edges[axis][0]
        following = np.where(marked, place, np.int32(len(marked)))[::-1]
        first = np.minimum.accumulate(following, axis=0)[::-1][begin].astype(np.int64)
        preceding = np.where(marked, place, np.int32(-1))
        last = np.maximum.accumulate(preceding, axis=0)[begin + self.grid.patch_size[axis] - 1]
        return np.moveaxis(np.maximum(last - first + 1, 0), 0, axis)

    def _over_patches(self, cells: np.ndarray, axis: int, dtype: type = np.int64) -> np.ndarray:
        """Sum cells over the patches along an axis."""
        starts = self.grid.starts(axis)
        sums: np.ndarray = np.zeros([n + (a == axis) for a, n in enumerate(cells.shape)], dtype)
        np.cumsum(cells, axis, dtype, out=sums[tuple(slice(int(a == axis), None) for a in range(3))])
        first, last = (np.searchsorted(self.edges[axis], at) for at in (starts, starts + self.grid.patch_size[axis]))
        return sums.take(last, axis) - sums.take(first, axis)


# Slices are reduced one by one in uint8: several times faster than ufunc.reduceat, which also casts.


def _any(block: np.ndarray, cuts: np.ndarray, axis: int) -> np.ndarray:
    """Whether a stretch between cuts of an axis has a one: zeros and ones, uint8."""
    stretches = zip(cuts, [*cuts[1:], block.shape[axis]], strict=True)
    before = (slice(None),) * axis
    return np.stack([np.bitwise_or.reduce(block[(*before, slice(a, b))], axis=axis) for a, b in stretches], axis)


def _count_planes(block: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """The ones of a stretch of planes between cuts along z, uint32."""
    counts = np.zeros((len(cuts), *block.shape[1:]), np.uint32)
    for row, (a, b) in enumerate(zip(cuts, [*cuts[1:], len(block)], strict=True)):
        for first in range(a, b, 255):  # the most that cannot overflow
            counts[row] += np.add.reduce(block[first : min(first + 255, b)], axis=0, dtype=np.uint8)
    return counts


def as_positions(chosen: np.ndarray, grid: PatchGrid) -> np.ndarray:
    """Starts (N, 3) int64 of the patches that are True in an array of the shape ``grid.counts``, sorted."""
    return np.argwhere(chosen).astype(np.int64) * grid.stride + grid.origin
