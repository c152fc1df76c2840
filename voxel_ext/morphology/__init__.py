"""Shapes of objects: point clouds of their surfaces, features and clustering."""

from voxel_ext.morphology.clustering import (
    ClusterResult,
    FeatureMatrix,
    cluster,
    cluster_table,
    embed,
    external_scores,
    internal_scores,
    join_features,
    missing_ids,
    representatives,
    scale_features,
    silhouettes,
    stability,
    write_clusters,
)
from voxel_ext.morphology.feature_names import FEATURE_GROUPS
from voxel_ext.morphology.mesh_features import mesh_features, smooth_surface
from voxel_ext.morphology.neighbors import Neighbors, distance_matrix, measure_neighbors
from voxel_ext.morphology.object_columns import principal_axes, statistics_table
from voxel_ext.morphology.object_features import object_features
from voxel_ext.morphology.point_clouds import (
    Surface,
    farthest_points,
    normalize_points,
    object_surface,
    sample_point_cloud,
)
from voxel_ext.morphology.pose import align_points, principal_frame
from voxel_ext.morphology.skeleton_features import skeleton_features
from voxel_ext.morphology.slice_features import slice_features
from voxel_ext.morphology.spatial_density import SpatialDensity, SpatialGrid, count_labeled, spatial_density
from voxel_ext.morphology.statistics import ObjectStatistics, measure_objects, merge_statistics
from voxel_ext.morphology.thickness import thickness_features

__all__ = [
    "FEATURE_GROUPS",
    "ClusterResult",
    "FeatureMatrix",
    "Neighbors",
    "ObjectStatistics",
    "SpatialDensity",
    "SpatialGrid",
    "Surface",
    "align_points",
    "cluster",
    "cluster_table",
    "count_labeled",
    "distance_matrix",
    "embed",
    "external_scores",
    "farthest_points",
    "internal_scores",
    "join_features",
    "measure_neighbors",
    "measure_objects",
    "merge_statistics",
    "mesh_features",
    "missing_ids",
    "normalize_points",
    "object_features",
    "object_surface",
    "principal_axes",
    "principal_frame",
    "representatives",
    "sample_point_cloud",
    "scale_features",
    "silhouettes",
    "skeleton_features",
    "slice_features",
    "smooth_surface",
    "spatial_density",
    "stability",
    "statistics_table",
    "thickness_features",
    "write_clusters",
]
