"""Exactly equivariant group convolutions.

Cohen and Welling, Group Equivariant Convolutional Networks, ICML 2016; Worrall and Brostow, CubeNet, ECCV 2018.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from voxel_ext.networks.layers.conv_base import GroupConvolution


class LiftingConv3d(GroupConvolution):
    """Convolution from a volume to a map on a rotation group, by filters turned to every element.

    out(o, r, x) = b(o) + Σ_i Σ_y w(o, i, M_r⁻¹ y) f(i, x + y), so that f(g·x) = g·f(x) exactly, see
    :meth:`RotationGroup.act_features`. (B, Cin, D, H, W) to (B, Cout, |G|, D', H', W').

    Args:
        group: name of a group, see :func:`voxel_ext.networks.groups.rotation_group`, or a group.
        in_channels: Cin.
        out_channels: Cout; the weight is (Cout, Cin, kz, ky, kx), the bias (Cout,), shared over the group.
        kernel_size: k or (kz, ky, kx); axes that the group exchanges must have equal sizes, here and below.
        stride: voxels between outputs. Equivariant only where (size + 2·padding - dilation·(k - 1) - 1) is divisible by
            it; warns once, naming the size, on others.
        padding: voxels on each side, or ``"same"``.
        dilation: voxels between the entries of the kernel.
        bias: whether to add a bias.
        padding_mode: ``"zeros"`` or ``"circular"``.

    Raises:
        InvalidInputError: for an unknown group or setting, a kernel that the group does not keep, and at the call for
            an input of another shape.
    """

    lifting = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, Cin, D, H, W) to (B, Cout, |G|, D', H', W')."""
        if not torch.jit.is_scripting():
            self._check_input(x, (None, self.in_channels, None, None, None), f"(B, {self.in_channels}, D, H, W)")
        return self._convolve(x)


class GroupConv3d(GroupConvolution):
    """Convolution between maps on a rotation group.

    out(o, r, x) = b(o) + Σ_i Σ_s Σ_y w(o, i, r⁻¹ s, M_r⁻¹ y) f(i, s, x + y), so that f(g·x) = g·f(x) exactly, see
    :meth:`RotationGroup.act_features`. (B, Cin, |G|, D, H, W) to (B, Cout, |G|, D', H', W'). The weight is
    (Cout, Cin, |G|, kz, ky, kx). Arguments and errors as for :class:`LiftingConv3d`.
    """

    lifting = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, Cin, |G|, D, H, W) to (B, Cout, |G|, D', H', W')."""
        if not torch.jit.is_scripting():
            wanted = f"(B, {self.in_channels}, {self.order}, D, H, W)"
            self._check_input(x, (None, self.in_channels, self.order, None, None, None), wanted)
        return self._convolve(x.flatten(1, 2))


def fold_group_convolutions(module: nn.Module) -> nn.Module:
    """Return a copy of a network with a plain convolution in place of each group convolution.

    Args:
        module: the network; it is not changed.

    Returns:
        a network of equal output whose filters are stored expanded, |G| times larger, for export. A group convolution
        that is used in several places stays shared.
    """
    if isinstance(module, GroupConvolution):
        return module.fold()
    folded = copy.deepcopy(module)
    done: dict[nn.Module, nn.Module] = {}
    for parent in list(folded.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, GroupConvolution):
                done[child] = done[child] if child in done else child.fold()
                setattr(parent, name, done[child])
    return folded
