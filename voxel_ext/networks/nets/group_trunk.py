"""The encoder that the group U-Net, the group autoencoder and the group encoder have in common."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.networks.blocks.group_blocks import BlockSettings, DilatedBlock, ResidualBlock
from voxel_ext.networks.groups import rotation_group
from voxel_ext.networks.layers import SpatialPool
from voxel_ext.networks.sizes import check_network_arguments, check_spatial_size

POOLINGS = ("mean", "max")


def level_channels(depth: int, divider: int, features: Sequence[int] | None = None) -> tuple[int, ...]:
    """Return the channels of each level: ``features`` if given, else 2 ** (level + 1) * 32 / divider.

    Args:
        depth: number of levels; not used where ``features`` is given.
        divider: a power of 2 up to 64; 4 gives 16, 32, 64, ... Not used where ``features`` is given.
        features: channels of each level from the top.

    Raises:
        InvalidInputError: an argument is not valid.
    """
    if features is not None:
        if not len(features):
            raise InvalidInputError("features=[] is not valid; expected the channels of at least one level")
        check_network_arguments(3, 3, **{f"features[{level}]": count for level, count in enumerate(features)})
        return tuple(features)
    check_network_arguments(3, 3, depth=depth, divider=divider)
    if 64 % divider:
        raise InvalidInputError(
            f"divider={divider} is not valid; expected 1, 2, 4, 8, 16, 32 or 64 (or give the channels as features)"
        )
    return tuple(2**level * 64 // divider for level in range(depth))


class GroupTrunk(nn.Module):
    """Levels of residual blocks joined by pooling of 2: an image to one map per level.

    Level l has one :class:`~voxel_ext.networks.blocks.group_blocks.ResidualBlock`; the first lifts the image to the
    group; level 1 is followed by a :class:`~voxel_ext.networks.blocks.group_blocks.DilatedBlock`. With a group every
    map turns with the image: for each element h, f(h x)(g) = h f(x)(h^-1 g), exactly (Cohen and Welling 2016,
    arXiv:1602.07576; Worrall and Brostow 2018, arXiv:1804.04458).

    Args:
        group: name of a rotation group (``"V"``, ``"T4"``, ``"S4"``, ``"Oh"``, ``"C4:x"``, ...), or None for a plain
            CNN.
        in_channels: channels of the image.
        depth: number of levels.
        divider: level l has 2 ** (l + 1) * 32 / divider channels, on each of the |G| elements.
        features: channels of each level, instead of ``depth`` and ``divider``.
        kernel_size: 1, 3 or 5.
        norm: kind of normalization, or None for none.
        activation: name of the activation.
        dropout: rate after each normalization.
        dropout_kind: ``"standard"`` or ``"gaussian"``.
        dilated: put the dilated block after level 1; there is none in a network of one level.
        pooling: ``"mean"`` or ``"max"`` between the levels.
        input_pooling: the image is first averaged over cubes of this many voxels along each axis.

    Attributes:
        channels: channels of each level.
        stride: input_pooling * 2 ** (depth - 1); each spatial axis of the image must be a multiple of it.

    Raises:
        InvalidInputError: an argument is not valid.
    """

    def __init__(
        self,
        group: str | None = None,
        in_channels: int = 1,
        depth: int = 4,
        divider: int = 4,
        features: Sequence[int] | None = None,
        kernel_size: int = 3,
        norm: str | None = "batch",
        activation: str = "leaky_relu",
        dropout: float = 0.0,
        dropout_kind: str = "standard",
        dilated: bool = True,
        pooling: str = "mean",
        input_pooling: int = 1,
    ) -> None:
        super().__init__()
        check_network_arguments(3, 3, in_channels=in_channels, input_pooling=input_pooling)
        self.settings = BlockSettings(group, kernel_size, norm, activation, dropout, dropout_kind)
        self.channels = level_channels(depth, divider, features)
        self.order = 1 if group is None else rotation_group(group).order
        self.in_channels = in_channels
        self.stride = input_pooling * 2 ** (len(self.channels) - 1)
        self.shrink = nn.Identity() if input_pooling == 1 else SpatialPool("mean", input_pooling)
        self.pool = SpatialPool(check_option("pooling", pooling, POOLINGS), 2)
        self.levels = nn.ModuleList(
            self._level(level, dilated and level == 1, in_channels) for level in range(len(self.channels))
        )

    def _level(self, level: int, dilated: bool, in_channels: int) -> nn.Sequential:
        inputs = self.channels[level - 1] if level else in_channels
        block = nn.Sequential(ResidualBlock(self.settings, inputs, self.channels[level], lift=level == 0))
        if dilated:
            block.append(DilatedBlock(self.settings, self.channels[level]))
        return block

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Map an image (B, in_channels, D, H, W) to the maps of all levels.

        Returns:
            For each level l (B, channels[l], |G|, D / s, H / s, W / s), without the axis |G| for a plain CNN, where
            s = input_pooling * 2 ** l.

        Raises:
            InvalidInputError: the image has another number of axes or channels, or a spatial axis is not a multiple of
                ``stride``.
        """
        if not torch.jit.is_tracing():  # a trace cannot record the checks, and warns
            if x.dim() != 5 or x.shape[1] != self.in_channels:
                raise InvalidInputError(
                    f"an input of shape {list(x.shape)} is not valid; expected (B, {self.in_channels}, D, H, W)"
                )
            check_spatial_size(list(x.shape[2:]), self.stride)
        x = self.shrink(x)
        maps: list[torch.Tensor] = []
        for index, level in enumerate(self.levels):
            x = level(x if index == 0 else self.pool(x))
            maps.append(x)
        return maps
