"""Naming cells when they move together: soft correspondences and leave-one-out predictions in turn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxel_ext.matching.alignment import polynomial_fit
from voxel_ext.matching.shape_prior import LeaveOneOut

Array = NDArray[np.floating]


def mahalanobis2(points: Array, mean: Array, precision: Array) -> Array:
    """Squared Mahalanobis distance of points (N, 3) from means (M, 3) with precisions (M, 3, 3): (N, M)."""
    root = np.linalg.cholesky(precision)  # precision = R R'
    whitened = np.einsum("ni,mij->nmj", points, root) - np.einsum("mi,mij->mj", mean, root)
    return np.einsum("nmj,nmj->nm", whitened, whitened)


def gaussian_cost(points: Array, mean: Array, covariance: Array) -> Array:
    """Minus twice the log-likelihood, but for a constant: Mahalanobis distance squared plus log-determinant.

    Args:
        points: (N, 3).
        mean: (M, 3).
        covariance: (M, 3, 3).

    Returns:
        (N, M).
    """
    return mahalanobis2(points, mean, np.linalg.inv(covariance)) + np.linalg.slogdet(covariance)[1]


def soft_correspondence(cost: Array, rounds: int = 10) -> Array:
    """Probability of each pair from twice the negative log-likelihood, balanced by Sinkhorn's rounds.

    Args:
        cost: (N, M).
        rounds: of normalisation (10).

    Returns:
        (N, M); rows sum to 1 if N <= M, to at most 1 otherwise; columns the other way round.
    """
    p = np.exp(-(cost - cost.min(axis=0)) / 2)
    n, m = p.shape
    for _ in range(rounds):
        rows = p.sum(axis=1, keepdims=True)
        p = p / np.maximum(rows if n <= m else np.maximum(rows, 1.0), 1e-300)
        columns = p.sum(axis=0)
        p = p / np.maximum(columns if m <= n else np.maximum(columns, 1.0), 1e-300)
    return p


def refine(
    points: Array,
    assignment: NDArray[np.intp],
    mean: Array,
    prior: LeaveOneOut,
    iterations: int = 10,
    freedom: float = 6.0,
    quadratic: int = 3,
) -> tuple[Array, Array]:
    """Names by what all other cells of the worm say about where a cell is.

    In turn: (1) where the points put each cell (the mean of the points under the correspondences); (2) the first
    times, a quadratic map of it to the atlas; (3) each cell predicted from all others; (4) the cost of each point
    under a Student t about the predictions; (5) soft correspondences of the costs. Cells without a point take what
    the others predict.

    Args:
        points: (N, 3) in the atlas, without missing ones.
        assignment: (N,) a first guess of the cell of each; -1 for none.
        mean: (M, 3) of the atlas.
        prior: of the atlas.
        iterations: of the steps above (10).
        freedom: of the Student t: worms hold more outliers than a Gaussian expects (6, cross-validated).
        quadratic: how many of the iterations have step 2 (3).

    Returns:
        points (N, 3) after the quadratic maps and cost (N, M).
    """
    p: Array = np.zeros((len(points), len(mean)))
    p[np.flatnonzero(assignment >= 0), assignment[assignment >= 0]] = 1.0
    logarithm = np.linalg.slogdet(prior.spread)[1]
    predicted = np.zeros_like(mean)
    for iteration in range(iterations):
        mass = p.sum(axis=0)
        seen = p.T @ points / np.maximum(mass, 1e-12)[:, None]
        mass = np.minimum(mass, 1.0)[:, None]
        if iteration < quadratic:
            sure = mass[:, 0] > 0.5
            change = polynomial_fit(seen[sure], mean[sure], 2 if sure.sum() >= 30 else 1)
            points, seen = change(points), change(seen)
        displacement = mass * (seen - mean) + (1 - mass) * predicted
        predicted = prior.predict(displacement)
        distance = mahalanobis2(points, mean + predicted, prior.blocks)
        cost = (freedom + 3) * np.log1p(distance / freedom) + logarithm
        p = soft_correspondence(cost)
    return points, cost
