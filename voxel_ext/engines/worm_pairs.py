"""How a batch of worm pairs goes through MONAI's supervised engines."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.losses.matching_loss import MatchingLoss

INPUTS = ("both", "cubes", "positions")

Batch = tuple[Any, dict[str, Any], tuple[Any, ...], dict[str, Any]]


def prepare_worm_pairs(inputs: str = "both") -> Callable[..., Batch]:
    """Return a ``prepare_batch`` for batches of :class:`~voxel_ext.data.WormPairDataset` and a ``MatchingNet``.

    Args:
        inputs: what the network gets, "both", "cubes" or "positions".

    Returns:
        function of (batch, device, non_blocking) that gives the cubes (2 P, N, C, S, S, S) or None, the rest of the
        batch as targets, and positions (2 P, N, 3) or None with valid (2 P, N) as further arguments of the network.

    Raises:
        InvalidInputError: unknown inputs.
    """
    return functools.partial(_prepare, inputs=check_option("inputs", inputs, INPUTS), flatten=True)


def _prepare(
    batch: Mapping[str, Any],
    device: torch.device | str | None = None,
    non_blocking: bool = False,
    *,
    inputs: str,
    flatten: bool,
    **_: Any,
) -> Batch:
    moved = {
        name: item.to(device, non_blocking=non_blocking) if isinstance(item, torch.Tensor) else item
        for name, item in batch.items()
    }
    cubes, positions, valid = moved.pop("cubes", None), moved["positions"], moved["valid"]
    if inputs != "positions" and cubes is None:
        raise InvalidInputError(f"inputs={inputs!r}, but the batch has no cubes; its keys are {list(batch)}")
    if flatten:
        cubes = None if cubes is None else cubes.flatten(0, 1)
        positions, valid = positions.flatten(0, 1), valid.flatten(0, 1)
    cubes = None if inputs == "positions" else cubes
    positions = None if inputs == "cubes" else positions
    return cubes, moved, (positions, valid), {}


def prepare_worms(inputs: str = "both") -> Callable[..., Batch]:
    """Return a ``prepare_batch`` for batches of single worms, :class:`~voxel_ext.data.WormDataset`.

    Args:
        inputs: what the network gets, "both", "cubes" or "positions".

    Returns:
        function of (batch, device, non_blocking) that gives the cubes (B, N, C, S, S, S) or None, the rest of the batch
        as targets, and positions (B, N, 3) or None with valid (B, N) as further arguments of the network.

    Raises:
        InvalidInputError: unknown inputs.
    """
    return functools.partial(_prepare, inputs=check_option("inputs", inputs, INPUTS), flatten=False)


def valid_pair(
    features: torch.Tensor, valid: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Leave the missing cells of a pair of worms out.

    Args:
        features: (2, N, F).
        valid: (2, N) bool.
        target: (N,) int, the cell of the second worm that is each cell of the first; -1 for none.

    Returns:
        features (A, F) and (B, F) of the valid cells, and the target (A,) among those.
    """
    place = torch.cumsum(valid[1].long(), 0) - 1
    place = torch.where(valid[1], place, -1)
    chosen = target[valid[0]]
    return features[0][valid[0]], features[1][valid[1]], torch.where(chosen >= 0, place[chosen.clamp_min(0)], -1)


class WormPairLoss(nn.Module):
    """A matching loss of the cells that are not missing, averaged over the pairs of a batch that share a cell.

    Where no pair of a batch shares a cell, the loss and its gradient are 0.

    Args:
        loss: e.g. :class:`~voxel_ext.losses.ContrastiveMatchingLoss`.
    """

    def __init__(self, loss: MatchingLoss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, features: torch.Tensor | list[torch.Tensor], targets: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Compute the loss.

        Args:
            features: (2 P, N, F), the two worms of a pair one after the other; or a list of these, one per layer.
            targets: ``target`` (P, N) and ``valid`` (P, 2, N), as :class:`~voxel_ext.data.WormPairDataset` gives them.

        Raises:
            InvalidInputError: the features are not of the pairs' cells, or as the loss says.
        """
        layers = features if isinstance(features, list) else [features]
        pairs, worms, cells = targets["valid"].shape
        for layer in layers:
            if layer.shape[:2] != (pairs * worms, cells):
                raise InvalidInputError(
                    f"features of shape {list(layer.shape)} do not fit {pairs} pairs of worms with {cells} cells; "
                    f"expected [{pairs * worms}, {cells}, F]"
                )
        losses = []
        for i, (valid, target) in enumerate(zip(targets["valid"], targets["target"], strict=True)):
            found = [valid_pair(layer[2 * i : 2 * i + 2], valid, target) for layer in layers]
            if (found[0][2] >= 0).any():
                losses.append(self.loss([(first, second) for first, second, _ in found], found[0][2]))
        if not losses:
            return torch.stack([layer.sum() for layer in layers]).sum() * 0
        return torch.stack(losses).mean()
