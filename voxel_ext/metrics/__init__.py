"""Metrics that MONAI lacks.

IoU, Dice, precision, recall and accuracy of masks are MONAI's ``ConfusionMatrixMetric`` with ``"threat score"``,
``"f1 score"``, ``"precision"``, ``"recall"`` and ``"accuracy"``.
"""

from voxel_ext.metrics.instance_detection import InstanceDetectionRate, best_instance_iou, instance_iou
from voxel_ext.metrics.matching import MatchingAccuracy, left_right_partners

__all__ = ["InstanceDetectionRate", "MatchingAccuracy", "best_instance_iou", "instance_iou", "left_right_partners"]
