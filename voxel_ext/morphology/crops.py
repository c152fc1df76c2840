"""Masks of single objects: checks, and the part of the array that an object takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError

UM_PER_NM = 1e-3


def check_mask(mask: ArrayLike) -> NDArray[np.bool_]:
    """Return a mask as booleans.

    Args:
        mask: (D, H, W), boolean or of integers, not 0 inside the object.

    Raises:
        InvalidInputError: another shape or type, or nothing inside.
    """
    array = np.asarray(mask)
    if array.ndim != 3 or array.dtype.kind not in "bui":
        raise InvalidInputError(
            f"the mask has shape {array.shape} and type {array.dtype}; expected (D, H, W), boolean or of integers"
        )
    inside = array != 0
    if not inside.any():
        raise InvalidInputError(f"the mask of shape {array.shape} is empty; expected at least one voxel that is not 0")
    return inside


def tight_crop(mask: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Cut out the bounding box of what is inside.

    Args:
        mask: (D, H, W) with at least one voxel inside.

    Returns:
        a view of the mask, and the box's first corner (z, y, x).
    """
    planes = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    box = tuple(slice(found[0], found[-1] + 1) for found in planes)
    return mask[box], np.array([found[0] for found in planes], np.int64)
