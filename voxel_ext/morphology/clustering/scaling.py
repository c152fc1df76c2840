"""Bringing features to a common scale, and weighting them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError, check_option, require
from voxel_ext.morphology.clustering.feature_table import FeatureMatrix, list_some

logger = logging.getLogger(__name__)

SCALINGS = ("minmax", "minmax_block", "standard", "pca_whiten", "none")


def scale_features(
    matrix: FeatureMatrix,
    scaling: str | Mapping[str, str] = "minmax",
    weights: Sequence[float] | Mapping[str, float] | None = None,
    *,
    balance: bool = True,
    pca_variance: float = 0.99,
) -> FeatureMatrix:
    r"""Scale the columns of each feature and multiply them by its weight.

    The squared distance of two objects is then :math:`\sum_b w_b^2 \lVert s_b(x) - s_b(y) \rVert^2 / d_b` over the
    features b with d_b columns: a feature of 512 columns counts as much as one of a single column.

    Scalings:

    - "minmax": each column to [0, 1]. A feature's distances are then at most its weight.
    - "minmax_block": as that, with one minimum and maximum for all columns of a feature, so that the columns keep their
      proportions, as those of a learned code should.
    - "standard": each column to mean 0 and standard deviation 1.
    - "pca_whiten": principal components that explain ``pca_variance`` of the variance, each to standard deviation 1.
    - "none": the values as they are.

    A constant column becomes 0, but for "none" and "minmax_block"; a warning names it.

    Args:
        matrix: features as :func:`join_features` gives them.
        scaling: of all features, or by name of the feature ("minmax" for those left out).
        weights: one for each feature, in the order of ``matrix.blocks``, or by name (1 for those left out); at least 0,
            not all 0. None: 1 each.
        balance: divide by the square root of the number of columns; False to let features with many columns prevail.
        pca_variance: share of the variance, above 0 and at most 1.

    Returns:
        the scaled features; with "pca_whiten" the columns are ``<feature>.pc0``, ...

    Raises:
        InvalidInputError: an unknown scaling or feature, or weights that do not match the features.
    """
    factors = _read_weights(weights, list(matrix.blocks))
    chosen = _read_scalings(scaling, list(matrix.blocks))
    if not isinstance(pca_variance, Real) or not 0 < pca_variance <= 1:
        raise InvalidInputError(f"pca_variance={pca_variance!r}; expected a share above 0 and at most 1")
    _warn_constant(matrix)
    parts, columns, blocks, start = [], [], {}, 0
    for name, place in matrix.blocks.items():
        part, names = matrix.values[:, place], list(matrix.columns[place])
        if chosen[name] == "pca_whiten":
            part = _whiten(part, float(pca_variance))
            names = [f"{name}.pc{index}" for index in range(part.shape[1])]
        else:
            part = _scale(part, chosen[name])
        parts.append(part * (factors[name] / (np.sqrt(part.shape[1]) if balance else 1.0)))
        columns += names
        blocks[name] = slice(start, start + part.shape[1])
        start += part.shape[1]
    return FeatureMatrix(matrix.ids, np.concatenate(parts, axis=1), tuple(columns), blocks)


def _read_weights(weights: Sequence[float] | Mapping[str, float] | None, names: list[str]) -> dict[str, float]:
    if weights is None:
        return dict.fromkeys(names, 1.0)
    if isinstance(weights, Mapping):
        for name in weights:
            check_option("feature in weights", name, names)
        found = [weights.get(name, 1.0) for name in names]
    else:
        found = list(weights)
    if len(found) != len(names):
        raise InvalidInputError(
            f"weights has {len(found)} numbers for {len(names)} features ({', '.join(names)}); expected one for each"
        )
    wrong = [one for one in found if isinstance(one, bool) or not isinstance(one, Real) or not 0 <= one < np.inf]
    if wrong or not any(found):
        raise InvalidInputError(f"weights={found}; expected finite numbers of at least 0, not all 0")
    return {name: float(one) for name, one in zip(names, found, strict=True)}


def _read_scalings(scaling: str | Mapping[str, str], names: list[str]) -> dict[str, str]:
    if isinstance(scaling, Mapping):
        for name in scaling:
            check_option("feature in scaling", name, names)
        return {name: check_option(f"scaling#{name}", scaling.get(name, "minmax"), SCALINGS) for name in names}
    return dict.fromkeys(names, check_option("scaling", scaling, SCALINGS))


def _warn_constant(matrix: FeatureMatrix) -> None:
    constant = np.flatnonzero(matrix.values.max(0) == matrix.values.min(0))
    if constant.size:
        logger.warning(
            "the same for every object, so of no use for clustering: %s",
            list_some([matrix.columns[index] for index in constant]),
        )


def _scale(values: NDArray[np.float64], scaling: str) -> NDArray[np.float64]:
    if scaling == "none":
        return values
    if scaling == "standard":
        center, spread = values.mean(0), values.std(0)
        # the mean of equal numbers may be rounded, and their standard deviation then not quite 0
        spread = np.where(values.max(0) == values.min(0), 0, spread)
    else:
        axis = None if scaling == "minmax_block" else 0
        center = values.min(axis)
        spread = np.asarray(values.max(axis) - center)
    return np.where(spread > 0, (values - center) / np.where(spread > 0, spread, 1), 0)


def _whiten(values: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Principal components with standard deviation 1; one column of 0 where all rows are equal."""
    if (values.max(0) == values.min(0)).all():
        return np.zeros((len(values), 1))
    decomposition = require("sklearn.decomposition", extra="em")
    pca = decomposition.PCA(svd_solver="full").fit(values)
    ratios = pca.explained_variance_ratio_
    count = int(np.searchsorted(np.cumsum(ratios), share * (1 - 1e-12))) + 1
    count = max(min(count, int((ratios > 1e-12).sum())), 1)
    scores = pca.transform(values)[:, :count]
    return scores / scores.std(0)
