"""Two-photon imaging of a volume: blur, background, shot noise, read noise, contrast."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.synthetic.optic_lobe.parallel import Workers, fast_normal, slabs
from voxel_ext.synthetic.optic_lobe.poisson import poisson

Volume = NDArray[np.float32]
Array = NDArray[np.float64]

TRUNCATE = 6.0  # standard deviations after which the Gaussian is cut
COUNT_FLOOR, LOG_FLOOR = 1e-5, 1e-7  # added before logarithms of counts and of intensities
SERIAL_PRODUCTS = 2**18  # multiplications up to which OpenBLAS works in the calling thread
BLOCK = 65536  # Poisson numbers drawn at once, so that the arrays stay in the cache
READ_NOISE = 0.1  # over the standard deviation of the logarithm of the counts


@dataclass(frozen=True)
class Imaging:
    """Settings of the simulated microscope.

    Attributes:
        box_size: edge of the box filter in voxels.
        background_sigma: standard deviation in voxels of the Gaussian that makes the background.
        background_factor_range: lowest and highest weight of the background.
        plateau: constant light, over the 99th percentile of the signal.
        gain_range: lowest and highest number (integers) of photons at the 99th percentile.
        contrast_range: lowest and highest factor on the standard deviation of the log intensity.
    """

    box_size: int
    background_sigma: float
    background_factor_range: tuple[float, float]
    plateau: float
    gain_range: tuple[int, int]
    contrast_range: tuple[float, float]


def mirror_index(index: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    """Indices mapped into 0 … length − 1 by reflection about the centers of the border voxels (reflect-101)."""
    period = max(2 * (length - 1), 1)
    folded = np.abs(index) % period
    return np.minimum(folded, period - folded) if length > 1 else np.zeros_like(index)


@lru_cache(maxsize=32)
def gaussian_modes(length: int, sigma: float) -> tuple[Array, Array, Array]:
    """Gaussian blur of a line with mirrored borders, as its few modes that survive.

    Mirroring about the border voxels makes a line periodic and even, so that a symmetric filter w is diagonal in the
    cosines of the type I discrete cosine transform: mode k is scaled by Σ w(d) cos(π k d / (length − 1)). Modes below
    the single precision are left out; for a broad Gaussian that is most of them. The Gaussian is cut at 6 standard
    deviations, as by ``scipy.ndimage.gaussian_filter1d(mode="mirror", truncate=6)``.

    Args:
        length: of the line in voxels, at least 2.
        sigma: standard deviation in voxels; 0 leaves the line as it is.

    Returns:
        Analysis (modes, length), synthesis (length, modes) and gains (modes,): the blurred line is
        synthesis @ (gains * (analysis @ line)).
    """
    radius = int(TRUNCATE * sigma + 0.5)
    distance = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (distance / max(sigma, 1e-9)) ** 2)
    step = np.pi / (length - 1)
    gains = np.cos(step * np.outer(np.arange(length), distance)) @ (weights / weights.sum())
    modes = np.flatnonzero(np.abs(gains) > np.finfo(np.float32).eps / 8)
    synthesis = np.cos(step * np.outer(np.arange(length), modes))
    ends = np.ones(length)
    ends[[0, -1]] = 0.5
    analysis = (synthesis * ends[:, None] * ends[modes] * (2 / (length - 1))).T
    return analysis, synthesis, gains[modes]


def box_sum(volume: Volume, width: int, axis: int) -> Volume:
    """Sum of ``width`` neighbors along ``axis``, from i − width // 2 on, with mirrored borders."""
    if width == 1:
        return volume
    length = volume.shape[axis]
    source = np.moveaxis(volume, axis, 0)
    total = np.empty_like(volume)
    target = np.moveaxis(total, axis, 0)
    first = width // 2
    low, high = min(first, length), max(length - (width - 1 - first), min(first, length))
    inner = slice(low, high)
    for j in range(width):
        shifted = source[low - first + j : high - first + j]
        target[inner] = shifted if j == 0 else target[inner] + shifted
    for i in [*range(low), *range(high, length)]:
        target[i] = source[mirror_index(np.arange(i - first, i - first + width), length)].sum(axis=0)
    return total


def background(volume: Volume, sigma: float) -> Volume:
    """Out-of-focus light: in-plane Gaussian blur in (x, y), then in (y, z), of a volume (X, Y, Z).

    It is computed in double precision, so that the rounding of matrix products, which differs between libraries and
    processors, does not reach the photon numbers.
    """
    (to_x, from_x, gain_x), (to_y, from_y, gain_y), (to_z, from_z, gain_z) = (
        gaussian_modes(length, sigma) for length in volume.shape
    )
    modes = _along_last(_along_last(volume, to_z).swapaxes(1, 2), to_y)  # (X, z modes, y modes)
    modes = _along_last(modes.transpose(1, 2, 0), to_x)  # (z modes, y modes, x modes)
    modes *= gain_z[:, None, None] * gain_y[:, None] ** 2 * gain_x
    lines = _along_last(_along_last(modes, from_x).transpose(2, 0, 1), from_y)  # (X, z modes, Y)
    return _along_last(lines.swapaxes(1, 2), from_z).astype(np.float32)


