"""Array transforms and their dictionary wrappers."""

from voxel_ext.transforms.intensity import (
    SoftMask,
    SoftMaskd,
    ValidateImage,
    ValidateImaged,
    check_image,
    mask_distance,
    soft_mask_weight,
)
from voxel_ext.transforms.label import ConnectedComponents, ConnectedComponentsd, connected_components
from voxel_ext.transforms.spatial import RandWormRotation, RandWormRotationd, rotate_about_x

__all__ = [
    "ConnectedComponents",
    "ConnectedComponentsd",
    "RandWormRotation",
    "RandWormRotationd",
    "SoftMask",
    "SoftMaskd",
    "ValidateImage",
    "ValidateImaged",
    "check_image",
    "connected_components",
    "mask_distance",
    "rotate_about_x",
    "soft_mask_weight",
]
