"""What Ignite and MONAI engines cannot express, as small functions."""

from voxel_ext.engines.batches import TargetBatch, prepare_roi_batch, prepare_weighted_batch
from voxel_ext.engines.cell_labeling import (
    LabelCellsd,
    SaveLabelsd,
    check_class_names,
    check_classes,
    class_counts,
    rarely_seen,
    trained_classes,
)
from voxel_ext.engines.optimizers import build_optimizer
from voxel_ext.engines.schedules import build_lr_scheduler
from voxel_ext.engines.worm_matching import CellMatches, WormFeatures, match_worms, name_worm
from voxel_ext.engines.worm_pairs import WormPairLoss, prepare_worm_pairs, prepare_worms

__all__ = [
    "CellMatches",
    "LabelCellsd",
    "SaveLabelsd",
    "TargetBatch",
    "WormFeatures",
    "WormPairLoss",
    "build_lr_scheduler",
    "build_optimizer",
    "check_class_names",
    "check_classes",
    "class_counts",
    "match_worms",
    "name_worm",
    "prepare_roi_batch",
    "prepare_weighted_batch",
    "prepare_worm_pairs",
    "prepare_worms",
    "rarely_seen",
    "trained_classes",
]
