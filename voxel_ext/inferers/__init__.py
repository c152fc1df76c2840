"""Inference beyond MONAI's inferers."""

from voxel_ext.inferers.roi import RoiAccumulator, RoiProbabilities, roi_probabilities
from voxel_ext.inferers.roi_inferer import RoiInferer

__all__ = [
    "RoiAccumulator",
    "RoiInferer",
    "RoiProbabilities",
    "roi_probabilities",
]
