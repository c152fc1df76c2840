"""Convolutional blocks that are written once for rotation groups and for plain CNNs.

Features are (B, C, |G|, D, H, W) with a group, (B, C, D, H, W) without; a block is built from the same
:class:`BlockSettings` either way.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import nn

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.networks.layers import (
    GaussianDropout,
    GroupConv3d,
    GroupDropout,
    LiftingConv3d,
    activation,
    group_norm,
)

DILATIONS = (1, 1, 2, 2, 4, 4)
DROPOUTS = ("standard", "gaussian")
KERNEL_SIZES = (1, 3, 5)


@dataclass(frozen=True)
class BlockSettings:
    """What all blocks of a network have in common.

    Args:
        group: name of a rotation group, see :func:`voxel_ext.networks.groups.rotation_group`, or None for a plain CNN.
        kernel_size: voxels along each axis, 1, 3 or 5.
        norm: kind of normalization, see :func:`voxel_ext.networks.layers.group_norm`, or None for none.
        activation: name, see :func:`voxel_ext.networks.layers.activation`.
        dropout: rate in [0, 1) after each block's normalization, 0 for none.
        dropout_kind: ``"standard"`` (whole channels) or ``"gaussian"`` (multiplicative noise).

    Raises:
        InvalidInputError: an argument is not valid.
    """

    group: str | None = None
    kernel_size: int = 3
    norm: str | None = "batch"
    activation: str = "leaky_relu"
    dropout: float = 0.0
    dropout_kind: str = "standard"

    def __post_init__(self) -> None:
        if self.kernel_size not in KERNEL_SIZES:
            raise InvalidInputError(f"kernel_size={self.kernel_size!r} is not valid; expected one of 1, 3, 5")
        if not 0 <= self.dropout < 1:
            raise InvalidInputError(f"dropout={self.dropout!r} is not valid; expected a rate in [0, 1)")
        check_option("dropout_kind", self.dropout_kind, DROPOUTS)


def convolution(
    group: str | None, in_channels: int, out_channels: int, kernel_size: int = 3, dilation: int = 1, lift: bool = False
) -> nn.Module:
    """Build a convolution of stride 1 that keeps the size, for images or for maps on a group.

    Args:
        group: name of a rotation group, or None for ``nn.Conv3d``.
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: voxels along each axis, odd.
        dilation: distance of the kernel's elements in voxels.
        lift: the input is an image (B, C, D, H, W), to be lifted to the group; means nothing without a group.
    """
    padding = dilation * (kernel_size // 2)
    if group is None:
        return nn.Conv3d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation)
    layer = LiftingConv3d if lift else GroupConv3d
    return layer(group, in_channels, out_channels, kernel_size, padding=padding, dilation=dilation)


def dropout_layer(settings: BlockSettings) -> nn.Module | None:
    """Build the dropout of ``settings``, or None where its rate is 0."""
    if settings.dropout == 0:
        return None
    if settings.dropout_kind == "gaussian":
        return GaussianDropout(settings.dropout)
    return GroupDropout(settings.dropout)


class ConvolutionBlock(nn.Sequential):
    """Convolution, activation, normalization, dropout, in this order; what is not wanted is left out.

    Args:
        settings: group, normalization, activation, dropout.
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: voxels along each axis, odd.
        dilation: distance of the kernel's elements in voxels.
        lift: the input is an image that is lifted to the group.
        activated: False leaves out the activation.
    """

    def __init__(
        self,
        settings: BlockSettings,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        dilation: int = 1,
        lift: bool = False,
        activated: bool = True,
    ) -> None:
        layers: dict[str, nn.Module | None] = {
            "conv": convolution(settings.group, in_channels, out_channels, kernel_size, dilation, lift),
            "act": activation(settings.activation) if activated else None,
            "norm": None if settings.norm is None else group_norm(settings.norm, out_channels),
            "dropout": dropout_layer(settings),
        }
        super().__init__(OrderedDict((name, layer) for name, layer in layers.items() if layer is not None))


class ResidualBlock(nn.Module):
    """Two convolution blocks with a 1x1x1 shortcut: act(F2(F1(x)) + S(x)).

    F1 is convolution, activation, normalization, dropout; F2 the same without its activation; S a 1x1x1 convolution
    (He et al. 2016, arXiv:1512.03385, option C). F1 goes to ``inner_channels``, F2 and S to ``out_channels``.

    Args:
        settings: group, kernel size, normalization, activation, dropout.
        in_channels: channels of the input.
        out_channels: channels of the output.
        inner_channels: channels between the two; ``out_channels`` by default.
        first_kernel_size: kernel size of F1; that of ``settings`` by default.
        dilation: of both convolutions.
        lift: the input is an image that is lifted to the group.
    """

    def __init__(
        self,
        settings: BlockSettings,
        in_channels: int,
        out_channels: int,
        inner_channels: int | None = None,
        first_kernel_size: int | None = None,
        dilation: int = 1,
        lift: bool = False,
    ) -> None:
        super().__init__()
        inner = out_channels if inner_channels is None else inner_channels
        first = settings.kernel_size if first_kernel_size is None else first_kernel_size
        self.first = ConvolutionBlock(settings, in_channels, inner, first, dilation, lift)
        self.second = ConvolutionBlock(settings, inner, out_channels, settings.kernel_size, dilation, activated=False)
        self.shortcut = convolution(settings.group, in_channels, out_channels, kernel_size=1, lift=lift)
        self.act = activation(settings.activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, [|G|,] D, H, W) to (B, out_channels, [|G|,] D, H, W)."""
        return self.act(self.second(self.first(x)) + self.shortcut(x))


class DilatedBlock(nn.Sequential):
    """Six residual blocks with dilations 1, 1, 2, 2, 4, 4, 3 steps of 2 dilated convolutions each.

    Each block goes by a 1x1x1 convolution to twice the channels and back by a dilated one; with
    kernel size 3 a voxel of the output sees 14 voxels each way.

    Args:
        settings: group, kernel size, normalization, activation, dropout.
        channels: channels of input and output.
        dilations: one per residual block.
    """

    def __init__(self, settings: BlockSettings, channels: int, dilations: tuple[int, ...] = DILATIONS) -> None:
        super().__init__(
            *(ResidualBlock(settings, channels, channels, 2 * channels, 1, dilation) for dilation in dilations)
        )
