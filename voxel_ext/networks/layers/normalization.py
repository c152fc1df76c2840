"""Normalizations and activations that are exactly equivariant, by name."""

from __future__ import annotations

import torch
from torch import nn

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.networks.layers.switch_norm import SwitchNorm3d

KINDS = ("batch", "instance", "group", "switchable")
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU}


class GroupNormalization(nn.Module):
    """Normalize maps with or without a group axis, with statistics and affine parameters shared over the group.

    The group axis is taken as more voxels, (B, C, |G|·D, H, W), so that the layer is exactly equivariant. All kinds
    learn a scale and a shift per channel.

    Args:
        kind: ``"batch"``, ``"instance"``, ``"group"`` (groups of channels) or ``"switchable"``, see
            :class:`SwitchNorm3d`.
        num_channels: C of the input (B, C, D, H, W) or (B, C, |G|, D, H, W).
        num_groups: groups of channels for ``kind="group"``; None takes the largest divisor of C up to 8.

    Raises:
        InvalidInputError: for another kind, or groups that do not divide the channels.
    """

    def __init__(self, kind: str, num_channels: int, num_groups: int | None = None) -> None:
        super().__init__()
        self.kind = check_option("norm", kind, KINDS)
        if num_groups is not None and kind != "group":
            raise InvalidInputError(f"num_groups={num_groups} is for norm='group' only, got norm={kind!r}.")
        self.norm = self._build(num_channels, num_groups)

    def _build(self, num_channels: int, num_groups: int | None) -> nn.Module:
        if self.kind == "batch":
            return nn.BatchNorm3d(num_channels)
        if self.kind == "instance":
            return nn.InstanceNorm3d(num_channels, affine=True)
        if self.kind == "switchable":
            return SwitchNorm3d(num_channels)
        if num_groups is None:
            num_groups = max(count for count in range(1, 9) if num_channels % count == 0)
        if num_groups < 1 or num_channels % num_groups:
            raise InvalidInputError(f"num_groups={num_groups} does not divide num_channels={num_channels}.")
        return nn.GroupNorm(num_groups, num_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize (B, C, D, H, W) or (B, C, |G|, D, H, W)."""
        if not torch.jit.is_scripting() and x.dim() not in (5, 6):
            raise InvalidInputError(
                f"GroupNormalization expects (B, C, D, H, W) or (B, C, |G|, D, H, W), got {tuple(x.shape)}."
            )
        if x.dim() == 6:
            return self.norm(x.flatten(2, 3)).unflatten(2, (x.shape[2], x.shape[3]))
        return self.norm(x)


def group_norm(kind: str | None, num_channels: int, num_groups: int | None = None) -> nn.Module:
    """Build a normalization by name.

    Args:
        kind: see :class:`GroupNormalization`; None for none, an ``nn.Identity``.
        num_channels: C of the input.
        num_groups: groups of channels for ``kind="group"``; None takes the largest divisor of C up to 8.

    Raises:
        InvalidInputError: for an unknown kind, or groups that do not divide the channels.
    """
    return nn.Identity() if kind is None else GroupNormalization(kind, num_channels, num_groups)


def activation(name: str, inplace: bool = False) -> nn.Module:
    """Build an activation by name; acting on each value alone, it is exactly equivariant.

    Args:
        name: ``"relu"``, ``"leaky_relu"`` (slope 0.01) or ``"elu"``, with torch's defaults.
        inplace: whether to overwrite the input.

    Raises:
        InvalidInputError: for another name.
    """
    return ACTIVATIONS[check_option("activation", name, ACTIVATIONS)](inplace=inplace)
