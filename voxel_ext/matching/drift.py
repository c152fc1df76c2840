"""Coherent point drift: registration of two unlabelled point sets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.matching.alignment import checked_positions

Array = NDArray[np.floating]


@dataclass(frozen=True)
class DriftResult:
    """What coherent point drift found.

    Attributes:
        moved: (M, 3) source positions laid over the target.
        probability: (M, N) posterior that target n was made by source m; columns sum to at most 1.
        sigma2: variance left, in the squared units of ``scale``.
        iterations: how many were done.
    """

    moved: Array
    probability: Array
    sigma2: float
    iterations: int


def coherent_point_drift(
    source: ArrayLike,
    target: ArrayLike,
    beta: float = 2.0,
    lamb: float = 3.0,
    w: float = 0.1,
    iterations: int = 100,
    tolerance: float = 1e-4,
    scale: ArrayLike | None = None,
    affine: bool = False,
    sigma2: float | None = None,
) -> DriftResult:
    """Move a point set smoothly onto another one (Myronenko and Song, "Point set registration", 2010).

    Args:
        source: (M, 3) zyx; rows of NaN take no part and stay.
        target: (N, 3) zyx; rows of NaN take no part.
        beta: width of the Gaussian kernel of the displacement, in units of ``scale`` (the paper's 2).
        lamb: weight of smoothness (the paper's 3).
        w: share of target points without a source, [0, 1).
        iterations: at most so many.
        tolerance: stop when sigma2 changes by less than this fraction.
        scale: (3,) unit of length along z, y, x; by default the root mean square deviation of the target from its
            centroid, equal for the three axes (the paper's normalisation).
        affine: True for an affine map instead of a smooth displacement; ``beta`` and ``lamb`` are then not used.
        sigma2: variance to start from, in squared units of ``scale``; the mean over all pairs by default, as in the
            paper. Smaller for sets that already lie near each other.

    Returns:
        the moved source and the correspondence.

    Raises:
        InvalidInputError: bad shapes, or parameters outside their range.
    """
    y, here = checked_positions(source, "source", 4)
    x, there = checked_positions(target, "target", 4)
    if not (beta > 0 and lamb > 0 and 0 <= w < 1 and iterations >= 1):
        raise InvalidInputError(
            f"beta={beta}, lamb={lamb} must be positive, w={w} in [0, 1) and iterations={iterations} at least 1"
        )
    centre = x[there].mean(axis=0)
    unit = np.full(3, np.sqrt(x[there].var(axis=0).sum())) if scale is None else np.asarray(scale, dtype=np.float64)
    if unit.shape != (3,) or not np.all(unit > 0):
        raise InvalidInputError(f"scale={scale!r} must be three positive numbers (z, y, x)")
    moves = _AffineStep((y[here] - centre) / unit) if affine else _SmoothStep((y[here] - centre) / unit, beta, lamb)
    found, p, left, done = _drift(moves, (x[there] - centre) / unit, w, iterations, tolerance, sigma2)
    moved = np.full_like(y, np.nan)
    moved[here] = found * unit + centre
    probability = np.zeros((len(y), len(x)))
    probability[np.ix_(here, there)] = p
    return DriftResult(moved, probability, left, done)


def correspondence(moved: Array, target: Array, sigma2: float, w: float) -> Array:
    """Posterior of each pair, equation (6) with (7) of the paper: the E-step.

    Args:
        moved: (M, D).
        target: (N, D).
        sigma2: variance.
        w: share of target points without a source.

    Returns:
        (M, N); columns sum to at most 1.
    """
    m, n, dimensions = len(moved), len(target), moved.shape[1]
    log_p = -_squared_distances(moved, target) / (2 * sigma2)
    outlier = (2 * np.pi * sigma2) ** (dimensions / 2) * w / (1 - w) * m / n
    top = log_p.max(axis=0)
    p = np.exp(log_p - top)
    p /= p.sum(axis=0) + outlier * np.exp(np.minimum(-top, 700.0))
    return p


def _squared_distances(a: Array, b: Array) -> Array:
    from scipy.spatial.distance import cdist

    return cdist(a, b, "sqeuclidean")


def _drift(
    moves: _AffineStep | _SmoothStep, x: Array, w: float, iterations: int, tolerance: float, first: float | None
) -> tuple[Array, Array, float, int]:
    """Expectation maximisation, figures 3 and 4 of the paper."""
    moved, dimensions = moves.start, x.shape[1]
    sigma2 = float(_squared_distances(moved, x).mean()) / dimensions if first is None else first
    smallest = 1e-10 * float(x.var(axis=0).sum())
    done = 0
    while done < iterations:
        done += 1
        sigma2 = max(sigma2, smallest)
        p = correspondence(moved, x, sigma2, w)
        p1, px = p.sum(axis=1), p @ x
        moved = moves(p1, px, sigma2)
        # trace(X' d(P'1) X) - 2 trace((PX)'T) + trace(T' d(P1) T) over N_P D
        total = (
            (p.sum(axis=0) * (x**2).sum(axis=1)).sum() - 2 * (px * moved).sum() + (p1 * (moved**2).sum(axis=1)).sum()
        )
        previous, sigma2 = sigma2, float(total / (p1.sum() * dimensions))
        if sigma2 <= smallest or abs(previous - sigma2) < tolerance * previous:
            break
    sigma2 = max(sigma2, smallest)
    return moved, correspondence(moved, x, sigma2, w), sigma2, done


class _SmoothStep:
    """M-step of a displacement with Gaussian kernel, equation (22), in the leading eigenvectors of the kernel."""

    def __init__(self, source: Array, beta: float, lamb: float) -> None:
        self.start, self.lamb = source, lamb
        values, vectors = np.linalg.eigh(np.exp(-_squared_distances(source, source) / (2 * beta**2)))
        kept = values > 1e-6 * values[-1]
        self.values, self.vectors = values[kept], vectors[:, kept]

    def __call__(self, p1: Array, px: Array, sigma2: float) -> Array:
        # G = Q L Q' and v = Q c turn (G + lamb sigma2 d(P1)^-1) W = d(P1)^-1 P X - Y, v = G W, into this
        q = self.vectors
        left = q.T @ (p1[:, None] * q) + np.diag(self.lamb * sigma2 / self.values)
        return self.start + q @ np.linalg.solve(left, q.T @ (px - p1[:, None] * self.start))


class _AffineStep:
    """M-step of an affine map, figure 3 of the paper."""

    def __init__(self, source: Array) -> None:
        self.start = source
        self.basis = np.concatenate([np.ones((len(source), 1)), source], axis=1)

    def __call__(self, p1: Array, px: Array, sigma2: float) -> Array:
        left = self.basis.T @ (p1[:, None] * self.basis)
        return self.basis @ np.linalg.lstsq(left, self.basis.T @ px, rcond=None)[0]
