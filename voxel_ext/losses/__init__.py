"""Loss functions."""

from voxel_ext.losses.boundary import BoundaryWeightedDiceLoss, outer_boundary
from voxel_ext.losses.contrastive import ContrastiveMatchingLoss
from voxel_ext.losses.deep_supervision import DeepSupervisedLoss
from voxel_ext.losses.linear_assignment import (
    LinearAssignmentLoss,
    blackbox_assignment,
    match_cells,
    solve_assignment,
)
from voxel_ext.losses.matching_cost import feature_cost
from voxel_ext.losses.matching_factory import matching_loss
from voxel_ext.losses.segmentation import SegmentationLoss, positive_class_weight, segmentation_loss
from voxel_ext.losses.sinkhorn import SinkhornMatchingLoss, log_sinkhorn

__all__ = [
    "BoundaryWeightedDiceLoss",
    "ContrastiveMatchingLoss",
    "DeepSupervisedLoss",
    "LinearAssignmentLoss",
    "SegmentationLoss",
    "SinkhornMatchingLoss",
    "blackbox_assignment",
    "feature_cost",
    "log_sinkhorn",
    "match_cells",
    "matching_loss",
    "outer_boundary",
    "positive_class_weight",
    "segmentation_loss",
    "solve_assignment",
]
