"""Linear assignment as a differentiable layer, and the Hamming loss of a matching."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses.matching_loss import MatchingLoss, check_cost, true_matrix

# scaled lambda counts in tenths of the spread of a row's costs, so that the usual 15 to 20 change most rows of a
# matching by features that say nothing, whatever N
SPREAD_UNIT = 10


def solve_assignment(cost: torch.Tensor, threads: int | None = None) -> torch.Tensor:
    """Solve the linear assignment problem on the CPU by SciPy (Crouse 2016); exact, not differentiable.

    Args:
        cost: (N, M) or (B, N, M); with N > M, N - M rows stay without a column.
        threads: for a batch; None for as many as there are usable cores.

    Returns:
        Tensor of the cost's shape, type and device, 1 where a row is assigned to a column, 0 elsewhere.

    Raises:
        InvalidInputError: the shape is another, a cost is not finite (names pair, row and column), or ``threads`` < 1.
    """
    from scipy.optimize import linear_sum_assignment

    if threads is not None and threads < 1:
        raise InvalidInputError(f"threads={threads} is not valid; expected at least 1, or none for all cores")
    batch = check_cost(cost.detach())
    matrices = list(batch.double().cpu().numpy())
    workers = min(len(matrices), threads or os.cpu_count() or 1)
    if workers > 1:
        with ThreadPoolExecutor(workers) as pool:  # SciPy releases the interpreter lock
            solutions = list(pool.map(linear_sum_assignment, matrices))
    else:
        solutions = [linear_sum_assignment(matrix) for matrix in matrices]
    solved = torch.zeros(batch.shape, dtype=cost.dtype)
    for one, (rows, columns) in zip(solved, solutions, strict=True):
        one[torch.from_numpy(rows), torch.from_numpy(columns)] = 1
    return solved.reshape(cost.shape).to(cost.device)


def match_cells(cost: torch.Tensor, dummy_cost: float | None = None, threads: int | None = None) -> torch.Tensor:
    """Match the cells of two worms.

    Args:
        cost: (N, M) or (B, N, M).
        dummy_cost: what it costs to leave a cell without a counterpart; None to match as many as possible.
        threads: see :func:`solve_assignment`.

    Returns:
        Tensor (N,) or (B, N) int64, the column of each row, -1 where it has none.

    Raises:
        InvalidInputError: as :func:`solve_assignment`.
    """
    assigned = solve_assignment(with_dummies(cost.detach(), dummy_cost), threads)[..., : cost.shape[-1]]
    return torch.where(assigned.any(-1), assigned.argmax(-1), -1)


def with_dummies(cost: torch.Tensor, dummy_cost: float | None) -> torch.Tensor:
    """Append to a cost (..., N, M) one dummy column per row, (..., N, M + N); columns need none, they may stay free."""
    return cost if dummy_cost is None else F.pad(cost, (0, cost.shape[-2]), value=dummy_cost)


class BlackboxAssignment(torch.autograd.Function):
    """The assignment y(c) = argmin_y <c, y> with the blackbox gradient; use it by :func:`blackbox_assignment`."""

    @staticmethod
    def forward(ctx: Any, cost: torch.Tensor, step: torch.Tensor, relative: bool) -> torch.Tensor:
        """Solve costs (B, N, M); ``step`` (B,) is lambda, or if ``relative``, lambda times the largest |gradient|."""
        solution = solve_assignment(cost)
        ctx.save_for_backward(cost, solution, step)
        ctx.relative = relative
        return solution

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Solve again at cost + lambda × gradient, and return -(y - y_lambda) / lambda."""
        cost, solution, step = ctx.saved_tensors
        lambda_ = step[:, None, None]
        if ctx.relative:
            largest = grad.abs().amax(dim=(1, 2), keepdim=True)
            lambda_ = lambda_ / torch.where(largest > 0, largest, 1)
        moved = solve_assignment(cost + lambda_ * grad)
        # lambda is 0 only where all costs of a matrix are equal; then nothing has moved
        return -(solution - moved) / torch.where(lambda_ > 0, lambda_, 1), None, None


