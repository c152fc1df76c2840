"""How objects lie to each other: distances to the nearest ones, and how many are around."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError

MATRIX_LIMIT = 5000
"""Largest number of objects whose distance matrix is made without asking for more: 200 MB."""


@dataclass(frozen=True)
class Neighbors:
    """Neighborhoods of N objects.

    Attributes:
        nearest_nm: (N,) distance to the nearest other object; NaN for a single object.
        mean_nm: (N,) mean distance to the k nearest, or to all others where there are fewer; NaN for a single object.
        index: (N, k) the k nearest, nearest first; -1 where there are fewer.
        count: (N,) other objects within the radius, int64.
        density_per_um3: (N,) ``count`` divided by the volume of the ball of that radius, whether or not the ball lies
            inside the volume that the objects come from.
    """

    nearest_nm: NDArray[np.float64]
    mean_nm: NDArray[np.float64]
    index: NDArray[np.int64]
    count: NDArray[np.int64]
    density_per_um3: NDArray[np.float64]

    def columns(self) -> dict[str, NDArray]:
        """Return the values by the names of a table's columns."""
        return {
            "nearest_neighbor_nm": self.nearest_nm,
            "mean_neighbor_nm": self.mean_nm,
            "neighbors_in_radius": self.count,
            "neighbor_density_per_um3": self.density_per_um3,
        }


def measure_neighbors(positions: ArrayLike, k: int = 5, radius_nm: float = 2000.0) -> Neighbors:
    """Measure distances between objects (``distf``), by a k-d tree: no N x N matrix.

    Args:
        positions: (N, 3) centroids in nm.
        k: how many nearest objects the mean is of.
        radius_nm: of the ball around each centroid in which others are counted.

    Returns:
        the neighborhoods, in the order of the positions.

    Raises:
        InvalidInputError: positions of another shape, or not finite; k below 1; a radius that is not positive.
    """
    from scipy.spatial import cKDTree

    points = _check_positions(positions)
    if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
        raise InvalidInputError(f"k={k!r}; expected a positive whole number of nearest objects")
    if not isinstance(radius_nm, Real) or isinstance(radius_nm, bool) or not 0 < radius_nm < np.inf:
        raise InvalidInputError(f"radius_nm={radius_nm!r}; expected a positive number of nanometers")
    count, wanted = len(points), int(k)
    found = min(wanted, count - 1)
    index = np.full((count, wanted), -1, np.int64)
    nearest, mean = np.full(count, np.nan), np.full(count, np.nan)
    if found < 1:
        return Neighbors(nearest, mean, index, np.zeros(count, np.int64), np.zeros(count))
    tree = cKDTree(points)
    distances, others = tree.query(points, found + 1)
    distances, index[:, :found] = _without_self(distances, others)
    inside = tree.query_ball_point(points, radius_nm, return_length=True).astype(np.int64) - 1
    ball_um3 = 4 / 3 * np.pi * (radius_nm / 1000) ** 3
    return Neighbors(distances[:, 0], distances.mean(axis=1), index, inside, inside / ball_um3)


def _without_self(distances: NDArray[np.float64], others: NDArray) -> tuple[NDArray[np.float64], NDArray]:
    """Leave out each point itself, or the last one where many points in the same place have crowded it out."""
    own = others == np.arange(len(others))[:, None]
    own[~own.any(axis=1), -1] = True
    shape = (len(others), others.shape[1] - 1)
    return distances[~own].reshape(shape), others[~own].reshape(shape)


def distance_matrix(positions: ArrayLike, limit: int = MATRIX_LIMIT) -> NDArray[np.float64]:
    """Compute all distances between objects.

    Args:
        positions: (N, 3) centroids in nm.
        limit: largest number of objects; the matrix takes 8 N^2 bytes.

    Returns:
        (N, N) in nm, symmetric, zeros on the diagonal.

    Raises:
        InvalidInputError: more objects than ``limit``; tells how much memory they take; or as
            :func:`measure_neighbors`.
    """
    from scipy.spatial.distance import cdist

    points = _check_positions(positions)
    if len(points) > limit:
        raise InvalidInputError(
            f"the distance matrix of {len(points)} objects takes {8 * len(points) ** 2 / 2**30:.1f} GiB and is only "
            f"made for at most limit={limit} objects; use measure_neighbors, or raise the limit"
        )
    return cdist(points, points)


def _check_positions(positions: ArrayLike) -> NDArray[np.float64]:
    points = np.asarray(positions)
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind not in "iuf":
        raise InvalidInputError(
            f"positions have shape {points.shape} and data type {points.dtype}; expected numbers (N, 3) in nanometers"
        )
    points = points.astype(np.float64)
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise InvalidInputError(f"position {row} is {points[row].tolist()}; expected finite numbers")
    return points
