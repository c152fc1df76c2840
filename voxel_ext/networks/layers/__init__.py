"""Layers: exactly equivariant group convolutions and what goes between them."""

from voxel_ext.networks.layers.dropout import GaussianDropout, GroupDropout
from voxel_ext.networks.layers.equivariance import check_equivariance
from voxel_ext.networks.layers.folded_conv import FoldedConv3d
from voxel_ext.networks.layers.group_conv import GroupConv3d, LiftingConv3d, fold_group_convolutions
from voxel_ext.networks.layers.group_pool import GroupPool
from voxel_ext.networks.layers.normalization import GroupNormalization, activation, group_norm
from voxel_ext.networks.layers.resampling import SpatialPool, SpatialUpsample
from voxel_ext.networks.layers.switch_norm import SwitchNorm3d

__all__ = [
    "FoldedConv3d",
    "GaussianDropout",
    "GroupConv3d",
    "GroupDropout",
    "GroupNormalization",
    "GroupPool",
    "LiftingConv3d",
    "SpatialPool",
    "SpatialUpsample",
    "SwitchNorm3d",
    "activation",
    "check_equivariance",
    "fold_group_convolutions",
    "group_norm",
]
