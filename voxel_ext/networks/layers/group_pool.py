"""Pooling over the group axis."""

from __future__ import annotations

import torch
from torch import nn

from voxel_ext.errors import InvalidInputError, check_option


class GroupPool(nn.Module):
    """Reduce the group axis, (B, C, |G|, D, H, W) to (B, C, D, H, W); the result only turns with its input.

    Args:
        reduction: ``"max"`` or ``"mean"``.

    Raises:
        InvalidInputError: for another reduction, and at the call for an input without a group axis.
    """

    def __init__(self, reduction: str = "max") -> None:
        super().__init__()
        self.reduction = check_option("reduction", reduction, ("max", "mean"))

    def extra_repr(self) -> str:
        """Settings, for printing."""
        return self.reduction

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, |G|, D, H, W) to (B, C, D, H, W)."""
        if not torch.jit.is_scripting() and x.dim() != 6:
            raise InvalidInputError(f"GroupPool expects (B, C, |G|, D, H, W), got {tuple(x.shape)}.")
        return x.amax(dim=2) if self.reduction == "max" else x.mean(dim=2)
