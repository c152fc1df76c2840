"""U-Net with the layer order convolution, ReLU, normalization and a free number of levels."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from voxel_ext.networks.blocks.encoder_decoder import EncoderDecoder, Norm
from voxel_ext.networks.sizes import check_network_arguments


class UNet(nn.Module):
    """U-Net for 2D and 3D images: (B, in_channels, D, H, W) to logits (B, out_channels, D, H, W).

    Every level has two convolutions, each followed by ReLU and then by normalization; max-pooling of 2 down, transposed
    convolution (kernel 2, stride 2) and concatenation up, a 1x1 convolution last (Ronneberger et al. 2015,
    arXiv:1505.04597; Çiçek et al. 2016, arXiv:1606.06650).

    MONAI's networks cannot express it: ``BasicUNet`` has exactly five levels and normalizes before the activation;
    ``UNet`` goes down by strided convolutions and up to a single convolution per level; ``DynUNet`` normalizes before
    the activation, goes down by strided convolutions and has at least three levels. The layers are MONAI's
    ``Convolution`` with its order of activation and normalization exchanged.

    Args:
        spatial_dims: 2 for (B, C, H, W), 3 for (B, C, D, H, W).
        in_channels: channels of the image.
        out_channels: channels of the logits, one per class that is not background.
        depth: number of levels; there are ``depth - 1`` poolings.
        start_channels: channels of the first level, doubled at each level below.
        kernel_size: 3, 5 or 7.
        residual: add a shortcut around the two convolutions of each level.
        norm: MONAI's name of a normalization, ``(name, arguments)``, or None for none.

    Defaults are those of the original's class; its training script used ``depth=4, start_channels=4``.

    Attributes:
        stride: 2 ** (depth - 1); each spatial axis of the input must be a multiple of it.

    Raises:
        InvalidInputError: an argument is not valid.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 1,
        depth: int = 5,
        start_channels: int = 64,
        kernel_size: int = 3,
        residual: bool = False,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        check_network_arguments(spatial_dims, kernel_size, out_channels=out_channels)
        self.features = EncoderDecoder(spatial_dims, in_channels, depth, start_channels, kernel_size, residual, norm)
        self.head = Conv[Conv.CONV, spatial_dims](start_channels, out_channels, kernel_size=1)
        self.stride = self.features.stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map an image (B, in_channels, ...) to logits (B, out_channels, ...) of the same spatial size.

        Raises:
            InvalidInputError: a spatial axis is not a multiple of ``stride``.
        """
        return self.head(self.features(x))
