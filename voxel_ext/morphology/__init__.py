"""Shapes of objects: point clouds of their surfaces, features and clustering."""

from voxel_ext.morphology.point_clouds import (
    Surface,
    farthest_points,
    normalize_points,
    object_surface,
    sample_point_cloud,
)

__all__ = [
    "Surface",
    "farthest_points",
    "normalize_points",
    "object_surface",
    "sample_point_cloud",
]
