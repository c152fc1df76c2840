"""How the cells of a worm move together: a Gaussian prior of all positions, and each cell predicted from the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def cell_covariance(residuals: Array, strength: float = 5.0) -> Array:
    """Covariance of each cell, drawn towards the mean covariance of all cells.

    Args:
        residuals: (W, N, 3) positions of W worms minus their mean; NaN where missing.
        strength: how many worms the common covariance counts for (5).

    Returns:
        (N, 3, 3).
    """
    counts = (~np.isnan(residuals[..., 0])).sum(axis=0)
    filled = np.nan_to_num(residuals)
    scatter = np.einsum("wni,wnj->nij", filled, filled)
    common = scatter.sum(axis=0) / counts.sum()
    return (scatter + strength * common) / (counts + strength)[:, None, None]


def joint_covariance(
    residuals: Array,
    mean: Array,
    covariance: Array,
    reach: float = 20.0,
    stationary: float = 0.5,
    independent: float = 0.2,
) -> Array:
    """Covariance of all positions together from few worms.

    The sample correlation of two cells is multiplied by a Gaussian of their distance (localisation: with few worms
    the correlation of distant cells is noise; Houtekamer and Mitchell 2001), mixed with a correlation that depends on
    the distance alone and with the identity, and scaled to the variances of ``covariance``. The defaults were chosen
    by cross-validation on 32 L1 worms.

    Args:
        residuals: (W, N, 3) positions minus ``mean``; NaN where missing.
        mean: (N, 3).
        covariance: (N, 3, 3) of each cell.
        reach: standard deviation of the Gaussian, in units of the median standard deviation along each axis.
        stationary: share of the correlation by distance.
        independent: share of each variance that no other cell shares.

    Returns:
        (3 N, 3 N), positive definite.
    """
    from scipy.spatial.distance import cdist

    variances = np.diagonal(covariance, axis1=1, axis2=2)
    unit = np.sqrt(np.median(variances, axis=0))
    distance = cdist(mean / unit, mean / unit)
    flat = np.nan_to_num(residuals).reshape(len(residuals), -1)
    flat = flat / np.maximum(np.sqrt((flat**2).sum(axis=0)), 1e-12)
    sample = (flat.T @ flat).reshape(len(mean), 3, len(mean), 3)
    mixed = (1 - stationary) * sample * np.exp(-(distance**2) / (2 * reach**2))[:, None, :, None]
    for axis in range(3):
        mixed[:, axis, :, axis] += stationary * correlation_by_distance(sample[:, axis, :, axis], distance)
    mixed = (1 - independent) * mixed.reshape(sample.shape[0] * 3, -1)
    np.fill_diagonal(mixed, 1.0)
    deviation = np.sqrt(variances).reshape(-1)
    return mixed * np.outer(deviation, deviation)


def correlation_by_distance(sample: Array, distance: Array, bins: int = 60) -> Array:
    """Smooth positive definite function of the distance nearest to sample correlations.

    Args:
        sample: (N, N) correlations.
        distance: (N, N).
        bins: of the distance, whose mean correlations are fitted, each weighted by its count.

    Returns:
        (N, N) p exp(-d / a) + q exp(-d^2 / 2 b^2) with p + q at most 1; 1 on the diagonal.
    """
    from scipy.optimize import least_squares

    upper = np.triu_indices(len(sample), 1)
    d, c = distance[upper], sample[upper]
    place = np.minimum((d / d.max() * bins).astype(int), bins - 1)
    counts = np.maximum(np.bincount(place, minlength=bins), 1)
    middle, level = (np.bincount(place, weights=values, minlength=bins) / counts for values in (d, c))

    def model(v: Array, at: Array) -> Array:
        return v[0] * (v[1] * np.exp(-at / v[2]) + (1 - v[1]) * np.exp(-((at / v[3]) ** 2) / 2))

    fit = least_squares(
        lambda v: (model(v, middle) - level) * np.sqrt(counts),
        x0=(0.7, 0.5, 2.0, 6.0),
        bounds=([0.0, 0.0, 0.05, 0.05], [1.0, 1.0, 100.0, 100.0]),
    )
    smooth = model(fit.x, distance)
    np.fill_diagonal(smooth, 1.0)
    return smooth


@dataclass(frozen=True)
class LeaveOneOut:
    """Each cell predicted from all others under a Gaussian prior (Rasmussen and Williams 2006, equation 5.12).

    Attributes:
        precision: (3 N, 3 N), the inverse of the joint covariance.
        blocks: (N, 3, 3), precision of each cell given the others.
        spread: (N, 3, 3), covariance of each cell given the others.
    """

    precision: Array
    blocks: Array
    spread: Array

    @classmethod
    def of(cls, joint: Array) -> LeaveOneOut:
        """Prepare the predictions for a joint covariance (3 N, 3 N)."""
        precision = np.linalg.inv(joint)
        cells = np.arange(len(joint) // 3)
        blocks = precision.reshape(len(cells), 3, len(cells), 3)[cells, :, cells, :]
        return cls(precision, blocks, np.linalg.inv(blocks))

    def residual(self, displacement: Array) -> Array:
        """What the other cells do not predict of each displacement (N, 3)."""
        pull = (self.precision @ displacement.reshape(-1)).reshape(-1, 3)
        return np.einsum("nij,nj->ni", self.spread, pull)

    def predict(self, displacement: Array, clip: float = 2.0) -> Array:
        """Predict each displacement from those of the other cells.

        Args:
            displacement: (N, 3) of every cell (for one that was not seen: its last prediction).
            clip: displacements that lie further than this Mahalanobis distance from their prediction are first drawn
                in to it (Huber), twice, so that a wrong correspondence does not pull its neighbours.

        Returns:
            (N, 3).
        """
        robust = displacement
        for _ in range(2):
            left = self.residual(robust)
            distance = np.sqrt(np.einsum("ni,nij,nj->n", left, self.blocks, left))
            robust = robust - (1 - np.minimum(1.0, clip / np.maximum(distance, 1e-12)))[:, None] * left
        return robust - self.residual(robust)
