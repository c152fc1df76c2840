"""How stable a clustering is when it is repeated."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from voxel_ext.errors import InvalidInputError, check_option, require
from voxel_ext.morphology.clustering.algorithms import find_algorithm
from voxel_ext.morphology.clustering.feature_table import FeatureMatrix
from voxel_ext.morphology.clustering.fitting import cluster

METHODS = ("seeds", "subsamples")


@dataclass(frozen=True)
class Stability:
    """Agreement of repeated clusterings.

    Attributes:
        mean: of the adjusted Rand index over all pairs of repeats; 1 where all are equal.
        minimum: of the pairs.
        scores: of each pair, in the order (0, 1), (0, 2), ..., (1, 2), ...
    """

    mean: float
    minimum: float
    scores: tuple[float, ...]


def stability(
    matrix: FeatureMatrix,
    algorithm: str = "kmeans",
    n_clusters: int | None = None,
    *,
    method: str = "seeds",
    repeats: int = 10,
    fraction: float = 0.8,
    seed: int = 0,
    **options: Any,
) -> Stability:
    """Repeat a clustering and compare the repeats pair by pair.

    Args:
        matrix: scaled features.
        algorithm: as for :func:`cluster`.
        n_clusters: the same.
        method: "seeds": the same objects with the seeds ``seed``, ``seed`` + 1, ... (1 for algorithms without a seed);
            "subsamples": random subsets without replacement, compared on the objects that both have (Ben-Hur et al.,
            Pacific Symposium on Biocomputing, 2002).
        repeats: at least 2.
        fraction: of the objects in a subsample, above 0.5 and below 1, so that any two have objects in common.
        seed: the first one.
        **options: as for :func:`cluster`.

    Returns:
        the agreement.

    Raises:
        InvalidInputError: an unknown method, too few repeats, a wrong fraction, or more clusters than objects in a
            subsample; or as :func:`cluster`.
    """
    check_option("method", method, METHODS)
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 2:
        raise InvalidInputError(f"repeats={repeats!r}; expected a whole number of at least 2")
    if not isinstance(fraction, Real) or not 0.5 < fraction < 1:
        raise InvalidInputError(f"fraction={fraction!r}; expected a number above 0.5 and below 1")
    rng, count = np.random.default_rng(seed), len(matrix)
    size = max(int(fraction * count), count // 2 + 1)
    if method == "subsamples" and isinstance(n_clusters, int) and size < n_clusters <= count:
        raise InvalidInputError(
            f"n_clusters={n_clusters} of {count} objects, but a subsample has only {size}; choose fewer clusters, or "
            "the method 'seeds'"
        )
    # without a seed all repeats are the same: one is made
    different = 1 if method == "seeds" and not find_algorithm(algorithm).is_random else repeats
    runs = []
    for repeat in range(different):
        rows = np.arange(count)
        if method == "subsamples":
            rows = np.sort(rng.choice(count, size=size, replace=False))
        part = FeatureMatrix(matrix.ids[rows], matrix.values[rows], matrix.columns, matrix.blocks)
        labels = np.full(count, np.iinfo(np.int64).min)
        labels[rows] = cluster(part, algorithm, n_clusters, seed + repeat, **options).labels
        runs.append((rows, labels))
    runs *= repeats // different
    score = require("sklearn.metrics", extra="em").adjusted_rand_score
    scores = []
    for (first, one), (second, other) in itertools.combinations(runs, 2):
        both = np.intersect1d(first, second, assume_unique=True)
        scores.append(float(score(one[both], other[both])))
    return Stability(float(np.mean(scores)), min(scores), tuple(scores))
