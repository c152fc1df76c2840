"""Loss functions."""

from voxel_ext.losses.boundary import BoundaryWeightedDiceLoss, outer_boundary
from voxel_ext.losses.deep_supervision import DeepSupervisedLoss
from voxel_ext.losses.segmentation import SegmentationLoss, positive_class_weight, segmentation_loss

__all__ = [
    "BoundaryWeightedDiceLoss",
    "DeepSupervisedLoss",
    "SegmentationLoss",
    "outer_boundary",
    "positive_class_weight",
    "segmentation_loss",
]
