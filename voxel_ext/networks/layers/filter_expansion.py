"""From the filters of a group convolution to those of the plain convolution that computes the same.

With w the filter of one output and input channel, the filter of output element r and input element s is

    W(r, s, p) = w(r⁻¹ s, M_r⁻¹ p),

for a lifting convolution, whose input has no group axis, W(r, p) = w(M_r⁻¹ p). For fixed r this is a permutation of the
entries of w, so that the expansion is one gather and its adjoint is a gather with the inverse permutations and a sum.
"""

from __future__ import annotations

from typing import Any

import torch

from voxel_ext.networks.groups import RotationGroup


def expansion_index(group: RotationGroup, kernel_size: tuple[int, int, int], lifting: bool) -> torch.Tensor:
    """Where each entry of the expanded filters comes from.

    Args:
        group: the group.
        kernel_size: (kz, ky, kx).
        lifting: whether the input has no group axis.

    Returns:
        (|G|, N) int64 (on a CPU several times as fast to scatter by as int32), N = |G|·kz·ky·kx, or kz·ky·kx when
        lifting; row r holds the sources of W(r, ·).
    """
    grid = group.grid_permutation(kernel_size)
    if lifting:
        return grid.long()
    elements = group.cayley[group.inverse]
    return (elements[:, :, None] * grid.shape[1] + grid[:, None, :]).flatten(1).long()


def gather_filters(weight: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Expand filters by one gather; plain tensor operations, for TorchScript, tracing and compilers.

    Args:
        weight: (Cout, Cin, |G|, kz, ky, kx), or (Cout, Cin, kz, ky, kx) when lifting.
        index: of :func:`expansion_index`.

    Returns:
        (Cout·|G|, Cin·|G|, kz, ky, kx), or (Cout·|G|, Cin, kz, ky, kx) when lifting.
    """
    expanded = weight.flatten(1).index_select(1, _over_channels(index, weight.shape[1]))
    return _as_filters(expanded, weight, index)


def expand_filters(weight: torch.Tensor, index: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    """Expand filters like :func:`gather_filters`, with a backward pass that gives the same bits in every run.

    Args:
        weight: (Cout, Cin, |G|, kz, ky, kx), or (Cout, Cin, kz, ky, kx) when lifting.
        index: of :func:`expansion_index`.
        inverse: (|G|,) inverse of each element; row inverse[r] of ``index`` is the inverse permutation of row r.

    Returns:
        (Cout·|G|, Cin·|G|, kz, ky, kx), or (Cout·|G|, Cin, kz, ky, kx) when lifting.
    """
    if weight.is_cpu or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return gather_filters(weight, index)
    return _as_filters(_Expansion.apply(weight.flatten(1), weight.shape[1], index, inverse), weight, index)


def _over_channels(index: torch.Tensor, channels: int) -> torch.Tensor:
    """Places in (N) for each element, (|G|, N), to places in (channels, N), (|G|·channels·N,)."""
    starts = torch.arange(channels, dtype=index.dtype, device=index.device) * index.shape[1]
    return (starts.unsqueeze(1) + index.unsqueeze(1)).flatten()


def _as_filters(expanded: torch.Tensor, weight: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    rows = weight.shape[0] * index.shape[0]
    return expanded.reshape(rows, -1, weight.shape[-3], weight.shape[-2], weight.shape[-1])


class _Expansion(torch.autograd.Function):
    """The gather with its adjoint as a gather and a sum: the scatter that torch takes adds in any order on a GPU."""

    generate_vmap_rule = True

    @staticmethod
    def forward(flat: torch.Tensor, channels: int, index: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
        return flat.index_select(1, _over_channels(index, channels))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.channels = inputs[1]
        ctx.save_for_backward(*inputs[2:])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        index, inverse = ctx.saved_tensors
        elements, width = index.shape[0], ctx.channels * index.shape[1]
        blocks = torch.arange(elements, dtype=index.dtype, device=index.device).unsqueeze(1) * width
        back = _over_channels(index.index_select(0, inverse) + blocks, ctx.channels)
        return grads[0].index_select(1, back).unflatten(1, (elements, width)).sum(dim=1), None, None, None
