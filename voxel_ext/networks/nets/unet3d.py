"""3D U-Nets that take the checkpoints of pytorch-3dunet: plain, residual, and residual with squeeze and excitation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.blocks.unet3d_blocks import (
    DecoderLevel,
    DoubleConv,
    EncoderLevel,
    NearestUpsampling,
    ResNetBlock,
    TransposedUpsampling,
)
from voxel_ext.networks.blocks.unet3d_settings import LevelSettings, level_channels, level_settings
from voxel_ext.networks.sizes import check_input_shape, check_network_arguments


class _UNet3DBase(nn.Module):
    """Encoders, decoders and final convolution; the subclasses say of which blocks."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: list[int],
        settings: LevelSettings,
        block: Callable[[int, int, LevelSettings, bool], nn.Module],
        concatenate: bool,
    ) -> None:
        super().__init__()
        check_network_arguments(3, 3, in_channels=in_channels, out_channels=out_channels)
        depth, height, width = (step ** (len(channels) - 1) for step in settings.stride)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = (depth, height, width)
        encoders = []
        for level, count in enumerate(channels):
            previous, pool = (channels[level - 1], settings.stride) if level else (in_channels, None)
            encoders.append(EncoderLevel(block(previous, count, settings, True), pool))
        self.encoders = nn.ModuleList(encoders)
        decoders = []
        for below, count in zip(channels[:0:-1], channels[-2::-1], strict=True):
            upsampling = NearestUpsampling() if concatenate else TransposedUpsampling(below, count, settings)
            joined = below + count if concatenate else count
            decoders.append(DecoderLevel(upsampling, block(joined, count, settings, False), concatenate))
        self.decoders = nn.ModuleList(decoders)
        self.final_conv = nn.Conv3d(channels[0], out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map an image (B, in_channels, D, H, W) to logits (B, out_channels, D, H, W).

        Raises:
            InvalidInputError: the image has another number of axes or channels, or is smaller than ``stride`` along an
                axis. A scripted network raises ``torch.jit.Error`` with the same text.
        """
        return self.final_conv(self.features(x))

    @torch.jit.export
    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Map an image (B, in_channels, D, H, W) to the last decoder's map (B, f_maps[0], D, H, W).

        Raises:
            InvalidInputError: as for ``forward``.
        """
        self._check_input(x)
        skips: list[torch.Tensor] = []
        for encoder in self.encoders:
            x = encoder(x)
            skips.append(x)
        x = skips.pop()
        for decoder in self.decoders:
            x = decoder(skips.pop(), x)  # a skip that has been used is given free
        return x

    def _check_input(self, x: torch.Tensor) -> None:
        check_input_shape(list(x.shape), self.in_channels)
        fits = True
        for axis, least in enumerate(self.stride):
            fits = fits and x.shape[2 + axis] >= least
        if not fits:
            raise InvalidInputError(
                f"an input of spatial size {list(x.shape[2:])} is too small for the network's poolings; "
                f"the smallest that fits is {list(self.stride)}: pad the image, or use fewer levels"
            )


class UNet3D(_UNet3DBase):
    """3D U-Net of double convolutions: (B, in_channels, D, H, W) to logits (B, out_channels, D, H, W) of any size.

    Level k of the encoder: max-pooling (except the first), one convolution to max(channels before, f_maps[k] / 2) and
    one to f_maps[k]. Decoder: nearest upsampling to the skip's size, concatenation, two convolutions to f_maps[k]. Last
    a 1 x 1 x 1 convolution. Cicek et al. 2016, "3D U-Net: Learning Dense Volumetric Segmentation from Sparse
    Annotation"; parameters are named as in pytorch-3dunet. For images of one plane, or planes treated one by one, use
    ``kernel_size=(1, 3, 3)`` and ``pool_size=(1, 2, 2)``.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits.
        f_maps: channels of the levels, or of the first: 64 means 64, 128, 256, 512. This default and the following
            are those of pytorch-3dunet.
        layer_order: layers of each convolution: c convolution, g group norm, b batch norm, r ReLU, l LeakyReLU, e ELU,
            d dropout, D dropout of whole channels. A convolution has a bias only without norm.
        num_groups: groups of the group norms; one where a map has fewer channels.
        num_levels: number of levels; not used where ``f_maps`` is a list.
        kernel_size: odd, one number or along (z, y, x). The padding keeps the size.
        pool_size: window of the poolings, one number or along (z, y, x).
        dropout: rate of the letters d and D.
        flavor: the release of pytorch-3dunet whose checkpoints load, a key of
            :data:`~voxel_ext.networks.blocks.unet3d_settings.FLAVORS`. Here it sets only the slope of LeakyReLU: 0.1
            for ``"flavell"``, 0.01 for the others.

    Attributes:
        in_channels: as given.
        out_channels: as given.
        stride: product of the poolings along (z, y, x); the smallest size of an image.

    Raises:
        InvalidInputError: an argument is not valid.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        f_maps: int | Sequence[int] = 64,
        layer_order: str = "gcr",
        num_groups: int = 8,
        num_levels: int = 4,
        kernel_size: int | Sequence[int] = 3,
        pool_size: int | Sequence[int] = 2,
        dropout: float = 0.1,
        flavor: str = "flavell",
    ) -> None:
        settings = level_settings(layer_order, num_groups, kernel_size, pool_size, dropout, flavor)
        super().__init__(
            in_channels, out_channels, level_channels(f_maps, num_levels), settings, DoubleConv, concatenate=True
        )


class ResidualUNet3D(_UNet3DBase):
    """3D U-Net of residual blocks: (B, in_channels, D, H, W) to logits (B, out_channels, D, H, W) of any size.

    Each level is a :class:`~voxel_ext.networks.blocks.unet3d_blocks.ResNetBlock`; the decoder enlarges by transposed
    convolutions and adds the skip. Lee et al. 2017, "Superhuman Accuracy on the SNEMI3D Connectomics Challenge"; the
    usual orders there are ``"cge"`` and ``"gce"``.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits.
        f_maps: as for :class:`UNet3D`.
        layer_order: as for :class:`UNet3D`; the third convolution of a block is without activation.
        num_groups: as for :class:`UNet3D`.
        num_levels: number of levels; not used where ``f_maps`` is a list.
        kernel_size: as for :class:`UNet3D`; also of the transposed convolutions, whose step is ``pool_size``.
        pool_size: as for :class:`UNet3D`.
        dropout: rate of the letters d and D.
        flavor: the release of pytorch-3dunet whose checkpoints load. ``"flavell"``: flavell-lab's fork, and wolny's
            before 1.4: a block starts with a whole convolution, transposed convolutions have a bias. ``"wolny"``: since
            1.8.1: a block starts with a 1 x 1 x 1 convolution, transposed convolutions have no bias and are
            interpolated to the skip's size, LeakyReLU has slope 0.01. ``"wolny-1.4"``: between the two.

    Attributes:
        in_channels: as given.
        out_channels: as given.
        stride: product of the poolings along (z, y, x); the smallest size of an image.

    Raises:
        InvalidInputError: an argument is not valid.
    """

    excitation = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        f_maps: int | Sequence[int] = 64,
        layer_order: str = "gcr",
        num_groups: int = 8,
        num_levels: int = 5,
        kernel_size: int | Sequence[int] = 3,
        pool_size: int | Sequence[int] = 2,
        dropout: float = 0.1,
        flavor: str = "flavell",
    ) -> None:
        excitation = type(self).excitation

        def block(before: int, after: int, settings: LevelSettings, encoder: bool) -> nn.Module:
            return ResNetBlock(before, after, settings, excitation)

        settings = level_settings(layer_order, num_groups, kernel_size, pool_size, dropout, flavor)
        super().__init__(
            in_channels, out_channels, level_channels(f_maps, num_levels), settings, block, concatenate=False
        )


class ResidualUNetSE3D(ResidualUNet3D):
    """:class:`ResidualUNet3D` whose blocks end with a concurrent spatial and channel squeeze and excitation.

    Roy et al. 2018, "Concurrent Spatial and Channel Squeeze & Excitation in Fully Convolutional Networks".

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits.
        f_maps: as for :class:`ResidualUNet3D`, and so are the following.
        layer_order: layers of each convolution.
        num_groups: groups of the group norms.
        num_levels: number of levels; not used where ``f_maps`` is a list.
        kernel_size: of the convolutions.
        pool_size: of the poolings.
        dropout: rate of the letters d and D.
        flavor: as for :class:`ResidualUNet3D`, but ``"wolny"`` by default, the only release that has this network.

    Raises:
        InvalidInputError: an argument is not valid.
    """

    excitation = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        f_maps: int | Sequence[int] = 64,
        layer_order: str = "gcr",
        num_groups: int = 8,
        num_levels: int = 5,
        kernel_size: int | Sequence[int] = 3,
        pool_size: int | Sequence[int] = 2,
        dropout: float = 0.1,
        flavor: str = "wolny",
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            f_maps,
            layer_order,
            num_groups,
            num_levels,
            kernel_size,
            pool_size,
            dropout,
            flavor,
        )
