"""Clustering sets of features of objects, and comparing the clusters with known classes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from tqdm import tqdm

from voxel_ext.data import read_feature_folder
from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology import FEATURE_GROUPS, FeatureMatrix, cluster, external_scores, join_features, scale_features
from voxel_ext.morphology.clustering import ALGORITHMS

LEARNED = ("shapef", "ptcf", "clf")
OF_SHAPE = ("sphericity", "surface_to_volume", "shape", "skeleton", "thickness")
"""Classical features that tell shape, not place, size or intensity, none of which depends on the class."""
ORIGINAL = ("size", "distance", "sphericity", "skeleton", "surface_to_volume", "density")
"""The counterparts of EManalysis' features."""
DEFAULT = ("shape", "sphericity", "skeleton", "thickness")
"""What the bundle ``em_clustering`` clusters unless told otherwise."""


def feature_sets(learned: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Names of the sets and the features in each."""
    sets: dict[str, tuple[str, ...]] = {name: (name,) for name in FEATURE_GROUPS}
    sets |= {
        "those of EManalysis": ORIGINAL,
        "shape + skeleton": ("shape", "skeleton"),
        "default": DEFAULT,
        "classical of shape": OF_SHAPE,
        "all classical": tuple(FEATURE_GROUPS),
    }
    sets |= {name: (name,) for name in learned}
    if len(learned) > 1:
        sets["all learned"] = tuple(learned)
    if learned:
        sets["all learned + default"] = (*learned, *DEFAULT)
        sets["all learned + all classical"] = (*learned, *FEATURE_GROUPS)
    return sets


def score_all(places: Mapping[str | None, Path], classes: Path, scalings: Sequence[str]) -> list[dict[str, Any]]:
    """Cluster every set of features by every algorithm.

    Args:
        places: folder of the tables of each learned feature; under None of the classical ones.
        classes: CSV file with the columns ``id`` and ``class``.
        scalings: of the features; "minmax" keeps the proportions of a learned code ("minmax_block").

    Returns:
        for each set, scaling and algorithm ``ari``, ``nmi``, ``accuracy``, ``clusters``, and in ``confused`` how many
        objects of a pair of classes are in the cluster of the other one; ``error`` and no scores where the algorithm
        does not find clusters.
    """
    learned = [name for name in places if name is not None]
    tables = read_feature_folder(places[None], list(FEATURE_GROUPS))
    for name in learned:
        tables |= read_feature_folder(places[name], [name])
    known = pd.read_csv(classes).set_index("id")["class"]
    count = known.nunique()
    rows = []
    cases = list(itertools.product(feature_sets(learned).items(), scalings))
    for (name, features), scaling in tqdm(cases, desc="clustering"):
        joined = join_features(tables, features=features)
        chosen = {f: "minmax_block" if scaling == "minmax" and f in learned else scaling for f in features}
        matrix = scale_features(joined, chosen)
        truth = known.loc[matrix.ids].to_numpy()
        for algorithm in ALGORITHMS:
            case = {"set": name, "features": list(features), "scaling": scaling, "algorithm": algorithm}
            rows.append({**case, **score(matrix, algorithm, count, truth)})
    return rows


def score(matrix: FeatureMatrix, algorithm: str, count: int, truth: NDArray) -> dict[str, Any]:
    """Cluster scaled features and compare the clusters with the classes."""
    try:
        result = cluster(matrix, algorithm, count if ALGORITHMS[algorithm].count else None)
    except InvalidInputError as error:
        return {"error": str(error)}
    scores = external_scores(result.labels, truth.tolist())
    kept = {name: scores[name] for name in ("ari", "nmi", "accuracy")}
    return {**kept, "clusters": result.n_clusters, "noise": result.noise, "confused": confused(result.labels, truth)}


def confused(labels: NDArray[np.int64], truth: NDArray) -> dict[str, int]:
    """Count objects of one of two classes in the cluster that stands for the other, for all pairs with any."""
    names = np.unique(truth)
    table = pd.crosstab(truth, labels).reindex(names).to_numpy()
    rows, columns = linear_sum_assignment(table, maximize=True)
    found = {}
    for (i, j), (k, m) in itertools.product(zip(rows, columns, strict=True), repeat=2):
        if i < k and table[i, m] + table[k, j]:
            found[f"{names[i]}/{names[k]}"] = int(table[i, m] + table[k, j])
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def best(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The row of the highest adjusted Rand index, the first of equal ones."""
    return max(rows, key=lambda row: row.get("ari", -np.inf))
