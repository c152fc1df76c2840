"""Residual 3D U-Net with one encoder and a decoder for each target."""

from __future__ import annotations

import keyword
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from monai.networks.blocks import UpSample
from torch import nn

from voxel_ext.errors import InvalidInputError, check_option, check_sizes
from voxel_ext.networks.blocks.residual_se import EXCITATIONS, ResidualSEBlock
from voxel_ext.networks.blocks.unet3d_settings import level_channels, level_settings
from voxel_ext.networks.sizes import check_input_shape, check_network_arguments, check_spatial_size, nearest_sizes
from voxel_ext.targets import Target, read_targets

DOWNSAMPLINGS = ("pool", "strided")
"""Max-pooling of 2, or a convolution of kernel 2 and stride 2."""

UPSAMPLINGS = ("transposed", "interpolate")
"""Transposed convolution of kernel 2 and stride 2, or trilinear interpolation."""

_MOST_CHANNELS = 320


class _DecoderLevel(nn.Module):
    """Enlarge by 2, join with the skip as channels, convolve."""

    def __init__(self, upsampling: nn.Module, block: nn.Module) -> None:
        super().__init__()
        self.upsampling = upsampling
        self.block = block

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.block(torch.cat((skip, self.upsampling(x)), dim=1))


class _TargetDecoder(nn.Module):
    """The levels of a decoder that a target has for itself, and its 1 x 1 x 1 convolutions to logits."""

    def __init__(self, levels: list[nn.Module], heads: list[nn.Module]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(levels)
        self.heads = nn.ModuleList(heads)

    def forward(self, maps: list[torch.Tensor], skips: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the logits at the size of the image, and in training those of the other heads, halved each.

        Args:
            maps: the map at the bottom and those of the shared levels, coarsest first.
            skips: of the levels that follow, finest first.
        """
        maps = maps[:]
        for index, level in enumerate(self.levels):
            maps.append(level(maps[-1], skips[-1 - index]))
        logits: list[torch.Tensor] = []
        for index, head in enumerate(self.heads):
            if index == 0 or self.training:
                logits.append(head(maps[-1 - index]))
        return logits


class MultiTaskUNet(nn.Module):
    """Residual 3D U-Net of several targets: an image (B, in_channels, D, H, W) to logits by name, (B, C, D, H, W) each.

    All targets share the encoder; each has a decoder, or the finer part of one, and a 1 x 1 x 1 convolution to its
    channels. Every level is a :class:`~voxel_ext.networks.blocks.residual_se.ResidualSEBlock`. Çiçek et al. 2016, "3D
    U-Net"; Lee et al. 2017, "Superhuman Accuracy on the SNEMI3D Connectomics Challenge"; Roy et al. 2018, "Concurrent
    Spatial and Channel Squeeze & Excitation".

    Args:
        targets: by name, mappings with ``channels`` and other arguments of :class:`~voxel_ext.targets.Target`.
        in_channels: channels of the image.
        f_maps: channels of the levels, finest first, or of the first: then level k has f_maps * 2**k, at most 320.
        num_levels: number of levels; needed where ``f_maps`` is a number, otherwise that of its entries.
        layer_order: layers of each convolution: c convolution, g group norm, b batch norm, r ReLU, l LeakyReLU (slope
            0.1), e ELU, d dropout, D dropout of whole channels.
        num_groups: groups of the group norms; one where a map has fewer channels.
        squeeze_excitation: ``"scse"`` of channels and voxels, ``"cse"`` of channels, ``"sse"`` of voxels, ``"none"``.
        se_reduction: factor by which the hidden layer of the channels' gate is smaller than the map.
        downsampling: ``"pool"`` for max-pooling of 2, ``"strided"`` for a convolution of kernel 2 and stride 2.
        upsampling: ``"transposed"`` for a transposed convolution of kernel 2 and stride 2, ``"interpolate"`` for
            trilinear interpolation, after a 1 x 1 x 1 convolution where the channels of the two levels differ.
        dropout: rate of the letters d and D; where ``layer_order`` has neither, of whole channels between the last two
            convolutions of each block. 0 for none.
        deep_supervision: in training mode, give logits at 1/2, 1/4, ... of the size as well, for each level of the
            decoder.
        shared_decoder_levels: how many levels of the decoder, counted from the coarsest, all targets share; at most
            ``num_levels - 1``, where only the last convolution is the target's own.
        patch_size: voxels (z, y, x) of the patches to come, to be refused here rather than in the first step.

    Attributes:
        targets: by name, :class:`~voxel_ext.targets.Target` each.
        in_channels: as given.
        f_maps: channels of the levels.
        stride: 2 ** (levels - 1); each spatial axis of the input must be a multiple of it.

    Raises:
        InvalidInputError: an argument is not valid, ``num_groups`` does not divide the channels of a level, or
            ``patch_size`` is not a multiple of ``stride``; the message names both and the nearest sizes that fit.
    """

    def __init__(
        self,
        targets: Mapping[str, Mapping[str, Any] | Target],
        in_channels: int = 1,
        f_maps: int | Sequence[int] = (32, 64, 128, 256, 320, 320, 320),
        num_levels: int | None = None,
        layer_order: str = "gcr",
        num_groups: int = 8,
        squeeze_excitation: str = "scse",
        se_reduction: int = 1,
        downsampling: str = "pool",
        upsampling: str = "transposed",
        dropout: float = 0.1,
        deep_supervision: bool = False,
        shared_decoder_levels: int = 0,
        patch_size: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        channels = _level_channels(f_maps, num_levels)
        check_network_arguments(3, 3, in_channels=in_channels)
        check_option("squeeze_excitation", squeeze_excitation, EXCITATIONS)
        check_option("downsampling", downsampling, DOWNSAMPLINGS)
        check_option("upsampling", upsampling, UPSAMPLINGS)
        _check_levels(len(channels), deep_supervision, shared_decoder_levels)
        self.targets = read_targets(targets)
        _check_names(list(self.targets), len(channels) if deep_supervision else 0)
        self.in_channels = in_channels
        self.f_maps = channels
        self.stride = 2 ** (len(channels) - 1)
        if patch_size is not None:
            _check_patch_size(patch_size, self.stride)
        settings = level_settings(layer_order, num_groups, 3, 2, dropout, "flavell")

        def block(before: int, after: int) -> nn.Module:
            return ResidualSEBlock(before, after, settings, squeeze_excitation, se_reduction)

        def decoder_level(below: int, count: int) -> nn.Module:
            return _DecoderLevel(_upsampling(upsampling, below, count), block(2 * count, count))

        encoder = [nn.Sequential(OrderedDict(block=block(in_channels, channels[0])))]
        for before, after in pairwise(channels):
            layers = OrderedDict(downsampling=_downsampling(downsampling, before), block=block(before, after))
            encoder.append(nn.Sequential(layers))
        self.encoder = nn.ModuleList(encoder)
        steps = list(pairwise(channels[::-1]))
        self.shared_decoder = nn.ModuleList(decoder_level(*step) for step in steps[:shared_decoder_levels])
        supervised = channels[:-1] if deep_supervision else channels[:1]
        self.decoders = nn.ModuleDict()
        for name, target in self.targets.items():
            levels = [decoder_level(*step) for step in steps[shared_decoder_levels:]]
            heads: list[nn.Module] = [nn.Conv3d(count, target.channels, 1) for count in supervised]
            self.decoders[name] = _TargetDecoder(levels, heads)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map an image (B, in_channels, D, H, W) to logits, without activation.

        Returns:
            by name of the target (B, C, D, H, W). With deep supervision in training mode also ``NAME_level1``,
            ``NAME_level2``, ...: (B, C, D / 2**k, H / 2**k, W / 2**k).

        Raises:
            InvalidInputError: the image has another number of axes or channels, or an axis is not a multiple of
                ``stride``. A scripted network raises ``torch.jit.Error`` with the same text.
        """
        if not torch.jit.is_tracing():  # a trace cannot record the checks, and warns
            check_input_shape(list(x.shape), self.in_channels)
            check_spatial_size(list(x.shape[2:]), self.stride)
        skips: list[torch.Tensor] = []
        for level in self.encoder:
            x = level(x)
            skips.append(x)
        maps = [skips.pop()]
        for level in self.shared_decoder:
            maps.append(level(maps[-1], skips.pop()))
        logits: dict[str, torch.Tensor] = {}
        for name, decoder in self.decoders.items():
            for index, values in enumerate(decoder(maps, skips)):
                logits[name if index == 0 else f"{name}_level{index}"] = values
        return logits


def _level_channels(f_maps: int | Sequence[int], num_levels: int | None) -> list[int]:
    if isinstance(f_maps, int) and not isinstance(f_maps, bool):
        if num_levels is None:
            raise InvalidInputError(f"f_maps={f_maps} is one number; expected num_levels with it, or a list")
        most = max(f_maps, _MOST_CHANNELS)
        return [min(count, most) for count in level_channels(f_maps, num_levels)]
    channels = level_channels(f_maps, 2)
    if num_levels is not None and num_levels != len(channels):
        raise InvalidInputError(
            f"num_levels={num_levels!r} differs from the {len(channels)} entries of f_maps={channels}; "
            "expected their number, or leave num_levels out"
        )
    return channels


def _check_levels(levels: int, deep_supervision: bool, shared_decoder_levels: int) -> None:
    if deep_supervision and levels < 3:
        raise InvalidInputError(
            f"deep_supervision with {levels} levels has only the full size to supervise; expected at least 3 levels"
        )
    valid = isinstance(shared_decoder_levels, int) and not isinstance(shared_decoder_levels, bool)
    if not valid or not 0 <= shared_decoder_levels < levels:
        raise InvalidInputError(
            f"shared_decoder_levels={shared_decoder_levels!r} is not valid; expected 0 to {levels - 1}, the levels of "
            f"the decoder of a network of {levels}"
        )


def _check_names(names: list[str], supervised: int) -> None:
    taken = {f"{name}_level{level}" for name in names for level in range(1, supervised - 1)}
    for name in names:
        if not re.fullmatch("[A-Za-z0-9_-]+", name) or keyword.iskeyword(name) or hasattr(nn.ModuleDict(), name):
            raise InvalidInputError(
                f"targets: the name {name!r} cannot be that of a part of the network; expected letters, digits, _ and -"
                ", without dots, and neither a word of Python nor an attribute of a module such as 'training' or 'type'"
            )
        if name in taken:
            raise InvalidInputError(
                f"targets: the name {name!r} is also that of another target's deep supervision; expected another name"
            )


def _check_patch_size(patch_size: int | Sequence[int], stride: int) -> None:
    size = list(check_sizes("patch_size", patch_size))
    smaller, larger = nearest_sizes(size, stride)
    if smaller != size:
        raise InvalidInputError(
            f"patch_size={size} does not fit a network of total stride {stride}: every axis must be a multiple of "
            f"{stride}. The nearest sizes that fit are {smaller} and {larger}; choose one of them, or fewer levels"
        )


def _downsampling(kind: str, channels: int) -> nn.Module:
    return nn.MaxPool3d(2) if kind == "pool" else nn.Conv3d(channels, channels, 2, stride=2)


def _upsampling(kind: str, below: int, count: int) -> nn.Module:
    if kind == "transposed":
        return UpSample(3, below, count, scale_factor=2, mode="deconv")
    return UpSample(3, below, count, scale_factor=2, mode="nontrainable", interp_mode="trilinear", align_corners=False)
