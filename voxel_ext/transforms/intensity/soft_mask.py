"""Fading an image out around one object, so that the object stands out but its surroundings still show."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_data_type, convert_to_dst_type
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.intensity.validate import source_of


def mask_distance(mask: ArrayLike, voxel_size: Sequence[float] | None = None) -> NDArray[np.float32]:
    """Distance of every voxel to the nearest voxel of a mask, 0 inside (SciPy's exact Euclidean transform).

    Args:
        mask: (D, H, W) or any other number of axes, non-zero inside.
        voxel_size: one number per axis, in units of which the distance is; voxels if None.

    Returns:
        float32 of the mask's shape.

    Raises:
        InvalidInputError: the mask is empty of foreground, or ``voxel_size`` does not fit its axes.
    """
    from scipy.ndimage import distance_transform_edt

    inside = np.asarray(mask) != 0
    if not inside.any():
        raise InvalidInputError(f"the mask of shape {inside.shape} has no foreground, so there is no distance to it")
    if voxel_size is not None and (len(voxel_size) != inside.ndim or not all(0 < size < np.inf for size in voxel_size)):
        raise InvalidInputError(f"voxel_size={voxel_size!r}; expected {inside.ndim} positive numbers, one per axis")
    return distance_transform_edt(~inside, sampling=voxel_size).astype(np.float32)


def soft_mask_weight(distance: ArrayLike, alpha: float = 0.6, exact: bool = False) -> NDArray[np.float32]:
    r"""Weight that falls with the distance d from an object.

    .. math:: s(d) = 1 / (1 + \exp(\alpha (d - 1)))

    Args:
        distance: d, 0 inside the object (see :func:`mask_distance`), any shape.
        alpha: steepness, per unit of ``distance``; 0.6 is that of MA_FeatureLearning.
        exact: True for s(d) as above, as MA_FeatureLearning has it, which darkens the object itself: 0.6457 inside, 0.5
            at d = 1, 0.0832 at d = 5 for alpha 0.6. False for s(d) / s(0): 1 inside, the same curve outside, no step
            at the boundary.

    Returns:
        float32 of the shape of ``distance``.

    Raises:
        InvalidInputError: ``alpha`` is not a positive number; a negative or NaN distance.
    """
    from scipy.special import expit

    _check_alpha(alpha)
    values = np.asarray(distance, dtype=np.float32)
    if not (values >= 0).all():
        raise InvalidInputError(f"{int((~(values >= 0)).sum())} of {values.size} distances are negative or NaN")
    weight = expit(np.float32(alpha) * (1 - values))
    return (weight if exact else weight / expit(np.float32(alpha))).astype(np.float32, copy=False)


def _check_alpha(alpha: float) -> None:
    if isinstance(alpha, bool) or not isinstance(alpha, int | float | np.number) or not 0 < alpha < np.inf:
        raise InvalidInputError(f"alpha={alpha!r}; expected a positive number")


class SoftMask(Transform):
    """Multiply an image by a weight that is largest inside a mask and fades around it; see :func:`soft_mask_weight`.

    Args:
        alpha: steepness per voxel (per unit of ``voxel_size``); 0.6 is that of MA_FeatureLearning.
        exact: True for MA_FeatureLearning's own curve, 0.6457 inside, instead of 1 inside.
        voxel_size: one number per spatial axis for the distance; voxels if None.

    Raises:
        InvalidInputError: ``alpha`` is not a positive number.
    """

    def __init__(self, alpha: float = 0.6, exact: bool = False, voxel_size: Sequence[float] | None = None) -> None:
        _check_alpha(alpha)
        self.alpha, self.exact, self.voxel_size = alpha, exact, voxel_size

    def __call__(  # type: ignore[override]
        self, img: NdarrayOrTensor, mask: NdarrayOrTensor
    ) -> NdarrayOrTensor:
        """Return the weighted image, float32, of the type of ``img`` and with its metadata.

        Args:
            img: (C, D, H, W) or (C, H, W).
            mask: (1, D, H, W) or (1, H, W) of the same spatial shape, non-zero inside.

        Raises:
            InvalidInputError: shapes that do not fit (names both), or a mask without foreground.
        """
        values, inside = convert_data_type(img, np.ndarray)[0], convert_data_type(mask, np.ndarray)[0]
        if inside.shape != (1, *values.shape[1:]):
            raise InvalidInputError(
                f"{source_of(mask, 'the mask')} has shape {inside.shape}, but {source_of(img)} has {values.shape}; "
                f"expected {(1, *values.shape[1:])}"
            )
        weight = soft_mask_weight(mask_distance(inside[0], self.voxel_size), self.alpha, self.exact)
        dtype = torch.float32 if isinstance(img, torch.Tensor) else np.float32
        return convert_to_dst_type(values.astype(np.float32) * weight, img, dtype=dtype)[0]


class SoftMaskd(MapTransform):
    """Dictionary version of :class:`SoftMask`.

    Args:
        keys: items that are images (C, D, H, W) or (C, H, W).
        mask_key: the item that is the mask (1, D, H, W) or (1, H, W).
        alpha: steepness; see :class:`SoftMask`.
        exact: see :class:`SoftMask`.
        voxel_size: see :class:`SoftMask`.
        allow_missing_keys: do not complain about a key of ``keys`` that is not there.

    Raises:
        InvalidInputError: ``alpha`` is not a positive number.
    """

    def __init__(
        self,
        keys: KeysCollection,
        mask_key: str = "mask",
        alpha: float = 0.6,
        exact: bool = False,
        voxel_size: Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key = mask_key
        self.transform = SoftMask(alpha, exact, voxel_size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the items at ``keys`` weighted.

        Raises:
            InvalidInputError: there is no mask, or as :class:`SoftMask`.
        """
        result = dict(data)
        if self.mask_key not in result:
            raise InvalidInputError(f"there is no mask {self.mask_key!r} among the keys {sorted(map(str, result))}")
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key], result[self.mask_key])
        return result
