"""What the matching losses share: checks of costs and true matches, and features of several layers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from monai.utils import convert_to_tensor
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.losses.matching_cost import DISTANCES, feature_cost

# features of one layer: a stack (..., 2, N, F), or a tuple of (..., N, F) and (..., M, F)
Pair = torch.Tensor | tuple[torch.Tensor, torch.Tensor]


def check_cost(cost: torch.Tensor) -> torch.Tensor:
    """Return a cost as (B, N, M), or refuse it.

    Args:
        cost: (N, M) or (B, N, M).

    Raises:
        InvalidInputError: it has another number of axes, or a value that is not finite (says in which pair and where).
    """
    if cost.ndim not in (2, 3) or 0 in cost.shape[-2:]:
        raise InvalidInputError(f"the cost has shape {tuple(cost.shape)}; expected (N, M) or (B, N, M) with N, M > 0")
    cost = cost if cost.ndim == 3 else cost[None]
    bad = ~torch.isfinite(cost.detach())
    if bad.any():
        pair, row, column = bad.nonzero()[0].tolist()
        rows = int(bad[pair].any(dim=1).sum())
        columns = int(bad[pair].any(dim=0).sum())
        raise InvalidInputError(
            f"the cost matrix of pair {pair} ({cost.shape[1]} × {cost.shape[2]}) has values that are not finite in "
            f"{rows} rows and {columns} columns, the first, {float(cost[pair, row, column])}, at row {row}, column "
            f"{column}; check the features of these cells (learning rate too high, float16 overflow, empty cubes?)"
        )
    return cost


def check_matches(target: Any, shape: Sequence[int]) -> torch.Tensor:
    """Return the true matches as (B, N) int64, or refuse them.

    Args:
        target: (N,) or (B, N) integers, the column that is the same cell as each row, -1 where there is none.
        shape: (B, N, M) of the cost.

    Raises:
        InvalidInputError: the shape does not fit, the values are not integers, one is below -1 or no column, a column
            is the match of two rows, or no row of a pair has a match.
    """
    batch, rows, columns = shape
    target = convert_to_tensor(target, track_meta=False)
    if target.is_floating_point() or target.dtype == torch.bool:
        raise InvalidInputError(f"the target has type {target.dtype}; expected integers, the index of a column or -1")
    target = target.to(torch.int64)
    target = target[None] if target.ndim == 1 else target
    if target.shape != (batch, rows):
        raise InvalidInputError(
            f"the target has shape {tuple(target.shape)}; expected ({batch}, {rows}) for a cost of {tuple(shape)}"
        )
    for pair, matches in enumerate(target):
        low, high = int(matches.min()), int(matches.max())
        if low < -1 or high >= columns:
            raise InvalidInputError(
                f"the target of pair {pair} has values from {low} to {high}; "
                f"expected a column from 0 to {columns - 1}, or -1 for a cell without a counterpart"
            )
        values, counts = torch.unique(matches[matches >= 0], return_counts=True)
        if not len(values):
            raise InvalidInputError(
                f"the target of pair {pair} is -1 throughout; expected cells that are in both worms"
            )
        if counts.max() > 1:
            twice = int(values[counts.argmax()])
            raise InvalidInputError(
                f"the target of pair {pair} has column {twice} for {int(counts.max())} rows; expected every column once"
            )
    return target


def feature_pairs(features: Pair | list[Pair]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the features of both worms for each layer.

    Args:
        features: one layer, a tensor (..., 2, N, F) or a **tuple** of (..., N, F) and (..., M, F); or a **list** of
            layers, each of these.

    Raises:
        InvalidInputError: it is none of these.
    """
    layers = features if isinstance(features, list) else [features]
    pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
    for layer in layers:
        if isinstance(layer, torch.Tensor) and layer.ndim in (3, 4) and layer.shape[-3] == 2:
            pairs.append((layer.select(-3, 0), layer.select(-3, 1)))
        elif isinstance(layer, tuple) and len(layer) == 2:
            pairs.append(layer)
        else:
            found = f"a tensor {tuple(layer.shape)}" if isinstance(layer, torch.Tensor) else type(layer).__name__
            raise InvalidInputError(
                f"the features are {found}; expected a tensor (2, N, F) or (B, 2, N, F), a tuple of the two worms' "
                "(N, F) and (M, F), or a list of these for several layers"
            )
    if not pairs:
        raise InvalidInputError("the list of features is empty; expected at least one layer")
    return pairs


