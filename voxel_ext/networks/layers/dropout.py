"""Dropout for maps with or without a group axis."""

from __future__ import annotations

import math

import torch
from torch import nn

from voxel_ext.errors import InvalidInputError


class GaussianDropout(nn.Module):
    """Multiply each activation by noise of N(1, p / (1 - p)), the variance of dropout with rate p, in training only.

    The noise is drawn for each voxel and group element: equivariant in distribution, not for one draw. Srivastava et
    al., Dropout, JMLR 2014, section 10.

    Args:
        p: rate of the dropout that has the same variance, in [0, 1).

    Raises:
        InvalidInputError: for p outside [0, 1).
    """

    def __init__(self, p: float = 0.1) -> None:
        super().__init__()
        self.p = _checked_rate(p)
        self.deviation = math.sqrt(self.p / (1 - self.p))

    def extra_repr(self) -> str:
        """Settings, for printing."""
        return f"p={self.p}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply by noise in training; the input itself in evaluation."""
        if not self.training or self.p == 0.0:
            return x
        return x * (1.0 + self.deviation * torch.randn_like(x))


class GroupDropout(nn.Module):
    """Drop whole channels over space and the group axis and scale the others by 1 / (1 - p), in training only.

    One decision per sample and channel, so that each draw is exactly equivariant.

    Args:
        p: share of the channels dropped, in [0, 1).

    Raises:
        InvalidInputError: for p outside [0, 1).
    """

    def __init__(self, p: float = 0.1) -> None:
        super().__init__()
        self.p = _checked_rate(p)

    def extra_repr(self) -> str:
        """Settings, for printing."""
        return f"p={self.p}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drop channels of (B, C, ...) in training; the input itself in evaluation."""
        return torch.feature_dropout(x, self.p, self.training)


def _checked_rate(p: float) -> float:
    if not 0 <= p < 1:
        raise InvalidInputError(f"p={p!r}: expected a dropout rate in [0, 1).")
    return float(p)
