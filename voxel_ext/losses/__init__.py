"""Loss functions."""

from voxel_ext.losses.boundary import BoundaryWeightedDiceLoss, outer_boundary
from voxel_ext.losses.chamfer import ChamferLoss
from voxel_ext.losses.contrastive import ContrastiveMatchingLoss
from voxel_ext.losses.deep_supervision import DeepSupervisedLoss
from voxel_ext.losses.earth_mover import EarthMoverLoss
from voxel_ext.losses.linear_assignment import (
    LinearAssignmentLoss,
    blackbox_assignment,
    match_cells,
    solve_assignment,
)
from voxel_ext.losses.masked import MaskedLoss
from voxel_ext.losses.matching_cost import feature_cost
from voxel_ext.losses.matching_factory import matching_loss
from voxel_ext.losses.multi_task import MultiTaskLoss
from voxel_ext.losses.neuron_factory import BCEDiceLoss, neuron_loss
from voxel_ext.losses.pixel_wise import PixelWiseCrossEntropyLoss
from voxel_ext.losses.point_cloud import PointCloudLoss
from voxel_ext.losses.segmentation import SegmentationLoss, positive_class_weight, segmentation_loss
from voxel_ext.losses.self_supervised import InfoNCELoss, NegativeCosineLoss, self_supervised_loss
from voxel_ext.losses.sinkhorn import SinkhornMatchingLoss, log_sinkhorn
from voxel_ext.losses.task_weighting import GradientNormalization, UncertaintyWeighting
from voxel_ext.losses.vae import VAELoss
from voxel_ext.losses.variational import gaussian_kl
from voxel_ext.losses.vector_field import AngularLoss, MaskedCosineLoss
from voxel_ext.losses.weighted import WeightedCrossEntropyLoss, WeightedSmoothL1Loss

__all__ = [
    "AngularLoss",
    "BCEDiceLoss",
    "BoundaryWeightedDiceLoss",
    "ChamferLoss",
    "ContrastiveMatchingLoss",
    "DeepSupervisedLoss",
    "EarthMoverLoss",
    "GradientNormalization",
    "InfoNCELoss",
    "LinearAssignmentLoss",
    "MaskedCosineLoss",
    "MaskedLoss",
    "MultiTaskLoss",
    "NegativeCosineLoss",
    "PixelWiseCrossEntropyLoss",
    "PointCloudLoss",
    "SegmentationLoss",
    "SinkhornMatchingLoss",
    "UncertaintyWeighting",
    "VAELoss",
    "WeightedCrossEntropyLoss",
    "WeightedSmoothL1Loss",
    "blackbox_assignment",
    "feature_cost",
    "gaussian_kl",
    "log_sinkhorn",
    "match_cells",
    "matching_loss",
    "neuron_loss",
    "outer_boundary",
    "positive_class_weight",
    "segmentation_loss",
    "self_supervised_loss",
    "solve_assignment",
]
