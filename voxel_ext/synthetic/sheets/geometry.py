"""The functions whose level sets are sheets: bent planes, and the windings of a scroll."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from voxel_ext.synthetic.sheets.ripples import Array, Position, Ripples, draw_undulation

WAVES = 5  # plane waves of an undulation
FLAT = 0.4  # factor on the wave vectors' component across a stack, so that neighboring sheets are alike
OFF_CENTER = 0.6  # largest distance of a scroll's axis from the middle, over the shortest edge of the volume


class Field(Protocol):
    """A smooth function phi(x) with |grad phi| near 1; sheet k is the level set phi = k * spacing."""

    @property
    def lowest(self) -> int:
        """The sheets below this number do not exist."""

    def evaluate(self, position: Position) -> tuple[Array, list[Array]]:
        """Return phi and its gradient, three arrays along z, y and x."""

    def is_clear(self, center: Array, radius: float) -> bool:
        """Whether phi is continuous in a ball."""

    def describe(self) -> dict[str, Any]:
        """Return what was drawn, as Python scalars and lists."""


@dataclass(frozen=True)
class _Undulating:
    """phi(x) = phi_0(x - c) + w(x); a subclass adds phi_0.

    Args:
        center: (3,) c.
        undulation: w.
        lowest: see :class:`Field`.
    """

    center: Array
    undulation: Ripples
    lowest: int

    def evaluate(self, position: Position) -> tuple[Array, list[Array]]:
        """Return phi and its gradient; see :class:`Field`."""
        value, gradient = self.undulation.value_and_gradient(position)
        self._add(position, value, gradient)
        return value, gradient

    def _add(self, position: Position, value: Array, gradient: list[Array]) -> None:
        """Add phi_0 and its gradient in place."""
        raise NotImplementedError

    def _along(self, direction: Array, position: Position) -> tuple[Array, Array, Array]:
        """Terms of direction · (x - c) along z, y and x."""
        z, y, x = ((axis - c) * d for axis, c, d in zip(position, self.center, direction, strict=True))
        return z, y, x


@dataclass(frozen=True)
class Waves(_Undulating):
    """phi(x) = n · (x - c) + shift + w(x), with the gradient n + grad w.

    With |grad w| < 1, phi increases strictly along n: no sheet meets another, and no gradient vanishes.

    Args:
        center: (3,) c.
        undulation: w.
        lowest: see :class:`Field`.
        axis: (3,) unit vector n.
        shift: of the stack along n, in voxels.
    """

    axis: Array
    shift: float

    def _add(self, position: Position, value: Array, gradient: list[Array]) -> None:
        z, y, x = self._along(self.axis, position)
        value += (z + self.shift) + y + x
        for component, n in zip(gradient, self.axis, strict=True):
            component += n

    def is_clear(self, center: Array, radius: float) -> bool:
        """True: phi is continuous everywhere."""
        return True

    def describe(self) -> dict[str, Any]:
        """Return ``axis`` n, ``center`` c and ``shift``."""
        return {"axis": self.axis.tolist(), "center": self.center.tolist(), "shift": self.shift}


@dataclass(frozen=True)
class Spiral(_Undulating):
    """phi(x) = r - spacing * turn / 2π + w(x), whose level sets are the windings of one Archimedean spiral.

    r is the distance from the scroll's axis and turn, from -π to π, the angle about it. Across the half plane where
    turn jumps, winding k continues as winding k + 1 or k - 1; the gradient, e_r - spacing / (2π r) e_turn + grad w, is
    continuous there.

    Args:
        center: (3,) a point on the axis.
        undulation: w.
        lowest: see :class:`Field`; the innermost winding, which leaves the axis free.
        frame: (3, 3) orthonormal rows: the scroll's axis, the direction of angle 0, the direction of angle π/2.
        spacing: of the windings, in voxels.
    """

    frame: Array
    spacing: float

    def _add(self, position: Position, value: Array, gradient: list[Array]) -> None:
        terms = [self._along(direction, position) for direction in self.frame[1:]]
        u, v = (z + y + x for z, y, x in terms)
        radius = np.maximum(np.sqrt(u * u + v * v), 1e-6)
        pitch = self.spacing / (2 * np.pi)
        value += radius - pitch * np.arctan2(v, u)
        u /= radius
        v /= radius
        pitch_over_radius = pitch / radius
        by_u, by_v = u + pitch_over_radius * v, v - pitch_over_radius * u
        for component, along_u, along_v in zip(gradient, self.frame[1], self.frame[2], strict=True):
            component += along_u * by_u
            component += along_v * by_v

    def is_clear(self, center: Array, radius: float) -> bool:
        """Whether a ball meets neither the axis nor the half plane where the angle jumps."""
        u, v = self.frame[1:] @ (center - self.center)
        return bool((abs(v) if u < 0 else np.hypot(u, v)) > radius)

    def describe(self) -> dict[str, Any]:
        """Return the scroll's ``axis``, ``center`` on it, and the ``directions`` of the angles 0 and π/2."""
        axis, *directions = self.frame.tolist()
        return {"axis": axis, "center": self.center.tolist(), "directions": directions}


