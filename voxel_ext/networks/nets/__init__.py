"""Complete networks."""

from voxel_ext.networks.nets.factory import segmentation_network
from voxel_ext.networks.nets.feature_network import FeatureNetwork
from voxel_ext.networks.nets.group_autoencoder import GroupAutoEncoder
from voxel_ext.networks.nets.group_encoder import GroupEncoder
from voxel_ext.networks.nets.group_trunk import GroupTrunk
from voxel_ext.networks.nets.group_unet import GroupUNet
from voxel_ext.networks.nets.matching import MatchingNet, MultiLevelMatchingNet
from voxel_ext.networks.nets.matching_factory import matching_network
from voxel_ext.networks.nets.multitask_unet import MultiTaskUNet
from voxel_ext.networks.nets.point_cloud_autoencoder import PointCloudAutoEncoder
from voxel_ext.networks.nets.shape_vae import ShapeVAE
from voxel_ext.networks.nets.simsiam import SimSiam
from voxel_ext.networks.nets.stacked_hourglass import StackedHourglass
from voxel_ext.networks.nets.tensor_network import TensorNetwork
from voxel_ext.networks.nets.unet import UNet
from voxel_ext.networks.nets.unet3d import ResidualUNet3D, ResidualUNetSE3D, UNet3D
from voxel_ext.networks.nets.unet3d_factory import unet3d_network

__all__ = [
    "FeatureNetwork",
    "GroupAutoEncoder",
    "GroupEncoder",
    "GroupTrunk",
    "GroupUNet",
    "MatchingNet",
    "MultiLevelMatchingNet",
    "MultiTaskUNet",
    "PointCloudAutoEncoder",
    "ResidualUNet3D",
    "ResidualUNetSE3D",
    "ShapeVAE",
    "SimSiam",
    "StackedHourglass",
    "TensorNetwork",
    "UNet",
    "UNet3D",
    "matching_network",
    "segmentation_network",
    "unet3d_network",
]
