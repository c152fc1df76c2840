"""Clustering a matrix of features."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology.clustering.algorithms import Algorithm, find_algorithm, pair_memory, settle_parameters
from voxel_ext.morphology.clustering.feature_table import FeatureMatrix

logger = logging.getLogger(__name__)

NOISE = -1
"""Label of objects that are in no cluster."""


@dataclass(frozen=True)
class ClusterResult:
    """Clusters of objects, numbered by size: 0 is the largest (of equal ones, that with the smallest id).

    Attributes:
        ids: (N,) int64, those of the matrix.
        labels: (N,) int64, the cluster of each object; -1 for noise.
        centers: (K, F) float64, mean of the members.
        distances: (N,) float64, Euclidean distance of each object to the center of its cluster; NaN for noise.
        algorithm: its name.
        parameters: with which the estimator ran, but for those of scikit-learn's defaults.
    """

    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    centers: NDArray[np.float64]
    distances: NDArray[np.float64]
    algorithm: str
    parameters: dict[str, Any]

    @property
    def n_clusters(self) -> int:
        """How many clusters were found."""
        return len(self.centers)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(K,) number of members of each cluster."""
        return np.bincount(self.labels[self.labels >= 0], minlength=self.n_clusters).astype(np.int64)

    @property
    def noise(self) -> int:
        """How many objects are in no cluster."""
        return int((self.labels < 0).sum())


def cluster(
    matrix: FeatureMatrix,
    algorithm: str = "kmeans",
    n_clusters: int | None = None,
    seed: int = 0,
    *,
    memory_limit: float = 8.0,
    **options: Any,
) -> ClusterResult:
    """Cluster objects by their features, which :func:`scale_features` has scaled.

    Args:
        matrix: (N, F) features.
        algorithm: "kmeans", "affprop" (affinity propagation), "specCl" (spectral clustering), "aggloCl"
            (agglomerative, by default Ward's), "dbscan", "hdbscan" or "gaussian_mixture", or the name of the class in
            scikit-learn ("KMeans").
        n_clusters: needed by "kmeans", "specCl", "gaussian_mixture", and "aggloCl" without ``distance_threshold``; the
            others find the number themselves, and a warning says that it is not used.
        seed: of "kmeans", "affprop", "specCl" and "gaussian_mixture".
        memory_limit: GiB that may be used for pairs of objects by "affprop" and "aggloCl", and by "specCl" with another
            affinity than "nearest_neighbors"; the others do not need any.
        **options: parameters of the estimator, but for one called ``algorithm``. Defaults that are not scikit-learn's:
            ``n_init`` 10 of "kmeans" and "gaussian_mixture"; ``affinity`` "nearest_neighbors" of "specCl";
            ``preference`` "minimum" of "affprop" (the least similarity; None for the median), with ``damping`` 0.9 and
            ``max_iter`` 1000; ``eps`` "knee" of "dbscan" (from the data, see
            :func:`~voxel_ext.morphology.clustering.algorithms.knee_distance`).

    Returns:
        the clusters. The same matrix and seed give the same result.

    Raises:
        InvalidInputError: an unknown algorithm or option (the valid ones are listed), a wrong value of one, more
            clusters than objects, no number of clusters where one is needed, features that are not finite, too many
            objects for the memory, or no convergence.
    """
    chosen = find_algorithm(algorithm)
    chosen.check_options(options)
    _check_whole("seed", seed, 0)
    values = _check_values(matrix)
    count = _check_count(chosen, n_clusters, options, len(values))
    needed = pair_memory(chosen, {**chosen.defaults, **options}, len(values)) / 2**30
    if needed > memory_limit:
        raise InvalidInputError(
            f"{chosen.name} of {len(values)} objects needs about {needed:.0f} GiB for pairs of objects, but "
            f"memory_limit={memory_limit} GiB; use kmeans, gaussian_mixture, hdbscan or specCl with "
            "affinity='nearest_neighbors', or raise the limit"
        )
    parameters = settle_parameters(chosen, options, values)
    if chosen.count is not None:
        parameters[chosen.count] = count
    if chosen.is_random:
        parameters["random_state"] = int(seed)
    labels = _number_by_size(_fit(chosen, parameters, values))
    found = int(labels.max(initial=NOISE)) + 1
    if count is not None and found < count:
        logger.warning("%s found %d clusters, not %d: there are too few different objects", chosen.name, found, count)
    centers = np.stack([values[labels == k].mean(0) for k in range(found)]) if found else values[:0]
    distances = np.full(len(values), np.nan)
    inside = labels >= 0
    distances[inside] = np.linalg.norm(values[inside] - centers[labels[inside]], axis=1)
    return ClusterResult(matrix.ids, labels, centers, distances, chosen.name, parameters)


def _check_values(matrix: FeatureMatrix) -> NDArray[np.float64]:
    values = np.asarray(matrix.values, dtype=np.float64)
    if values.ndim != 2 or 0 in values.shape or len(values) != len(matrix.ids):
        raise InvalidInputError(
            f"the features have shape {values.shape} for {len(matrix.ids)} ids; expected (objects, columns)"
        )
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise InvalidInputError(
            f"{matrix.columns[column]} of object {matrix.ids[row]} is {values[row, column]}; expected finite features"
        )
    return values


def _check_count(algorithm: Algorithm, n_clusters: Any, options: dict[str, Any], objects: int) -> int | None:
    if algorithm.count is None:
        if n_clusters is not None:
            logger.warning(
                "%s finds the number of clusters itself; n_clusters=%s is not used", algorithm.name, n_clusters
            )
        return None
    threshold = options.get("distance_threshold") is not None
    if threshold != (n_clusters is None):
        wanted = "n_clusters or distance_threshold, not both" if algorithm.name == "aggloCl" else "n_clusters"
        raise InvalidInputError(f"n_clusters={n_clusters!r} for {algorithm.name}; expected {wanted}")
    if n_clusters is None:
        return None
    _check_whole("n_clusters", n_clusters, 1)
    if n_clusters > objects:
        raise InvalidInputError(
            f"n_clusters={n_clusters}, but there are {objects} objects; expected at most as many clusters"
        )
    return int(n_clusters)


def _check_whole(name: str, value: Any, least: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise InvalidInputError(f"{name}={value!r}; expected a whole number of at least {least}")


def _fit(algorithm: Algorithm, parameters: dict[str, Any], values: NDArray[np.float64]) -> NDArray[np.int64]:
    estimator = algorithm.make_class()(**parameters)
    try:
        labels = np.asarray(estimator.fit_predict(values), dtype=np.int64)
    except (ValueError, TypeError) as error:
        raise InvalidInputError(
            f"{algorithm.name} cannot cluster {len(values)} objects with {parameters}: {error}"
        ) from error
    # scikit-learn gives labels of no use and a warning, or -1 for all
    if algorithm.name == "affprop" and (estimator.n_iter_ >= estimator.max_iter or (labels < 0).all()):
        raise InvalidInputError(f"affprop did not converge with {parameters}; raise max_iter, or damping (below 1)")
    return labels


def _number_by_size(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number clusters by their size, descending; of equal ones that with the first member first; noise stays -1."""
    found, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    inside = found >= 0
    found, first, sizes = found[inside], first[inside], sizes[inside]
    order = np.lexsort((first, -sizes))
    numbers = np.full(int(labels.max(initial=NOISE)) + 2, NOISE, dtype=np.int64)
    numbers[found[order]] = np.arange(len(order))
    return numbers[np.where(labels < 0, NOISE, labels)]
