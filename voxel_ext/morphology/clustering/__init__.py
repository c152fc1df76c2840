"""Clustering of objects by their features: joining, scaling, clusters, scores, stability, typical members."""

from __future__ import annotations

from voxel_ext.morphology.clustering.algorithms import ALGORITHMS, ALIASES
from voxel_ext.morphology.clustering.embedding import EMBEDDINGS, embed
from voxel_ext.morphology.clustering.feature_table import (
    MISSING_RULES,
    FeatureMatrix,
    check_ids,
    join_features,
    missing_ids,
)
from voxel_ext.morphology.clustering.fitting import NOISE, ClusterResult, cluster
from voxel_ext.morphology.clustering.label_values import cluster_values, map_labels
from voxel_ext.morphology.clustering.members import Representatives, cluster_table, representatives, write_clusters
from voxel_ext.morphology.clustering.repeats import Stability, stability
from voxel_ext.morphology.clustering.scaling import SCALINGS, scale_features
from voxel_ext.morphology.clustering.scores import external_scores, internal_scores, silhouettes

__all__ = [
    "ALGORITHMS",
    "ALIASES",
    "EMBEDDINGS",
    "MISSING_RULES",
    "NOISE",
    "SCALINGS",
    "ClusterResult",
    "FeatureMatrix",
    "Representatives",
    "Stability",
    "check_ids",
    "cluster",
    "cluster_table",
    "cluster_values",
    "embed",
    "external_scores",
    "internal_scores",
    "join_features",
    "map_labels",
    "missing_ids",
    "representatives",
    "scale_features",
    "silhouettes",
    "stability",
    "write_clusters",
]
