"""Neurites: cubic Bezier curves from the columns to near the center of the ellipsoid."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.synthetic.optic_lobe.fluorescence import LOG_MEAN, voxel_index
from voxel_ext.synthetic.optic_lobe.pose import Lobe, draw_plane

Array = NDArray[np.float64]

INWARD, LATERAL = 0.2, 0.1  # largest offsets of the second control point, in the cube's edge
SPREAD = 0.25  # distance of the end from the center over the distance to the plane
END_SIGMA = 0.05  # standard deviation of the end, in the cube's edge
COPIES, JITTER = 4, 0.025  # copies of every point and their standard deviation over the spacing
BRIGHTNESS = 2.0  # over that of a cloud of the same draw
LEFT_OUT = 0.3  # fraction of columns without a neurite


def bezier(t: ArrayLike, control: ArrayLike) -> Array:
    """Points of cubic Bezier curves: Σ C(3, i) (1 − t)^(3 − i) t^i control[i].

    Args:
        t: (T,) positions along the curves, from 0 to 1.
        control: (4, N, 3) control points of N curves.

    Returns:
        (T, N, 3) points.
    """
    t = np.asarray(t, dtype=float)
    weights = np.stack([(1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3], axis=1)
    return np.tensordot(weights, np.asarray(control, dtype=float), axes=1)


def draw_control_points(rng: np.random.Generator, lobe: Lobe) -> tuple[Array, dict[str, Any]]:
    """Control points (4, N, 3) of the N neurites, and the drawn values.

    The curves start at the surface points, leave inwards with a lateral part, head for the foot point on a random
    plane across the surface, and end around the center, the farther from it the farther from the plane they started.
    """
    points, count = lobe.points, len(lobe.points)
    point, normal, drawn = draw_plane(rng, lobe, "neurite_plane")
    distance = ((points - point) @ normal)[:, None]
    weights = np.stack(
        [rng.uniform(0, LATERAL, count), rng.uniform(0, LATERAL, count), -rng.uniform(0, INWARD, count)], axis=1
    )
    leave = points + (weights[:, :, None] * lobe.frames).sum(axis=1)
    foot = points - distance * normal
    end = lobe.center + SPREAD * distance * normal + rng.normal(0, END_SIGMA, (count, 3))
    return np.stack([points, leave, foot, end]), drawn


def add_neurites(
    rng: np.random.Generator,
    volume: NDArray[np.float32],
    lobe: Lobe,
    *,
    spacing: float,
    intensity: float,
    intensity_sigma: float,
) -> dict[str, Any]:
    """Draw neurites from 70 % of the surface points into ``volume`` (X, Y, Z), in place.

    The intensity is added once per voxel: of several points in a voxel the last counts.

    Args:
        rng: source of randomness.
        volume: intensities, changed in place.
        lobe: surface points with frames in the unit cube.
        spacing: mean spacing of the columns in the unit cube.
        intensity: intensity exp(0) of a cloud; a neurite's is twice that.
        intensity_sigma: standard deviation of the logarithm of a neurite's intensity.

    Returns:
        The drawn values.
    """
    size = np.array(volume.shape)
    control, drawn = draw_control_points(rng, lobe)
    count = control.shape[1]
    values = BRIGHTNESS * intensity * rng.lognormal(LOG_MEAN, intensity_sigma, (count,))
    present = np.sort(rng.permutation(count)[int(LEFT_OUT * count) :])
    curves = bezier(np.linspace(0, 1, size.max()), control[:, present])
    points, owner = near_volume(curves, margin=6 * JITTER * spacing)
    points = np.repeat(points, COPIES, axis=0) + rng.normal(0, JITTER * spacing, (COPIES * len(points), 3))
    inside, index = voxel_index(points * size, volume.shape)
    volume.reshape(-1)[index] += np.repeat(values[present][owner], COPIES)[inside].astype(np.float32)
    return {**drawn, "n_neurites": len(present)}


def near_volume(curves: Array, margin: float) -> tuple[Array, NDArray[np.intp]]:
    """Points (M, 3) of curves (T, N, 3) within ``margin`` of the unit cube, and the curve (M,) of each."""
    step, curve = np.nonzero(np.all((curves > -margin) & (curves < 1 + margin), axis=-1))
    return curves[step, curve], curve
