"""U-Net on a rotation group: the output turns with the input."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from voxel_ext.errors import check_option
from voxel_ext.networks.blocks.group_blocks import BlockSettings, ResidualBlock
from voxel_ext.networks.layers import GroupPool, SpatialUpsample
from voxel_ext.networks.nets.group_trunk import GroupTrunk
from voxel_ext.networks.sizes import check_network_arguments

FINAL_ACTIVATIONS = ("relu", "leaky_relu", "elu", "sigmoid", "softmax")
GROUP_POOLINGS = ("mean", "max")
UPSAMPLINGS = ("trilinear", "nearest")


class GroupDecoder(nn.Module):
    """The way back up: upsampling of 2, concatenation with the level's map, residual block, at each level.

    Args:
        settings: group, kernel size, normalization, activation, dropout of the blocks.
        channels: channels of each level from the top, as in the trunk.
        skips: concatenate the trunk's maps; without them only the lowest map is used.
        upsampling: ``"trilinear"`` or ``"nearest"``.
    """

    def __init__(
        self, settings: BlockSettings, channels: tuple[int, ...], skips: bool = True, upsampling: str = "trilinear"
    ) -> None:
        super().__init__()
        self.skips = skips
        self.upsample = SpatialUpsample(2, check_option("upsampling", upsampling, UPSAMPLINGS))
        upward = zip(channels[:0:-1], channels[-2::-1], strict=True)
        self.blocks = nn.ModuleList(ResidualBlock(settings, low + high * skips, high) for low, high in upward)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Map the trunk's maps, or only the lowest without skips, to (B, channels[0], [|G|,] D, H, W)."""
        x = maps[-1]
        for index, block in enumerate(self.blocks):
            x = self.upsample(x)
            x = block(torch.cat([maps[-2 - index], x], dim=1) if self.skips else x)
        return x


class GroupUNet(nn.Module):
    """U-Net on a rotation group, or plain: (B, in_channels, D, H, W) to (B, out_channels, D, H, W).

    :class:`~voxel_ext.networks.nets.group_trunk.GroupTrunk` down, upsampling and concatenation up, then pooling over
    the group and a 1x1x1 convolution. With a group it is equivariant: f(h x) = h f(x) for each element h, exactly.

    Args:
        group: name of a rotation group, or None for a plain CNN.
        in_channels: channels of the image.
        out_channels: channels of the output.
        skips: join each level of the encoder with that of the decoder. Without, the lowest map alone is decoded.
        upsampling: ``"trilinear"`` or ``"nearest"``.
        group_pooling: ``"mean"`` or ``"max"`` over the group before the last convolution; means nothing without a
            group.
        final_activation: None, or ``"relu"``, ``"leaky_relu"``, ``"elu"``, ``"sigmoid"``, ``"softmax"`` (over
            channels).
        trunk: further arguments of :class:`~voxel_ext.networks.nets.group_trunk.GroupTrunk`: ``depth``, ``divider``,
            ``features``, ``kernel_size``, ``norm``, ``activation``, ``dropout``, ``dropout_kind``, ``dilated``,
            ``pooling``, ``input_pooling`` (the output is upsampled to the image's size).

    Attributes:
        stride: each spatial axis of the image must be a multiple of it.

    Raises:
        InvalidInputError: an argument is not valid.
    """

    def __init__(
        self,
        group: str | None = None,
        in_channels: int = 1,
        out_channels: int = 1,
        skips: bool = True,
        upsampling: str = "trilinear",
        group_pooling: str = "mean",
        final_activation: str | None = None,
        **trunk: Any,
    ) -> None:
        super().__init__()
        check_network_arguments(3, 3, out_channels=out_channels)
        self.trunk = GroupTrunk(group, in_channels, **trunk)
        self.stride = self.trunk.stride
        self.decoder = GroupDecoder(self.trunk.settings, self.trunk.channels, skips, upsampling)
        check_option("group_pooling", group_pooling, GROUP_POOLINGS)
        enlarge = self.trunk.stride // 2 ** (len(self.trunk.channels) - 1)
        self.head = nn.Sequential(
            nn.Identity() if group is None else GroupPool(group_pooling),
            nn.Conv3d(self.trunk.channels[0], out_channels, kernel_size=1),
            nn.Identity() if enlarge == 1 else SpatialUpsample(enlarge, upsampling),
            final_layer(final_activation),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map an image (B, in_channels, D, H, W) to (B, out_channels, D, H, W).

        Raises:
            InvalidInputError: the image has another number of axes or channels, or a spatial axis is not a multiple of
                ``stride``.
        """
        return self.head(self.decoder(self.trunk(x)))


def final_layer(name: str | None) -> nn.Module:
    """Build the activation of a network's output.

    Args:
        name: None for none, or one of ``"relu"``, ``"leaky_relu"``, ``"elu"``, ``"sigmoid"``, ``"softmax"``.

    Raises:
        InvalidInputError: the name is not known.
    """
    if name is None:
        return nn.Identity()
    layers: dict[str, nn.Module] = {
        "relu": nn.ReLU(),
        "leaky_relu": nn.LeakyReLU(),
        "elu": nn.ELU(),
        "sigmoid": nn.Sigmoid(),
        "softmax": nn.Softmax(dim=1),
    }
    return layers[check_option("final_activation", name, FINAL_ACTIVATIONS)]
