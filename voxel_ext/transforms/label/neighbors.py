"""Distances and neighbors along the axes of a volume."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError


def taxicab_distance(mask: NDArray, steps: Sequence[float]) -> NDArray:
    """Return the exact weighted taxicab distance from every voxel to the nearest voxel of a mask.

    d(p) = min over q in the mask of sum over axes a of steps[a] |p_a - q_a|. The sum separates, so the minimum is taken
    along one axis after the other, each in one pass forward and one backward.

    Args:
        mask: boolean, any number of axes.
        steps: length of one step along each axis, 0 or more.

    Returns:
        float64 of the mask's shape; infinite everywhere if the mask is empty.

    Raises:
        InvalidInputError: not one finite step of 0 or more per axis.
    """
    if len(steps) != mask.ndim or not all(math.isfinite(step) and step >= 0 for step in steps):
        raise InvalidInputError(f"steps={tuple(steps)}; expected {mask.ndim} finite numbers of at least 0")
    distance = np.where(mask, 0.0, np.inf)
    for axis, step in enumerate(steps):
        along = [1] * mask.ndim
        along[axis] = mask.shape[axis]
        offset = (step * np.arange(mask.shape[axis])).reshape(along)
        forward = np.minimum.accumulate(distance - offset, axis=axis) + offset
        backward = np.flip(np.minimum.accumulate(np.flip(distance + offset, axis), axis=axis), axis) - offset
        distance = np.minimum(forward, backward)
    return distance


def count_neighbors(mask: NDArray) -> NDArray:
    """Count how many of the 6 face neighbors of every voxel are in a mask; beyond the border there are none.

    Args:
        mask: (D, H, W) boolean.

    Returns:
        (D, H, W) uint8, 0 to 6.
    """
    count = np.zeros(mask.shape, np.uint8)
    for axis in range(mask.ndim):
        lower, upper = shifted_views(mask.ndim, axis)
        count[lower] += mask[upper]
        count[upper] += mask[lower]
    return count


def shifted_views(ndim: int, axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return two selections of an array such that voxels of the same index in them are neighbors along an axis.

    Args:
        ndim: number of axes of the array.
        axis: the axis.
    """
    every = [slice(None)] * ndim
    lower, upper = every.copy(), every.copy()
    lower[axis], upper[axis] = slice(None, -1), slice(1, None)
    return tuple(lower), tuple(upper)
