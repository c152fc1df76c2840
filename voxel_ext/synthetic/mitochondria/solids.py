"""Solids as level sets f(z, y, x) < 0 about the origin, with the closed form of their volume.

Lengths are in units of the solid: the radius of a tube, half the thickness of a plate, the equatorial radius of a
spheroid. f is the distance from the surface, or close to it near the surface.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Points = NDArray[np.float64]

RING_POINTS = 32  # of the balls that cover a ring


class Solid(Protocol):
    """What a solid has to offer."""

    @property
    def volume(self) -> float:
        """Volume; exact if ``exact``, otherwise within a tenth or so."""

    @property
    def exact(self) -> bool:
        """Whether ``volume`` is the closed form."""

    @property
    def thinnest(self) -> float:
        """Lowest distance of the medial curve or surface from the surface."""

    def field(self, z: Array, y: Array, x: Array) -> Array:
        """Return f at positions, negative inside."""

    def balls(self) -> tuple[Points, Points]:
        """Centers (N, 3) and radii (N,) of balls whose bounding box, turned in any way, holds the solid."""

    def lengths(self) -> dict[str, float]:
        """Lengths that describe the solid, by name."""


@dataclass(frozen=True)
class Profile:
    """The relative radius along a medial curve, r(u) = 1 + Σ_j a_j cos(2 pi k_j u + p_j), u from 0 to 1.

    Args:
        amplitudes: a_j.
        numbers: k_j, whole numbers.
        phases: p_j in radians.
    """

    amplitudes: tuple[float, ...] = ()
    numbers: tuple[int, ...] = ()
    phases: tuple[float, ...] = ()

    def __call__(self, u: NDArray[Any]) -> NDArray[Any]:
        """Return r at ``u``."""
        radius = np.ones_like(u)
        for amplitude, number, phase in zip(self.amplitudes, self.numbers, self.phases, strict=True):
            radius += amplitude * np.cos(2 * np.pi * number * u + phase, dtype=u.dtype)
        return radius

    @property
    def mean_square(self) -> float:
        """Mean of r^2 over u: 1 + Σ_j a_j^2 / 2, for different k_j."""
        return 1 + sum(amplitude**2 for amplitude in self.amplitudes) / 2

    @property
    def end(self) -> float:
        """r(0) = r(1)."""
        return 1 + sum(a * float(np.cos(p)) for a, p in zip(self.amplitudes, self.phases, strict=True))

    @property
    def limits(self) -> tuple[float, float]:
        """Bounds of r."""
        spread = sum(abs(amplitude) for amplitude in self.amplitudes)
        return 1 - spread, 1 + spread


@dataclass(frozen=True)
class Spheroid:
    """The ellipsoid of revolution (x / c)^2 + y^2 + z^2 < 1, of volume 4 pi c / 3.

    Args:
        axis: c, the polar over the equatorial radius.
    """

    axis: float
    exact = True

    @property
    def volume(self) -> float:
        """4 pi c / 3."""
        return 4 / 3 * np.pi * self.axis

    @property
    def thinnest(self) -> float:
        """The smallest semi-axis."""
        return min(self.axis, 1.0)

    def field(self, z: Array, y: Array, x: Array) -> Array:
        """(|(z, y, x / c)| - 1) times the smallest semi-axis."""
        return np.float32(self.thinnest) * (np.sqrt(z * z + y * y + np.square(x / np.float32(self.axis))) - 1)

    def balls(self) -> tuple[Points, Points]:
        """One ball."""
        return np.zeros((1, 3)), np.array([max(self.axis, 1.0)])

    def lengths(self) -> dict[str, float]:
        """``polar_radius`` and ``equatorial_radius``."""
        return {"polar_radius": self.axis, "equatorial_radius": 1.0}


@dataclass(frozen=True)
class Rod:
    """A capsule about the x axis whose radius follows a profile, with the profile's end radius at the round ends.

    The volume is pi L mean(r^2) + 4 pi r(0)^3 / 3.

    Args:
        length: L of the part between the round ends.
        profile: radius along it.
    """

    length: float
    profile: Profile = Profile()
    exact = True

    @property
    def volume(self) -> float:
        """Pi L mean(r^2) + 4 pi r(0)^3 / 3."""
        return np.pi * self.length * self.profile.mean_square + 4 / 3 * np.pi * self.profile.end**3

    @property
    def thinnest(self) -> float:
        """Bound of the radius."""
        return self.profile.limits[0]

    def field(self, z: Array, y: Array, x: Array) -> Array:
        """Distance from the axis less the radius at the nearest point of the axis."""
        half = np.float32(self.length / 2)
        along = np.clip(x, -half, half)
        radius = self.profile(along / np.float32(self.length) + np.float32(0.5))
        return np.sqrt(z * z + y * y + np.square(x - along)) - radius

    def balls(self) -> tuple[Points, Points]:
        """One ball at each end."""
        ends = np.array([[0.0, 0.0, -self.length / 2], [0.0, 0.0, self.length / 2]])
        return ends, np.full(2, self.profile.limits[1])

    def lengths(self) -> dict[str, float]:
        """``radius`` (mean) and ``axis_length`` between the centers of the round ends."""
        return {"radius": 1.0, "axis_length": self.length}


@dataclass(frozen=True)
class Torus:
    """A torus about the z axis; half-planes of angle phi cut it in discs whose radius follows a profile.

    The volume is 2 pi^2 R mean(r^2) (Pappus). x is divided and y multiplied by a stretch, which leaves it as it is.

    Args:
        ring_radius: R.
        profile: radius of the tube by phi / 2 pi.
        stretch: of the ring along x.
    """

    ring_radius: float
    profile: Profile = Profile()
    stretch: float = 1.0
    exact = True

    @property
    def volume(self) -> float:
        """2 pi^2 R mean(r^2)."""
        return 2 * np.pi**2 * self.ring_radius * self.profile.mean_square

    @property
    def thinnest(self) -> float:
        """Bound of the tube's radius across the stretch."""
        return self.profile.limits[0] / self.stretch

    def field(self, z: Array, y: Array, x: Array) -> Array:
        """Distance from the ring less the radius there."""
        y, x = y * np.float32(self.stretch), x / np.float32(self.stretch)
        away = np.sqrt(y * y + x * x) - np.float32(self.ring_radius)
        angle = np.arctan2(y, x) * np.float32(0.5 / np.pi) if self.profile.amplitudes else np.zeros_like(away)
        return np.sqrt(away * away + z * z) - self.profile(angle)

    def balls(self) -> tuple[Points, Points]:
        """Balls along the ring."""
        centers = _ring(self.ring_radius, self.stretch)
        return centers, np.full(len(centers), self.profile.limits[1] * self.stretch)

    def lengths(self) -> dict[str, float]:
        """``radius`` of the tube (mean) and ``ring_radius``."""
        return {"radius": 1.0, "ring_radius": self.ring_radius}


