"""What a microscope sees of the nuclei: chromatin, autofluorescence, attenuation, blur and noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.synthetic.optic_lobe.parallel import Workers, fast_normal, slabs
from voxel_ext.synthetic.optic_lobe.poisson import poisson
from voxel_ext.synthetic.worm.nuclei import Nuclei, inside

LIGHT = 200.0  # counts of a nucleus of brightness 1 in the first plane, before the blur
BODY = 24.0  # counts of the body's autofluorescence in the first plane
BODY_REACH = 2.0  # its radius over the standard deviation of the nuclei nearby,
BODY_WALL = 10.0  # to which these voxels are added
BODY_WINDOW = 40.0  # voxels along x over which the body's section is averaged
BLUR = (1.8, 1.0, 1.0)  # standard deviation of the point spread function (z, y, x) in voxels
BLUR_REACH = 6  # voxels around a nucleus that its blurred light is drawn to
ATTENUATION = (120.0, 250.0)  # voxels along z after which the light has fallen to 1/e
EXPOSURE = 0.12  # standard deviation of the logarithm of a worm's brightness
COUNTS_PER_PHOTON = 3.0
READ_NOISE = 2.0  # counts
OFFSET = 8.0  # counts
HIGHEST = 255.0


def image_worm(
    seed: np.random.SeedSequence, nuclei: Nuclei, shape: Sequence[int], workers: Workers
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Image of the nuclei in an 8-bit range.

    Args:
        seed: source of randomness.
        nuclei: the nuclei, whether they have a label or not.
        shape: (Z, Y, X) of the volume.
        workers: threads to use; the result does not depend on their number.

    Returns:
        (Z, Y, X) whole numbers from 0 to 255; and the drawn values.
    """
    streams = seed.spawn(3)
    rng = np.random.default_rng(streams[0])
    length, exposure = float(rng.uniform(*ATTENUATION)), float(np.exp(rng.standard_normal() * EXPOSURE))
    depth = np.exp(-np.arange(shape[0], dtype=np.float32) / np.float32(length)) * np.float32(exposure)
    image = body_light(nuclei.centers, shape)
    image *= BODY * depth[:, None, None]
    add_nuclei(np.random.default_rng(streams[1]), image, nuclei, depth)
    add_noise(streams[2], image, workers)
    return image, {"attenuation_length": length, "exposure": exposure}


def body_light(centers: NDArray[np.float64], shape: Sequence[int]) -> NDArray[np.float32]:
    """A smooth tube around the nuclei, 1 inside and 0 outside.

    At each x, the section is an ellipse about the mean of the nuclei nearby, weighted by a Gaussian of 40 voxels; with
    the relative distance e from its middle, the light is 1 / (1 + e^4). It falls off beyond the first and last nucleus.

    Args:
        centers: (N, 3) (z, y, x) in voxels.
        shape: (Z, Y, X) of the volume.

    Returns:
        (Z, Y, X).
    """
    x = np.arange(shape[2])
    exponent = ((x[:, None] - centers[:, 2]) / BODY_WINDOW) ** 2 / 2
    weight = np.exp(exponent.min(axis=1, keepdims=True) - exponent)  # the nearest nucleus counts however far it is
    weight /= weight.sum(axis=1, keepdims=True)
    squares = []
    for axis in range(2):
        middle = weight @ centers[:, axis]
        variance = np.maximum(weight @ centers[:, axis] ** 2 - middle**2, 0)
        radius = BODY_REACH * np.sqrt(variance) + BODY_WALL
        offset = (np.arange(shape[axis])[:, None] - middle) / radius
        squares.append((offset**2).astype(np.float32))
    beyond = np.maximum(centers[:, 2].min() - x, x - centers[:, 2].max()) / BODY_WALL
    squares[0] += np.maximum(beyond, 0).astype(np.float32) ** 2
    light = squares[0][:, None] + squares[1]
    light *= light
    light += 1
    return np.reciprocal(light, out=light)


def add_nuclei(
    rng: np.random.Generator, image: NDArray[np.float32], nuclei: Nuclei, depth: NDArray[np.float32]
) -> None:
    """Add the blurred light of every nucleus to an image, in a window around it.

    Args:
        rng: source of randomness.
        image: (Z, Y, X), changed in place.
        nuclei: the nuclei.
        depth: (Z,) factor on the light from each plane.
    """
    from scipy.ndimage import gaussian_filter

    for index in range(len(nuclei.centers)):
        window, mask = inside(nuclei, index, image.shape, margin=BLUR_REACH)
        light = np.zeros(mask.shape, dtype=np.float32)
        values = 1 + nuclei.contrast[index] * _chromatin(rng, mask, float(nuclei.grain[index]))
        light[mask] = np.maximum(values, 0)[mask] * (LIGHT * nuclei.brightness[index])
        light *= depth[window[0], None, None]
        image[window] += gaussian_filter(light, BLUR, mode="constant", truncate=3.0)


def _chromatin(rng: np.random.Generator, mask: NDArray[np.bool_], grain: float) -> NDArray[np.float32]:
    """Band-passed noise, the difference of Gaussians of grain and twice grain, of mean 0 and deviation 1 in a mask."""
    from scipy.ndimage import gaussian_filter

    noise = rng.standard_normal(mask.shape, dtype=np.float32)
    noise = gaussian_filter(noise, grain, truncate=3.0) - gaussian_filter(noise, 2 * grain, truncate=2.0)
    values = noise[mask]
    return (noise - values.mean()) / values.std()


def add_noise(seed: np.random.SeedSequence, image: NDArray[np.float32], workers: Workers) -> None:
    """Turn expected counts into recorded ones: Poisson and read noise, offset, rounding, 0 to 255.

    Args:
        seed: source of randomness, split into a fixed number of streams along z.
        image: (Z, Y, X) expected counts, changed in place.
        workers: threads to use.
    """
    parts = slabs(len(image))

    def record(item: tuple[slice, np.random.SeedSequence]) -> None:
        part, stream = item
        rng = np.random.default_rng(stream)
        for plane in image[part]:
            counts = poisson(rng, plane.reshape(-1) * np.float32(1 / COUNTS_PER_PHOTON)) * np.float32(COUNTS_PER_PHOTON)
            noise = fast_normal(rng, np.empty((2, (plane.size + 1) // 2), dtype=np.float32)).reshape(-1)[: plane.size]
            counts += noise * np.float32(READ_NOISE) + np.float32(OFFSET)
            plane[...] = np.clip(np.rint(counts), 0, HIGHEST).reshape(plane.shape)

    workers.run(record, zip(parts, seed.spawn(len(parts)), strict=True))
