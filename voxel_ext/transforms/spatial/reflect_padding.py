"""Padding by reflection of volumes that may be much smaller than what is wanted."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError


def reflected_index(length: int, target: int) -> NDArray:
    """Indices that extend an axis to a length by reflection about its first and last voxel, as often as needed.

    Args:
        length: of the axis.
        target: wanted; half of what is missing comes before (rounded down), the rest behind.

    Returns:
        (max(length, target),) integers.
    """
    missing = max(target - length, 0)
    positions = np.arange(-(missing // 2), length + missing - missing // 2)
    period = max(2 * (length - 1), 1)
    folded = np.abs(positions) % period
    return np.minimum(folded, period - folded) if length > 1 else np.zeros_like(positions)


class ReflectPadd(MapTransform):
    """Pad volumes that are smaller than a patch by reflection, however much is missing.

    MONAI's ``SpatialPadd(mode="reflect")`` cannot add a side as long as the volume. The affine of a ``MetaTensor`` is
    moved along.

    Args:
        keys: items (C, D, H, W), NumPy arrays or tensors.
        spatial_size: the least size along each axis.
        allow_missing_keys: do not complain about a key that is not there.

    Raises:
        InvalidInputError: not positive integers.
    """

    def __init__(self, keys: KeysCollection, spatial_size: Sequence[int], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spatial_size = tuple(spatial_size)
        if not all(isinstance(size, Integral) and size > 0 for size in self.spatial_size):
            raise InvalidInputError(f"spatial_size={self.spatial_size}; expected positive integers")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with padded items.

        Raises:
            InvalidInputError: an item has another number of axes, or is empty.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self._pad(result[key], key)
        return result

    def _pad(self, img: NdarrayOrTensor, key: Hashable) -> NdarrayOrTensor:
        shape = tuple(img.shape[1:])
        if len(shape) != len(self.spatial_size) or not all(shape):
            raise InvalidInputError(f"{key!r} has shape {tuple(img.shape)}; expected (C, ...) for {self.spatial_size}")
        for axis, (length, target) in enumerate(zip(shape, self.spatial_size, strict=True), start=1):
            if target <= length:
                continue
            index = reflected_index(length, target)
            if isinstance(img, np.ndarray):
                img = img.take(index, axis)
            else:
                img = torch.index_select(img, axis, torch.as_tensor(index, device=img.device))
        if hasattr(img, "affine"):
            move = torch.eye(len(shape) + 1, dtype=img.affine.dtype)
            before = [max(target - length, 0) // 2 for length, target in zip(shape, self.spatial_size, strict=True)]
            move[:-1, -1] = -torch.as_tensor(before, dtype=move.dtype)
            img.affine = img.affine @ move[: img.affine.shape[0], : img.affine.shape[1]]
        return img
