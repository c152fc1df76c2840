"""Concurrent squeeze and excitation of channels and of voxels."""

from __future__ import annotations

import torch
from torch import nn

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.sizes import check_network_arguments

# MONAI's ChannelSELayer computes the same, but its parameters have other names, so that checkpoints would not load.


class ChannelExcitation(nn.Module):
    """Scale each channel by a gate that depends on the means of all: (B, C, D, H, W) to the same shape.

        y_c = x_c * sigmoid(W2 relu(W1 mean(x) + b1) + b2)_c,   W1 of C // reduction x C, W2 of C x C // reduction

    Hu et al. 2018, "Squeeze-and-Excitation Networks", by default without reduction of the channels.

    Args:
        channels: channels C of the map.
        reduction: of the channels, from 1 to ``channels``.

    Raises:
        InvalidInputError: a reduction that is below 1 or leaves no hidden value.
    """

    def __init__(self, channels: int, reduction: int = 1) -> None:
        super().__init__()
        check_network_arguments(3, 3, se_reduction=reduction)
        if reduction > channels:
            raise InvalidInputError(
                f"se_reduction={reduction} leaves nothing of {channels} channels; expected at most those"
            )
        self.fc1 = nn.Linear(channels, channels // reduction)
        self.fc2 = nn.Linear(channels // reduction, channels)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        """Return the factors (B, C, 1, 1, 1) in (0, 1) of a map (B, C, D, H, W)."""
        means = x.mean(dim=(2, 3, 4))
        return torch.sigmoid(self.fc2(torch.relu(self.fc1(means))))[:, :, None, None, None]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale the channels of (B, C, D, H, W)."""
        return x * self.gate(x)


class SpatialExcitation(nn.Module):
    """Scale each voxel by a gate that depends on its channels: (B, C, D, H, W) to the same shape.

        y_c(v) = x_c(v) * sigmoid(w . x(v) + b)

    Args:
        channels: channels C of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale the voxels of (B, C, D, H, W)."""
        return x * torch.sigmoid(self.conv(x))


class ChannelSpatialExcitation(nn.Module):
    """Greater of the channel and the spatial excitation, element by element: (B, C, D, H, W) to the same shape.

    Roy et al. 2018, "Concurrent Spatial and Channel Squeeze & Excitation in Fully Convolutional Networks" (scSE).

    Args:
        channels: channels C of the map.
        reduction: as for :class:`ChannelExcitation`.

    Raises:
        InvalidInputError: as for :class:`ChannelExcitation`.
    """

    def __init__(self, channels: int, reduction: int = 1) -> None:
        super().__init__()
        self.cSE = ChannelExcitation(channels, reduction)  # these names are those in published checkpoints
        self.sSE = SpatialExcitation(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Excite (B, C, D, H, W)."""
        return torch.maximum(self.cSE(x), self.sSE(x))
