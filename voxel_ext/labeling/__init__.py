"""Names for ROIs from class probabilities: greedy and optimal assignment, tables and accuracy."""

from voxel_ext.labeling.accuracy import (
    ClassAccuracy,
    ConfidenceAccuracy,
    DoubtfulRoi,
    LabelingAccuracy,
    doubtful,
    labeling_accuracy,
    pooled_accuracy,
)
from voxel_ext.labeling.greedy import label_greedy
from voxel_ext.labeling.label import UNKNOWN, CellLabel, LabelRules, RoiProbabilities, rare_classes
from voxel_ext.labeling.optimal import label_optimal
from voxel_ext.labeling.table import read_labels, read_probabilities, write_labels, write_probabilities

__all__ = [
    "UNKNOWN",
    "CellLabel",
    "ClassAccuracy",
    "ConfidenceAccuracy",
    "DoubtfulRoi",
    "LabelRules",
    "LabelingAccuracy",
    "RoiProbabilities",
    "doubtful",
    "label_greedy",
    "label_optimal",
    "labeling_accuracy",
    "pooled_accuracy",
    "rare_classes",
    "read_labels",
    "read_probabilities",
    "write_labels",
    "write_probabilities",
]
