"""A segmentation network by name, for configs."""

from __future__ import annotations

from torch import nn

from voxel_ext.errors import check_option
from voxel_ext.networks.nets.stacked_hourglass import StackedHourglass
from voxel_ext.networks.nets.unet import UNet

ARCHITECTURES = ("unet", "stacked_hourglass", "stacked_unet")


def segmentation_network(
    architecture: str = "unet",
    spatial_dims: int = 3,
    in_channels: int = 1,
    out_channels: int = 1,
    depth: int = 4,
    start_channels: int = 4,
    num_stacks: int = 2,
    kernel_size: int = 3,
    residual: bool = False,
) -> nn.Module:
    """Build a segmentation network by name, for ``_target_`` in a config.

    Args:
        architecture: ``"unet"`` for :class:`UNet`; ``"stacked_hourglass"``, or the original's name
            ``"stacked_unet"``, for :class:`StackedHourglass`.
        spatial_dims: 2 for (B, C, H, W), 3 for (B, C, D, H, W).
        in_channels: channels of the image.
        out_channels: channels of the logits.
        depth: number of levels of each U-Net (4 and ``start_channels`` 4 are those of the original's training script).
        start_channels: channels of the first level.
        num_stacks: number of U-Nets in series; only the stacked hourglass has more than one.
        kernel_size: 3, 5 or 7.
        residual: add a shortcut around the two convolutions of each level.

    Returns:
        The network, in training mode.

    Raises:
        InvalidInputError: the architecture is not known, or an argument is not valid.
    """
    check_option("architecture", architecture, ARCHITECTURES)
    if architecture == "unet":
        return UNet(spatial_dims, in_channels, out_channels, depth, start_channels, kernel_size, residual)
    return StackedHourglass(
        spatial_dims, in_channels, out_channels, num_stacks, depth, start_channels, kernel_size, residual
    )
