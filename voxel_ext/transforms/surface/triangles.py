"""Geometry of triangles, given as (M, 3, 3): their three corners with three coordinates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def areas(corners: NDArray) -> NDArray[np.float64]:
    """Areas (M,) of triangles (M, 3, 3)."""
    a, b, c = np.moveaxis(corners, 1, 0)
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def longest(corners: NDArray) -> NDArray[np.float64]:
    """Longest edges (M,) of triangles (M, 3, 3)."""
    return np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1, initial=0)


def quarters(corners: NDArray) -> NDArray[np.float64]:
    """Cut triangles (M, 3, 3) at the middles of their edges into (4 M, 3, 3)."""
    a, b, c = np.moveaxis(corners, 1, 0)
    ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
    parts = [np.stack(part, axis=1) for part in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    return np.stack(parts, axis=1).reshape(-1, 3, 3)


def middles(count: int) -> NDArray[np.float64]:
    """Barycentric coordinates (count², 3) of the middles of the equal pieces of a triangle, edges cut in ``count``."""
    i, j = np.meshgrid(np.arange(count), np.arange(count), indexing="ij")
    upright = np.stack([i, j], axis=-1)[i + j < count] + 1 / 3
    turned = np.stack([i, j], axis=-1)[i + j < count - 1] + 2 / 3
    shares = np.concatenate([upright, turned]) / count
    return np.column_stack([1 - shares.sum(axis=1), shares])


def nearest_weights(places: NDArray, corners: NDArray) -> NDArray[np.float64]:
    """Barycentric coordinates (N, 3) of the place of a triangle (N, 3, 3) nearest to a place (N, 3).

    Exact where the place is above the triangle; beyond an edge the negative coordinate is set to zero, which is the
    nearest place up to the triangle's skewness.
    """
    a, u, v = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    w = places - a
    uu, uv, vv = (np.einsum("nc,nc->n", *pair) for pair in ((u, u), (u, v), (v, v)))
    wu, wv = np.einsum("nc,nc->n", w, u), np.einsum("nc,nc->n", w, v)
    scale = np.maximum(uu * vv - uv**2, 1e-300)
    second, third = (vv * wu - uv * wv) / scale, (uu * wv - uv * wu) / scale
    weights = np.clip(np.column_stack([1 - second - third, second, third]), 0, None)
    return weights / weights.sum(axis=1, keepdims=True)