def _along_last(values: NDArray[np.floating], matrix: Array) -> Array:
    """Product of ``matrix`` (N, K) with every line (K) along the last axis of ``values``.

    Blocks are so small that the linear algebra library starts no threads, which would compete with the data loader's
    processes for the cores.
    """
    lines = values.reshape(-1, values.shape[-1])
    result = np.empty((len(lines), len(matrix)))
    step = max(SERIAL_PRODUCTS // matrix.size, 1)
    for start in range(0, len(lines), step):
        np.matmul(lines[start : start + step], matrix.T, out=result[start : start + step])
    return result.reshape(*values.shape[:-1], len(matrix))


def upper_percentile(volume: Volume, percent: float) -> float:
    """The percentile of all values (linear interpolation), as ``numpy.percentile``."""
    rank = (volume.size - 1) * percent / 100
    lower = int(rank)
    pair = [lower, min(lower + 1, volume.size - 1)]
    first, second = np.partition(volume.reshape(-1), pair)[pair]
    return float(first + (rank - lower) * (second - first))


def image_volume(
    seeds: np.random.SeedSequence, volume: Volume, settings: Imaging, workers: Workers
) -> tuple[Volume, dict[str, Any]]:
    """Simulate the image of a volume.

    A box filter; background, a plateau and a gain; Poisson noise; normal read noise of a tenth of the standard
    deviation of the logarithm of the counts; negative values set to 0; the logarithm's deviation from its mean scaled.

    Args:
        seeds: source of randomness.
        volume: (X, Y, Z) light of the sources.
        settings: of the microscope.
        workers: threads to use.

    Returns:
        (X, Y, Z) image, and the drawn values.
    """
    first, shot, read = seeds.spawn(3)
    rng = np.random.default_rng(first)
    factor, gain = rng.uniform(*settings.background_factor_range), rng.integers(*settings.gain_range, endpoint=True)
    contrast = rng.uniform(*settings.contrast_range)
    plane = box_sum(box_sum(volume, settings.box_size, 0), settings.box_size, 1)
    signal = box_sum(plane, settings.box_size, 2)
    # Where less than a hundredth of the voxels holds any light, the brightest voxel sets the scale.
    scale = upper_percentile(signal, 99) or float(signal.max()) or 1.0
    light = background(plane, settings.background_sigma)
    light *= np.float32(gain * factor)
    signal *= np.float32(gain / scale)
    light += signal
    light += np.float32(gain * settings.plateau)
    sigma = READ_NOISE * expose(shot, light, workers)
    develop(read, light, sigma, float(contrast), workers)
    drawn = {"background_factor": float(factor), "gain": int(gain), "contrast": float(contrast)}
    return light, {**drawn, "percentile_99": scale, "read_noise_sigma": sigma}


def expose(seeds: np.random.SeedSequence, light: Volume, workers: Workers) -> float:
    """Replace the mean photon numbers ``light`` by Poisson numbers, in slabs with a random stream each.

    Returns:
        The standard deviation of the logarithm of the photon numbers.
    """

    def draw(job: tuple[NDArray[np.float32], np.random.SeedSequence]) -> tuple[float, float]:
        values, rng = job[0], np.random.default_rng(job[1])
        np.maximum(values, 0, out=values)
        for part in slabs(len(values), -(-len(values) // BLOCK)):
            values[part] = poisson(rng, values[part])
        logarithm = np.log(values + np.float32(COUNT_FLOOR))
        return float(logarithm.sum(dtype=np.float64)), float((logarithm**2).sum(dtype=np.float64))

    first, second = np.sum(list(workers.map(draw, _streams(seeds, light))), axis=0) / light.size
    return float(np.sqrt(max(second - first**2, 0)))


def develop(seeds: np.random.SeedSequence, image: Volume, read_noise: float, contrast: float, workers: Workers) -> None:
    """Add read noise, set negative values to 0, and scale the deviation of the logarithm from its mean; in place."""

    def logarithm(job: tuple[NDArray[np.float32], np.random.SeedSequence]) -> float:
        values, rng = job[0], np.random.default_rng(job[1])
        noise = fast_normal(rng, np.empty((2, (len(values) + 1) // 2), dtype=np.float32)).reshape(-1)[: len(values)]
        noise *= np.float32(read_noise)
        values += noise
        np.maximum(values, 0, out=values)
        values += np.float32(LOG_FLOOR)
        np.log(values, out=values)
        return float(values.sum(dtype=np.float64))

    jobs = _streams(seeds, image)
    mean = sum(workers.map(logarithm, jobs)) / image.size

    def scale(job: tuple[NDArray[np.float32], np.random.SeedSequence]) -> None:
        values = job[0]
        values *= np.float32(contrast)
        values += np.float32(mean * (1 - contrast))
        np.exp(values, out=values)

    workers.run(scale, jobs)


def _streams(seeds: np.random.SeedSequence, volume: Volume) -> list[tuple[NDArray[np.float32], np.random.SeedSequence]]:
    """Slabs of a volume, as flat views, with a random stream each."""
    flat = volume.reshape(-1)
    parts = slabs(flat.size)
    return list(zip([flat[part] for part in parts], seeds.spawn(len(parts)), strict=True))
