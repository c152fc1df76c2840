"""Optimal transport between the cells of two worms, and the likelihood of the true matches under it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses.contrastive import inverse_matches
from voxel_ext.losses.matching_loss import MatchingLoss


def log_sinkhorn(
    scores: torch.Tensor,
    iterations: int = 50,
    row_sums: torch.Tensor | None = None,
    column_sums: torch.Tensor | None = None,
) -> torch.Tensor:
    """Scale exp(scores) by rows and columns until both have the given sums (Sinkhorn and Knopp 1967; Cuturi 2013).

    In the log domain, rows first and columns last, so that the sums of columns are exact.

    Args:
        scores: (..., N, M).
        iterations: of one scaling of rows and one of columns.
        row_sums: (N,); None for 1 each, for a doubly stochastic matrix if N = M.
        column_sums: (M,), with the same total; None for N / M each.

    Returns:
        The logarithm of the scaled matrix, (..., N, M).

    Raises:
        InvalidInputError: ``iterations`` is below 1.
    """
    if iterations < 1:
        raise InvalidInputError(f"iterations={iterations} is not valid; expected at least 1")
    n, m = scores.shape[-2:]
    log_rows = torch.zeros_like(scores[..., 0]) if row_sums is None else row_sums.to(scores).log()
    log_columns = (
        torch.full_like(scores[..., 0, :], n / m).log() if column_sums is None else column_sums.to(scores).log()
    )
    columns = torch.zeros_like(scores[..., 0, :])
    for _ in range(iterations):
        rows = log_rows - torch.logsumexp(scores + columns[..., None, :], dim=-1)
        columns = log_columns - torch.logsumexp(scores + rows[..., :, None], dim=-2)
    return scores + rows[..., :, None] + columns[..., None, :]


class SinkhornMatchingLoss(MatchingLoss):
    """Negative log likelihood of the true matches under entropy-regularized transport.

    P = Sinkhorn(exp(-cost / τ)), and the loss is the mean of -log P over the true matches. With ``dummy_cost`` there is
    one more row and one more column of that cost (the dustbins of SuperGlue, Sarlin et al. 2020) that may take up to
    all cells; then the mean is over matches and over cells without one, whose true place is the dustbin. Without it,
    N = M, and cells without a counterpart do not count.

    Args:
        temperature: τ, in units of the cost.
        iterations: see :func:`log_sinkhorn`; the lower the temperature the more are needed.
        dummy_cost: of the dustbins, in units of the cost; None for none.
        learnable_dummy: make ``dummy_cost`` a parameter of the loss, which starts at the given value; give the loss's
            parameters to the optimizer, too.
        distance: ``"cosine"``, ``"mse"`` or ``"l1"``, see :func:`feature_cost`.
        layer_weights: one per layer of features; None for equal weights that sum to 1.
        chunk: rows at a time for ``"l1"``, see :func:`feature_cost`.

    Raises:
        InvalidInputError: a setting is not valid; later, N and M differ and there is no ``dummy_cost``.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        iterations: int = 50,
        dummy_cost: float | None = None,
        learnable_dummy: bool = False,
        distance: str = "cosine",
        layer_weights: Sequence[float] | None = None,
        chunk: int | None = None,
    ) -> None:
        super().__init__(distance, layer_weights, chunk)
        if not 0 < temperature < math.inf:
            raise InvalidInputError(f"temperature={temperature!r} is not valid; expected a number above 0")
        if iterations < 1:
            raise InvalidInputError(f"iterations={iterations} is not valid; expected at least 1")
        if learnable_dummy and dummy_cost is None:
            raise InvalidInputError("learnable_dummy needs a dummy_cost to start from, for example 0.5")
        self.temperature = temperature
        self.iterations = iterations
        self.dummy_cost = nn.Parameter(torch.tensor(float(dummy_cost or 0))) if learnable_dummy else dummy_cost

    def transport(self, cost: torch.Tensor) -> torch.Tensor:
        """Return log P, (B, N, M), or with dustbins (B, N + 1, M + 1), of a cost (B, N, M).

        Raises:
            InvalidInputError: N and M differ and there is no ``dummy_cost``.
        """
        n, m = cost.shape[-2:]
        if self.dummy_cost is None:
            if n != m:
                raise InvalidInputError(
                    f"the cost has {n} rows and {m} columns; without dummy_cost they must be as many as each other"
                )
            return log_sinkhorn(-cost / self.temperature, self.iterations)
        dummy = torch.as_tensor(self.dummy_cost, dtype=cost.dtype, device=cost.device)
        augmented = torch.cat([cost, dummy.expand(*cost.shape[:-1], 1)], dim=-1)
        augmented = torch.cat([augmented, dummy.expand(*cost.shape[:-2], 1, m + 1)], dim=-2)
        rows, columns = cost.new_ones(n + 1), cost.new_ones(m + 1)
        rows[-1], columns[-1] = m, n
        return log_sinkhorn(-augmented / self.temperature, self.iterations, rows, columns)

    def _loss(self, cost: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        n, m = cost.shape[-2:]
        log_p = self.transport(cost)
        if self.dummy_cost is None:
            return F.nll_loss(log_p.flatten(0, 1), target.flatten(), ignore_index=-1)
        rows = log_p[:, :n].gather(-1, target.where(target >= 0, m)[..., None])
        lost = inverse_matches(target, m) < 0
        return -(rows.sum() + (log_p[:, n, :m] * lost).sum()) / (target.numel() + lost.sum())
