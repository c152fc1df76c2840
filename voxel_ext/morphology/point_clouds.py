"""Point clouds of the surfaces of objects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from voxel_ext.errors import InvalidInputError, check_option

METHODS = ("uniform", "distance", "blue_noise", "farthest", "random")
"""How points are drawn, see :func:`sample_point_cloud`."""

CANDIDATES = 10
"""Candidates for each point of blue noise."""

_POOL = 4  # farthest points are taken from this many times as many uniform ones
_BLOCK = 64  # points of blue noise between two searches in a tree


class Surface(NamedTuple):
    """A closed mesh of triangles."""

    vertices: np.ndarray
    """(V, 3) float64, (z, y, x) in nm."""
    faces: np.ndarray
    """(F, 3) indices of vertices."""


def sample_point_cloud(
    mask_or_mesh: Any,
    count: int = 4096,
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
    method: str = "uniform",
    seed: int | np.random.Generator = 0,
) -> np.ndarray:
    """Draw points on the surface of an object.

    Methods, with areas and distances in nm:

    - ``"uniform"``: with the same probability everywhere on the surface.
    - ``"distance"``: with a probability proportional to the distance from the surface's centroid.
    - ``"blue_noise"``: each point is, of 10 uniform candidates, the one farthest from the points chosen before
      (Mitchell 1991, "Spectrally optimal sampling for distribution ray tracing").
    - ``"farthest"``: each point is, of 4 × ``count`` uniform ones, the one farthest from the points chosen before
      (Eldar et al. 1997, "The farthest point strategy for progressive image sampling").
    - ``"random"``: a random subset of the mesh's vertices; where it has fewer than ``count``, all are taken as often
      as each other before any is taken once more.

    Args:
        mask_or_mesh: a mask (D, H, W), boolean or of integers, not 0 inside the object, whose surface is that of
            :func:`object_surface`; or a mesh in nm: ``(vertices, faces)``, or an object that has these two, such as
            one of trimesh.
        count: number of points.
        voxel_size: of the mask along (z, y, x), in nm; not for a mesh.
        method: one of :data:`METHODS`.
        seed: of the random numbers, or their generator.

    Returns:
        (count, 3) float32, (z, y, x) in nm; 0 is the center of the mask's first voxel.

    Raises:
        InvalidInputError: the mask is empty, the mesh has no area, or an argument is not valid.
    """
    check_option("method", method, METHODS)
    _check_count(count)
    surface = _as_surface(mask_or_mesh, voxel_size)
    rng = np.random.default_rng(seed)
    if method == "random":
        return _random_vertices(surface.vertices, count, rng).astype(np.float32)
    sampler = _SurfaceSampler(surface, rng)
    if method == "uniform":
        points = sampler.draw(count)
    elif method == "distance":
        points = sampler.draw_by_distance(count)
    elif method == "blue_noise":
        points = _blue_noise(sampler.draw(count * CANDIDATES).reshape(count, CANDIDATES, 3))
    else:
        pool = sampler.draw(count * _POOL)
        points = pool[farthest_points(pool, count)]
    return points.astype(np.float32)


def object_surface(mask: ArrayLike, voxel_size: Sequence[float] = (1.0, 1.0, 1.0)) -> Surface:
    """Compute the surface of a mask by marching cubes, half-way between voxels inside and outside.

    The mask is padded, so that the surface is closed where the object touches the border, too.

    Args:
        mask: (D, H, W), boolean or of integers, not 0 inside the object.
        voxel_size: along (z, y, x), in nm.

    Returns:
        the mesh; 0 is the center of the mask's first voxel.

    Raises:
        InvalidInputError: the mask is empty or of another shape or type, or the voxel size is not valid.
    """
    from skimage.measure import marching_cubes

    mask = np.asarray(mask)
    if mask.ndim != 3 or mask.dtype.kind not in "bui":
        raise InvalidInputError(
            f"the mask has shape {mask.shape} and type {mask.dtype}; expected (D, H, W), boolean or of integers"
        )
    spacing = np.asarray(voxel_size, float)
    if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
        raise InvalidInputError(
            f"voxel_size={voxel_size!r} is not valid; expected three numbers above 0 along (z, y, x), in nm"
        )
    inside = mask != 0
    if not inside.any():
        raise InvalidInputError(f"the mask of shape {mask.shape} is empty; expected at least one voxel that is not 0")
    box = [np.flatnonzero(inside.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
    padded = np.pad(inside[tuple(slice(at[0], at[-1] + 1) for at in box)], 1)
    # half-way is exact in any floating type, and float32 is what marching cubes computes in
    vertices, faces, _, _ = marching_cubes(padded.astype(np.float32), 0.5)
    return Surface((vertices.astype(float) - 1 + [at[0] for at in box]) * spacing, faces)


def normalize_points(points: ArrayLike) -> tuple[np.ndarray, np.ndarray, float]:
    """Move a point cloud to the unit sphere around the origin, without turning or stretching it.

    Args:
        points: (P, 3).

    Returns:
        the points (P, 3), float32 unless they were float64; their center, which is their mean, (3,) float64; and their
        scale, the largest distance from it. ``points * scale + center`` are those given.

    Raises:
        InvalidInputError: the shape is another, a coordinate is not finite, or all points are the same.
    """
    points = checked_points(points)
    center = points.mean(axis=0, dtype=np.float64)
    centered = points - center
    scale = float(np.sqrt(np.square(centered).sum(1).max()))
    if not scale > 0:
        raise InvalidInputError(f"all {len(points)} points are the same, {center.tolist()}; expected points apart")
    return (centered / scale).astype(np.result_type(points.dtype, np.float32)), center, scale


def farthest_points(points: ArrayLike, count: int, first: int = 0) -> np.ndarray:
    """Choose points, each the one farthest from those chosen before (Gonzalez 1985), in O(P × count) time, O(P) memory.

    Args:
        points: (P, 3).
        count: how many, at most P.
        first: index of the first.

    Returns:
        (count,) int64, indices of the points in the order of their choice, all different; of points equally far, the
        first.

    Raises:
        InvalidInputError: the shape is another, a coordinate is not finite, ``count`` is not in [1, P], or ``first``
            not in [0, P).
    """
    points = checked_points(points)
    _check_count(count)
    if count > len(points) or not 0 <= first < len(points):
        raise InvalidInputError(
            f"count={count} and first={first} are not valid for {len(points)} points; expected count of at most "
            f"{len(points)} and first of 0 to {len(points) - 1}"
        )
    chosen = np.empty(count, np.int64)
    chosen[0] = first
    columns = np.ascontiguousarray(points.T)
    nearest = np.full(len(points), math.inf, points.dtype)
    for index in range(1, count):
        last = chosen[index - 1]
        np.minimum(nearest, _squares(columns, points[last]), out=nearest)
        nearest[last] = -1  # below 0, so that it is not chosen again where all others are copies of chosen ones
        chosen[index] = nearest.argmax()
    return chosen


class _SurfaceSampler:
    """Draws points on a surface."""

    def __init__(self, surface: Surface, rng: np.random.Generator) -> None:
        self.rng = rng
        self.corners = surface.vertices[surface.faces]
        sides = self.corners[:, 1:] - self.corners[:, :1]
        areas = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1) / 2
        total = areas.sum()
        if not total > 0:
            raise InvalidInputError(f"the mesh of {len(areas)} faces has an area of {total}; expected one above 0")
        self.cumulative = np.cumsum(areas)
        self.centroid = areas @ self.corners.mean(axis=1) / total

    def draw(self, count: int) -> np.ndarray:
        """Return points (count, 3), uniform over the area."""
        at = self.rng.random(count) * self.cumulative[-1]
        face = np.minimum(np.searchsorted(self.cumulative, at, side="right"), len(self.cumulative) - 1)
        u, v = self.rng.random((2, count))
        beyond = u + v > 1  # the other half of the parallelogram
        u, v = np.where(beyond, 1 - u, u)[:, None], np.where(beyond, 1 - v, v)[:, None]
        first, second, third = self.corners[face].swapaxes(0, 1)
        return first + u * (second - first) + v * (third - first)

    def draw_by_distance(self, count: int) -> np.ndarray:
        """Return points (count, 3) of a density proportional to the distance from the centroid, by rejection."""
        # a distance is convex, so largest at a corner
        largest = np.linalg.norm(self.corners - self.centroid, axis=-1).max()
        kept: list[np.ndarray] = []
        missing = count
        while missing > 0:
            points = self.draw(2 * missing)
            distance = np.linalg.norm(points - self.centroid, axis=1)
            kept.append(points[self.rng.random(len(points)) * largest < distance][:missing])
            missing -= len(kept[-1])
        return np.concatenate(kept)


def _blue_noise(candidates: np.ndarray) -> np.ndarray:
    """Choose one of each row of candidates (N, K, 3), the one farthest from those chosen before, (N, 3).

    The distances of a block of rows to the points of earlier blocks are found in a tree, those to the points of the
    same block one by one.
    """
    from scipy.spatial import cKDTree

    count = len(candidates)
    chosen = np.empty((count, 3))
    for start in range(0, count, _BLOCK):
        block = candidates[start : start + _BLOCK]
        columns = np.ascontiguousarray(np.moveaxis(block, -1, 0))
        nearest = np.full(block.shape[:2], math.inf)
        if start:
            nearest = np.square(cKDTree(chosen[:start]).query(block)[0])
        for row in range(len(block)):
            chosen[start + row] = block[row, nearest[row].argmax()]
            np.minimum(nearest[row + 1 :], _squares(columns[:, row + 1 :], chosen[start + row]), out=nearest[row + 1 :])
    return chosen


def _random_vertices(vertices: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    rounds = [rng.permutation(len(vertices)) for _ in range(math.ceil(count / len(vertices)))]
    return vertices[np.concatenate(rounds)[:count]]


def _squares(columns: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Return the squared distances (...) of points whose coordinates are ``columns`` (3, ...) from one point (3,)."""
    total = np.square(columns[0] - point[0])
    for axis in (1, 2):
        total += np.square(columns[axis] - point[axis])
    return total


