"""Smooth random functions of position: sums of plane waves, with their gradients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Position = tuple[Array, Array, Array]
"""Coordinates z, y, x in voxels: arrays that broadcast to the shape of the result."""


def grid(box: tuple[slice, ...]) -> Position:
    """Coordinates of the voxel centers in a box, as arrays (D, 1, 1), (1, H, 1) and (1, 1, W)."""
    z, y, x = (np.arange(part.start, part.stop, dtype=np.float64) for part in box)
    return z[:, None, None], y[:, None], x[None]


@dataclass(frozen=True)
class Ripples:
    """The function w(x) = Σ_j a_j sin(K_j · x + p_j).

    Args:
        amplitudes: (N,) a_j.
        vectors: (N, 3) wave vectors K_j (z, y, x) in radians per voxel.
        phases: (N,) p_j.
    """

    amplitudes: Array
    vectors: Array
    phases: Array

    def value(self, position: Position) -> Array:
        """Return w at the positions."""
        total = np.zeros(np.broadcast_shapes(*(axis.shape for axis in position)))
        for amplitude, vector, phase in zip(self.amplitudes, self.vectors, self.phases, strict=True):
            (sin_zy, cos_zy), (sin_x, cos_x) = _split(vector, phase, position)
            total += (amplitude * sin_zy) * cos_x
            total += (amplitude * cos_zy) * sin_x
        return total

    def value_and_gradient(self, position: Position) -> tuple[Array, list[Array]]:
        """Return w, and its gradient Σ_j a_j K_j cos(K_j · x + p_j) as three arrays along z, y and x."""
        shape = np.broadcast_shapes(*(axis.shape for axis in position))
        total, gradient = np.zeros(shape), [np.zeros(shape) for _ in range(3)]
        for amplitude, vector, phase in zip(self.amplitudes, self.vectors, self.phases, strict=True):
            (sin_zy, cos_zy), (sin_x, cos_x) = _split(vector, phase, position)
            total += (amplitude * sin_zy) * cos_x
            total += (amplitude * cos_zy) * sin_x
            slope = (amplitude * cos_zy) * cos_x
            slope -= (amplitude * sin_zy) * sin_x
            for component, factor in zip(gradient, vector, strict=True):
                component += factor * slope
        return total, gradient


def _split(vector: Array, phase: float, position: Position) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Sine and cosine of the phase along z and y, and of that along x, which needs few evaluations on a grid.

    Products of real numbers, not of complex ones or of matrices, round alike wherever a voxel lies in an array.
    """
    z, y, x = (axis * factor for axis, factor in zip(position, vector, strict=True))
    z = z + phase
    sin_z, cos_z, sin_y, cos_y = np.sin(z), np.cos(z), np.sin(y), np.cos(y)
    return (sin_z * cos_y + cos_z * sin_y, cos_z * cos_y - sin_z * sin_y), (np.sin(x), np.cos(x))


def draw_vectors(
    rng: np.random.Generator, count: int, wavelength: tuple[float, float], axis: Array, flat: float
) -> Array:
    """Draw wave vectors whose lengths are uniform in the logarithm.

    Args:
        rng: source of randomness.
        count: how many.
        wavelength: lowest and highest, in voxels.
        axis: (3,) unit vector.
        flat: factor on the component along the axis before the vectors are scaled; 1 for all directions alike.

    Returns:
        (count, 3) in radians per voxel.
    """
    directions = rng.standard_normal((count, 3))
    directions -= (1 - flat) * (directions @ axis)[:, None] * axis
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = np.exp(rng.uniform(np.log(wavelength[0]), np.log(wavelength[1]), count))
    return directions * (2 * np.pi / lengths)[:, None]


def draw_texture(rng: np.random.Generator, count: int, wavelength: tuple[float, float]) -> Ripples:
    """Draw a function of variance 1 with waves in all directions; see :func:`draw_vectors`."""
    vectors = draw_vectors(rng, count, wavelength, np.zeros(3), 1.0)
    return Ripples(np.full(count, np.sqrt(2 / count)), vectors, rng.uniform(0, 2 * np.pi, count))


def draw_undulation(
    rng: np.random.Generator, count: int, wavelength: tuple[float, float], slope: float, axis: Array, flat: float
) -> Ripples:
    """Draw a function whose gradient is nowhere longer than ``slope``, shared among the waves; see ``draw_vectors``."""
    vectors = draw_vectors(rng, count, wavelength, axis, flat)
    shares = rng.uniform(0.5, 1.0, count)
    amplitudes = slope * shares / shares.sum() / np.linalg.norm(vectors, axis=1)
    return Ripples(amplitudes, vectors, rng.uniform(0, 2 * np.pi, count))
