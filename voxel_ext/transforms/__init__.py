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

__all__ = [
    "ConnectedComponents",
    "ConnectedComponentsd",
    "SoftMask",
    "SoftMaskd",
    "ValidateImage",
    "ValidateImaged",
    "check_image",
    "connected_components",
    "mask_distance",
    "soft_mask_weight",
]
