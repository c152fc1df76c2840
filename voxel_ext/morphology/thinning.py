"""Thinning of a three-dimensional object to lines, in the order of the depth of its voxels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_OFFSETS = np.array([(z, y, x) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1)])
_BITS = (1 << np.arange(27, dtype=np.int32)).astype(np.int32)
_CENTER = np.int32(1 << 13)
_LAYERS = 16


def _bits_where(chosen: NDArray[np.bool_]) -> np.int32:
    return np.int32(_BITS[chosen].sum())


def _cell_masks() -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """For each vertex, edge and face of a voxel, the neighbors that have it, too; and the sign with which it counts."""
    masks, signs = [], []
    for cell in _OFFSETS[np.arange(27) != 13]:
        shared = ((_OFFSETS == 0) | np.equal(_OFFSETS, cell)).all(axis=1)
        masks.append(_bits_where(shared) & ~_CENTER)
        signs.append(-1 if np.count_nonzero(cell) == 2 else 1)
    return np.array(masks, np.int32), np.array(signs, np.int32)


_CELLS, _SIGNS = _cell_masks()

_SHIFTS = [
    (step, _bits_where(_OFFSETS[:, axis] < 1), _bits_where(_OFFSETS[:, axis] > -1))
    for axis, step in enumerate((9, 3, 1))
]


def thin(mask: NDArray[np.bool_], depth: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Thin an object to lines that have its components, tunnels and cavities.

    Voxels are removed from the outside to the inside, in layers of equal depth, if they are simple (their removal
    changes no component, tunnel or cavity; object 26-connected, background 6-connected) and have more than one neighbor
    (ends of lines stay). In a layer, the eight sets of voxels with the same parities of their positions take turns:
    voxels of a set are not neighbors, so that removing them together is the same as one after the other. (Removing
    neighbors together is what makes objects of even width vanish in other methods.)

    A voxel is simple if its neighbors in the object are one component, and if of the voxel's 8 vertices, 12 edges and 6
    faces those that belong to no neighbor number v - e + f = 1 (Lee, Kashyap and Chu 1994, "Building skeleton models
    via 3-D medial surface/axis thinning algorithms": the Euler number stays).

    Args:
        mask: (D, H, W); what is beyond the array counts as outside.
        depth: (D, H, W) distance of each voxel to the outside, in any unit; decides about the order.

    Returns:
        (D, H, W), True on the lines.
    """
    padded = np.ascontiguousarray(np.pad(mask, 1))  # so that flat is a view
    flat = padded.reshape(-1)
    steps = _OFFSETS @ (np.array(padded.strides) // padded.itemsize)
    places = np.flatnonzero(flat)
    depths = depth[mask]
    parity = np.stack(np.unravel_index(places, padded.shape)) & 1
    subfield = parity[0] * 4 + parity[1] * 2 + parity[2]
    edges = np.linspace(depths.min(), depths.max(), _LAYERS + 1)[1:]
    for edge in edges:
        waiting = (depths <= edge) & flat[places]
        _peel(flat, places[waiting], subfield[waiting], steps)
    return padded[1:-1, 1:-1, 1:-1]


def _peel(flat: NDArray[np.bool_], places: NDArray[np.intp], subfield: NDArray, steps: NDArray) -> None:
    """Remove voxels of a layer, and of the layers before, until none can be removed."""
    turns = [places[subfield == number] for number in range(8)]
    changed = True
    while changed:
        changed = False
        for number, turn in enumerate(turns):
            if not len(turn):
                continue
            around = flat[turn[:, None] + steps] @ _BITS & ~_CENTER
            gone = (np.bitwise_count(around) > 1) & _is_simple(around)
            flat[turn[gone]] = False
            turns[number] = turn[~gone]
            changed |= bool(gone.any())


def _is_simple(around: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether voxels with these neighbors (bit k: neighbor k of 27 is in the object) are simple."""
    result = ((around[:, None] & _CELLS) == 0) @ _SIGNS == 1
    rows = np.flatnonzero(result)
    result[rows] = _is_connected(around[rows])
    return result


def _is_connected(around: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether neighbors are one 26-connected component, by growing one of them."""
    grown = around & -around
    while True:
        wider = grown
        for step, before_last, after_first in _SHIFTS:
            wider = wider | (wider & before_last) << step | (wider & after_first) >> step
        wider = wider & around
        if np.array_equal(wider, grown):
            return grown == around
        grown = wider
