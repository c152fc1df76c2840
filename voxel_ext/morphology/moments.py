"""Counts, bounding boxes, centroids, second moments and intensities of objects, from runs, and their sums."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology.runs import Runs

UNSET = np.iinfo(np.int64).max
"""Lower corner of an object without voxels; the upper one is its negative."""

_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of N objects are, in voxels (z, y, x) from the origin of the volume.

    Attributes:
        voxels: (N,) their number, int64; 0 is allowed for a part of a volume.
        lower: (N, 3) first corner of the bounding box, int64.
        upper: (N, 3) last corner, exclusive, int64.
        centroid: (N, 3) mean position of the voxels' centers, float64; the center of voxel (0, 0, 0) is (0, 0, 0).
        scatter: (N, 3, 3) sum over the voxels of (p - centroid)(p - centroid)^T, float64.
    """

    voxels: NDArray[np.int64]
    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    centroid: NDArray[np.float64]
    scatter: NDArray[np.float64]


@dataclass(frozen=True)
class Intensity:
    """Intensities of an image in the voxels of N objects.

    Attributes:
        mean: (N,) float64; 0 where there are no voxels.
        scatter: (N,) sum of the squared deviations from the mean.
        low: (N,) the least, infinite where there are no voxels.
        high: (N,) the greatest.
    """

    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def geometry_of_runs(runs: Runs, origin: tuple[int, int, int]) -> Geometry:
    """Compute the geometry of objects in closed form from their runs.

    A run from a to b (exclusive) has sum x = (b - a)(a + b - 1)/2 and sum x^2 = S(b) - S(a) with
    S(m) = (m - 1) m (2m - 1)/6. Positions are taken relative to the object's bounding box, so that nothing cancels.

    Args:
        runs: of a block.
        origin: position (z, y, x) in the volume of the block's position (0, 0, 0).

    Returns:
        a row per id of ``runs.ids``.
    """
    count, index = len(runs.ids), runs.object
    lower, upper = np.full((count, 3), UNSET), np.full((count, 3), -UNSET)
    for axis, (first, last) in enumerate(((runs.z, runs.z), (runs.y, runs.y), (runs.start, runs.stop - 1))):
        np.minimum.at(lower[:, axis], index, first)
        np.maximum.at(upper[:, axis], index, last + 1)
    base = lower[index]
    z, y = (runs.z - base[:, 0]).astype(np.float64), (runs.y - base[:, 1]).astype(np.float64)
    a, b = runs.start - base[:, 2], runs.stop - base[:, 2]
    length = (b - a).astype(np.float64)
    sum_x = ((b - a) * (a + b - 1) // 2).astype(np.float64)
    sum_xx = (_sum_of_squares(b) - _sum_of_squares(a)).astype(np.float64)

    def total(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return _sums(index, weights, count)

    voxels = total(length)
    sums = [total(length * z), total(length * y), total(sum_x)]
    products = [length * z * z, length * z * y, z * sum_x, length * y * y, y * sum_x, sum_xx]
    divisor = np.maximum(voxels, 1)
    scatter = np.empty((count, 3, 3))
    for (i, j), product in zip(_PAIRS, products, strict=True):
        scatter[:, i, j] = scatter[:, j, i] = total(product) - sums[i] * sums[j] / divisor
    there = voxels[:, None] > 0
    shift = np.asarray(origin, np.int64)
    lower, upper = np.where(there, lower + shift * there, lower), np.where(there, upper + shift * there, upper)
    centroid = np.where(there, lower + np.stack(sums, axis=1) / divisor[:, None], 0.0)
    return Geometry(voxels.astype(np.int64), lower, upper, centroid, scatter)


def _sums(index: NDArray[np.integer], weights: NDArray, count: int) -> NDArray[np.float64]:
    """Add the weights of each index below ``count``."""
    return np.bincount(index, weights, minlength=count).astype(np.float64, copy=False)


def _sum_of_squares(stop: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum of m^2 for m < stop."""
    return (stop - 1) * stop * (2 * stop - 1) // 6


def intensity_of_runs(runs: Runs, image: NDArray, low: tuple[int, int, int] = (0, 0, 0)) -> Intensity:
    """Compute the intensities of objects.

    Args:
        runs: of a block.
        image: (D, H, W) real numbers or integers, of the block from a corner on.
        low: position (z, y, x) in the block of that corner, before which there must be no runs.

    Returns:
        a row per id of ``runs.ids``.

    Raises:
        InvalidInputError: NaN or infinite values inside an object; names one.
    """
    count = len(runs.ids)
    lengths = runs.stop - runs.start
    first = np.cumsum(lengths) - lengths
    start = ((runs.z - low[0]) * image.shape[1] + runs.y - low[1]) * image.shape[2] + runs.start - low[2]
    place = np.repeat(start - first, lengths) + np.arange(int(lengths.sum()))
    values = np.ascontiguousarray(image).reshape(-1)[place].astype(np.float64)
    least, most = np.full(count, np.inf), np.full(count, -np.inf)
    if not values.size:
        return Intensity(np.zeros(count), np.zeros(count), least, most)
    voxels = np.maximum(_sums(runs.object, lengths, count), 1)
    mean = _sums(runs.object, np.add.reduceat(values, first), count) / voxels
    if not np.isfinite(mean).all():
        bad = int(runs.ids[np.flatnonzero(~np.isfinite(mean))[0]])
        raise InvalidInputError(
            f"the image has NaN or infinite values inside the object {bad}; repair them, or leave the image out"
        )
    np.minimum.at(least, runs.object, np.minimum.reduceat(values, first))
    np.maximum.at(most, runs.object, np.maximum.reduceat(values, first))
    values -= np.repeat(mean[runs.object], lengths)
    values *= values
    return Intensity(mean, _sums(runs.object, np.add.reduceat(values, first), count), least, most)


def merge_geometry(parts: Geometry, index: NDArray[np.intp], count: int) -> Geometry:
    """Add up the geometry of parts of objects (Chan, Golub and LeVeque 1983).

    With n_i voxels in a part and d_i the way from the object's centroid to the part's, the scatter is the sum of those
    of the parts and of n_i d_i d_i^T.

    Args:
        parts: a row per part.
        index: (P,) which object a part belongs to.
        count: number of objects N.

    Returns:
        a row per object.
    """
    voxels = np.zeros(count, np.int64)
    np.add.at(voxels, index, parts.voxels)
    lower, upper = np.full((count, 3), UNSET), np.full((count, 3), -UNSET)
    np.minimum.at(lower, index, parts.lower)
    np.maximum.at(upper, index, parts.upper)
    weights, divisor = parts.voxels.astype(np.float64), np.maximum(voxels, 1)
    centroid, scatter = np.zeros((count, 3)), np.zeros((count, 3, 3))
    base = np.where(voxels[:, None] > 0, lower, 0).astype(np.float64)
    for axis in range(3):
        shifted = weights * (parts.centroid[:, axis] - base[index, axis])
        centroid[:, axis] = base[:, axis] + _sums(index, shifted, count) / divisor
    away = np.where(parts.voxels[:, None] > 0, parts.centroid - centroid[index], 0.0)
    for i, j in _PAIRS:
        terms = parts.scatter[:, i, j] + weights * away[:, i] * away[:, j]
        scatter[:, i, j] = scatter[:, j, i] = _sums(index, terms, count)
    return Geometry(voxels, lower, upper, np.where(voxels[:, None] > 0, centroid, 0.0), scatter)


def merge_intensity(parts: Intensity, voxels: NDArray[np.int64], index: NDArray[np.intp], count: int) -> Intensity:
    """Add up the intensities of parts of objects; see :func:`merge_geometry`.

    Args:
        parts: a row per part.
        voxels: (P,) of each part.
        index: (P,) which object a part belongs to.
        count: number of objects.
    """
    weights = voxels.astype(np.float64)
    divisor = np.maximum(_sums(index, weights, count), 1)
    mean = _sums(index, weights * parts.mean, count) / divisor
    terms = parts.scatter + weights * (parts.mean - mean[index]) ** 2
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low, index, parts.low)
    np.maximum.at(high, index, parts.high)
    return Intensity(mean, _sums(index, terms, count), low, high)
