"""Matching losses by name."""

from __future__ import annotations

from collections.abc import Sequence

from voxel_ext.errors import check_option
from voxel_ext.losses.contrastive import ContrastiveMatchingLoss
from voxel_ext.losses.linear_assignment import LinearAssignmentLoss
from voxel_ext.losses.matching_loss import MatchingLoss
from voxel_ext.losses.sinkhorn import SinkhornMatchingLoss

LOSSES = ("contrastive", "linear_assignment", "sinkhorn")


def matching_loss(
    name: str = "contrastive",
    distance: str = "cosine",
    temperature: float = 0.1,
    lambda_: float = 20.0,
    scale_lambda: bool = True,
    layer_weights: Sequence[float] | None = None,
    dummy_cost: float | None = None,
) -> MatchingLoss:
    """Build a matching loss.

    Args:
        name: "contrastive", "linear_assignment" or "sinkhorn".
        distance: of the features, "mse", "l1" or "cosine".
        temperature: of "contrastive" and "sinkhorn".
        lambda_: of "linear_assignment".
        scale_lambda: of "linear_assignment".
        layer_weights: one per layer of features; None for equal weights.
        dummy_cost: cost of a cell without a counterpart, for "linear_assignment" and "sinkhorn".

    Raises:
        InvalidInputError: unknown name, or as the losses say.
    """
    check_option("loss_name", name, LOSSES)
    if name == "contrastive":
        return ContrastiveMatchingLoss(temperature, distance, layer_weights=layer_weights)
    if name == "sinkhorn":
        return SinkhornMatchingLoss(temperature, dummy_cost=dummy_cost, distance=distance, layer_weights=layer_weights)
    return LinearAssignmentLoss(distance, lambda_, scale_lambda, layer_weights, dummy_cost)
