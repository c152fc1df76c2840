"""A solid with its pose and size in nanometers, and its voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.synthetic.mitochondria.classes import DRAW
from voxel_ext.synthetic.mitochondria.solids import Array, Points, Solid

WAVELENGTH = (2.5, 5.0)  # of the wobble, over the radius of the ball of the same volume
STEEPEST, FLATTEST = 4.0, 0.25  # limits of |grad f| that distances are divided by


@dataclass(frozen=True)
class Wobble:
    """Three shears, one after the other, each along one axis by a wave across it: z + a sin(k y + l x + p) first.

    A shear leaves volumes as they are and has an inverse, so that connections and holes stay, too.

    Args:
        amplitudes: (3,) a, along z, y and x.
        vectors: (3, 3) wave vectors, 0 along the axis that is moved.
        phases: (3,) in radians.
    """

    amplitudes: Points
    vectors: Points
    phases: Points

    def __call__(self, position: Sequence[Array]) -> list[Array]:
        """Return the position in the solid of each position in the body."""
        moved = list(position)
        for axis in range(3):
            first, second = (other for other in range(3) if other != axis)
            wave = self.vectors[axis].astype(np.float32)
            phase = wave[first] * moved[first] + wave[second] * moved[second] + np.float32(self.phases[axis])
            moved[axis] = moved[axis] + np.float32(self.amplitudes[axis]) * np.sin(phase)
        return moved

    @property
    def reach(self) -> float:
        """Bound of how far a point is moved."""
        return float(np.linalg.norm(self.amplitudes))


def draw_wobble(rng: np.random.Generator, slope: float, radius: float) -> Wobble:
    """Draw shears of this slope whose wavelengths go with the radius of a body."""
    wavelength, angle = rng.uniform(*WAVELENGTH, 3) * radius, rng.uniform(0, 2 * np.pi, 3)
    vectors = np.zeros((3, 3))
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        vectors[axis, others] = np.array([np.cos(angle[axis]), np.sin(angle[axis])]) * 2 * np.pi / wavelength[axis]
    return Wobble(slope * wavelength / (2 * np.pi), vectors, rng.uniform(0, 2 * np.pi, 3))


@dataclass(frozen=True)
class Raster:
    """The voxels of a body in a box.

    Attributes:
        start: (3,) first voxel of the box, counted from the voxel that the origin of the body is in.
        mask: (D, H, W) voxels whose centers are inside.
        distance: (D, H, W) from the surface in nm to first order, negative inside.
    """

    start: NDArray[np.int64]
    mask: NDArray[np.bool_]
    distance: Array


@dataclass(frozen=True)
class Body:
    """A solid at its size, wobbling and turned: points R p, with p the solid times ``scale``.

    Args:
        name: of the class.
        solid: the solid.
        wobble: of the solid, in its own lengths.
        rotation: (3, 3) R, on columns (z, y, x).
        scale: nanometers per length of the solid.
    """

    name: str
    solid: Solid
    wobble: Wobble
    rotation: Points
    scale: float

    @property
    def volume(self) -> float | None:
        """Closed form of the volume in um^3; None where there is none."""
        return self.solid.volume * self.scale**3 * 1e-9 if self.solid.exact else None

    def bounds(self) -> tuple[Points, Points]:
        """Corners (3,) and (3,) in nm of a box about the body, relative to its origin."""
        centers, radii = self.solid.balls()
        turned, reach = centers @ self.rotation.T, (radii + self.wobble.reach)[:, None]
        return (turned - reach).min(axis=0) * self.scale, (turned + reach).max(axis=0) * self.scale

    def field(self, position: Sequence[Array]) -> Array:
        """Return f times the scale at positions z, y, x in nm relative to the origin, which broadcast; f < 0 inside."""
        inverse = (self.rotation.T / self.scale).astype(np.float32)
        turned = [row[0] * position[0] + row[1] * position[1] + row[2] * position[2] for row in inverse]
        return self.solid.field(*self.wobble(turned)) * np.float32(self.scale)

    def rasterize(self, voxel_size: ArrayLike, shift: ArrayLike) -> Raster:
        """Return the voxels of the body.

        Args:
            voxel_size: (z, y, x) in nm.
            shift: (z, y, x) of the origin from the center of a voxel, in voxels.

        Returns:
            The voxels inside and one more on every side.
        """
        edges, offset = np.asarray(voxel_size, dtype=float), np.asarray(shift, dtype=float)
        low, high = self.bounds()
        start, stop = np.floor(low / edges + offset).astype(int) - 1, np.ceil(high / edges + offset).astype(int) + 2
        axes = [
            ((np.arange(a, b) - s) * e).astype(np.float32)
            for a, b, s, e in zip(start, stop, offset, edges, strict=True)
        ]
        value = self.field((axes[0][:, None, None], axes[1][:, None], axes[2]))
        box = tight_box(value < 0, margin=1)
        value = value[box]
        start = start + [part.start for part in box]
        return Raster(start, value < 0, value / _steepness(value, edges))

    def describe(self) -> dict[str, Any]:
        """Class, volume, pose and lengths as Python scalars and lists."""
        lengths = {f"{name}_nm": float(length * self.scale) for name, length in self.solid.lengths().items()}
        volume = None if self.volume is None else float(self.volume)
        return {
            "class": self.name,
            "volume_um3": volume,
            "scale_nm": float(self.scale),
            "rotation": self.rotation.tolist(),
            **lengths,
        }


def draw_body(rng: np.random.Generator, name: str, volume: float, irregularity: float) -> Body:
    """Draw a body of a class.

    Args:
        rng: source of randomness.
        name: of the class.
        volume: in um^3; met exactly where the solid has a closed form.
        irregularity: spread of the radius and slope of the wobble.
    """
    from scipy.spatial.transform import Rotation

    solid = DRAW[name](rng, irregularity)
    wobble = draw_wobble(rng, irregularity, ball_radius(solid.volume))
    rotation = Rotation.random(rng=rng).as_matrix()
    return Body(name, solid, wobble, rotation, float(np.cbrt(volume * 1e9 / solid.volume)))


def ball_radius(volume: float) -> float:
    """Radius of the ball of this volume."""
    return float(np.cbrt(volume * 3 / (4 * np.pi)))


def tight_box(mask: NDArray[np.bool_], margin: int) -> tuple[slice, ...]:
    """The part of an array that is not empty with ``margin`` voxels around it, within the array."""
    parts = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        first, last = (int(filled[0]), int(filled[-1])) if len(filled) else (0, 0)
        parts.append(slice(max(first - margin, 0), min(last + margin + 1, mask.shape[axis])))
    return tuple(parts)


def _steepness(value: Array, edges: Points) -> Array:
    """|grad f| by central differences, within limits."""
    square = np.zeros_like(value)
    for axis in range(3):
        square += np.square(np.gradient(value, np.float32(edges[axis]), axis=axis))
    return np.clip(np.sqrt(square), FLATTEST, STEEPEST)
