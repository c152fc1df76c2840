"""How good a clustering is: by its features alone, and against known classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError, require


def silhouettes(values: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """Silhouette of each object, -1 to 1 (Rousseeuw, 1987). Time grows with N², memory does not.

    Args:
        values: (N, F) features.
        labels: (N,) clusters; -1 for noise, which is left out.

    Returns:
        (N,); NaN for noise, and everywhere where there are fewer than two clusters, or no cluster of two objects.

    Raises:
        InvalidInputError: another number of labels than objects.
    """
    features, clusters = _check(values, labels)
    inside = clusters >= 0
    result = np.full(len(clusters), np.nan)
    if _is_defined(clusters[inside]):
        metrics = require("sklearn.metrics", extra="em")
        result[inside] = metrics.silhouette_samples(features[inside], clusters[inside])
    return result


def internal_scores(values: ArrayLike, labels: ArrayLike, each: ArrayLike | None = None) -> dict[str, float]:
    """Scores of a clustering that need no known classes; noise is left out.

    Args:
        values: (N, F) features.
        labels: (N,) clusters; -1 for noise.
        each: (N,) what :func:`silhouettes` gave for them, which takes the most time; None to compute it.

    Returns:
        ``silhouette`` (mean; higher is better), ``davies_bouldin`` (lower), ``calinski_harabasz`` (higher); NaN where
        there are fewer than two clusters, or no cluster of two objects; ``clusters`` and ``noise``, which are counts.

    Raises:
        InvalidInputError: another number of labels than objects.
    """
    features, clusters = _check(values, labels)
    inside = clusters >= 0
    scores = dict.fromkeys(("silhouette", "davies_bouldin", "calinski_harabasz"), float("nan"))
    if _is_defined(clusters[inside]):
        metrics = require("sklearn.metrics", extra="em")
        scores["silhouette"] = float(np.nanmean(silhouettes(features, clusters) if each is None else np.asarray(each)))
        scores["davies_bouldin"] = float(metrics.davies_bouldin_score(features[inside], clusters[inside]))
        scores["calinski_harabasz"] = float(metrics.calinski_harabasz_score(features[inside], clusters[inside]))
    return {**scores, "clusters": float(len(np.unique(clusters[inside]))), "noise": float((~inside).sum())}


def external_scores(labels: ArrayLike, classes: Sequence[Any]) -> dict[str, float]:
    """Agreement of a clustering with known classes. Noise (-1) counts as a cluster of its own.

    Args:
        labels: (N,) clusters.
        classes: (N,) class of each object, text or numbers; None or NaN where it is not known: left out.

    Returns:
        ``ari`` (adjusted Rand index), ``nmi`` (normalized mutual information, arithmetic mean), ``purity`` (share of
        objects that are of the commonest class of their cluster), ``accuracy`` (share of objects whose cluster is the
        one that stands for their class, in the best assignment of clusters to classes one to one), ``known`` (count).

    Raises:
        InvalidInputError: another number of classes than labels, or no class is known.
    """
    clusters = np.asarray(labels)
    given = np.array([*classes, None], dtype=object)[:-1]  # as objects, whatever they are
    known = ~require("pandas", extra="em").isna(given)
    if clusters.shape != known.shape:
        raise InvalidInputError(f"{len(known)} classes for labels of shape {clusters.shape}; expected one for each")
    if not known.any():
        raise InvalidInputError("the class of no object is known; external scores need some")
    from scipy.optimize import linear_sum_assignment

    metrics = require("sklearn.metrics", extra="em")
    truth = given[known].astype(str)
    table = require("sklearn.metrics.cluster", extra="em").contingency_matrix(truth, clusters[known])
    assigned = table[linear_sum_assignment(table, maximize=True)].sum()
    return {
        "ari": float(metrics.adjusted_rand_score(truth, clusters[known])),
        "nmi": float(metrics.normalized_mutual_info_score(truth, clusters[known])),
        "purity": float(table.max(0).sum() / table.sum()),
        "accuracy": float(assigned / table.sum()),
        "known": float(known.sum()),
    }


def _is_defined(clusters: NDArray[np.int64]) -> bool:
    return 2 <= len(np.unique(clusters)) < len(clusters)


def _check(values: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    features, clusters = np.asarray(values, dtype=np.float64), np.asarray(labels)
    if features.ndim != 2 or clusters.shape != features.shape[:1] or clusters.dtype.kind not in "iu":
        raise InvalidInputError(
            f"labels {clusters.dtype} of shape {clusters.shape} for features of shape {features.shape}; expected (N,) "
            "integers and (N, F)"
        )
    return features, clusters.astype(np.int64)
