"""Where the lobe lies in the volume: scaled, shifted, turned and cut hexagonal surface points with their frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.synthetic.optic_lobe.sphere import icosphere_points

Array = NDArray[np.float64]

CLIP = (-0.2, 1.2)  # surface points beyond are dropped
ATTEMPTS = 20_000  # about one pose in 10 shows 100 points with the default settings


@dataclass(frozen=True)
class Lobe:
    """Surface points of one posed lobe, in the coordinates of the unit cube.

    Attributes:
        points: (N, 3) surface points, one per column.
        frames: (N, 3, 3) unit row vectors phi, theta and radial at each point.
        center: (3,) center of the ellipsoid.
        parameters: the drawn values, as Python scalars and lists.
    """

    points: Array
    frames: Array
    center: Array
    parameters: dict[str, Any]

    @property
    def radial(self) -> Array:
        """Unit vectors (N, 3) away from the center of the ellipsoid."""
        return self.frames[:, 2]


def normalized(vectors: ArrayLike) -> Array:
    """Vectors (..., 3) scaled to length 1."""
    vectors = np.asarray(vectors, dtype=float)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def spherical_frames(points: ArrayLike) -> Array:
    """Orthonormal row vectors phi, theta, radial (N, 3, 3) of spherical coordinates at unit vectors ``points`` (N, 3).

    At the poles, where phi is not defined, the frame of phi = 0 is taken.
    """
    points = np.asarray(points, dtype=float)
    phi = np.arctan2(points[:, 1], points[:, 0])
    e_phi = np.stack([-np.sin(phi), np.cos(phi), np.zeros_like(phi)], axis=1)
    return np.stack([e_phi, np.cross(e_phi, points), points], axis=1)


def half_turn(direction: ArrayLike) -> Array:
    """Rotation matrix (3, 3) by 180° that exchanges the unit vector ``direction`` and the z axis.

    It turns about the bisector k of both: R = 2 k kᵀ / (k · k) − 1.
    """
    axis = np.asarray(direction, dtype=float) + np.array([0.0, 0.0, 1.0])
    if np.linalg.norm(axis) < 1e-8:  # opposite to z: any axis across will do
        axis = np.array([1.0, 0.0, 0.0])
    return 2 * np.outer(axis, axis) / (axis @ axis) - np.eye(3)


def euler_rotation(angles: ArrayLike) -> Array:
    """Rotation matrix R_z R_y R_x (3, 3) for angles (3,) about x, y, z in radians, counterclockwise."""
    (sx, sy, sz), (cx, cy, cz) = np.sin(angles), np.cos(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def draw_lobe(
    rng: np.random.Generator,
    *,
    min_points: int,
    subdivisions: tuple[int, int],
    scale_range: tuple[float, float],
    shift_range: tuple[float, float],
) -> Lobe:
    """Draw poses until at least ``min_points`` surface points lie inside the unit cube.

    Args:
        rng: source of randomness.
        min_points: lowest number of surface points inside the unit cube.
        subdivisions: lowest and highest number of points along an edge of the icosahedron.
        scale_range: lowest and highest semi-axis of the ellipsoid; the cube's edge is 1.
        shift_range: lowest and highest shift along each axis, added to 0.5.

    Raises:
        InvalidInputError: no pose with enough points in 20 000 draws.
    """
    for attempt in range(1, ATTEMPTS + 1):
        drawn: dict[str, Any] = {
            "pose_attempts": attempt,
            "n_subdivisions": int(rng.integers(*subdivisions, endpoint=True)),
            "scale": rng.uniform(*scale_range, size=3).tolist(),
            "shift": rng.uniform(*shift_range, size=3).tolist(),
            "rotation": rng.uniform(0, 2 * np.pi, size=3).tolist(),
        }
        lobe = cut(rng, pose(rng, drawn))
        if np.count_nonzero(((lobe.points > 0) & (lobe.points < 1)).all(axis=1)) >= min_points:
            return lobe
    raise InvalidInputError(
        f"min_points={min_points}: no pose with so many surface points inside the volume in {ATTEMPTS} draws with "
        f"subdivisions={subdivisions}, scale_range={scale_range}, shift_range={shift_range}; "
        "lower min_points, raise subdivisions or narrow the ranges."
    )


def pose(rng: np.random.Generator, drawn: dict[str, Any]) -> Lobe:
    """Place the ellipsoid: scale, put a random point at the origin with its direction along z, shift, turn.

    The turn is about the origin, by row vectors times R_z R_y R_x. Points beyond [-0.2, 1.2] are dropped.

    Args:
        rng: source of randomness, for the point that becomes the origin.
        drawn: ``n_subdivisions``, ``scale`` (3), ``shift`` (3) and ``rotation`` (3, radians).
    """
    sphere = icosphere_points(drawn["n_subdivisions"])
    points = sphere * drawn["scale"]
    index = int(rng.integers(len(points)))
    origin = points[index]
    turn, rotation = half_turn(normalized(origin)), euler_rotation(drawn["rotation"])
    offset = np.asarray(drawn["shift"]) + 0.5
    points = ((points - origin) @ turn + offset) @ rotation
    keep = ((points >= CLIP[0]) & (points <= CLIP[1])).all(axis=1)
    frames = normalized(spherical_frames(sphere[keep]) * drawn["scale"]) @ turn @ rotation
    center = (-origin @ turn + offset) @ rotation
    parameters = {**drawn, "origin_index": index, "center": center.tolist()}
    return Lobe(points[keep], frames, center, parameters)


def cut(rng: np.random.Generator, lobe: Lobe) -> Lobe:
    """Cut the lobe along a plane through a random point that contains its normal; one side stays."""
    if len(lobe.points) == 0:
        return lobe
    point, normal, drawn = draw_plane(rng, lobe, "cut")
    keep = (lobe.points - point) @ normal >= 0
    return Lobe(lobe.points[keep], lobe.frames[keep], lobe.center, {**lobe.parameters, **drawn})


def draw_plane(rng: np.random.Generator, lobe: Lobe, name: str) -> tuple[Array, Array, dict[str, Any]]:
    """A plane through a random surface point, perpendicular to the surface: point (3,), normal (3,), drawn values."""
    index, angle = int(rng.integers(len(lobe.points))), float(rng.uniform(0, 2 * np.pi))
    e_phi, e_theta, _ = lobe.frames[index]
    normal = normalized(np.cos(angle) * e_phi + np.sin(angle) * e_theta)
    point = lobe.points[index]
    return point, normal, {f"{name}_point": point.tolist(), f"{name}_angle": angle}
