"""The plain convolution that computes what a group convolution does, for export."""

from __future__ import annotations

import torch
from torch import nn


class FoldedConv3d(nn.Module):
    """A plain convolution of the expanded width, between feature maps with a group axis.

    (B, Cin, D, H, W) or (B, Cin, |G|, D, H, W) to (B, Cout, |G|, D', H', W').

    Args:
        conv: the convolution, from Cin or Cin·|G| to Cout·|G| channels.
        order: number of elements |G|.
    """

    def __init__(self, conv: nn.Conv3d, order: int) -> None:
        super().__init__()
        self.conv = conv
        self.order = order

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve, with the group axis taken as channels."""
        if x.dim() == 6:
            x = x.flatten(1, 2)
        return self.conv(x).unflatten(1, (-1, self.order))
