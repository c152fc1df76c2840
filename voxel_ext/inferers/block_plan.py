"""How a volume is divided into blocks that are each written once: tiles in the plane, slabs along z."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection
from dataclasses import dataclass

from voxel_ext.errors import InvalidInputError
from voxel_ext.inferers.windows import WindowGrid

TASKS_PER_WORKER = 4
"""Tasks for each worker process, so that all end at about the same time."""

LARGEST_OVERHEAD = 0.25
"""Windows computed twice at the start of a task, at most, as a fraction of the task where slabs allow."""


@dataclass(frozen=True)
class Tile:
    """A part of the plane: voxels ``y[0]`` to ``y[1]`` (exclusive), ``x[0]`` to ``x[1]``."""

    y: tuple[int, int]
    x: tuple[int, int]

    def __str__(self) -> str:
        return f"y {self.y[0]}:{self.y[1]}, x {self.x[0]}:{self.x[1]}"


@dataclass(frozen=True)
class Task:
    """A run of slabs of a tile: ``first`` to ``stop`` (exclusive)."""

    tile: int
    first: int
    stop: int


@dataclass(frozen=True)
class BlockPlan:
    """Blocks of the result and windows of the network.

    A block is a slab (planes of one row of chunks) of a tile. Windows with the same z are a layer. Along z, layers are
    added in ascending order, so that a voxel's sum does not depend on where a task begins.

    Args:
        grid: the windows.
        chunks: (d, h, w) of the result's chunks.
        tile: (h, w) of tiles, multiples of the chunks or at least the volume's extent.
    """

    grid: WindowGrid
    chunks: tuple[int, int, int]
    tile: tuple[int, int]

    @property
    def tiles(self) -> list[Tile]:
        """All tiles, row by row."""
        spans = [
            [(start, min(start + step, size)) for start in range(0, size, step)]
            for size, step in zip(self.grid.size[1:], self.tile, strict=True)
        ]
        return [Tile(y, x) for y, x in itertools.product(*spans)]

    @property
    def num_slabs(self) -> int:
        """Slabs of each tile."""
        return math.ceil(self.grid.size[0] / self.chunks[0])

    def planes(self, first: int, stop: int) -> tuple[int, int]:
        """First plane, and the one after the last, of slabs ``first`` to ``stop`` (exclusive)."""
        return first * self.chunks[0], min(stop * self.chunks[0], self.grid.size[0])

    def layers(self, planes: tuple[int, int]) -> list[int]:
        """Where those windows begin along z (in the padded volume) that reach into some planes, ascending."""
        return [z for z in self.grid.starts(0) if self._meets(z, 0, planes)]

    def columns(self, tile: Tile) -> list[tuple[int, int]]:
        """Where the windows that reach into a tile begin along y and x (in the padded volume), row by row."""
        rows = [y for y in self.grid.starts(1) if self._meets(y, 1, tile.y)]
        return list(itertools.product(rows, [x for x in self.grid.starts(2) if self._meets(x, 2, tile.x)]))

    def tasks(self, finished: Collection[tuple[int, int]], num_workers: int | None) -> list[Task]:
        """Divide what is not finished.

        Args:
            finished: pairs of a tile and a slab.
            num_workers: processes that share the work; 1 for as few tasks as possible, None if it is not known.
        """
        runs = [run for tile in range(len(self.tiles)) for run in self._missing(tile, finished)]
        length = self._run_length(sum(run.stop - run.first for run in runs), num_workers)
        return [
            Task(run.tile, first, min(first + length, run.stop))
            for run in runs
            for first in range(run.first, run.stop, length)
        ]

    def _meets(self, start: int, axis: int, span: tuple[int, int]) -> bool:
        first = start - self.grid.before[axis]
        return first < span[1] and first + self.grid.roi_size[axis] > span[0]

    def _missing(self, tile: int, finished: Collection[tuple[int, int]]) -> list[Task]:
        runs: list[Task] = []
        for slab in range(self.num_slabs):
            if (tile, slab) in finished:
                continue
            if runs and runs[-1].stop == slab:
                runs[-1] = Task(tile, runs[-1].first, slab + 1)
            else:
                runs.append(Task(tile, slab, slab + 1))
        return runs

    def _run_length(self, slabs: int, num_workers: int | None) -> int:
        """Slabs of a task: few tasks for each worker, but not so short that much is computed twice."""
        if num_workers == 1:
            return max(1, self.num_slabs)
        starts = self.grid.starts(0)
        step = starts[1] - starts[0] if len(starts) > 1 else self.grid.roi_size[0]
        twice = math.ceil(self.grid.roi_size[0] / step) - 1
        efficient = max(1, math.ceil(twice * step / LARGEST_OVERHEAD / self.chunks[0]))
        if num_workers is None:
            return efficient
        shared = math.ceil(slabs / num_workers)
        return max(1, min(shared, max(efficient, math.ceil(shared / TASKS_PER_WORKER))))


def choose_tile(
    grid: WindowGrid,
    chunks: tuple[int, int, int],
    channels: tuple[int, int],
    stored_bytes: int,
    prefetch: int,
    max_bytes: int,
) -> tuple[int, int]:
    """Choose tiles whose buffers fit into some memory: whole planes if those do, otherwise halves, quarters...

    Args:
        grid: the windows.
        chunks: (d, h, w) of the result.
        channels: of the input and of all accumulated outputs together.
        stored_bytes: bytes of a voxel in the result, all channels of all targets together.
        prefetch: layers that are read ahead.
        max_bytes: for the sums of one layer of windows, two slabs of the result, and what is read.

    Returns:
        (h, w), multiples of the chunks; one chunk where even that needs more.
    """
    extent = list(grid.size[1:])
    while tile_bytes(grid, chunks, extent, channels, stored_bytes, prefetch) > max_bytes:
        counts = [math.ceil(size / chunk) for size, chunk in zip(extent, chunks[1:], strict=True)]
        if max(counts) == 1:
            break
        axis = counts.index(max(counts))
        extent[axis] = math.ceil(counts[axis] / 2) * chunks[1 + axis]
    return extent[0], extent[1]


def tile_bytes(
    grid: WindowGrid,
    chunks: tuple[int, int, int],
    tile: list[int],
    channels: tuple[int, int],
    stored_bytes: int,
    prefetch: int,
) -> int:
    """Memory of the buffers of a tile; see :func:`choose_tile`."""
    depth, margins = grid.roi_size[0], grid.roi_size[1:]
    area = math.prod(tile)
    read = math.prod(
        min(length + 2 * margin, max(size, margin))
        for length, margin, size in zip(tile, margins, grid.size[1:], strict=True)
    )
    sums, slabs = 4 * depth * area * (channels[1] + 1), 2 * chunks[0] * area * stored_bytes
    return sums + slabs + 4 * channels[0] * depth * read * (prefetch + 3)


def check_tile(tile: tuple[int, int], grid: WindowGrid, chunks: tuple[int, int, int]) -> tuple[int, int]:
    """Return given tiles, cut to the volume.

    Raises:
        InvalidInputError: they are no multiples of the chunks, which would let two tasks write one chunk.
    """
    for name, length, size, chunk in zip("yx", tile, grid.size[1:], chunks[1:], strict=True):
        if length < size and length % chunk:
            raise InvalidInputError(
                f"tile={tile} is along {name} no multiple of chunks={chunks}; expected a multiple of {chunk}"
            )
    height, width = (min(length, size) for length, size in zip(tile, grid.size[1:], strict=True))
    return height, width
