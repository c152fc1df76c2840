"""Complete networks."""

from voxel_ext.networks.nets.factory import segmentation_network
from voxel_ext.networks.nets.group_autoencoder import GroupAutoEncoder
from voxel_ext.networks.nets.group_encoder import GroupEncoder
from voxel_ext.networks.nets.group_trunk import GroupTrunk
from voxel_ext.networks.nets.group_unet import GroupUNet
from voxel_ext.networks.nets.matching import MatchingNet, MultiLevelMatchingNet
from voxel_ext.networks.nets.matching_factory import matching_network
from voxel_ext.networks.nets.stacked_hourglass import StackedHourglass
from voxel_ext.networks.nets.unet import UNet

__all__ = [
    "GroupAutoEncoder",
    "GroupEncoder",
    "GroupTrunk",
    "GroupUNet",
    "MatchingNet",
    "MultiLevelMatchingNet",
    "StackedHourglass",
    "UNet",
    "matching_network",
    "segmentation_network",
]
