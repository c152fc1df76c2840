"""Transforms of space."""

from voxel_ext.transforms.spatial.affine import AffineRanges
from voxel_ext.transforms.spatial.bending import RandBend, RandBendd, bending_coefficients
from voxel_ext.transforms.spatial.deformation import Deformation
from voxel_ext.transforms.spatial.first_points import FirstPointsd
from voxel_ext.transforms.spatial.patch_sampling import RandAcceptedCropd, grid_patches
from voxel_ext.transforms.spatial.random_pose import RandPose, RandPosed, pose_volume
from voxel_ext.transforms.spatial.reflect_padding import ReflectPadd
from voxel_ext.transforms.spatial.worm_rotation import RandWormRotation, RandWormRotationd, rotate_about_x

__all__ = [
    "AffineRanges",
    "Deformation",
    "FirstPointsd",
    "RandAcceptedCropd",
    "RandBend",
    "RandBendd",
    "RandPose",
    "RandPosed",
    "RandWormRotation",
    "RandWormRotationd",
    "ReflectPadd",
    "bending_coefficients",
    "grid_patches",
    "pose_volume",
    "rotate_about_x",
]
