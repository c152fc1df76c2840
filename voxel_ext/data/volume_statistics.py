"""Statistics of the intensities of volumes larger than memory, and the normalization that follows from them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.lazy_volume import LazyVolume
from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.transforms.intensity.normalization import NORMALIZATION_MODES, IntensityNormalization

logger = logging.getLogger(__name__)

PERCENTILES = (0.5, 99.5)
"""Between which intensities are kept in CT normalization, as in nnU-Net (Isensee et al. 2021)."""

_BLOCK_VOXELS = 1 << 22
_BINS = 1 << 16


@dataclass(frozen=True)
class IntensityStatistics:
    """Statistics of the intensities of a volume, all channels together.

    Attributes:
        mean: of the intensities.
        std: their standard deviation.
        minimum: the smallest.
        maximum: the largest.
        lower: lower bound that they are clipped to.
        upper: upper one.
        clipped_mean: mean after clipping.
        clipped_std: standard deviation after clipping.
        voxels: number of values looked at.
    """

    mean: float
    std: float
    minimum: float
    maximum: float
    lower: float
    upper: float
    clipped_mean: float
    clipped_std: float
    voxels: int

    def as_dict(self) -> dict[str, Any]:
        """Return the values by name, for JSON."""
        return asdict(self)


def intensity_statistics(
    volume: LazyVolume,
    percentiles: Sequence[float] = PERCENTILES,
    bounds: Sequence[float] | None = None,
    max_voxels: int | None = 2**27,
) -> IntensityStatistics:
    """Compute the statistics of a volume's intensities, block by block.

    Integers of 8 and 16 bits are counted value by value: one pass, exact percentiles (linear between the nearest two
    values, as ``numpy.percentile``). Other data take a second pass, for a histogram of 65,536 bins between the
    extremes; its percentiles are rounded outwards to the edge of a bin, by (maximum - minimum) / 65,536 at most, and
    the mean and standard deviation of the intensities clipped to these are exact. With ``bounds`` one pass is enough.

    Args:
        volume: the volume.
        percentiles: two ascending numbers from 0 to 100, for the bounds.
        bounds: two ascending intensities to clip to, instead of percentiles.
        max_voxels: of a larger volume, blocks of about that many voxels in total are looked at, chosen at random but
            always the same; at least one. None for the whole volume.

    Returns:
        the statistics.

    Raises:
        InvalidInputError: percentiles or bounds that do not ascend, intensities that are not finite, or a part of the
            volume that cannot be read.
    """
    _check_pair("percentiles", percentiles, 0, 100)
    if bounds is not None:
        _check_pair("bounds", bounds, -np.inf, np.inf)
    if max_voxels is not None and max_voxels < 1:
        raise InvalidInputError(f"max_voxels={max_voxels!r}; expected a positive number or None")
    boxes = _chosen(volume, max_voxels)
    if volume.dtype.kind in "biu" and volume.dtype.itemsize <= 2:
        return _from_counts(volume, boxes, percentiles, bounds)
    return _from_moments(volume, boxes, percentiles, bounds)


def normalization_of(
    volume: LazyVolume,
    mode: str,
    bounds: Sequence[float] | None = None,
    percentiles: Sequence[float] = PERCENTILES,
    max_voxels: int | None = 2**27,
) -> IntensityNormalization:
    """Make the normalization of a volume from its statistics.

    Args:
        volume: the volume.
        mode: see ``IntensityNormalization``; "none" reads nothing.
        bounds: of the intensities, for "ct" instead of the percentiles, for "minmax" instead of the extremes.
        percentiles: for "ct".
        max_voxels: see :func:`intensity_statistics`.

    Raises:
        InvalidInputError: an unknown mode, bounds with a mode that has none, intensities that are all the same (after
            clipping); and as :func:`intensity_statistics`.
    """
    check_option("mode of normalization", mode, NORMALIZATION_MODES)
    if bounds is not None and mode not in ("ct", "minmax"):
        raise InvalidInputError(
            f"bounds={bounds!r} with the normalization {mode!r}; only 'ct' and 'minmax' have bounds"
        )
    if mode == "none":
        return IntensityNormalization("none")
    if mode == "minmax" and bounds is not None:
        _check_pair("bounds", bounds, -np.inf, np.inf)
        return IntensityNormalization("minmax", lower=float(bounds[0]), upper=float(bounds[1]))
    found = intensity_statistics(volume, percentiles, bounds, max_voxels)
    if found.minimum == found.maximum or (mode == "ct" and found.clipped_std == 0):
        clipped = f" after clipping to [{found.lower}, {found.upper}]" if found.minimum != found.maximum else ""
        raise InvalidInputError(
            f"{volume.address}: the intensities are all the same{clipped} (from {found.minimum} to {found.maximum}), "
            f"so that they cannot be normalized by {mode!r}; check the volume, or use 'none'"
        )
    if mode == "minmax":
        return IntensityNormalization("minmax", lower=found.minimum, upper=found.maximum)
    if mode == "ct":
        return IntensityNormalization("ct", found.clipped_mean, found.clipped_std, found.lower, found.upper)
    return IntensityNormalization("zscore", found.mean, found.std)


def _check_pair(name: str, pair: Sequence[float], least: float, most: float) -> None:
    if len(pair) != 2 or not least <= pair[0] < pair[1] <= most or not np.isfinite(pair[1] - pair[0]):
        raise InvalidInputError(f"{name}={pair!r}; expected two ascending numbers from {least} to {most}")


def _chosen(volume: LazyVolume, max_voxels: int | None) -> list[tuple[slice, ...]]:
    """Blocks that are unions of chunks, all of them or some."""
    step = _block_size(volume)
    grid = [range(0, length, size) for length, size in zip(volume.spatial_shape, step, strict=True)]
    boxes = [
        tuple(slice(a, min(a + n, end)) for a, n, end in zip(corner, step, volume.spatial_shape, strict=True))
        for corner in itertools.product(*grid)
    ]
    total = int(np.prod(volume.shape))
    if max_voxels is None or total <= max_voxels:
        return boxes
    count = max(int(len(boxes) * max_voxels / total), 1)
    if count == len(boxes):
        return boxes
    kept = sorted(np.random.default_rng(0).choice(len(boxes), count, replace=False))
    logger.info("statistics of %s from %d of its %d blocks (max_voxels=%d)", volume, count, len(boxes), max_voxels)
    return [boxes[i] for i in kept]


def _block_size(volume: LazyVolume) -> list[int]:
    """Multiples of the chunk, or whole planes, of about ``_BLOCK_VOXELS``."""
    shape = volume.spatial_shape
    size = list(volume.chunks or (1, *shape[1:]))
    while True:
        growing = [axis for axis in (2, 1, 0) if size[axis] < shape[axis]]
        if not growing or 2 * volume.shape[0] * int(np.prod(size)) > _BLOCK_VOXELS:
            return size
        axis = min(growing, key=lambda i: size[i])
        size[axis] *= 2


def _from_counts(
    volume: LazyVolume, boxes: Sequence[Any], percentiles: Sequence[float], bounds: Sequence[float] | None
) -> IntensityStatistics:
    lowest = 0 if volume.dtype.kind == "b" else int(np.iinfo(volume.dtype).min)
    counts = np.zeros(2 ** (8 * volume.dtype.itemsize), dtype=np.int64)
    for box in boxes:
        counts += np.bincount(volume.read(box).ravel().astype(np.int64) - lowest, minlength=len(counts))
    values = np.flatnonzero(counts) + lowest
    counts = counts[counts > 0]
    if bounds is None:
        ends = np.cumsum(counts)
        place = np.asarray(percentiles) / 100 * (ends[-1] - 1)
        low = np.floor(place).astype(np.int64)
        below, above = (
            values[np.searchsorted(ends, np.minimum(i, ends[-1] - 1), side="right")] for i in (low, low + 1)
        )
        bounds = [float(v) for v in below + (place - low) * (above - below)]
    return _summary(values.astype(np.float64), counts, bounds)


def _summary(values: NDArray, counts: NDArray, bounds: Sequence[float]) -> IntensityStatistics:
    lower, upper = map(float, bounds)
    moments = []
    for these in (values, np.clip(values, lower, upper)):
        mean = float(np.average(these, weights=counts))
        moments += [mean, float(np.sqrt(np.average((these - mean) ** 2, weights=counts)))]
    minimum, maximum, total = float(values[0]), float(values[-1]), int(counts.sum())
    return IntensityStatistics(moments[0], moments[1], minimum, maximum, lower, upper, moments[2], moments[3], total)


class _Moments:
    """Mean and variance of values that come in parts (Chan, Golub, LeVeque 1983)."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, values: NDArray[np.float64]) -> None:
        count, mean = values.size, float(values.mean())
        total, step = self.count + count, mean - self.mean
        self.squares += float(((values - mean) ** 2).sum()) + step**2 * self.count * count / total
        self.mean += step * count / total
        self.count = total

    @property
    def std(self) -> float:
        return float(np.sqrt(self.squares / self.count))


