"""Concurrent squeeze and excitation of channels and of voxels."""

from __future__ import annotations

import torch
from torch import nn

# MONAI's ChannelSELayer computes the same, but its parameters have other names, so that checkpoints would not load.


class ChannelExcitation(nn.Module):
    """Scale each channel by a gate that depends on the means of all: (B, C, D, H, W) to the same shape.

        y_c = x_c * sigmoid(W2 relu(W1 mean(x) + b1) + b2)_c,   W1 and W2 of C x C

    Hu et al. 2018, "Squeeze-and-Excitation Networks", without reduction of the channels.

    Args:
        channels: channels C of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, channels)
        self.fc2 = nn.Linear(channels, channels)

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
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cSE = ChannelExcitation(channels)  # these names are those in published checkpoints
        self.sSE = SpatialExcitation(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Excite (B, C, D, H, W)."""
        return torch.maximum(self.cSE(x), self.sSE(x))
