"""Encoder to a vector and decoder from a vector, of residual blocks, without connections between the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from monai.networks.blocks import Convolution, UpSample
from torch import nn

from voxel_ext.errors import InvalidInputError, check_option, check_sizes
from voxel_ext.networks.blocks.residual_se import ResidualSEBlock
from voxel_ext.networks.blocks.unet3d_settings import LevelSettings
from voxel_ext.networks.sizes import check_network_arguments, nearest_sizes

Size = tuple[int, int, int]

NORMS = ("batch", "group")
"""Batch norm, or group norm with groups of :data:`GROUPS`, which does not depend on the other samples of a batch."""

GROUPS = 4
"""Number of groups of a group norm."""


@dataclass(frozen=True)
class ShapeSettings:
    """What encoder and decoder have in common.

    Attributes:
        filters: channels of each level, the full size first.
        anisotropic_levels: the first so many steps down halve y and x only, and their convolutions have kernels
            (1, 3, 3), as have those of the full size; the others halve all axes with kernels of 3. 0 for isotropic.
        squeeze_excitation: one of :data:`~voxel_ext.networks.blocks.residual_se.EXCITATIONS`.
        se_reduction: as for :func:`~voxel_ext.networks.blocks.residual_se.excitation_layer`.
        norm: one of :data:`NORMS`.

    Raises:
        InvalidInputError: a value is not valid.
    """

    filters: Sequence[int]
    anisotropic_levels: int
    squeeze_excitation: str
    se_reduction: int
    norm: str

    def __post_init__(self) -> None:
        _check_filters(self.filters)
        check_option("norm", self.norm, NORMS)
        if self.norm == "group" and any(count % GROUPS for count in self.filters):
            raise InvalidInputError(
                f"norm='group' needs filters that are multiples of {GROUPS}; found {list(self.filters)}"
            )
        levels, steps = self.anisotropic_levels, len(self.filters) - 1
        if isinstance(levels, bool) or not isinstance(levels, int) or not 0 <= levels <= steps:
            raise InvalidInputError(
                f"anisotropic_levels={levels!r} is not valid; expected 0 to {steps}, the steps down between "
                f"{len(self.filters)} filters"
            )

    def stride(self, step: int) -> Size:
        """Return the step of the sizes (z, y, x) between level ``step`` and the next."""
        return (1, 2, 2) if step < self.anisotropic_levels else (2, 2, 2)

    def kernel(self, level: int) -> Size:
        """Return the kernel (z, y, x) of a level, 0 for the full size."""
        flat = self.anisotropic_levels > 0 and level <= self.anisotropic_levels
        return (1, 3, 3) if flat else (3, 3, 3)

    @property
    def total_stride(self) -> Size:
        """The size of the input over that of the lowest map, (z, y, x)."""
        steps = len(self.filters) - 1
        flat = 2**steps
        return 2 ** (steps - self.anisotropic_levels), flat, flat

    def lowest_size(self, size: int | Sequence[int]) -> Size:
        """Return the size (z, y, x) of the lowest map for an input of ``size``.

        Raises:
            InvalidInputError: an axis of the size is not a positive multiple of the total stride.
        """
        sizes = check_sizes("size", size)
        fitting = [nearest_sizes([voxels], stride) for voxels, stride in zip(sizes, self.total_stride, strict=True)]
        if any(smaller != [voxels] for voxels, (smaller, _) in zip(sizes, fitting, strict=True)):
            nearest = [[pair[side][0] for pair in fitting] for side in (0, 1)]
            raise InvalidInputError(
                f"size={list(sizes)} does not fit a network of total stride {list(self.total_stride)} along (z, y, x): "
                f"every axis must be a multiple of it. The nearest sizes that fit are {nearest[0]} and {nearest[1]}; "
                "choose one of them, or fewer filters"
            )
        depth, height, width = (voxels // stride for voxels, stride in zip(sizes, self.total_stride, strict=True))
        return depth, height, width

    def block(self, level: int) -> ResidualSEBlock:
        """Build the residual block of a level: convolution, norm, ELU; convolution, norm; sum; ELU; excitation."""
        order = {"batch": "cbe", "group": "cge"}[self.norm]
        settings = LevelSettings(order, GROUPS, self.kernel(level), dropout=0.0, flavor="wolny")
        channels = self.filters[level]
        return ResidualSEBlock(channels, channels, settings, self.squeeze_excitation, self.se_reduction)

    def convolution(self, before: int, after: int, kernel: Size, stride: Size = (1, 1, 1)) -> Convolution:
        """Build convolution, norm and ELU; with a stride of 2 a size is halved."""
        norm = ("group", {"num_groups": GROUPS}) if self.norm == "group" else "batch"
        return Convolution(3, before, after, stride, kernel, "NA", act="elu", norm=norm, bias=False)


class ShapeEncoder(nn.Sequential):
    """Convolutions from an image (B, in_channels, D, H, W) to the lowest map (B, filters[-1], d, h, w).

    Args:
        in_channels: channels of the image.
        settings: of the levels.
    """

    def __init__(self, in_channels: int, settings: ShapeSettings) -> None:
        super().__init__()
        check_network_arguments(3, 3, in_channels=in_channels)
        depth = 1 if settings.anisotropic_levels else 5
        self.add_module("stem", settings.convolution(in_channels, settings.filters[0], (depth, 5, 5)))
        self.add_module("level0", settings.block(0))
        for level, (before, after) in enumerate(pairwise(settings.filters), 1):
            down = settings.convolution(before, after, settings.kernel(level), settings.stride(level - 1))
            self.add_module(f"down{level}", down)
            self.add_module(f"level{level}", settings.block(level))


class ShapeDecoder(nn.Module):
    """Decoder from a vector (B, latent_size) alone to an image (B, out_channels, D, H, W), without activation.

    A linear layer gives the lowest map; each step up is a 1 x 1 x 1 convolution, trilinear upsampling and a residual
    block; the last layer is a 1 x 1 x 1 convolution without norm.

    Args:
        latent_size: length of the vector.
        out_channels: channels of the image.
        lowest_size: of the lowest map, (d, h, w).
        settings: of the levels.
    """

    def __init__(self, latent_size: int, out_channels: int, lowest_size: Size, settings: ShapeSettings) -> None:
        super().__init__()
        check_network_arguments(3, 3, latent_size=latent_size, out_channels=out_channels)
        channels = settings.filters[-1]
        self.linear = nn.Sequential(nn.Linear(latent_size, channels * lowest_size[0] * lowest_size[1] * lowest_size[2]))
        self.linear.append(nn.Unflatten(1, (channels, *lowest_size)))
        self.levels = nn.Sequential(nn.ELU(), settings.block(len(settings.filters) - 1))
        for step in reversed(range(len(settings.filters) - 1)):
            low, high = settings.filters[step + 1], settings.filters[step]
            # unlike a transposed convolution, this leaves no checkerboard
            up = UpSample(3, low, high, settings.stride(step), mode="nontrainable", align_corners=False)
            self.levels.extend([up, settings.block(step)])
        self.head = nn.Conv3d(settings.filters[0], out_channels, 1)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Map (B, latent_size) to (B, out_channels, D, H, W)."""
        return self.head(self.levels(self.linear(latent)))


def _check_filters(filters: object) -> None:
    valid = isinstance(filters, Sequence) and not isinstance(filters, str) and len(filters) >= 2
    if not valid or any(isinstance(count, bool) or not isinstance(count, int) or count < 1 for count in filters):  # type: ignore[attr-defined]
        raise InvalidInputError(
            f"filters={filters!r} is not valid; expected a list of at least 2 positive whole numbers, one a level"
        )
