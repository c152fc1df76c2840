"""Stacked hourglass network: U-Nets in series with a prediction after each."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from voxel_ext.networks.blocks.encoder_decoder import EncoderDecoder, Norm, conv_relu_norm
from voxel_ext.networks.sizes import check_network_arguments


class HourglassStack(nn.Module):
    """One stack: an hourglass, its score map, and, unless it is the last, the way back to the next stack's input.

    Args:
        spatial_dims: 2 or 3.
        width: channels of input and output.
        out_channels: channels of the score map.
        hourglass: module that maps (B, width, ...) to (B, width, ...).
        norm: MONAI's name of a normalization, ``(name, arguments)``, or None for none.
        last: True for the last stack, which has no way back.
    """

    def __init__(
        self, spatial_dims: int, width: int, out_channels: int, hourglass: nn.Module, norm: Norm, last: bool
    ) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.hourglass = hourglass
        self.block = conv_relu_norm(spatial_dims, width, width, 1, norm)
        self.score = conv(width, out_channels, kernel_size=1)
        self.features_back = None if last else conv_relu_norm(spatial_dims, width, width, 1, norm)
        self.score_back = None if last else conv(out_channels, width, kernel_size=1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (B, width, ...) to the score map (B, out_channels, ...) and the next input (B, width, ...)."""
        features = self.block(self.hourglass(x))
        score = self.score(features)
        if self.features_back is not None and self.score_back is not None:
            x = x + self.features_back(features) + self.score_back(score)
        return score, x


class StackedHourglass(nn.Module):
    """Stacked hourglass for 2D and 3D images (Newell et al. 2016, arXiv:1603.06937).

    With x_1 the image brought to ``start_channels``, each stack s computes

        f_s = block(hourglass(x_s)),  score_s = conv(f_s),  x_{s+1} = x_s + block(f_s) + conv(score_s)

    where ``block`` is a 1x1 convolution, ReLU, normalization, ``conv`` a 1x1 convolution, and the hourglass a U-Net
    without its output layer. The last stack has no way back, so every parameter takes part in the loss.

    In training mode the network returns the list of all score maps, for
    :class:`voxel_ext.losses.DeepSupervisedLoss`; in evaluation mode, and always once scripted, only the last map, which
    is the prediction (as MONAI's ``DynUNet`` does). :meth:`score_maps` returns all of them in either mode.

    Args:
        spatial_dims: 2 for (B, C, H, W), 3 for (B, C, D, H, W).
        in_channels: channels of the image.
        out_channels: channels of each score map, one per class that is not background.
        num_stacks: number of hourglasses.
        depth: number of levels in each; there are ``depth - 1`` poolings.
        start_channels: channels between the stacks and of the first level.
        kernel_size: 3, 5 or 7.
        residual: add a shortcut around the two convolutions of each level.
        norm: MONAI's name of a normalization, ``(name, arguments)``, or None for none.

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
        num_stacks: int = 2,
        depth: int = 4,
        start_channels: int = 64,
        kernel_size: int = 3,
        residual: bool = False,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        counts = {"in_channels": in_channels, "out_channels": out_channels, "num_stacks": num_stacks}
        check_network_arguments(spatial_dims, kernel_size, depth=depth, start_channels=start_channels, **counts)
        self.stem = conv_relu_norm(spatial_dims, in_channels, start_channels, kernel_size, norm)
        self.stacks = nn.ModuleList()
        for index in range(num_stacks):
            hourglass = EncoderDecoder(spatial_dims, start_channels, depth, start_channels, kernel_size, residual, norm)
            last = index == num_stacks - 1
            self.stacks.append(HourglassStack(spatial_dims, start_channels, out_channels, hourglass, norm, last))
        self.stride = 2 ** (depth - 1)

    @torch.jit.export
    def score_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Map an image (B, in_channels, ...) to all ``num_stacks`` logit maps (B, out_channels, ...), first to last.

        Raises:
            InvalidInputError: a spatial axis is not a multiple of ``stride``.
        """
        x = self.stem(x)
        maps: list[torch.Tensor] = []
        for stack in self.stacks:
            score, x = stack(x)
            maps.append(score)
        return maps

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Map an image (B, in_channels, ...) to all logit maps (training) or the last one (evaluation, scripted).

        Raises:
            InvalidInputError: a spatial axis is not a multiple of ``stride``.
        """
        maps = self.score_maps(x)
        if torch.jit.is_scripting():
            return maps[-1]
        else:  # TorchScript compiles only the branch it takes
            return maps if self.training else maps[-1]