@dataclass(frozen=True)
class Plate:
    """A disc about the z axis with a round rim: all points within 1 of a flat disc of radius R; then bent.

    The volume is 2 pi R^2 + pi^2 R + 4 pi / 3 (Steiner). Stretching x by s and y by 1 / s, and bending by
    z + a x^2 + b y^2, leave it as it is.

    Args:
        disc_radius: R.
        stretch: s.
        bend: (a, b) along x and y.
    """

    disc_radius: float
    stretch: float = 1.0
    bend: tuple[float, float] = (0.0, 0.0)
    exact = True

    @property
    def volume(self) -> float:
        """2 pi R^2 + pi^2 R + 4 pi / 3."""
        return 2 * np.pi * self.disc_radius**2 + np.pi**2 * self.disc_radius + 4 / 3 * np.pi

    @property
    def thinnest(self) -> float:
        """Half the thickness across the bend where it is steepest."""
        reach = (self.disc_radius * self.stretch, self.disc_radius / self.stretch)
        slope = max(2 * abs(b) * r for b, r in zip(self.bend, reach, strict=True))
        return float(1 / np.sqrt(1 + slope**2))

    def field(self, z: Array, y: Array, x: Array) -> Array:
        """Distance from the disc less 1, before stretching and bending."""
        z = z - np.float32(self.bend[0]) * x * x - np.float32(self.bend[1]) * y * y
        y, x = y * np.float32(self.stretch), x / np.float32(self.stretch)
        beyond = np.maximum(np.sqrt(y * y + x * x) - np.float32(self.disc_radius), 0)
        return np.sqrt(beyond * beyond + z * z) - 1

    def balls(self) -> tuple[Points, Points]:
        """Balls of the whole thickness along the rim and in the middle."""
        flat = _ring(self.disc_radius + 1, self.stretch)  # the rim, which the stretch moves, is on the ring
        flat = np.concatenate([np.zeros((1, 3)), flat])
        flat[:, 0] = self.bend[0] * flat[:, 2] ** 2 + self.bend[1] * flat[:, 1] ** 2
        return flat, np.ones(len(flat))

    def lengths(self) -> dict[str, float]:
        """``thickness`` and ``disc_radius``."""
        return {"thickness": 2.0, "disc_radius": self.disc_radius}


def _ring(radius: float, stretch: float) -> Points:
    """Corners of a polygon around an ellipse."""
    angle = np.arange(RING_POINTS) * (2 * np.pi / RING_POINTS)
    outer = radius / np.cos(np.pi / RING_POINTS)
    return outer * np.stack([np.zeros(RING_POINTS), np.sin(angle) / stretch, np.cos(angle) * stretch], axis=1)