def _blocks(volume: LazyVolume, boxes: Sequence[Any]) -> Iterator[NDArray[np.float64]]:
    for box in boxes:
        values = volume.read(box).astype(np.float64)
        if not np.isfinite(values).all():
            raise InvalidInputError(
                f"{volume.address} has NaN or infinite values in the box {list(box)} (z, y, x); repair or leave it out"
            )
        yield values


def _from_moments(
    volume: LazyVolume, boxes: Sequence[Any], percentiles: Sequence[float], bounds: Sequence[float] | None
) -> IntensityStatistics:
    plain, clipped = _Moments(), _Moments()
    minimum, maximum = np.inf, -np.inf
    for values in _blocks(volume, boxes):
        plain.add(values)
        minimum, maximum = min(minimum, float(values.min())), max(maximum, float(values.max()))
        if bounds is not None:
            clipped.add(np.clip(values, bounds[0], bounds[1]))
    if bounds is not None:
        lower, upper, mean, std = *map(float, bounds), clipped.mean, clipped.std
    elif minimum == maximum:
        lower, upper, mean, std = minimum, maximum, minimum, 0.0
    else:
        lower, upper, mean, std = _clip_by_histogram(volume, boxes, percentiles, minimum, maximum, plain.mean)
    return IntensityStatistics(plain.mean, plain.std, minimum, maximum, lower, upper, mean, std, plain.count)


