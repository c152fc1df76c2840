"""Measuring how far a module is from being equivariant."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.groups import RotationGroup, rotation_group


def check_equivariance(
    module: nn.Module,
    group: str | RotationGroup,
    input_shape: Sequence[int],
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> float:
    """Worst relative error of f(g·x) against g·f(x) over all elements g, at a random input.

    What g does follows from the number of axes: it turns a volume (B, C, D, H, W); it turns a map
    (B, C, |G|, D, H, W) and permutes its group axis; it leaves anything else as it is, for invariant features.

    Args:
        module: takes and returns one tensor. A copy is run, in its current mode, every time with the same random state.
        group: name of a group, or a group.
        input_shape: shape of x, (B, C, D, H, W) or (B, C, |G|, D, H, W).
        dtype: type in which to measure.
        seed: of the random input.

    Returns:
        max over g of max |f(g·x) - g·f(x)| / max |f(x)|.

    Raises:
        InvalidInputError: if the output vanishes, or its shape is not that of the turned output.
    """
    turns = rotation_group(group)
    probe = copy.deepcopy(module).to(dtype)
    device = next((tensor.device for tensor in probe.parameters()), torch.device("cpu"))
    x = torch.randn(*input_shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).to(device)
    with torch.no_grad():
        reference = _run(probe, x, seed)
        size = float(reference.abs().max())
        if size == 0:
            raise InvalidInputError(
                "check_equivariance: the output is zero everywhere, so that nothing can be compared."
            )
        worst = 0.0
        for element in range(turns.order):
            found, wanted = _run(probe, _turn(turns, x, element), seed), _turn(turns, reference, element)
            if found.shape != wanted.shape:
                raise InvalidInputError(
                    f"check_equivariance: for element {element} of {turns.name} the output has the shape "
                    f"{tuple(found.shape)}, expected {tuple(wanted.shape)}."
                )
            worst = max(worst, float((found - wanted).abs().max()) / size)
    return worst


def _turn(group: RotationGroup, tensor: torch.Tensor, element: int) -> torch.Tensor:
    if tensor.dim() == 6:
        return group.act_features(tensor, element)
    return group.act(tensor, element) if tensor.dim() == 5 else tensor


def _run(module: nn.Module, x: torch.Tensor, seed: int) -> torch.Tensor:
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        torch.manual_seed(seed)
        return module(x)
