"""What a microscope sees of the nuclei in four channels: autofluorescence, attenuation, blur and noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.synthetic.optic_lobe.parallel import Workers, fast_normal, slabs
from voxel_ext.synthetic.optic_lobe.poisson import poisson
from voxel_ext.synthetic.worm.imaging import body_light
from voxel_ext.synthetic.worm.nuclei import Nuclei, inside

BLUR = (0.4, 0.22, 0.22)  # standard deviation of the point spread function (z, y, x) over the radius of the nuclei
BLUR_REACH = 3.0  # standard deviations around a nucleus that its blurred light is drawn to
ATTENUATION = (1.2, 3.0)  # depths of the volume after which the light has fallen to 1/e
GAIN = 0.2  # standard deviation of the logarithm of a channel's brightness in an animal
AUTOFLUORESCENCE = (1.0, 0.7, 0.3, 0.5)  # of the channels, relative to the setting
READ_NOISE = 4.0  # counts
OFFSET = 100.0  # counts
HIGHEST = 65535.0  # counts


def image_head(
    seed: np.random.SeedSequence,
    nuclei: Nuclei,
    colors: NDArray[np.float64],
    shape: Sequence[int],
    blur: Sequence[float],
    light: float,
    background: float,
    counts_per_photon: float,
    workers: Workers,
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Image of the nuclei in counts.

    Args:
        seed: source of randomness.
        nuclei: N nuclei, whether they have a label or not.
        colors: (N, C) brightness.
        shape: (Z, Y, X) of the volume.
        blur: standard deviation of the point spread function (z, y, x) in voxels.
        light: counts of a nucleus of brightness 1 in the first plane, before the blur.
        background: counts of the body's autofluorescence.
        counts_per_photon: conversion factor of the camera.
        workers: threads to use; the result does not depend on their number.

    Returns:
        (C, Z, Y, X) whole numbers from 0 to 65535; and the drawn values.
    """
    streams = seed.spawn(2)
    rng = np.random.default_rng(streams[0])
    length = float(rng.uniform(*ATTENUATION)) * shape[0]
    gains = np.exp(rng.standard_normal(colors.shape[1]) * GAIN)
    depth = np.exp(-np.arange(shape[0], dtype=np.float32) / np.float32(length))
    body = body_light(nuclei.centers, shape) * depth[:, None, None]
    glow = background * gains * AUTOFLUORESCENCE
    image = body * glow[:, None, None, None].astype(np.float32)
    _add_nuclei(rng, image, nuclei, colors * gains * light, depth, blur)
    for channel, stream in zip(image, streams[1].spawn(len(image)), strict=True):
        _add_noise(stream, channel, counts_per_photon, workers)
    return image, {"attenuation_length": length, "gains": gains.tolist()}


def _add_nuclei(
    rng: np.random.Generator,
    image: NDArray[np.float32],
    nuclei: Nuclei,
    counts: NDArray[np.float64],
    depth: NDArray[np.float32],
    blur: Sequence[float],
) -> None:
    """Add the blurred light of every nucleus to all channels (C, Z, Y, X), in a window around it."""
    from scipy.ndimage import gaussian_filter

    margin = int(np.ceil(BLUR_REACH * max(blur)))
    for index in range(len(nuclei.centers)):
        window, mask = inside(nuclei, index, image.shape[1:], margin=margin)
        texture = 1 + nuclei.contrast[index] * rng.standard_normal(mask.shape, dtype=np.float32)
        light = np.where(mask, np.maximum(texture, 0), 0).astype(np.float32)
        light *= depth[window[0], None, None]
        light = gaussian_filter(light, blur, mode="constant", truncate=BLUR_REACH)
        image[(slice(None), *window)] += light * counts[index].astype(np.float32)[:, None, None, None]


def _add_noise(
    seed: np.random.SeedSequence, volume: NDArray[np.float32], counts_per_photon: float, workers: Workers
) -> None:
    """Turn expected counts (Z, Y, X) into recorded ones: Poisson and read noise, offset, rounding."""
    parts = slabs(len(volume))

    def record(item: tuple[slice, np.random.SeedSequence]) -> None:
        part, stream = item
        rng = np.random.default_rng(stream)
        for plane in volume[part]:
            counts = poisson(rng, plane.reshape(-1) / np.float32(counts_per_photon)) * np.float32(counts_per_photon)
            noise = fast_normal(rng, np.empty((2, (plane.size + 1) // 2), dtype=np.float32)).reshape(-1)[: plane.size]
            counts += noise * np.float32(READ_NOISE) + np.float32(OFFSET)
            plane[...] = np.clip(np.rint(counts), 0, HIGHEST).reshape(plane.shape)

    workers.run(record, zip(parts, seed.spawn(len(parts)), strict=True))
