"""Transforms of intensities."""

from voxel_ext.transforms.intensity.contrast import RandContrast, RandContrastd, adjust_contrast
from voxel_ext.transforms.intensity.cut_blur import RandCutBlurd, cut_blur
from voxel_ext.transforms.intensity.gradual_blur import (
    RandGradualGaussianBlur,
    RandGradualGaussianBlurd,
    gradual_gaussian_blur,
)
from voxel_ext.transforms.intensity.noise import RandPoissonNoise, RandPoissonNoised, poisson_noise
from voxel_ext.transforms.intensity.normalization import IntensityNormalization
from voxel_ext.transforms.intensity.soft_mask import SoftMask, SoftMaskd, mask_distance, soft_mask_weight
from voxel_ext.transforms.intensity.validate import ValidateImage, ValidateImaged, check_image

__all__ = [
    "IntensityNormalization",
    "RandContrast",
    "RandContrastd",
    "RandCutBlurd",
    "RandGradualGaussianBlur",
    "RandGradualGaussianBlurd",
    "RandPoissonNoise",
    "RandPoissonNoised",
    "SoftMask",
    "SoftMaskd",
    "ValidateImage",
    "ValidateImaged",
    "adjust_contrast",
    "check_image",
    "cut_blur",
    "gradual_gaussian_blur",
    "mask_distance",
    "poisson_noise",
    "soft_mask_weight",
]
