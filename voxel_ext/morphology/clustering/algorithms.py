"""The clustering algorithms: their names, defaults and parameters."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError, check_option, require


@dataclass(frozen=True)
class Algorithm:
    """A clustering algorithm of scikit-learn.

    Attributes:
        name: what it is called here.
        module: of scikit-learn.
        estimator: its class.
        count: the parameter with the number of clusters; None: the algorithm finds that itself.
        defaults: that differ from scikit-learn's.
        pair_bytes: memory for each pair of objects; 0 where it does not grow with their square.
    """

    name: str
    module: str
    estimator: str
    count: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    pair_bytes: int = 0

    def make_class(self) -> Any:
        """Return the class of the estimator."""
        return getattr(require(self.module, extra="em"), self.estimator)

    def parameters(self) -> list[str]:
        """Names of the estimator's parameters, but for those that are arguments of ``cluster``, or share their name."""
        given = {self.count, "random_state", "algorithm"}
        return [name for name in inspect.signature(self.make_class()).parameters if name not in given]

    @property
    def is_random(self) -> bool:
        """Whether the result depends on a seed."""
        return "random_state" in inspect.signature(self.make_class()).parameters

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Refuse options that the estimator does not have, and distances in place of features.

        Raises:
            InvalidInputError: lists the valid ones.
        """
        valid = self.parameters()
        for name, value in options.items():
            check_option(f"option of {self.name}", name, valid)
            if isinstance(value, str) and value.startswith("precomputed"):
                raise InvalidInputError(
                    f"{name}={value!r} of {self.name}; expected a choice for features: distances are not given"
                )


ALGORITHMS: dict[str, Algorithm] = {
    one.name: one
    for one in (
        Algorithm("kmeans", "sklearn.cluster", "KMeans", "n_clusters", {"n_init": 10}),
        Algorithm(
            "affprop",
            "sklearn.cluster",
            "AffinityPropagation",
            None,
            {"preference": "minimum", "damping": 0.9, "max_iter": 1000},
            pair_bytes=32,
        ),
        Algorithm("specCl", "sklearn.cluster", "SpectralClustering", "n_clusters", {"affinity": "nearest_neighbors"}),
        Algorithm("aggloCl", "sklearn.cluster", "AgglomerativeClustering", "n_clusters", pair_bytes=8),
        Algorithm("dbscan", "sklearn.cluster", "DBSCAN", None, {"eps": "knee"}),
        Algorithm("hdbscan", "sklearn.cluster", "HDBSCAN", None, {"copy": True}),
        Algorithm("gaussian_mixture", "sklearn.mixture", "GaussianMixture", "n_components", {"n_init": 10}),
    )
}
ALIASES = {one.estimator: name for name, one in ALGORITHMS.items()}


def find_algorithm(name: str) -> Algorithm:
    """Find an algorithm by its name or that of its class in scikit-learn.

    Raises:
        InvalidInputError: there is none; lists all.
    """
    known = check_option("algorithm", name, [*ALGORITHMS, *ALIASES])
    return ALGORITHMS[ALIASES.get(known, known)]


def pair_memory(algorithm: Algorithm, options: Mapping[str, Any], objects: int) -> int:
    """Bytes that an algorithm needs for the pairs of objects, roughly.

    Args:
        algorithm: which.
        options: its parameters; dense affinities of "specCl" need a matrix, a sparse connectivity of "aggloCl" none.
        objects: how many.
    """
    each = algorithm.pair_bytes
    if algorithm.name == "specCl" and options.get("affinity") != "nearest_neighbors":
        each = 24
    if algorithm.name == "aggloCl" and options.get("connectivity") is not None:
        each = 0
    return each * objects * objects


def settle_parameters(algorithm: Algorithm, options: Mapping[str, Any], values: NDArray[np.float64]) -> dict[str, Any]:
    """All parameters of the estimator that are not scikit-learn's defaults, those that follow from the data as numbers.

    Args:
        algorithm: which.
        options: what the user wants.
        values: (N, F) features.

    Returns:
        the parameters: of "dbscan" with the ``eps`` of :func:`knee_distance` where it is "knee"; of "affprop" with the
        least similarity of two objects where ``preference`` is "minimum" (few clusters, Frey and Dueck, Science 2007);
        of "specCl" with ``n_neighbors`` not above the number of objects where it is not set.
    """
    settled = {**algorithm.defaults, **options}
    if algorithm.name == "dbscan" and settled["eps"] == "knee":
        settled["eps"] = knee_distance(values, settled.get("min_samples", 5))
    if algorithm.name == "affprop" and settled["preference"] == "minimum":
        settled["preference"] = -_largest_squared_distance(values)
    if algorithm.name == "specCl" and settled["affinity"] == "nearest_neighbors":
        settled.setdefault("n_neighbors", min(10, len(values)))
    return settled


def knee_distance(values: NDArray[np.float64], min_samples: int) -> float:
    """Radius for DBSCAN: the knee of the sorted distances to the ``min_samples``-th nearest object.

    The knee is the point that lies farthest below the line between the ends of the curve (Ester et al., KDD 1996, for
    the curve; Satopaa et al., Kneedle, 2011, for its knee).

    Args:
        values: (N, F).
        min_samples: of DBSCAN, the object itself counted.

    Raises:
        InvalidInputError: fewer objects than ``min_samples``.
    """
    if isinstance(min_samples, bool) or not isinstance(min_samples, int) or not 1 <= min_samples <= len(values):
        raise InvalidInputError(
            f"min_samples={min_samples!r} of dbscan; expected a whole number from 1 to {len(values)}, the number of "
            "objects"
        )
    neighbors = require("sklearn.neighbors", extra="em").NearestNeighbors(n_neighbors=min_samples).fit(values)
    curve = np.sort(neighbors.kneighbors(values)[0][:, -1])
    line = np.linspace(curve[0], curve[-1], len(curve))
    # eps must be above 0: where all objects are equal any radius does
    return float(curve[np.argmax(line - curve)]) or float(np.finfo(np.float64).tiny)


def _largest_squared_distance(values: NDArray[np.float64]) -> float:
    metrics = require("sklearn.metrics", extra="em")
    chunks = metrics.pairwise_distances_chunked(values, metric="sqeuclidean", reduce_func=lambda d, _: d.max(1))
    return float(max(chunk.max() for chunk in chunks))
