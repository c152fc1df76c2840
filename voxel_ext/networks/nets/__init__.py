"""Complete networks."""

from voxel_ext.networks.nets.factory import segmentation_network
from voxel_ext.networks.nets.stacked_hourglass import StackedHourglass
from voxel_ext.networks.nets.unet import UNet

__all__ = ["StackedHourglass", "UNet", "segmentation_network"]
