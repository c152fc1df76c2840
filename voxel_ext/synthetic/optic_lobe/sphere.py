"""Hexagonal grid of points on the unit sphere: a subdivided icosahedron."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def slerp(start: ArrayLike, end: ArrayLike, t: ArrayLike) -> Array:
    """Spherical linear interpolation between unit vectors (Shoemake 1985).

    With the angle ω between them: (sin((1 − t) ω) start + sin(t ω) end) / sin ω.

    Args:
        start: unit vectors (..., 3), reached at t = 0.
        end: unit vectors (..., 3), reached at t = 1; neither equal nor opposite to ``start``.
        t: position along the arc, broadcast against (...).

    Returns:
        Unit vectors (..., 3).
    """
    start, end = np.asarray(start, dtype=float), np.asarray(end, dtype=float)
    t = np.asarray(t, dtype=float)[..., None]
    angle = np.arctan2(
        np.linalg.norm(np.cross(start, end), axis=-1, keepdims=True), (start * end).sum(-1, keepdims=True)
    )
    return (np.sin((1 - t) * angle) * start + np.sin(t * angle) * end) / np.sin(angle)


def icosahedron() -> tuple[Array, NDArray[np.intp]]:
    """Corners (12, 3) of the icosahedron in the unit sphere, two of them on the z axis, and its faces (20, 3)."""
    angle = 2 * np.pi * np.arange(5) / 5
    ring = np.stack([2 * np.cos(angle), 2 * np.sin(angle), np.ones(5)], axis=1) / np.sqrt(5)
    mirrored = ring * [-1, 1, -1]  # the lower ring, opposite the upper one in x and z
    corners = np.concatenate([[[0.0, 0.0, 1.0]], ring, [[0.0, 0.0, -1.0]], mirrored])
    edge = 1.1 * np.linalg.norm(corners[0] - corners[1])
    near = np.linalg.norm(corners[:, None] - corners[None], axis=-1) < edge
    i, j, k = np.meshgrid(*[np.arange(12)] * 3, indexing="ij")
    faces = (i < j) & (j < k) & near[i, j] & near[j, k] & near[i, k]
    return corners, np.argwhere(faces)


@lru_cache(maxsize=64)
def icosphere_points(subdivisions: int) -> Array:
    """Points of a hexagonal grid on the unit sphere.

    Every edge of an icosahedron is divided into ``subdivisions`` + 1 equal arcs, and every face is filled by
    interpolating first along one edge and then towards the opposite corner.

    Args:
        subdivisions: number n of points between the two corners of an edge, at least 0.

    Returns:
        Unit vectors (10 (n + 1)² + 2, 3), each once, read-only (the array is cached).
    """
    corners, faces = icosahedron()
    first, second, third = (corners[faces[:, [i]]] for i in range(3))  # (20, 1, 3) each
    steps = subdivisions + 1
    row, column = np.meshgrid(np.arange(steps), np.arange(steps + 1), indexing="ij")
    keep = row + column <= steps
    row, column = row[keep], column[keep]  # row counts towards the third corner, which is added by itself
    base = slerp(first, second, column / (steps - row))
    points = np.concatenate([slerp(base, third, row / steps).reshape(-1, 3), corners])
    # Points on edges and corners belong to several faces and agree up to rounding.
    _, index = np.unique(np.round(points, 9) + 0.0, axis=0, return_index=True)
    points = points[index]
    points.setflags(write=False)
    return points
