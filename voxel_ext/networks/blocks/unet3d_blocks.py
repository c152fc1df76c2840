"""Levels of the 3D U-Nets whose parameters are named as in pytorch-3dunet, so that its checkpoints load.

Wolny et al. 2020, "Accurate and versatile 3D segmentation of plant tissues at cellular resolution". Attributes such as
``SingleConv1`` or ``conv_transposed`` are the names in those checkpoints.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.blocks.squeeze_excitation import ChannelSpatialExcitation
from voxel_ext.networks.blocks.unet3d_settings import FLAVORS, LevelSettings

_RESIDUAL_SLOPE = 0.1


class SingleConv(nn.Sequential):
    """One convolution with its norm and activation: (B, in_channels, D, H, W) to (B, out_channels, D, H, W).

    The children are named ``groupnorm``, ``batchnorm``, ``conv``, ``ReLU``, ``LeakyReLU``, ``ELU``, ``dropout`` and
    ``dropout3d``, in the order of the letters. The convolution has a bias only without norm.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        settings: of the network.
        order: letters other than those of ``settings``.

    Raises:
        InvalidInputError: ``num_groups`` does not divide the channels of a group norm.
    """

    def __init__(self, in_channels: int, out_channels: int, settings: LevelSettings, order: str | None = None) -> None:
        super().__init__()
        order = settings.order if order is None else order
        for index, letter in enumerate(order):
            channels = in_channels if index < order.index("c") else out_channels
            # an activation must not overwrite the block's input
            inplace = bool(set(order[:index]) & set("cgb"))
            if letter == "c":
                bias = not set(order) & set("gb")
                conv = nn.Conv3d(in_channels, out_channels, settings.kernel_size, padding=settings.padding, bias=bias)
                self.add_module("conv", conv)
            elif letter == "g":
                self.add_module("groupnorm", _group_norm(channels, settings.num_groups))
            elif letter == "b":
                self.add_module("batchnorm", nn.BatchNorm3d(channels))
            elif letter in "dD":
                kind = nn.Dropout if letter == "d" else nn.Dropout3d
                self.add_module("dropout" if letter == "d" else "dropout3d", kind(settings.dropout))
            else:
                layer = _activation(letter, FLAVORS[settings.flavor].slope, inplace)
                self.add_module(type(layer).__name__, layer)


def _group_norm(channels: int, num_groups: int) -> nn.GroupNorm:
    groups = 1 if channels < num_groups else num_groups
    if channels % groups:
        raise InvalidInputError(
            f"num_groups={num_groups} does not divide the {channels} channels of a group norm; expected a divisor of "
            "the entries of f_maps, of their halves, of the sums of two levels, and of in_channels if not smaller"
        )
    return nn.GroupNorm(groups, channels)


def _activation(letter: str, slope: float, inplace: bool) -> nn.Module:
    if letter == "l":
        return nn.LeakyReLU(slope, inplace)
    return nn.ELU(inplace=inplace) if letter == "e" else nn.ReLU(inplace)


class DoubleConv(nn.Sequential):
    """Two convolutions: (B, in_channels, D, H, W) to (B, out_channels, D, H, W).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        settings: of the network.
        encoder: the map between the two has max(in_channels, out_channels / 2) channels; without, ``out_channels``.
    """

    def __init__(self, in_channels: int, out_channels: int, settings: LevelSettings, encoder: bool) -> None:
        super().__init__()
        between = max(out_channels // 2, in_channels) if encoder else out_channels
        self.add_module("SingleConv1", SingleConv(in_channels, between, settings))
        self.add_module("SingleConv2", SingleConv(between, out_channels, settings))


class ResNetBlock(nn.Module):
    """Residual block: (B, in_channels, D, H, W) to (B, out_channels, D, H, W).

        r = conv1(x),   y = excite(activation(conv3(conv2(r)) + r))

    conv3 is without activation; conv1 depends on the flavor. Lee et al. 2017, "Superhuman Accuracy on the SNEMI3D
    Connectomics Challenge".

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        settings: of the network; the activation is ReLU where ``settings.order`` has none.
        excitation: end with :class:`ChannelSpatialExcitation`.
    """

    def __init__(self, in_channels: int, out_channels: int, settings: LevelSettings, excitation: bool) -> None:
        super().__init__()
        order = settings.order
        if not FLAVORS[settings.flavor].pointwise:
            self.conv1: nn.Module = SingleConv(in_channels, out_channels, settings)
        elif in_channels == out_channels:
            self.conv1 = nn.Identity()
        else:
            self.conv1 = nn.Conv3d(in_channels, out_channels, 1)
        self.conv2 = SingleConv(out_channels, out_channels, settings)
        without = "".join(letter for letter in order if letter not in "rle")
        self.conv3 = SingleConv(out_channels, out_channels, settings, without)
        letter = next((letter for letter in order if letter in "rle"), "r")
        self.non_linearity = _activation(letter, _RESIDUAL_SLOPE, inplace=True)
        self.se_module = ChannelSpatialExcitation(out_channels) if excitation else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, D, H, W) to (B, out_channels, D, H, W)."""
        residual = self.conv1(x)
        out = self.conv3(self.conv2(residual))
        out += residual
        return self.se_module(self.non_linearity(out))


