"""Random contrast of each channel."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_dst_type, convert_to_tensor
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.spatial.affine import check_probability


def adjust_contrast(
    img: NdarrayOrTensor,
    alpha: Sequence[float] | NDArray[np.float64],
    use_data_mean: bool = True,
    clip: Sequence[float] | None = (-1.0, 1.0),
) -> NdarrayOrTensor:
    """Spread or narrow the values of each channel: mean + alpha (v - mean), then clipped.

    Args:
        img: (C, ...).
        alpha: (C,), above 1 for more contrast.
        use_data_mean: False for 0 in place of each channel's mean.
        clip: smallest and largest value of the result; None to leave it as it is. The default fits images scaled to
            [-1, 1].

    Returns:
        float32 of the type and on the device of ``img``.

    Raises:
        InvalidInputError: not one alpha per channel.
    """
    tensor = convert_to_tensor(img, dtype=torch.float32, track_meta=False)
    factor = torch.as_tensor(np.asarray(alpha), dtype=torch.float32, device=tensor.device)
    if tensor.dim() < 2 or factor.shape != tensor.shape[:1]:
        raise InvalidInputError(f"alpha of shape {tuple(factor.shape)} for an image of shape {tuple(tensor.shape)}")
    factor = factor.view(-1, *[1] * (tensor.dim() - 1))
    mean = tensor.mean(tuple(range(1, tensor.dim())), keepdim=True) if use_data_mean else tensor.new_zeros(())
    result = torch.addcmul(mean * (1 - factor), tensor, factor)
    if clip is not None:
        result = result.clamp_(float(clip[0]), float(clip[1]))
    dtype: Any = torch.float32 if isinstance(img, torch.Tensor) else np.float32
    return convert_to_dst_type(result, img, dtype=dtype)[0]


class RandContrast(RandomizableTransform):
    """Change the contrast of each channel by a random factor of its own; see :func:`adjust_contrast`.

    Args:
        prob: probability of doing so; 0.8 is AutoCellLabeler's.
        alpha: smallest and largest factor, uniform; 0.8 to 1.2 is AutoCellLabeler's, 0.5 to 1.5 SegmentationNet's.
        use_data_mean: see :func:`adjust_contrast`.
        clip: see :func:`adjust_contrast`.

    Raises:
        InvalidInputError: a probability outside [0, 1], or a range that is not two ascending numbers.
    """

    def __init__(
        self,
        prob: float = 0.8,
        alpha: Sequence[float] = (0.8, 1.2),
        use_data_mean: bool = True,
        clip: Sequence[float] | None = (-1.0, 1.0),
    ) -> None:
        check_probability("prob", prob)
        super().__init__(prob)
        self.alpha = check_range("alpha", alpha)
        self.use_data_mean = use_data_mean
        self.clip = None if clip is None else check_range("clip", clip)
        self.factors: NDArray[np.float64] | None = None

    def randomize(self, data: int) -> NDArray[np.float64] | None:  # type: ignore[override]
        """Draw one factor per channel, keep them as ``factors``, and return them; None with probability 1 - ``prob``.

        Args:
            data: number of channels.
        """
        super().randomize(None)
        self.factors = self.R.uniform(*self.alpha, size=data) if self._do_transform else None
        return self.factors

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Return the image (C, ...) with changed contrast, float32, or as it is.

        Args:
            img: (C, ...).
            randomize: False to use the last factors, of which there must be one per channel.

        Raises:
            InvalidInputError: as :func:`adjust_contrast`.
        """
        factors = self.randomize(img.shape[0]) if randomize else self.factors
        return img if factors is None else adjust_contrast(img, factors, self.use_data_mean, self.clip)


class RandContrastd(RandomizableTransform, MapTransform):
    """Dictionary version of :class:`RandContrast`: the same factors for all keys, channel by channel.

    Args:
        keys: items that are images (C, ...).
        prob: see :class:`RandContrast`.
        alpha: see :class:`RandContrast`.
        use_data_mean: see :func:`adjust_contrast`.
        clip: see :func:`adjust_contrast`.
        allow_missing_keys: do not complain about a key of ``keys`` that is not there.

    Raises:
        InvalidInputError: as :class:`RandContrast`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.8,
        alpha: Sequence[float] = (0.8, 1.2),
        use_data_mean: bool = True,
        clip: Sequence[float] | None = (-1.0, 1.0),
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, 1.0)
        self.contrast = RandContrast(prob, alpha, use_data_mean, clip)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandContrastd:
        """Draw from another seed from now on."""
        super().set_random_state(seed, state)
        self.contrast.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the contrast of the items at ``keys`` changed."""
        result = dict(data)
        keys = list(self.key_iterator(result))
        factors = self.contrast.randomize(max((result[key].shape[0] for key in keys), default=0))
        if factors is not None:
            for key in keys:
                own = factors[: result[key].shape[0]]
                result[key] = adjust_contrast(result[key], own, self.contrast.use_data_mean, self.contrast.clip)
        return result


def check_range(name: str, value: Sequence[float]) -> tuple[float, float]:
    """Return the two ends of a range.

    Raises:
        InvalidInputError: they are not two finite numbers in ascending order.
    """
    if len(value) != 2 or not -np.inf < value[0] <= value[1] < np.inf:
        raise InvalidInputError(f"{name}={value!r}; expected two numbers, the smaller first")
    return float(value[0]), float(value[1])


RandContrastD = RandContrastDict = RandContrastd
