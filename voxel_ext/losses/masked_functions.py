"""Losses as functions of logits or predictions, their truth, and the elements that count.

Tensors are (B, C, ...) float32; ``kept`` is boolean, (B, C, ...) or (B, 1, ...), or None if everything counts. What
does not count must be finite. Without anything that counts, value and gradient are 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F


def masked_mean(values: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
    """Return the mean of the values that are kept, 0 (with a gradient of 0) if there are none.

    Args:
        values: (B, C, ...), finite where not kept.
        kept: boolean, (B, C, ...) or (B, 1, ...); None to keep everything.
    """
    if kept is None:
        return values.mean()
    kept = kept.expand_as(values)
    return torch.where(kept, values, 0).sum() / kept.sum().clamp(min=1)


def bce(
    logits: torch.Tensor, truth: torch.Tensor, kept: torch.Tensor | None, *, positive_weight: float = 1.0
) -> torch.Tensor:
    """Return the mean binary cross entropy of logits, with a weight of the term of the foreground."""
    weight = logits.new_tensor(positive_weight)
    return masked_mean(F.binary_cross_entropy_with_logits(logits, truth, pos_weight=weight, reduction="none"), kept)


def dice(
    probability: torch.Tensor, truth: torch.Tensor, kept: torch.Tensor | None, *, smooth: float = 1e-5
) -> torch.Tensor:
    """Return 1 - (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth), sums over batch and space, mean over channels."""
    if kept is not None:
        probability, truth = torch.where(kept, probability, 0), torch.where(kept, truth, 0)
    axes = [0, *range(2, probability.ndim)]
    overlap = (probability * truth).sum(axes)
    return (1 - (2 * overlap + smooth) / (probability.sum(axes) + truth.sum(axes) + smooth)).mean()


def bce_dice(
    logits: torch.Tensor,
    truth: torch.Tensor,
    kept: torch.Tensor | None,
    *,
    bce_weight: float = 1.0,
    dice_weight: float = 1.0,
    positive_weight: float = 1.0,
    smooth: float = 1e-5,
) -> torch.Tensor:
    """Return bce_weight * :func:`bce` of logits + dice_weight * :func:`dice` of their sigmoid."""
    entropy = bce(logits, truth, kept, positive_weight=positive_weight)
    return bce_weight * entropy + dice_weight * dice(logits.sigmoid(), truth, kept, smooth=smooth)


def cross_entropy(
    logits: torch.Tensor,
    truth: torch.Tensor,
    kept: torch.Tensor | None,
    smoothing: float = 0.0,
    *,
    class_weights: Sequence[float] | None = None,
) -> torch.Tensor:
    """Return torch's mean cross entropy of logits and class indices (B, 1, ...)."""
    index = truth[:, 0].long()
    weight = None if class_weights is None else logits.new_tensor(class_weights)
    losses = F.cross_entropy(logits, index, weight, reduction="none", label_smoothing=smoothing)
    if weight is None:
        return masked_mean(losses[:, None], kept)
    factor = weight[index] if kept is None else weight[index] * kept[:, 0]
    total = (losses if kept is None else losses * kept[:, 0]).sum()
    return total / torch.where(factor.sum() > 0, factor.sum(), 1)


def mse(prediction: torch.Tensor, truth: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
    """Return the mean squared difference."""
    return masked_mean((prediction - truth) ** 2, kept)


def l1(prediction: torch.Tensor, truth: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
    """Return the mean absolute difference."""
    return masked_mean((prediction - truth).abs(), kept)