class NearestUpsampling(nn.Module):
    """Enlarge a map to the size of a skip by nearest interpolation."""

    def forward(self, skip: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, d, h, w) to (B, C, D, H, W), the size of ``skip``."""
        return nn.functional.interpolate(x, size=skip.shape[2:])


class TransposedUpsampling(nn.Module):
    """Enlarge a map by a learned transposed convolution, then by nearest interpolation where the size differs.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        settings: of the network; see :class:`~voxel_ext.networks.blocks.unet3d_settings.Flavor` for the two forms.
    """

    def __init__(self, in_channels: int, out_channels: int, settings: LevelSettings) -> None:
        super().__init__()
        interpolated = FLAVORS[settings.flavor].interpolated
        depth, height, width = settings.stride
        conv = nn.ConvTranspose3d(
            in_channels,
            out_channels,
            settings.kernel_size,
            settings.stride,
            settings.padding,
            output_padding=0 if interpolated else (depth - 1, height - 1, width - 1),
            bias=not interpolated,
        )
        self.upsample = nn.Sequential(OrderedDict(conv_transposed=conv)) if interpolated else conv

    def forward(self, skip: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, d, h, w) to (B, out_channels, D, H, W), the size of ``skip``."""
        x = self.upsample(x)
        if x.shape[2:] != skip.shape[2:]:
            x = nn.functional.interpolate(x, size=skip.shape[2:])
        return x


class EncoderLevel(nn.Module):
    """Max-pooling and the convolutions of a level.

    Args:
        basic_module: the convolutions.
        pool: window and step along (z, y, x); None for the first level.
    """

    def __init__(self, basic_module: nn.Module, pool: tuple[int, int, int] | None = None) -> None:
        super().__init__()
        self.pooling = nn.Identity() if pool is None else nn.MaxPool3d(pool)
        self.basic_module = basic_module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, D, H, W) to the next level."""
        return self.basic_module(self.pooling(x))


class DecoderLevel(nn.Module):
    """Upsampling, joining with the skip, and the convolutions of a level.

    Args:
        upsampling: takes the skip and the map from below.
        basic_module: the convolutions.
        concatenate: join as channels (skip, map); without, by the sum.
    """

    def __init__(self, upsampling: nn.Module, basic_module: nn.Module, concatenate: bool) -> None:
        super().__init__()
        self.upsampling = upsampling
        self.concatenate = concatenate
        self.basic_module = basic_module

    def forward(self, skip: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Map the skip (B, C, D, H, W) and the map from below (B, C', d, h, w) to (B, C'', D, H, W)."""
        x = self.upsampling(skip, x)
        x = torch.cat((skip, x), dim=1) if self.concatenate else skip + x
        return self.basic_module(x)