def draw_frame(rng: np.random.Generator, tilt: float) -> Array:
    """Draw three orthonormal vectors, the first of them within an angle of the z axis.

    Args:
        rng: source of randomness.
        tilt: largest angle in radians; π for any direction.

    Returns:
        (3, 3) rows (z, y, x).
    """
    cosine = rng.uniform(np.cos(tilt), 1)
    angle = rng.uniform(0, 2 * np.pi)
    sine = np.sqrt(1 - cosine**2)
    first = np.array([cosine, sine * np.sin(angle), sine * np.cos(angle)])
    second = rng.standard_normal(3)
    second -= (second @ first) * first
    second /= np.linalg.norm(second)
    return np.stack([first, second, np.cross(first, second)])


def draw_waves(
    rng: np.random.Generator,
    size: Sequence[int],
    spacing: float,
    wavelength: tuple[float, float],
    waviness: float,
    tilt: float,
) -> Waves:
    """Draw a stack of bent sheets through the middle of a volume.

    Args:
        rng: source of randomness.
        size: (Z, Y, X) of the volume.
        spacing: between the sheets, in voxels.
        wavelength: lowest and highest of the undulation, in voxels.
        waviness: largest slope of it, below 1.
        tilt: largest angle of the stack's axis to z, in radians.
    """
    axis = draw_frame(rng, tilt)[0]
    undulation = draw_undulation(rng, WAVES, wavelength, waviness, axis, FLAT)
    half = (np.array(size, dtype=np.float64) - 1) / 2
    reach = float(np.abs(axis) @ half + undulation.amplitudes.sum())
    return Waves(half, undulation, int(np.floor(-reach / spacing)) - 1, axis, float(rng.uniform(0, spacing)))


def draw_spiral(
    rng: np.random.Generator,
    size: Sequence[int],
    spacing: float,
    wavelength: tuple[float, float],
    waviness: float,
    tilt: float,
) -> Spiral:
    """Draw a scroll whose axis passes near the middle of a volume; see :func:`draw_waves`."""
    frame = draw_frame(rng, tilt)
    if rng.uniform() < 0.5:
        frame[2] *= -1  # wound the other way
    undulation = draw_undulation(rng, WAVES, wavelength, waviness, frame[0], 1.0)
    away, angle = rng.uniform(0, OFF_CENTER * min(size)), rng.uniform(0, 2 * np.pi)
    middle = (np.array(size, dtype=np.float64) - 1) / 2
    center = middle + away * (np.cos(angle) * frame[1] + np.sin(angle) * frame[2])
    lowest = int(np.ceil(undulation.amplitudes.sum() / spacing)) + 1
    return Spiral(center, undulation, lowest, frame, spacing)
