"""Clustering objects by the tables of their features."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxel_ext.engines.clustering_inputs import FeatureTables
from voxel_ext.engines.labeled_objects import LabeledObjects
from voxel_ext.errors import InvalidInputError, require
from voxel_ext.morphology.clustering import (
    ClusterResult,
    FeatureMatrix,
    Stability,
    cluster,
    cluster_table,
    internal_scores,
    join_features,
    scale_features,
    stability,
)
from voxel_ext.morphology.clustering.algorithms import find_algorithm
from voxel_ext.morphology.clustering.feature_table import list_some

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClusteredObjects:
    """Clusters of objects, and what they were made from.

    Attributes:
        result: the clusters.
        matrix: the scaled features (N, F) that were clustered.
        joined: the features as they were read.
        sources: the tables and their files.
        objects: those of the label volume; the clustered ones are among them.
        table: a row for each object: ``id``, ``cluster``, ``silhouette`` and ``distance_to_center``.
        scores: see :func:`~voxel_ext.morphology.internal_scores`.
        stability: agreement of the repeats; None where there are none.
        seed: with which the objects were clustered.
    """

    result: ClusterResult
    matrix: FeatureMatrix
    joined: FeatureMatrix
    sources: FeatureTables
    objects: LabeledObjects
    table: pd.DataFrame
    scores: dict[str, float]
    stability: Stability | None
    seed: int

    def feature_table(self) -> pd.DataFrame:
        """Return the joined features with ``id`` as the first column, named ``<feature>.<column>``."""
        table = require("pandas", extra="em").DataFrame(self.joined.values, columns=list(self.joined.columns))
        table.insert(0, "id", self.joined.ids)
        return table


def cluster_objects(
    sources: FeatureTables,
    objects: LabeledObjects,
    *,
    weights: Sequence[float] | Mapping[str, float] | None = None,
    scaling: str | Mapping[str, str] = "minmax",
    missing: str = "error",
    algorithm: str = "kmeans",
    n_clusters: int | None = None,
    algorithm_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    stability_method: str = "seeds",
    stability_repeats: int = 10,
) -> ClusteredObjects:
    """Join tables of features by id, scale and weight them, and cluster the objects.

    Args:
        sources: the tables, as :func:`~voxel_ext.engines.read_feature_tables` reads them.
        objects: those of the label volume; others are left out, which a warning lists.
        weights: one for each feature, see :func:`~voxel_ext.morphology.scale_features`.
        scaling: likewise.
        missing: see :func:`~voxel_ext.morphology.join_features`.
        algorithm: see :func:`~voxel_ext.morphology.cluster`.
        n_clusters: likewise.
        algorithm_options: likewise, the parameters of the algorithm.
        seed: likewise.
        stability_method: see :func:`~voxel_ext.morphology.stability`.
        stability_repeats: how often the clustering is repeated for the stability; 0 for none.

    Returns:
        the clusters and their internal scores.

    Raises:
        InvalidInputError: a wrong setting, wrong weights, tables of different objects, or of other labels; missing
            values; more clusters than objects; as the functions named above.
        MissingDependencyError: a library of the extra "em" is not installed.
    """
    chosen, options = find_algorithm(algorithm), _check_options(algorithm_options)
    chosen.check_options(options)
    joined = objects.choose(join_features(sources.tables, missing))
    matrix = scale_features(joined, scaling, weights)
    result = cluster(matrix, algorithm, n_clusters, seed, **options)
    if result.noise:
        logger.warning(
            "%d of %d objects are in no cluster: %s",
            result.noise,
            len(matrix),
            list_some(result.ids[result.labels < 0]),
        )
    # without a parameter for it, the number of clusters is not used, which has been said once
    count = n_clusters if chosen.count else None
    repeated = None
    if stability_repeats:
        repeated = stability(
            matrix, algorithm, count, method=stability_method, repeats=stability_repeats, seed=seed, **options
        )
    table = cluster_table(matrix, result)
    scores = internal_scores(matrix.values, result.labels, table["silhouette"])
    return ClusteredObjects(result, matrix, joined, sources, objects, table, scores, repeated, seed)


def _check_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    if options is not None and not isinstance(options, Mapping):
        raise InvalidInputError(
            f"algorithm_options={options!r}; expected a mapping from parameters of the algorithm to values, e.g. "
            "{'n_init': 20}"
        )
    return dict(options or {})
