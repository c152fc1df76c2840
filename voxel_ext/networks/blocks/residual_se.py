"""Residual block that ends with a squeeze and excitation of a chosen kind."""

from __future__ import annotations

from torch import nn

from voxel_ext.errors import check_option
from voxel_ext.networks.blocks.squeeze_excitation import (
    ChannelExcitation,
    ChannelSpatialExcitation,
    SpatialExcitation,
)
from voxel_ext.networks.blocks.unet3d_blocks import ResNetBlock
from voxel_ext.networks.blocks.unet3d_settings import LevelSettings
from voxel_ext.networks.sizes import check_network_arguments

EXCITATIONS = ("scse", "cse", "sse", "none")
"""Channels and voxels (the greater of both), channels, voxels, or no squeeze and excitation."""


def excitation_layer(kind: str, channels: int, reduction: int = 1) -> nn.Module:
    """Return a squeeze and excitation: (B, channels, D, H, W) to the same shape.

    Args:
        kind: ``"scse"`` for :class:`ChannelSpatialExcitation` (Roy et al. 2018), ``"cse"`` for
            :class:`ChannelExcitation` (Hu et al. 2018), ``"sse"`` for :class:`SpatialExcitation`, ``"none"`` for the
            identity.
        channels: channels of the map.
        reduction: the gate of the channels has channels // reduction hidden values. Not used by "sse" and "none".

    Raises:
        InvalidInputError: another kind, or a reduction that is below 1 or leaves no hidden value.
    """
    check_option("squeeze_excitation", kind, EXCITATIONS)
    check_network_arguments(3, 3, se_reduction=reduction)
    if kind == "none":
        return nn.Identity()
    if kind == "sse":
        return SpatialExcitation(channels)
    return (ChannelExcitation if kind == "cse" else ChannelSpatialExcitation)(channels, reduction)


class ResidualSEBlock(ResNetBlock):
    """Residual block with squeeze and excitation: (B, in_channels, D, H, W) to (B, out_channels, D, H, W).

        r = conv1(x),   y = excite(activation(conv3(dropout(conv2(r))) + r))

    Each convolution is a :class:`~voxel_ext.networks.blocks.unet3d_blocks.SingleConv`, the third without activation.
    Dropout lies between the two convolutions of the residual (Zagoruyko and Komodakis 2016, "Wide Residual Networks")
    and drops whole channels.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        settings: of the convolutions; the activation is ReLU where ``settings.order`` has none. Where it has d or D,
            ``settings.dropout`` is the rate of these layers, and there is no dropout elsewhere.
        squeeze_excitation: one of :data:`EXCITATIONS`.
        se_reduction: as for :func:`excitation_layer`.

    Raises:
        InvalidInputError: an argument is not valid.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        settings: LevelSettings,
        squeeze_excitation: str = "scse",
        se_reduction: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, settings, excitation=False)
        self.add_module("se_module", excitation_layer(squeeze_excitation, out_channels, se_reduction))
        if settings.dropout > 0 and not set(settings.order) & set("dD"):
            self.conv2.add_module("dropout3d", nn.Dropout3d(settings.dropout))
