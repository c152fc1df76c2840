"""Label volumes as runs: stretches of voxels along x that have the same id."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError

LARGEST_ID = 2**63 - 1
"""Ids are kept as int64."""


@dataclass(frozen=True)
class Runs:
    """The labeled voxels of a block, stretch by stretch along x.

    Attributes:
        ids: (N,) the ids that occur, int64, ascending, without 0.
        object: (R,) for each run, which of ``ids`` it has.
        z: (R,) its plane.
        y: (R,) its row.
        start: (R,) its first voxel along x.
        stop: (R,) the one after its last.
    """

    ids: NDArray[np.int64]
    object: NDArray[np.int64]
    z: NDArray[np.int64]
    y: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]

    def crop(self, low: tuple[int, int, int]) -> Runs:
        """Return what lies at or beyond a corner (z, y, x); positions and ``ids`` stay as they are."""
        start = np.maximum(self.start, low[2])
        keep = (self.z >= low[0]) & (self.y >= low[1]) & (self.stop > start)
        return Runs(self.ids, self.object[keep], self.z[keep], self.y[keep], start[keep], self.stop[keep])


def check_labels(labels: NDArray, name: str = "labels") -> None:
    """Raise unless an array has the shape and the type of a label volume.

    Args:
        labels: the array, or anything with ``shape`` and ``dtype``.
        name: what it is called in messages.

    Raises:
        InvalidInputError: not (D, H, W); floating point or boolean.
    """
    if len(labels.shape) != 3:
        raise InvalidInputError(f"{name} has shape {tuple(labels.shape)}; expected three axes (D, H, W)")
    check_label_type(labels.dtype, name)


def check_label_type(dtype: np.dtype, name: str = "labels") -> None:
    """Raise unless a data type is that of a label volume; see :func:`check_labels`."""
    if dtype.kind == "f":
        raise InvalidInputError(
            f"{name} has data type {dtype}; expected integers: real numbers cannot hold large ids exactly (float32 "
            "from 2**24 on, float64 from 2**53 on), so that objects may have been joined. If all ids are smaller and "
            "whole, convert the volume once: labels.astype('int64')"
        )
    if dtype.kind == "b":
        raise InvalidInputError(
            f"{name} has data type {dtype}, a mask; expected integer ids of objects: number its components first, for "
            "example by cc3d.connected_components, or give mask.astype('uint8') to have one object"
        )
    if dtype.kind not in "iu":
        raise InvalidInputError(f"{name} has data type {dtype}; expected integers")


def find_runs(labels: NDArray, name: str = "labels") -> tuple[Runs, NDArray[np.int32]]:
    """Find the runs of a label volume.

    Args:
        labels: (D, H, W) integers, 0 for background.
        name: what it is called in messages.

    Returns:
        the runs; and the volume (D, H, W) with 1 + the index into ``ids`` instead of the ids, int32.

    Raises:
        InvalidInputError: ids that are negative or above 2**63 - 1.
    """
    depth, height, width = labels.shape
    flat = np.ascontiguousarray(labels).reshape(depth * height, width)
    change = np.ones(flat.shape, bool)
    np.not_equal(flat[:, 1:], flat[:, :-1], out=change[:, 1:])
    starts = np.flatnonzero(change)
    lengths = np.diff(starts, append=flat.size)
    values = flat.reshape(-1)[starts]
    ids, index = _number(values, name)
    volume = np.repeat(index, lengths).reshape(labels.shape)
    kept = np.flatnonzero(index)
    starts, lengths = starts[kept], lengths[kept]
    row, x = np.divmod(starts, width) if width else (starts, starts)
    z, y = np.divmod(row, height) if height else (row, row)
    return Runs(ids, index[kept].astype(np.int64) - 1, z, y, x, x + lengths), volume


def _number(values: NDArray, name: str) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The ids that occur, without 0, and for each value 0 for the background or 1 + the index of its id."""
    if not values.size:
        return np.empty(0, np.int64), np.empty(0, np.int32)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > LARGEST_ID:
        raise InvalidInputError(
            f"{name} has the id {low if low < 0 else high}; expected ids from 0 (background) to 2**63 - 1. Set "
            "negative values to 0 if they mean that there is no object; renumber larger ids"
        )
    if high <= 4 * values.size + 2**16:  # a table is faster than sorting
        seen = np.zeros(high + 1, bool)
        seen[values] = True
        seen[0] = False
        ids = np.flatnonzero(seen)
        table = np.zeros(high + 1, np.int32)
        table[ids] = np.arange(1, len(ids) + 1, dtype=np.int32)
        return ids, table[values]
    found, index = np.unique(values, return_inverse=True)
    background = int(found[0] == 0)
    return found[background:].astype(np.int64), (index + 1 - background).astype(np.int32)
