"""Spatial pooling and upsampling of maps with or without a group axis."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from voxel_ext.errors import InvalidInputError, check_option


class SpatialPool(nn.Module):
    """Pool blocks of factor³ voxels; exactly equivariant.

    (B, C, D, H, W) to (B, C, D/factor, H/factor, W/factor), likewise with a group axis after C.

    Args:
        mode: ``"max"`` or ``"mean"``.
        factor: edge of a block in voxels.

    Raises:
        InvalidInputError: for another mode or factor, and at the call for sizes that the factor does not divide.
    """

    def __init__(self, mode: str = "max", factor: int = 2) -> None:
        super().__init__()
        self.mode = check_option("mode", mode, ("max", "mean"))
        self.factor = _whole_factor(factor)

    def extra_repr(self) -> str:
        """Settings, for printing."""
        return f"{self.mode}, factor={self.factor}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pool the last three axes."""
        if not torch.jit.is_scripting():
            self._check(x)
        channels = x.flatten(1, 2) if x.dim() == 6 else x
        pooled = F.max_pool3d(channels, self.factor) if self.mode == "max" else F.avg_pool3d(channels, self.factor)
        return pooled.unflatten(1, (x.shape[1], x.shape[2])) if x.dim() == 6 else pooled

    @torch.jit.unused
    def _check(self, x: torch.Tensor) -> None:
        _check_dimensions(type(self).__name__, x)
        if torch.jit.is_tracing():
            return
        if any(size % self.factor for size in x.shape[-3:]):
            raise InvalidInputError(
                f"SpatialPool by {self.factor}: the spatial size {tuple(x.shape[-3:])} is not divisible by it; pad or "
                f"crop the volume to a multiple of {self.factor} at this level."
            )


class SpatialUpsample(nn.Module):
    """Enlarge the last three axes by a whole factor; exactly equivariant.

    (B, C, D, H, W) to (B, C, factor·D, factor·H, factor·W), likewise with a group axis after C.

    Args:
        factor: voxels made of one along each axis.
        mode: ``"nearest"`` or ``"trilinear"`` (voxel centres at half numbers, as torch's ``align_corners=False``).

    Raises:
        InvalidInputError: for another mode or factor, and at the call for another number of axes.
    """

    def __init__(self, factor: int = 2, mode: str = "nearest") -> None:
        super().__init__()
        self.factor = _whole_factor(factor)
        self.mode = check_option("mode", mode, ("nearest", "trilinear"))

    def extra_repr(self) -> str:
        """Settings, for printing."""
        return f"factor={self.factor}, {self.mode}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge the last three axes."""
        if not torch.jit.is_scripting():
            _check_dimensions("SpatialUpsample", x)
        channels = x.flatten(1, 2) if x.dim() == 6 else x
        enlarged = F.interpolate(channels, scale_factor=float(self.factor), mode=self.mode)
        return enlarged.unflatten(1, (x.shape[1], x.shape[2])) if x.dim() == 6 else enlarged


def _whole_factor(factor: int) -> int:
    if not isinstance(factor, int) or factor < 1:
        raise InvalidInputError(f"factor={factor!r}: expected a whole number of at least 1.")
    return factor


def _check_dimensions(name: str, x: torch.Tensor) -> None:
    if x.dim() not in (5, 6):
        raise InvalidInputError(f"{name} expects (B, C, D, H, W) or (B, C, |G|, D, H, W), got {tuple(x.shape)}.")
