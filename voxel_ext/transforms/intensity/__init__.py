"""Transforms of intensities."""

from voxel_ext.transforms.intensity.soft_mask import SoftMask, SoftMaskd, mask_distance, soft_mask_weight
from voxel_ext.transforms.intensity.validate import ValidateImage, ValidateImaged, check_image

__all__ = [
    "SoftMask",
    "SoftMaskd",
    "ValidateImage",
    "ValidateImaged",
    "check_image",
    "mask_distance",
    "soft_mask_weight",
]
