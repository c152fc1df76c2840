"""The encoder and decoder that the U-Net and the stacked hourglass have in common."""

from __future__ import annotations

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv, Pool
from monai.networks.layers.utils import get_norm_layer
from torch import nn

from voxel_ext.networks.sizes import check_network_arguments, check_spatial_size

Norm = str | tuple | None


def conv_relu_norm(spatial_dims: int, in_channels: int, out_channels: int, kernel_size: int, norm: Norm) -> Convolution:
    """One convolution of stride 1 that keeps the size, then ReLU, then normalization.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: voxels along each axis, odd.
        norm: MONAI's name of a normalization, ``(name, arguments)``, or None for none.
    """
    return Convolution(
        spatial_dims, in_channels, out_channels, kernel_size=kernel_size, adn_ordering="AN", act="relu", norm=norm
    )


class DoubleConvolution(nn.Module):
    """Twice convolution, ReLU, normalization; with ``residual`` as F(x) in ReLU(F(x) + S(x)).

    S is the identity, or a 1x1 convolution with normalization where the number of channels changes (He et al. 2016,
    arXiv:1512.03385, option B).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input (B, in_channels, ...).
        out_channels: channels of the output (B, out_channels, ...).
        kernel_size: 3, 5 or 7.
        residual: add the shortcut.
        norm: as for :func:`conv_relu_norm`.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        residual: bool = False,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        self.residual = residual
        self.convolutions = nn.Sequential(
            conv_relu_norm(spatial_dims, in_channels, out_channels, kernel_size, norm),
            conv_relu_norm(spatial_dims, out_channels, out_channels, kernel_size, norm),
        )
        self.shortcut: nn.Module = nn.Identity()
        if residual and in_channels != out_channels:
            convolution = Conv[Conv.CONV, spatial_dims](in_channels, out_channels, kernel_size=1, bias=norm is None)
            normalization = nn.Identity() if norm is None else get_norm_layer(norm, spatial_dims, out_channels)
            self.shortcut = nn.Sequential(convolution, normalization)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, ...) to (B, out_channels, ...) of the same spatial size."""
        y = self.convolutions(x)
        if self.residual:
            y = torch.relu(y + self.shortcut(x))
        return y


class EncoderDecoder(nn.Module):
    """A U-Net without its output layer: (B, in_channels, ...) to (B, start_channels, ...), same spatial size.

    Level i of ``depth`` levels has ``start_channels * 2 ** i`` channels and a double convolution. Going down, levels
    are joined by max-pooling of 2; going up, by a transposed convolution (kernel 2, stride 2) whose output is
    concatenated with the encoder's (Ronneberger et al. 2015, arXiv:1505.04597).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        depth: number of levels, 1 or more; there are ``depth - 1`` poolings.
        start_channels: channels of the first level and of the output.
        kernel_size: 3, 5 or 7.
        residual: double convolutions with a shortcut, see :class:`DoubleConvolution`.
        norm: MONAI's name of a normalization, ``(name, arguments)``, or None for none.

    Attributes:
        stride: 2 ** (depth - 1); each spatial axis of the input must be a multiple of it.

    Raises:
        InvalidInputError: an argument is not valid.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        depth: int,
        start_channels: int,
        kernel_size: int = 3,
        residual: bool = False,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        check_network_arguments(
            spatial_dims, kernel_size, in_channels=in_channels, depth=depth, start_channels=start_channels
        )
        self.stride = 2 ** (depth - 1)
        channels = [start_channels * 2**level for level in range(depth)]

        def block(inputs: int, outputs: int) -> DoubleConvolution:
            return DoubleConvolution(spatial_dims, inputs, outputs, kernel_size, residual, norm)

        self.encoders = nn.ModuleList(
            block(*pair) for pair in zip([in_channels, *channels[:-1]], channels, strict=True)
        )
        self.pool = Pool[Pool.MAX, spatial_dims](kernel_size=2)
        upward = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        transposed = Conv[Conv.CONVTRANS, spatial_dims]
        self.upsamplers = nn.ModuleList(transposed(low, high, kernel_size=2, stride=2) for low, high in upward)
        self.decoders = nn.ModuleList(block(2 * high, high) for _, high in upward)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, ...) to features (B, start_channels, ...).

        Raises:
            InvalidInputError: a spatial axis is not a multiple of ``stride``.
        """
        if not torch.jit.is_tracing():  # a trace cannot record the check, and warns
            check_spatial_size(list(x.shape[2:]), self.stride)
        skips: list[torch.Tensor] = []
        for level, encoder in enumerate(self.encoders):
            x = encoder(x if level == 0 else self.pool(x))
            skips.append(x)
        for level, (upsampler, decoder) in enumerate(zip(self.upsamplers, self.decoders)):  # noqa: B905 (TorchScript)
            x = decoder(torch.cat([upsampler(x), skips[-2 - level]], dim=1))
        return x
