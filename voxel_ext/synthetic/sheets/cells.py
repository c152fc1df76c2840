"""Random numbers by place, so that any part of an endless volume has the same ones whatever else is made."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

TILE = 32
"""Edge in voxels of the tiles that noise is drawn in."""

_OFFSET, _BITS = 1 << 20, 21  # cell numbers from -2^20 on, in 21 bits each


def cell_rng(key: int, cell: Sequence[int]) -> np.random.Generator:
    """Return the source of randomness of a cell.

    Args:
        key: of the volume and the purpose, 64 bits.
        cell: its numbers along z, y and x, from -2^20 to 2^20 - 1.
    """
    z, y, x = (number + _OFFSET for number in cell)
    return np.random.Generator(np.random.Philox(key=np.array([key, z << 2 * _BITS | y << _BITS | x], dtype=np.uint64)))


def cells_of(box: Sequence[slice], edge: int) -> Iterator[tuple[int, ...]]:
    """Numbers of the cells of a grid of cubes, one corner of which is at the origin, that a box meets."""
    return itertools.product(*(range(part.start // edge, (part.stop - 1) // edge + 1) for part in box))


def white_noise(key: int, box: tuple[slice, ...]) -> NDArray[np.float32]:
    """Return standard normal numbers for the voxels of a box, those of each tile from a generator of its own.

    Args:
        key: of the volume and the purpose, 64 bits.
        box: of voxels; may begin below 0.
    """
    noise = np.empty([part.stop - part.start for part in box], dtype=np.float32)
    for cell in cells_of(box, TILE):
        tile = cell_rng(key, cell).standard_normal((TILE, TILE, TILE), dtype=np.float32)
        starts = [number * TILE for number in cell]
        common = [
            slice(max(part.start, start), min(part.stop, start + TILE)) for part, start in zip(box, starts, strict=True)
        ]
        to = tuple(slice(c.start - part.start, c.stop - part.start) for c, part in zip(common, box, strict=True))
        source = tuple(slice(c.start - start, c.stop - start) for c, start in zip(common, starts, strict=True))
        noise[to] = tile[source]
    return noise
