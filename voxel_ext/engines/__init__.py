"""What Ignite and MONAI engines cannot express, as small functions."""

from voxel_ext.engines.optimizers import build_optimizer
from voxel_ext.engines.schedules import build_lr_scheduler
from voxel_ext.engines.worm_matching import CellMatches, WormFeatures, match_worms, name_worm
from voxel_ext.engines.worm_pairs import WormPairLoss, prepare_worm_pairs, prepare_worms

__all__ = [
    "CellMatches",
    "WormFeatures",
    "WormPairLoss",
    "build_lr_scheduler",
    "build_optimizer",
    "match_worms",
    "name_worm",
    "prepare_worm_pairs",
    "prepare_worms",
]