class MatchingLoss(_Loss):
    """Base of the losses that compare a cost matrix with the true matches.

    With several layers of features the loss is the weighted sum of the layers' losses.

    Args:
        distance: of the features, see :func:`feature_cost`.
        layer_weights: one per layer; None for equal weights that sum to 1.
        chunk: see :func:`feature_cost`.

    Raises:
        InvalidInputError: the distance is not known.
    """

    def __init__(
        self, distance: str = "mse", layer_weights: Sequence[float] | None = None, chunk: int | None = None
    ) -> None:
        super().__init__()
        self.distance = check_option("distance", distance, DISTANCES)
        self.layer_weights = None if layer_weights is None else tuple(layer_weights)
        self.chunk = chunk

    def forward(self, features: Pair | list[Pair], target: torch.Tensor) -> torch.Tensor:
        """Compute the loss of features.

        Args:
            features: of a pair of worms, (2, N, F); of a batch of pairs, (B, 2, N, F); a tuple of (N, F) and (M, F) or
                of (B, N, F) and (B, M, F); or a list of these, one per layer.
            target: (N,) or (B, N) integers, the column (cell of the second worm) that is the same cell as each row,
                -1 where there is none.

        Raises:
            InvalidInputError: shapes or values do not fit, see :func:`feature_cost` and :func:`check_matches`.
        """
        self._start()
        losses = [self._checked_loss(cost, target) for cost in self._layer_costs(features)]
        return torch.stack([w * one for w, one in zip(self._weights(len(losses)), losses, strict=True)]).sum()

    def from_cost(self, cost: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Compute the loss of a cost, for example of features and positions together.

        Args:
            cost: (N, M) or (B, N, M), any floating type.
            target: as in :meth:`forward`.

        Raises:
            InvalidInputError: the cost is not finite, or the target does not fit it.
        """
        self._start()
        return self._checked_loss(cost, target)

    def _checked_loss(self, cost: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of one cost in float32."""
        cost = check_cost(convert_to_tensor(cost, track_meta=False))
        target = check_matches(target, cost.shape).to(cost.device)
        with torch.autocast(cost.device.type, enabled=False):
            return self._loss(cost if cost.dtype == torch.float64 else cost.float(), target)

    def cost(self, features: Pair | list[Pair]) -> torch.Tensor:
        """Return the cost (N, M) or (B, N, M), the weighted sum over layers, for the final match."""
        costs = self._layer_costs(features)
        return torch.stack([w * one for w, one in zip(self._weights(len(costs)), costs, strict=True)]).sum(0)

    def _layer_costs(self, features: Pair | list[Pair]) -> list[torch.Tensor]:
        return [feature_cost(a, b, self.distance, self.chunk) for a, b in feature_pairs(features)]

    def _weights(self, layers: int) -> tuple[float, ...]:
        if self.layer_weights is None:
            return (1 / layers,) * layers
        if len(self.layer_weights) != layers:
            raise InvalidInputError(
                f"layer_weights has {len(self.layer_weights)} values, but there are {layers} layers"
            )
        return self.layer_weights

    def _start(self) -> None:
        """Forget what the last call has left, for losses that keep something."""

    @abstractmethod
    def _loss(self, cost: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of checked input, (B, N, M) in float32 or float64 and (B, N)."""


def true_matrix(target: torch.Tensor, columns: int) -> torch.Tensor:
    """Return the true permutation matrix (B, N, M), boolean, of matches (B, N); a row of -1 is empty."""
    return F.one_hot(target + 1, columns + 1)[..., 1:].bool()