def _clip_by_histogram(
    volume: LazyVolume, boxes: Sequence[Any], percentiles: Sequence[float], minimum: float, maximum: float, mean: float
) -> tuple[float, float, float, float]:
    """Bounds at edges of bins, and mean and standard deviation of the intensities clipped to them."""
    width = (maximum - minimum) / _BINS
    counts, sums, squares = np.zeros(_BINS, np.int64), np.zeros(_BINS), np.zeros(_BINS)
    for values in _blocks(volume, boxes):
        flat = values.ravel()
        bins = np.minimum(((flat - minimum) / width).astype(np.int64), _BINS - 1)
        flat = flat - mean
        counts += np.bincount(bins, minlength=_BINS)
        sums += np.bincount(bins, flat, minlength=_BINS)
        squares += np.bincount(bins, flat**2, minlength=_BINS)
    ends = np.cumsum(counts)
    places = np.asarray(percentiles) / 100 * (ends[-1] - 1)
    first = int(np.searchsorted(ends, np.floor(places[0]), side="right"))
    last = int(np.searchsorted(ends, np.ceil(places[1]), side="right"))
    lower, upper = minimum + first * width, minimum + (last + 1) * width
    below, above, total = int(counts[:first].sum()), int(counts[last + 1 :].sum()), int(ends[-1])
    inside = slice(first, last + 1)
    center = (sums[inside].sum() + below * (lower - mean) + above * (upper - mean)) / total
    spread = squares[inside].sum() + below * (lower - mean) ** 2 + above * (upper - mean) ** 2
    return lower, upper, float(mean + center), float(np.sqrt(max(spread / total - center**2, 0.0)))
