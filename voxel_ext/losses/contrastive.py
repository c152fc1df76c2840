"""Contrastive loss over the cells of two worms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses.matching_loss import MatchingLoss

# a learned temperature stays above this (Radford et al. 2021), or the logits would overflow
LEAST_TEMPERATURE = 0.01


class ContrastiveMatchingLoss(MatchingLoss):
    """InfoNCE (van den Oord et al. 2018) with all other cells of the two worms as negatives.

    With logits z = -cost / τ: the mean over rows i with a counterpart t_i of -log softmax_j(z_ij)[t_i], averaged with
    the same over columns if ``symmetric`` (Radford et al. 2021). Cells without a counterpart are negatives only.

    Args:
        temperature: τ, in units of the cost.
        distance: ``"cosine"``, ``"mse"`` or ``"l1"``, see :func:`feature_cost`.
        symmetric: rows and columns, or rows only.
        learnable_temperature: τ = 0.01 + exp(``log_temperature``), a parameter of the loss that starts at
            ``temperature``; give the loss's parameters to the optimizer, too.
        layer_weights: one per layer of features; None for equal weights that sum to 1.
        chunk: rows at a time for ``"l1"``, see :func:`feature_cost`.

    Raises:
        InvalidInputError: the distance is not known, or the temperature not above 0 (0.01 if it is learned).
    """

    def __init__(
        self,
        temperature: float = 0.1,
        distance: str = "cosine",
        symmetric: bool = True,
        learnable_temperature: bool = False,
        layer_weights: Sequence[float] | None = None,
        chunk: int | None = None,
    ) -> None:
        super().__init__(distance, layer_weights, chunk)
        least = LEAST_TEMPERATURE if learnable_temperature else 0
        if not least < temperature < math.inf:
            raise InvalidInputError(f"temperature={temperature!r} is not valid; expected a number above {least}")
        self.symmetric = symmetric
        self.log_temperature = None
        self._temperature = temperature
        if learnable_temperature:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature - LEAST_TEMPERATURE)))

    @property
    def temperature(self) -> torch.Tensor | float:
        """The temperature τ, a scalar tensor if it is learned."""
        return self._temperature if self.log_temperature is None else LEAST_TEMPERATURE + self.log_temperature.exp()

    def _loss(self, cost: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        logits = -cost / self.temperature
        rows = _cross_entropy(logits, target)
        return (
            (rows + _cross_entropy(logits.mT, inverse_matches(target, cost.shape[-1]))) / 2 if self.symmetric else rows
        )


def _cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean cross entropy of the rows of logits (B, N, M) that have a target (B, N)."""
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-1)


def inverse_matches(target: torch.Tensor, columns: int) -> torch.Tensor:
    """Return the row of each column (B, M), -1 where there is none, from the column of each row (B, N)."""
    inverse = torch.full((len(target), columns), -1, dtype=target.dtype, device=target.device)
    pair, row = (target >= 0).nonzero(as_tuple=True)
    inverse[pair, target[pair, row]] = row
    return inverse
