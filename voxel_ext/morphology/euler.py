"""Euler numbers of all objects of a label volume at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WINDOWS_AT_ONCE = 1 << 18

_CORNERS = np.array([(k >> 2, k >> 1 & 1, k & 1) for k in range(8)])
"""Of a window of 2 x 2 x 2 voxels, (z, y, x); corner 7 is the last in every direction."""

_TERMS = (
    (0, (((1, 2, 3, 4, 5, 6, 7), 1),)),
    (1, (((2, 3, 4, 5, 6, 7), 1), ((3, 5, 7), -1))),
    (2, (((3, 4, 5, 6, 7), 1), ((3, 6, 7), -1))),
    (3, (((4, 5, 6, 7), 1), ((6, 7), -1), ((5, 7), -1), ((7,), 1))),
)
"""Per corner: sets of other corners and the sign with which it counts if none of them has its id."""


def euler_numbers(volume: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """Count what each object's windows of 2 x 2 x 2 voxels add to its Euler number, for 26-connectivity.

    An object is the union of its closed voxels; its Euler number is vertices - edges + faces - voxels = components -
    tunnels + cavities (that of ``skimage.measure.euler_number`` with ``connectivity=3``). The window that ends at a
    voxel has one vertex, three edges, three faces and one voxel that no other window has; each counts for every id
    that touches it. Summed over the windows of a volume with a border of background this is the Euler number; summed
    over blocks, those that overlap by one voxel give that of the whole.

    In a window, an id counts once in each set of corners around a vertex (8), edge (4), face (2) or voxel (1): at its
    last corner in the set. For corners 4 to 7 the counts cancel.

    Args:
        volume: (D, H, W) numbers of objects from 1 to ``count``, 0 for background. All (D - 1)(H - 1)(W - 1) windows
            that lie inside are looked at.
        count: number of objects.

    Returns:
        (count,) int64.
    """
    result = np.zeros(count + 1, np.int64)
    if min(volume.shape) < 2:
        return result[1:]
    volume = np.ascontiguousarray(volume)
    strides = np.array(volume.strides) // volume.itemsize
    offsets, flat = _CORNERS @ strides, volume.reshape(-1)
    windows = np.flatnonzero(_mixed(volume))
    shape = tuple(length - 1 for length in volume.shape)
    for first in range(0, len(windows), _WINDOWS_AT_ONCE):
        part = windows[first : first + _WINDOWS_AT_ONCE]
        start = sum(place * int(step) for place, step in zip(np.unravel_index(part, shape), strides, strict=True))
        corners = [flat[start + offset] for offset in offsets]
        for corner, terms in _TERMS:
            result += _count(corners, corner, terms, count + 1)
    return result[1:]


def _mixed(volume: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether the windows of 2 x 2 x 2 voxels have more than one value; of others the counts cancel."""
    along_z, along_y, along_x = (
        volume[1:, :-1, :-1] != volume[:-1, :-1, :-1],
        volume[:, 1:, :-1] != volume[:, :-1, :-1],
        volume[:, :, 1:] != volume[:, :, :-1],
    )
    mixed = along_z
    mixed |= along_y[1:]
    mixed |= along_y[:-1]
    for z in (slice(1, None), slice(None, -1)):
        mixed |= along_x[z, 1:]
        mixed |= along_x[z, :-1]
    return mixed


def _count(
    corners: list[NDArray], corner: int, terms: tuple[tuple[tuple[int, ...], int], ...], length: int
) -> NDArray[np.int64]:
    values = corners[corner]
    others = {other for others, _ in terms for other in others}
    differs = {other: values != corners[other] for other in others}
    weight = np.zeros(len(values), np.int8)
    for members, sign in terms:
        alone = differs[members[0]]
        for other in members[1:]:
            alone = alone & differs[other]
        weight += sign * alone.view(np.int8)
    kept = np.flatnonzero(weight)
    counts = np.bincount(values[kept], weight[kept], minlength=length).astype(np.int64)
    counts[0] = 0
    return counts
