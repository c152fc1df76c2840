"""Scaling of a whole volume's intensities, by statistics that are computed without having it in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.lazy_volume import LazyVolume
from voxel_ext.data.volume_statistics import PERCENTILES, intensity_statistics, normalization_of
from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.intensity.normalization import IntensityNormalization


class Normalizing:
    """Make the normalization of a volume; see ``normalization_of``.

    Args:
        mode: "zscore", "ct", "minmax" or "none".
        bounds: of the intensities, for "ct" and "minmax".
        percentiles: for "ct".
    """

    def __init__(
        self, mode: str, bounds: Sequence[float] | None = None, percentiles: Sequence[float] = PERCENTILES
    ) -> None:
        self.mode, self.bounds, self.percentiles = mode, bounds, percentiles

    def __call__(self, volume: LazyVolume) -> IntensityNormalization:
        """Compute the statistics of a volume.

        Raises:
            InvalidInputError: as ``normalization_of``.
        """
        return normalization_of(volume, self.mode, self.bounds, self.percentiles)


@dataclass(frozen=True)
class LinearScaling:
    """Scale intensities linearly, clip them, and apply a gamma; picklable.

        y = low + (high - low) * clip((x - lower_c) / (upper_c - lower_c), 0, 1) ** gamma

    Args:
        lower: of each channel, or one for all.
        upper: likewise.
        low: where ``lower`` goes.
        high: where ``upper`` goes.
        gamma: 1 for none.
    """

    lower: tuple[float, ...]
    upper: tuple[float, ...]
    low: float = 0.0
    high: float = 1.0
    gamma: float = 1.0

    def __call__(self, region: Any) -> NDArray[np.float32]:
        """Scale (C, d, h, w)."""
        shape = (-1, 1, 1, 1)
        lower, upper = (np.asarray(values, np.float32).reshape(shape) for values in (self.lower, self.upper))
        share = np.clip((np.asarray(region, np.float32) - lower) / (upper - lower), 0, 1)
        if self.gamma != 1:
            share **= np.float32(self.gamma)
        return (self.low + (self.high - self.low) * share).astype(np.float32, copy=False)


class PercentileScaling:
    """Make the scaling of a volume between percentiles, as MONAI's ``ScaleIntensityRangePercentiles`` with clipping.

    Percentiles of 8 and 16 bit integers are exact; those of other data are rounded outwards by at most 1/65536 of their
    range, see ``intensity_statistics``.

    Args:
        lower: percentile, 0 to 100.
        upper: a greater one.
        low: value of the lower percentile after scaling.
        high: value of the upper one.
        gamma: applied to the share between the two; 1 for none.
        channel_wise: each channel by its own percentiles.

    Raises:
        InvalidInputError: ``gamma`` is not positive.
    """

    def __init__(
        self,
        lower: float,
        upper: float,
        low: float = 0.0,
        high: float = 1.0,
        gamma: float = 1.0,
        channel_wise: bool = False,
    ) -> None:
        if not isinstance(gamma, Real) or not gamma > 0:
            raise InvalidInputError(f"gamma={gamma!r}; expected a positive number")
        self.percentiles: tuple[float, float] = (lower, upper)
        self.low: float = low
        self.high: float = high
        self.gamma: float = float(gamma)
        self.channel_wise: bool = channel_wise

    def __call__(self, volume: LazyVolume) -> LinearScaling:
        """Compute the percentiles of a volume.

        Raises:
            InvalidInputError: intensities that are all the same; and as ``intensity_statistics``.
        """
        parts: list[Any] = [volume]
        if self.channel_wise and volume.shape[0] > 1:
            parts = [_Channel(volume, channel) for channel in range(volume.shape[0])]
        found = [intensity_statistics(part, self.percentiles, max_voxels=None) for part in parts]
        for part, one in zip(parts, found, strict=True):
            if not one.lower < one.upper:
                raise InvalidInputError(
                    f"{part.address}: the percentiles {self.percentiles} are both {one.lower}, so that the intensities "
                    "cannot be scaled between them"
                )
        bounds = tuple(one.lower for one in found), tuple(one.upper for one in found)
        return LinearScaling(*bounds, self.low, self.high, self.gamma)


class _Channel:
    """One channel of a volume, as far as statistics need it."""

    def __init__(self, volume: LazyVolume, channel: int) -> None:
        self._volume, self._channel = volume, channel
        self.address = f"{volume.address}, channel {channel}"
        self.shape = (1, *volume.spatial_shape)
        self.spatial_shape, self.dtype, self.chunks = volume.spatial_shape, volume.dtype, volume.chunks

    def read(self, box: Sequence[slice]) -> NDArray:
        """Read a box of the channel, (1, d, h, w)."""
        return self._volume.read(box)[self._channel : self._channel + 1]