def blackbox_assignment(cost: torch.Tensor, lambda_: float = 20.0, spread: torch.Tensor | None = None) -> torch.Tensor:
    """Solve the assignment problem, with a gradient (Vlastelica et al. 2020, "Differentiation of Blackbox Solvers").

    With the incoming gradient g = dL/dy, the backward pass solves again at c + λ g and returns
    -(y(c) - y(c + λ g)) / λ, the gradient of a piecewise linear interpolation of L(y(c)). With ``spread`` s,
    λ = (lambda_ / 10) s / max|g|, so that the costs move by lambda_ / 10 times their spread, whatever the number of
    cells, the scale of the costs, the weight of the loss, or the factor of a gradient scaler.

    Args:
        cost: (N, M) or (B, N, M).
        lambda_: λ itself, or with ``spread`` in tenths of it; 15 to 20 is usual.
        spread: (B,) or a scalar, the scale of the costs of each pair, or None to use ``lambda_`` as it is.

    Returns:
        Tensor of the cost's shape, as :func:`solve_assignment`.

    Raises:
        InvalidInputError: ``lambda_`` is not above 0, or as :func:`solve_assignment`.
    """
    if not lambda_ > 0:
        raise InvalidInputError(f"lambda_={lambda_!r} is not valid; expected a number above 0, 15 to 20 as a rule")
    batch = check_cost(cost)
    step = torch.full(batch.shape[:1], float(lambda_), dtype=batch.dtype, device=batch.device)
    if spread is not None:
        step = step * spread.detach().to(batch) / SPREAD_UNIT
    return BlackboxAssignment.apply(batch, step, spread is not None).reshape(cost.shape)


class LinearAssignmentLoss(MatchingLoss):
    """Hamming distance between the assigned and the true permutation matrix, per row, with the blackbox gradient.

    L = 1/n sum_ij y_ij (1 - t_ij) + (1 - y_ij) t_ij, which is 2 (1 - accuracy) where all cells have a counterpart. The
    mean over the pairs of a batch. Without ``dummy_cost``, only the n rows with a counterpart count. With it, all rows
    count, and a row may take a dummy column: 1 for a true match that was left out or an invented one.

    The gradient is :func:`blackbox_assignment`'s. A fixed λ moves the costs by λ / N, which for hundreds of cells is
    too little to change most matches; with ``scale_lambda`` they move by lambda_ / 10 times the mean over rows of the
    standard deviation of a row's costs.

    Args:
        distance: ``"mse"``, ``"l1"`` or ``"cosine"``, see :func:`feature_cost`.
        lambda_: in tenths of the costs' spread, or λ itself without ``scale_lambda``.
        scale_lambda: tie λ to the spread of the costs and to the size of the gradient.
        layer_weights: one per layer of features; None for equal weights that sum to 1.
        dummy_cost: what it costs to leave a cell of the first worm without a counterpart; None to match all.
        chunk: rows at a time for ``"l1"``, see :func:`feature_cost`.

    Raises:
        InvalidInputError: the distance is not known, or ``lambda_`` is not above 0.
    """

    def __init__(
        self,
        distance: str = "mse",
        lambda_: float = 20.0,
        scale_lambda: bool = True,
        layer_weights: Sequence[float] | None = None,
        dummy_cost: float | None = None,
        chunk: int | None = None,
    ) -> None:
        super().__init__(distance, layer_weights, chunk)
        if not lambda_ > 0:
            raise InvalidInputError(f"lambda_={lambda_!r} is not valid; expected a number above 0, 15 to 20 as a rule")
        self.lambda_ = lambda_
        self.scale_lambda = scale_lambda
        self.dummy_cost = dummy_cost
        self._shares: list[float] = []

    @property
    def last_gradient_share(self) -> float:
        """Share of the counted rows with a non-zero gradient, mean over layers; NaN before a backward pass."""
        return sum(self._shares) / len(self._shares) if self._shares else float("nan")

    def _start(self) -> None:
        self._shares = []

    def _loss(self, cost: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        truth = true_matrix(target, cost.shape[-1]).to(cost.dtype)
        counted = torch.ones_like(target, dtype=torch.bool) if self.dummy_cost is not None else target >= 0
        spread = cost.detach().std(dim=-1, correction=0).mean(dim=-1) if self.scale_lambda else None
        cost = self._watched(cost, counted)
        assigned = blackbox_assignment(with_dummies(cost, self.dummy_cost), self.lambda_, spread)[..., : cost.shape[-1]]
        wrong = (assigned * (1 - truth) + (1 - assigned) * truth).sum(-1)
        return ((wrong * counted).sum(-1) / counted.sum(-1)).mean()

    def _watched(self, cost: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        """Return the cost as a tensor of its own, whose gradient is looked at in the backward pass."""
        cost = cost.view_as(cost)
        if cost.requires_grad:
            shares = self._shares
            cost.register_hook(lambda grad: shares.append(float((grad != 0).any(-1)[counted].float().mean())))
        return cost