def _as_surface(mask_or_mesh: Any, voxel_size: Sequence[float]) -> Surface:
    if hasattr(mask_or_mesh, "vertices") and hasattr(mask_or_mesh, "faces"):
        mesh = (mask_or_mesh.vertices, mask_or_mesh.faces)
    elif isinstance(mask_or_mesh, tuple) and len(mask_or_mesh) == 2:
        mesh = mask_or_mesh
    else:
        return object_surface(mask_or_mesh, voxel_size)
    if tuple(voxel_size) != (1, 1, 1):
        raise InvalidInputError(f"voxel_size={voxel_size!r} is that of a mask; a mesh is in nm already: leave it out")
    vertices, faces = checked_points(mesh[0], "vertices").astype(float), np.asarray(mesh[1])
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "ui" or not len(faces):
        raise InvalidInputError(f"the faces have shape {faces.shape} and type {faces.dtype}; expected (F, 3), integers")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise InvalidInputError(
            f"the faces refer to vertices {faces.min()} to {faces.max()}; there are {len(vertices)}, counted from 0"
        )
    return Surface(vertices, faces)


def checked_points(points: ArrayLike, name: str = "points") -> np.ndarray:
    """Return points as a floating array (P, 3): float32 as it is, others as float64.

    Args:
        points: (P, 3), at least one.
        name: what they are, for messages.

    Raises:
        InvalidInputError: another shape, no numbers, or some that are not finite.
    """
    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points) or points.dtype.kind not in "fui":
        raise InvalidInputError(
            f"the {name} have shape {points.shape} and type {points.dtype}; expected (P, 3), at least one, numbers"
        )
    points = points if points.dtype == np.float32 else points.astype(np.float64)
    if not np.isfinite(points).all():
        raise InvalidInputError(f"the {name} {(~np.isfinite(points).all(1)).nonzero()[0][:5].tolist()} are not finite")
    return points


def _check_count(count: int) -> None:
    if count < 1:
        raise InvalidInputError(f"count={count} is not valid; expected at least 1")
