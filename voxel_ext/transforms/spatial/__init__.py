"""Transforms of space."""

from voxel_ext.transforms.spatial.worm_rotation import RandWormRotation, RandWormRotationd, rotate_about_x

__all__ = ["RandWormRotation", "RandWormRotationd", "rotate_about_x"]
