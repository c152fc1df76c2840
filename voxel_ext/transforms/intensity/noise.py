"""Additive Poisson noise: a few bright voxels where its rate is small."""

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
from voxel_ext.transforms.intensity.contrast import check_range
from voxel_ext.transforms.spatial.affine import check_probability

# below this rate the noisy voxels are drawn instead of every voxel's count, which has the same distribution
_RARE = 0.05


def poisson_noise(state: np.random.RandomState, lam: float, shape: Sequence[int]) -> NDArray[np.float32]:
    """Draw independent Poisson counts.

    Args:
        state: what to draw from.
        lam: rate per voxel.
        shape: any.

    Returns:
        float32 of the given shape.
    """
    if lam >= _RARE:
        return state.poisson(lam, size=tuple(shape)).astype(np.float32)
    size = int(np.prod(shape))
    noise = np.zeros(size, dtype=np.float32)
    if size:
        np.add.at(noise, state.randint(size, size=state.poisson(lam * size)), 1)
    return noise.reshape(tuple(shape))


class RandPoissonNoise(RandomizableTransform):
    """Add Poisson noise of a random rate.

    Args:
        prob: probability of doing so; 0.2 is AutoCellLabeler's.
        lam: smallest and largest rate per voxel, uniform, in units of the image; 0 to 0.0001 is AutoCellLabeler's.

    Raises:
        InvalidInputError: a probability outside [0, 1], or a range that is not two ascending numbers from 0 on.
    """

    def __init__(self, prob: float = 0.2, lam: Sequence[float] = (0.0, 0.0001)) -> None:
        check_probability("prob", prob)
        super().__init__(prob)
        self.lam = check_range("lam", lam)
        if self.lam[0] < 0:
            raise InvalidInputError(f"lam={lam!r}; a rate cannot be negative")
        self.noise: NDArray[np.float32] | None = None

    def randomize(self, data: Sequence[int]) -> NDArray[np.float32] | None:  # type: ignore[override]
        """Draw noise, keep it as ``noise``, and return it; None with probability 1 - ``prob``.

        Args:
            data: shape of the image.
        """
        super().randomize(None)
        self.noise = poisson_noise(self.R, self.R.uniform(*self.lam), data) if self._do_transform else None
        return self.noise

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Return the image with noise, float32, or as it is.

        Args:
            img: (C, ...).
            randomize: False to add the last noise, which must be of the same shape.

        Raises:
            InvalidInputError: the last noise has another shape.
        """
        noise = self.randomize(img.shape) if randomize else self.noise
        return img if noise is None else _add(img, noise)


class RandPoissonNoised(RandomizableTransform, MapTransform):
    """Dictionary version of :class:`RandPoissonNoise`: all keys get the same noise, or none does.

    Args:
        keys: items that are images (C, ...) of one shape.
        prob: see :class:`RandPoissonNoise`.
        lam: see :class:`RandPoissonNoise`.
        allow_missing_keys: do not complain about a key of ``keys`` that is not there.

    Raises:
        InvalidInputError: as :class:`RandPoissonNoise`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.2,
        lam: Sequence[float] = (0.0, 0.0001),
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, 1.0)
        self.poisson = RandPoissonNoise(prob, lam)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandPoissonNoised:
        """Draw from another seed from now on."""
        super().set_random_state(seed, state)
        self.poisson.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with noise added to the items at ``keys``.

        Raises:
            InvalidInputError: items of different shapes.
        """
        result = dict(data)
        keys = list(self.key_iterator(result))
        noise = self.poisson.randomize(result[keys[0]].shape) if keys else None
        if noise is not None:
            for key in keys:
                result[key] = _add(result[key], noise, f"{key!r}")
        return result


def _add(img: NdarrayOrTensor, noise: NDArray[np.float32], name: str = "the image") -> NdarrayOrTensor:
    if noise.shape != tuple(img.shape):
        raise InvalidInputError(f"{name} has shape {tuple(img.shape)}, but the noise drawn is for {noise.shape}")
    tensor = convert_to_tensor(img, dtype=torch.float32, track_meta=False)
    dtype: Any = torch.float32 if isinstance(img, torch.Tensor) else np.float32
    return convert_to_dst_type(tensor + torch.from_numpy(noise).to(tensor.device), img, dtype=dtype)[0]


RandPoissonNoiseD = RandPoissonNoiseDict = RandPoissonNoised
