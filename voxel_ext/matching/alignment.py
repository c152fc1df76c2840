"""Point sets: checks, the two rolls of a worm, and labelled polynomial alignment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError

Array = NDArray[np.floating]


def checked_positions(positions: ArrayLike, name: str = "positions", least: int = 1) -> tuple[Array, NDArray[np.bool_]]:
    """Return positions as float64 and which of them are there.

    Args:
        positions: (N, 3) zyx in voxels; a row of NaN is a missing cell.
        name: what to call them in an error.
        least: how many must be there.

    Returns:
        positions (N, 3) and valid (N,) bool.

    Raises:
        InvalidInputError: another shape, infinite values, a row that is NaN in part, or too few present.
    """
    points = np.asarray(positions, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise InvalidInputError(f"{name} must have the shape (N, 3), zyx; got {points.shape}")
    missing: NDArray[np.bool_] = np.isnan(points)
    wrong = np.flatnonzero(np.isinf(points).any(axis=1) | (missing.any(axis=1) & ~missing.all(axis=1)))
    if len(wrong):
        raise InvalidInputError(
            f"row {wrong[0]} of {name} is {points[wrong[0]].tolist()}; expected three numbers, or three NaN if missing"
        )
    valid: NDArray[np.bool_] = np.logical_not(missing.any(axis=1))
    if valid.sum() < least:
        raise InvalidInputError(f"{name} holds {valid.sum()} of {len(points)} points; at least {least} are needed")
    return points, valid


def roll_positions(positions: ArrayLike) -> Array:
    """Turn positions by 180 degrees about the x axis through their centroid.

    Args:
        positions: (N, 3) zyx; rows of NaN stay.

    Returns:
        (N, 3).
    """
    points, valid = checked_positions(positions)
    centre = points[valid].mean(axis=0)
    return (points - centre) * np.array([-1.0, -1.0, 1.0]) + centre


def roll_candidates(positions: ArrayLike) -> tuple[Array, Array]:
    """The two rolls in which a straightened worm may lie.

    Args:
        positions: (N, 3) zyx; rows of NaN stay.

    Returns:
        the positions as they are (roll 0), and turned by 180 degrees about the x axis through their centroid.
    """
    points, _ = checked_positions(positions)
    return points, roll_positions(points)


@dataclass(frozen=True)
class PolynomialMap:
    """A polynomial map of positions.

    Attributes:
        degree: 1 (affine) or 2 (quadratic).
        centre: (3,) zyx, subtracted first.
        scale: (3,) zyx, divided by then.
        coefficients: (T, 3) for the T = 4 or 10 monomials.
    """

    degree: int
    centre: Array
    scale: Array
    coefficients: Array

    def __call__(self, positions: ArrayLike) -> Array:
        """Map positions (N, 3) zyx; rows of NaN stay."""
        return polynomial_basis((np.asarray(positions) - self.centre) / self.scale, self.degree) @ self.coefficients


def polynomial_basis(positions: ArrayLike, degree: int) -> Array:
    """Monomials up to a degree.

    Args:
        positions: (N, 3).
        degree: 1: 1, z, y, x; 2: also zz, zy, zx, yy, yx, xx.

    Returns:
        (N, 4) or (N, 10).

    Raises:
        InvalidInputError: another degree.
    """
    points = np.asarray(positions, dtype=np.float64)
    if degree not in (1, 2):
        raise InvalidInputError(f"degree={degree} is not known; expected 1 (affine) or 2 (quadratic)")
    columns = [np.ones(len(points)), *points.T]
    if degree == 2:
        columns += [points[:, i] * points[:, j] for i in range(3) for j in range(i, 3)]
    return np.stack(columns, axis=1)


def polynomial_fit(
    source: ArrayLike, target: ArrayLike, degree: int = 2, weights: ArrayLike | None = None
) -> PolynomialMap:
    """Weighted least-squares polynomial map of labelled positions.

    Args:
        source: (N, 3) zyx.
        target: (N, 3) zyx, row i belongs to row i of ``source``. Rows missing (NaN) in either are left out.
        degree: 1 or 2.
        weights: (N,), not negative; all equal by default.

    Returns:
        the map from source to target.

    Raises:
        InvalidInputError: shapes differ, or too few points for the degree (4 or 10).
    """
    terms = 4 if degree == 1 else 10
    a, here = checked_positions(source, "source", terms)
    b, there = checked_positions(target, "target", terms)
    if a.shape != b.shape:
        raise InvalidInputError(f"source {a.shape} and target {b.shape} must have the same shape, row by row")
    w = np.ones(len(a)) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != (len(a),) or not np.all(w >= 0):
        raise InvalidInputError(f"weights must be {len(a)} numbers that are not negative; got the shape {w.shape}")
    used = here & there & (w > 0)
    if used.sum() < terms:
        raise InvalidInputError(
            f"{used.sum()} labelled points are too few for a fit of degree {degree}: {terms} needed"
        )
    centre, spread = a[used].mean(axis=0), a[used].std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    root = np.sqrt(w[used])[:, None]
    basis = polynomial_basis((a[used] - centre) / scale, degree)
    coefficients = np.linalg.lstsq(basis * root, b[used] * root, rcond=None)[0]
    return PolynomialMap(degree, centre, scale, coefficients)


def affine_fit(source: ArrayLike, target: ArrayLike, weights: ArrayLike | None = None) -> PolynomialMap:
    """Weighted least-squares affine map of labelled positions; :func:`polynomial_fit` of degree 1.

    Args:
        source: (N, 3) zyx.
        target: (N, 3) zyx, row by row.
        weights: (N,), not negative.
    """
    return polynomial_fit(source, target, 1, weights)
