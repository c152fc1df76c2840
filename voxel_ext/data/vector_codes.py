"""How vectors of length 1 are stored: as floats, or as integers with a code for "unknown"."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.targets import COMPONENT_ORDERS

VECTOR_DTYPES = ("float16", "float32", "uint8", "uint16")
"""Data types that vectors are written in."""

_TOLERANCE = 1e-3  # by which components may exceed 1


def encode_vectors(array: NDArray, dtype: DTypeLike = np.uint8, component_order: str = "zyx") -> NDArray:
    """Turn vectors into what is stored.

    For uint8 and uint16 with the largest value M, the component v becomes round((v + 1) / 2 * M), at least 1, and the
    zero vector, which means "unknown", the code (0, 0, 0). Decoded, a component differs by at most 1 / M, but
    one below -1 + 1 / M by up to 2 / M. Floats are stored as they are.

    Args:
        array: (3, ...) floats, components (z, y, x) in [-1, 1].
        dtype: "float16", "float32", "uint8" or "uint16".
        component_order: "zyx" or "xyz", of what is stored.

    Returns:
        (3, ...) of that data type.

    Raises:
        InvalidInputError: another shape or data type; as integers, a component outside [-1, 1] or not a number.
    """
    kind = np.dtype(dtype)
    check_option("dtype of stored vectors", str(kind), VECTOR_DTYPES)
    values = _in_order(np.asarray(array), component_order)
    if kind.kind == "f":
        return values.astype(kind)
    highest = np.iinfo(kind).max
    if values.size and not np.abs(values).max() <= 1 + _TOLERANCE:  # also where one is NaN
        raise InvalidInputError(
            f"components of vectors from {values.min()} to {values.max()} cannot be stored as {kind}; expected [-1, 1]"
        )
    codes = np.clip(np.rint((values.astype(np.float64) + 1) * (highest / 2)), 1, highest)
    return np.where(values.any(axis=0), codes, 0).astype(kind)


def decode_vectors(array: NDArray, component_order: str = "zyx") -> NDArray[np.float32]:
    """Turn stored vectors into floats; see :func:`encode_vectors` for the codes.

    Args:
        array: (3, ...) floats, which are taken as they are, or uint8 or uint16 codes.
        component_order: "zyx" or "xyz", of what is stored.

    Returns:
        (3, ...) components (z, y, x); zero vectors are unknown.

    Raises:
        InvalidInputError: another shape or data type.
    """
    stored = _in_order(np.asarray(array), component_order)
    if stored.dtype.kind == "f":
        return stored.astype(np.float32)
    if str(stored.dtype) not in VECTOR_DTYPES:
        raise InvalidInputError(
            f"vectors stored as {stored.dtype}; expected floats, or uint8 or uint16 with [-1, 1] on the full range"
        )
    values = stored.astype(np.float32) * np.float32(2 / np.iinfo(stored.dtype).max) - 1
    values *= stored.any(axis=0)
    return values


def _in_order(array: NDArray, component_order: str) -> NDArray:
    check_option("component_order", component_order, COMPONENT_ORDERS)
    if array.ndim < 1 or array.shape[0] != 3:
        raise InvalidInputError(f"vectors of shape {array.shape}; expected (3, D, H, W)")
    return array[::-1] if component_order == "xyz" else array
