"""Gaussian blur that grows or falls along z, as light scattered by tissue blurs deeper slices more."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_dst_type, convert_to_tensor
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.spatial.affine import check_probability


def gaussian_matrix(size: int, sigma: float, truncate: float = 4.0) -> NDArray[np.float64]:
    """Return the matrix that blurs a line as ``scipy.ndimage.gaussian_filter1d`` does with its mode "reflect".

    Args:
        size: length of the line.
        sigma: in voxels; 0 is the identity.
        truncate: where the kernel ends, in units of sigma.

    Returns:
        (size, size), every row of sum 1.
    """
    if sigma == 0:
        return np.eye(size)
    radius = int(truncate * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    # positions beyond an end are mirrored there, the end voxel being repeated: a b c | c b a
    folded = (np.arange(size)[:, None] + offsets) % (2 * size)
    folded = np.minimum(folded, 2 * size - 1 - folded)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], folded), kernel)
    return matrix


def gradual_gaussian_blur(
    img: NdarrayOrTensor, sigma_start: float, sigma_end: float, num_blurs: int = 5
) -> NdarrayOrTensor:
    """Blur a volume by a Gaussian along all three axes whose sigma goes from one end of z to the other.

    The volume is blurred with ``num_blurs`` values of sigma, evenly spaced, which belong to positions evenly spaced
    from 0 to D along z; a slice between two of these is the mean of the two blurred volumes, weighted linearly.

    Args:
        img: (C, D, H, W).
        sigma_start: at the first slice, in voxels.
        sigma_end: at the end, one past the last slice, in voxels.
        num_blurs: number of values of sigma, at least 2.

    Returns:
        float32 of the type and on the device of ``img``.

    Raises:
        InvalidInputError: not four axes, a negative sigma, or too few values.
    """
    if img.ndim != 4:
        raise InvalidInputError(
            f"an image of shape {tuple(img.shape)} cannot be blurred along z; expected (C, D, H, W)"
        )
    _check(sigma_start, sigma_end, num_blurs)
    tensor = convert_to_tensor(img, dtype=torch.float32, track_meta=False)
    depth, height, width = tensor.shape[1:]
    place = np.arange(depth) * ((num_blurs - 1) / depth)
    result = torch.zeros_like(tensor)
    for level, sigma in enumerate(np.linspace(sigma_start, sigma_end, num_blurs)):
        share = np.clip(1 - np.abs(place - level), 0, None)
        (used,) = np.nonzero(share)
        if len(used) == 0:
            continue
        slices = slice(used[0], used[-1] + 1)
        # the share is part of the matrix along z, which has only the rows of the slices that need this level
        along_z, along_y, along_x = (
            torch.as_tensor(matrix, dtype=torch.float32, device=tensor.device)
            for matrix in (
                (gaussian_matrix(depth, sigma) * share[:, None])[slices],
                gaussian_matrix(height, sigma),
                gaussian_matrix(width, sigma),
            )
        )
        blurred = torch.matmul(along_z, tensor.flatten(2)).unflatten(2, (height, width))
        result[:, slices] += torch.matmul(torch.matmul(along_y, blurred), along_x.T)
    dtype: Any = torch.float32 if isinstance(img, torch.Tensor) else np.float32
    return convert_to_dst_type(result, img, dtype=dtype)[0]


def _check(sigma_start: float, sigma_end: float, num_blurs: int) -> None:
    for name, value in (("start", sigma_start), ("end", sigma_end)):
        if not 0 <= value < np.inf:
            raise InvalidInputError(f"sigma at the {name} is {value!r}; expected voxels, not negative")
    if isinstance(num_blurs, bool) or not isinstance(num_blurs, int) or num_blurs < 2:
        raise InvalidInputError(f"num_blurs={num_blurs!r}; expected an integer of at least 2")


class RandGradualGaussianBlur(RandomizableTransform):
    """Blur a volume by a Gaussian whose sigma changes along z between two random ends.

    Args:
        prob: probability of doing so; 0.6 is AutoCellLabeler's, as are the other defaults.
        max_sigma_start: largest sigma at the first slice, in voxels; uniform from 0.
        max_sigma_end: likewise at the end.
        num_blurs: see :func:`gradual_gaussian_blur`.

    Raises:
        InvalidInputError: a probability outside [0, 1], a negative sigma, or fewer than two levels.
    """

    def __init__(
        self, prob: float = 0.6, max_sigma_start: float = 2.0, max_sigma_end: float = 2.0, num_blurs: int = 5
    ) -> None:
        super().__init__(check_probability("prob", prob))
        _check(max_sigma_start, max_sigma_end, num_blurs)
        self.max_sigma = float(max_sigma_start), float(max_sigma_end)
        self.num_blurs = num_blurs
        self.sigma: tuple[float, float] | None = None

    def randomize(self, data: Any = None) -> tuple[float, float] | None:  # type: ignore[override]
        """Draw the two ends, keep them as ``sigma``, and return them; None with probability 1 - ``prob``."""
        super().randomize(None)
        start, end = self.R.uniform(0, self.max_sigma)
        self.sigma = (float(start), float(end)) if self._do_transform else None
        return self.sigma

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Return the blurred image, float32, or the image as it is.

        Args:
            img: (C, D, H, W).
            randomize: False to blur as the last time.

        Raises:
            InvalidInputError: another number of axes.
        """
        sigma = self.randomize() if randomize else self.sigma
        return img if sigma is None else gradual_gaussian_blur(img, *sigma, self.num_blurs)


class RandGradualGaussianBlurd(RandomizableTransform, MapTransform):
    """Dictionary version of :class:`RandGradualGaussianBlur`: all keys are blurred alike.

    Args:
        keys: items that are images (C, D, H, W).
        prob: see :class:`RandGradualGaussianBlur`.
        max_sigma_start: see :class:`RandGradualGaussianBlur`.
        max_sigma_end: see :class:`RandGradualGaussianBlur`.
        num_blurs: see :func:`gradual_gaussian_blur`.
        allow_missing_keys: do not complain about a key of ``keys`` that is not there.

    Raises:
        InvalidInputError: as :class:`RandGradualGaussianBlur`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.6,
        max_sigma_start: float = 2.0,
        max_sigma_end: float = 2.0,
        num_blurs: int = 5,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, 1.0)
        self.blur = RandGradualGaussianBlur(prob, max_sigma_start, max_sigma_end, num_blurs)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandGradualGaussianBlurd:
        """Draw from another seed from now on."""
        super().set_random_state(seed, state)
        self.blur.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the items at ``keys`` blurred.

        Raises:
            InvalidInputError: an item that is not (C, D, H, W).
        """
        result = dict(data)
        sigma = self.blur.randomize()
        if sigma is not None:
            for key in self.key_iterator(result):
                result[key] = gradual_gaussian_blur(result[key], *sigma, self.blur.num_blurs)
        return result


RandGradualGaussianBlurD = RandGradualGaussianBlurDict = RandGradualGaussianBlurd
