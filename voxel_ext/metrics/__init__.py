"""Metrics that MONAI lacks.

IoU, Dice, precision, recall and accuracy of masks are MONAI's ``ConfusionMatrixMetric`` with ``"threat score"``,
``"f1 score"``, ``"precision"``, ``"recall"`` and ``"accuracy"``.
"""

from voxel_ext.metrics.angular_error import AngularError, angles
from voxel_ext.metrics.instance_detection import InstanceDetectionRate, best_instance_iou, instance_iou
from voxel_ext.metrics.instance_scores import InstanceScores, instance_scores, panoptic_quality
from voxel_ext.metrics.instance_segmentation import (
    AdaptedRandError,
    BoundaryAveragePrecision,
    InstanceAveragePrecision,
    PanopticQuality,
    VariationOfInformation,
)
from voxel_ext.metrics.matching import MatchingAccuracy, left_right_partners
from voxel_ext.metrics.partition import adapted_rand_error, variation_of_information
from voxel_ext.metrics.pixel_wise_iou import PixelWiseMeanIoU
from voxel_ext.metrics.point_cloud import point_cloud_f_score

__all__ = [
    "AdaptedRandError",
    "AngularError",
    "BoundaryAveragePrecision",
    "InstanceAveragePrecision",
    "InstanceDetectionRate",
    "InstanceScores",
    "MatchingAccuracy",
    "PanopticQuality",
    "PixelWiseMeanIoU",
    "VariationOfInformation",
    "adapted_rand_error",
    "angles",
    "best_instance_iou",
    "instance_iou",
    "instance_scores",
    "left_right_partners",
    "panoptic_quality",
    "point_cloud_f_score",
    "variation_of_information",
]
