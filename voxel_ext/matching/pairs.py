"""Matching two unlabelled worms on positions alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import check_option
from voxel_ext.matching.alignment import checked_positions, polynomial_fit, roll_candidates
from voxel_ext.matching.assignment import assign
from voxel_ext.matching.drift import coherent_point_drift

Array = NDArray[np.floating]

# how far L1 worms differ along z, y, x after a labelled quadratic alignment, rounded, in voxels
_SCALE = (2.0, 3.0, 8.0)
_METHODS = ("roll", "affine", "quadratic", "drift")


@dataclass(frozen=True)
class PairMatch:
    """A match of worm a to worm b.

    Attributes:
        rows: (K,) rows of a, ascending.
        columns: (K,) the rows of b they belong to.
        cost: (N, M) squared distances after alignment; NaN where a cell is missing.
        roll: 0 or 180: how worm a was turned about x.
        moved: (N, 3) worm a laid over worm b; NaN where missing.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    cost: Array
    roll: int
    moved: Array


def match_positions(a: ArrayLike, b: ArrayLike, method: str = "drift", scale: ArrayLike | None = None) -> PairMatch:
    """Match the cells of two worms by linear assignment, trying both rolls and keeping the cheaper.

    Args:
        a: (N, 3) zyx in voxels; rows of NaN are missing cells and stay unmatched.
        b: (M, 3) likewise.
        method: "roll": centre only; "affine", "quadratic": then fit worm a to what it is assigned to, repeatedly;
            "drift" (default): then coherent point drift.
        scale: (3,) how much a distance of one voxel means along z, y, x: each axis is divided by this. Default:
            (1, 1, 1) for "roll", else (2, 3, 8), the residual variation of L1 worms.

    Returns:
        the pairs and the alignment.

    Raises:
        InvalidInputError: bad shapes, fewer than 10 cells in a worm, or another method.
    """
    check_option("method", method, _METHODS)
    x, here = checked_positions(a, "a", 10)
    y, there = checked_positions(b, "b", 10)
    default = (1.0, 1.0, 1.0) if method == "roll" else _SCALE
    unit = np.asarray(default if scale is None else scale, dtype=np.float64)
    target = y[there]
    tries = []
    for angle, turned in zip((0, 180), roll_candidates(x), strict=True):
        moved = _align(turned[here], target, method, unit)
        cost = _distances(moved, target, unit)
        rows, columns = assign(cost)
        tries.append((cost[rows, columns].sum(), angle, moved, cost, rows, columns))
    _, roll, found, cost, rows, columns = min(tries, key=lambda item: item[0])
    full = np.full((len(x), len(y)), np.nan)
    full[np.ix_(here, there)] = cost
    moved = np.full_like(x, np.nan)
    moved[here] = found
    return PairMatch(np.flatnonzero(here)[rows], np.flatnonzero(there)[columns], full, roll, moved)


def _distances(a: Array, b: Array, unit: Array) -> Array:
    from scipy.spatial.distance import cdist

    return cdist(a / unit, b / unit, "sqeuclidean")


def _align(source: Array, target: Array, method: str, unit: Array) -> Array:
    """Lay the source over the target, both of one roll."""
    centred = source - source.mean(axis=0) + target.mean(axis=0)
    if method == "roll":
        return centred
    degrees = {"affine": (1,) * 5, "quadratic": (1,) * 3 + (2,) * 4, "drift": (1,) * 3 + (2,) * 2}[method]
    moved = same_extent(source, target)
    for degree in degrees:
        moved = refit(source, target, _distances(moved, target, unit), degree)
    if method == "drift":
        return coherent_point_drift(moved, target, 10.0, 3.0, 0.02, scale=unit, sigma2=9.0).moved
    return moved


def same_extent(source: Array, target: Array) -> Array:
    """Move and stretch a point set to the mean and the standard deviation of another, axis by axis.

    Args:
        source: (N, 3).
        target: (M, 3).
    """
    spread = source.std(axis=0)
    stretch = target.std(axis=0) / np.where(spread > 0, spread, 1.0)
    return (source - source.mean(axis=0)) * stretch + target.mean(axis=0)


def refit(source: Array, target: Array, cost: Array, degree: int, kept: float = 0.8) -> Array:
    """Fit the source to the target points it is assigned to.

    Args:
        source: (N, 3) as it came.
        target: (M, 3).
        cost: (N, M) of pairing them in the present alignment.
        degree: of the polynomial; 1 where fewer than 30 pairs are left.
        kept: share of the pairs, the cheapest ones, that the fit uses.

    Returns:
        (N, 3) the source, mapped.
    """
    rows, columns = assign(cost)
    paid = cost[rows, columns]
    good = paid <= np.quantile(paid, kept)
    degree = degree if good.sum() >= 30 else 1
    return polynomial_fit(source[rows[good]], target[columns[good]], degree)(source)
