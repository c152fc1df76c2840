"""Transforms of intensities."""

from voxel_ext.transforms.intensity.validate import ValidateImage, ValidateImaged, check_image

__all__ = ["ValidateImage", "ValidateImaged", "check_image"]
