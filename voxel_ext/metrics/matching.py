"""How many cells of a worm were matched with the same cell of another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from monai.utils import convert_to_tensor

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses.linear_assignment import match_cells
from voxel_ext.losses.matching_loss import check_cost, check_matches

# what is stored for a cell of a pair instead of the index of the cell that it was matched with
ABSENT, UNMATCHED, UNKNOWN = -3, -2, -1


def left_right_partners(names: Sequence[str]) -> torch.Tensor:
    """Find for each cell the one on the other side, by its name: one letter L or R is the other letter there.

    As in ADAL and ADAR, DL1 and DR1, CCLA and CCRA. Where several letters could be exchanged, the last one counts.

    Args:
        names: of the cells, each once.

    Returns:
        Tensor (number of names,) int64, the index of the partner, -1 where there is none.

    Raises:
        InvalidInputError: a name is there twice.
    """
    index = {name: i for i, name in enumerate(names)}
    if len(index) != len(names):
        twice = next(name for i, name in enumerate(names) if index[name] != i)
        raise InvalidInputError(f"the cell name {twice!r} is there twice; expected every name once")
    partners = torch.full((len(names),), -1, dtype=torch.int64)
    for name, i in index.items():
        for k in reversed([k for k, letter in enumerate(name) if letter == "L"]):
            j = index.get(name[:k] + "R" + name[k + 1 :])
            if j is not None and partners[j] < 0:
                partners[i], partners[j] = j, i
                break
    return partners


class MatchingAccuracy(CumulativeIterationMetric):
    """Accuracy of matching, over pairs of worms, by cell, and by group of pairs (equal or opposite roll).

    Called with costs and true matches, as (B, N, M) and (B, N) or as lists of (N, M) and (N,):
    ``metric(cost, target, cells=…, column_cells=…, group=…, matches=…)``, or with a dictionary of ``target`` and these
    as ``y``, which an ``IgniteMetricHandler`` can pass on. The rest is optional, one entry per pair:

    - ``cells`` (B, N): the identity of each row, i for row i by default; needed where cells are shuffled.
    - ``column_cells`` (B, M): the identity of each column; by default known for columns with a counterpart only.
    - ``group`` (B,): index into ``groups``, or -1.
    - ``matches`` (B, N): the column that each row was matched with, or -1; by default the cost's optimal assignment.

    The buffer has for each pair a row (3, number of cells) of integers, indexed by identity: the cell it was matched
    with (-1 one without a counterpart, -2 none, -3 not counted), the rank of the true column, and the group.

    Args:
        names: of the cells by identity, for :meth:`per_cell` and the confusion between left and right.
        num_cells: number of identities; None for the number of names, or without names the N of the first pair.
        top_k: a cell counts as found within k if fewer than k other columns cost as little as the true one.
        groups: names of the groups of pairs that are reported apart.

    Raises:
        InvalidInputError: ``num_cells`` and ``names`` disagree, a name is there twice, or a k is below 1.
    """

    def __init__(
        self,
        names: Sequence[str] | None = None,
        num_cells: int | None = None,
        top_k: Sequence[int] = (1, 3, 5),
        groups: Sequence[str] = ("equal_roll", "opposite_roll"),
    ) -> None:
        super().__init__()
        if names is not None and num_cells not in (None, len(names)):
            raise InvalidInputError(f"num_cells={num_cells} but there are {len(names)} names; give one of them")
        if not all(k >= 1 for k in top_k):
            raise InvalidInputError(f"top_k={tuple(top_k)} is not valid; expected numbers of at least 1")
        self.names = None if names is None else list(names)
        self.partners = None if names is None else left_right_partners(names)
        self.num_cells = num_cells if names is None else len(names)
        self.top_k = tuple(top_k)
        self.groups = tuple(groups)

    def __call__(self, y_pred: Any, y: Any = None, **kwargs: Any) -> Any:
        """Add pairs; see the class for the arguments.

        Raises:
            InvalidInputError: a shape does not fit, a cost is not finite, or a match, identity or group is not valid.
        """
        if isinstance(y, Mapping):
            kwargs = {**{key: value for key, value in y.items() if key != "target"}, **kwargs}
            y = y.get("target")
        if y is None:
            raise InvalidInputError("MatchingAccuracy needs the true matches, y, as well as the costs")
        unknown = set(kwargs) - {"cells", "column_cells", "group", "matches"}
        if unknown:
            raise InvalidInputError(f"MatchingAccuracy does not know {sorted(unknown)}; see its docstring")
        if not isinstance(y_pred, list | tuple) and y_pred.ndim == 2:  # one pair
            y_pred, y, kwargs = [y_pred], [y], {key: [value] for key, value in kwargs.items()}
        if not len(y_pred) == len(y) == min((len(value) for value in kwargs.values()), default=len(y)):
            raise InvalidInputError(
                f"there are {len(y_pred)} costs but {len(y)} targets; expected one of each per pair"
            )
        return super().__call__(list(y_pred), list(y), **kwargs)

    def _compute_list(self, y_pred: Any, y: Any = None, **kwargs: Any) -> torch.Tensor:
        return torch.stack(
            [
                self._compute_tensor(cost, target, **{key: value[i] for key, value in kwargs.items()})
                for i, (cost, target) in enumerate(zip(y_pred, y, strict=True))
            ]
        )

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        """Compute the row of the buffer, (3, number of cells), of one pair."""
        cost = check_cost(convert_to_tensor(y_pred, track_meta=False).detach())
        target = check_matches(y, cost.shape)[0].to(cost.device)
        cost, (n, m) = cost[0], cost.shape[1:]
        self.num_cells = self.num_cells or n
        cells = self._cells("cells", kwargs.get("cells", torch.arange(n)), n).to(cost.device)
        columns = torch.full((m,), UNKNOWN, device=cost.device)
        columns[target[target >= 0]] = cells[target >= 0]
        if "column_cells" in kwargs:
            columns = self._cells("column_cells", kwargs["column_cells"], m).to(cost.device)
            if not torch.equal(columns[target[target >= 0]], cells[target >= 0]):
                raise InvalidInputError("cells and column_cells differ for a true match; expected the same identity")
        matches = _matches(kwargs.get("matches"), cost)
        group = int(kwargs.get("group", -1))
        if not -1 <= group < len(self.groups):
            raise InvalidInputError(f"group={group} is not valid; expected an index into {self.groups}, or -1")
        present = target >= 0
        matched = torch.where(matches >= 0, columns[matches], UNMATCHED)
        rank = (cost <= cost.gather(1, target.clamp(min=0)[:, None])).sum(1) - 1
        row = torch.full((3, self.num_cells), ABSENT, device=cost.device)
        row[0, cells[present]] = matched[present]
        row[1, cells[present]] = rank[present]
        row[2] = group
        return row

    def _cells(self, name: str, cells: Any, count: int) -> torch.Tensor:
        """Return identities as int64, or refuse them."""
        cells = torch.as_tensor(cells)
        if cells.shape != (count,) or cells.is_floating_point() or len(torch.unique(cells)) != count:
            raise InvalidInputError(
                f"{name} has shape {tuple(cells.shape)}; expected {count} different integers per pair"
            )
        if cells.min() < 0 or cells.max() >= (self.num_cells or 0):
            raise InvalidInputError(
                f"{name} has values from {int(cells.min())} to {int(cells.max())}; expected identities from 0 to "
                f"{(self.num_cells or 0) - 1} (set num_cells or names)"
            )
        return cells.to(torch.int64)

    def aggregate(self) -> dict[str, float]:
        """Return the figures over all pairs; every pair weighs the same.

        Returns:
            ``accuracy``: fraction of the cells with a counterpart that were matched with it. ``accuracy_se``: its
            standard error over pairs (as if they were independent; pairs that share worms are not), NaN for one pair.
            ``top_<k>``: fraction whose counterpart is among the k cheapest. ``left_right``, with names: fraction
            of the cells with a partner on the other side that were matched with that. ``pairs``: number of pairs. For
            each group that occurs, ``accuracy_<group>``, ``accuracy_se_<group>`` and ``pairs_<group>``.

        Raises:
            InvalidInputError: nothing was measured since the last reset.
        """
        matched, rank, group = self._measured()
        counted = matched != ABSENT
        right = matched == torch.arange(matched.shape[1], device=matched.device)
        accuracy = _share(right, counted)
        result = _summary(accuracy, "")
        for k in self.top_k:
            result[f"top_{k}"] = float(_share(rank < k, counted).mean())
        if self.partners is not None:
            partners = self.partners.to(matched.device)
            swapped = _share(matched == partners, counted & (partners >= 0))
            result["left_right"] = float(swapped.nanmean())
        for i, name in enumerate(self.groups):
            if (group == i).any():
                result |= _summary(accuracy[group == i], f"_{name}")
        return result

    def per_cell(self) -> list[dict[str, Any]]:
        """Return one row per cell, for a table or ``pandas.DataFrame``.

        Returns:
            Dictionaries of ``cell`` (identity), ``name`` (with names), ``pairs`` (in which it has a counterpart),
            ``accuracy``, ``top_<k>``, ``left_right`` (with names, NaN without a partner), ``confused_with`` (the cell
            that it was wrongly matched with most often, its name if there are names, None if there is none).

        Raises:
            InvalidInputError: nothing was measured since the last reset.
        """
        matched, rank, _ = (x.cpu() for x in self._measured())
        rows = []
        for i in range(matched.shape[1]):
            counted = matched[:, i] != ABSENT
            found, ranks = matched[counted, i], rank[counted, i]
            wrong, counts = torch.unique(found[(found >= 0) & (found != i)], return_counts=True)
            worst = int(wrong[counts.argmax()]) if len(wrong) else None
            row: dict[str, Any] = {"cell": i, "pairs": len(found), "accuracy": _mean(found == i)}
            row |= {f"top_{k}": _mean(ranks < k) for k in self.top_k}
            if self.names is not None and self.partners is not None:
                partner = int(self.partners[i])
                row |= {"name": self.names[i], "left_right": _mean(found == partner) if partner >= 0 else math.nan}
                row["confused_with"] = None if worst is None else self.names[worst]
            else:
                row["confused_with"] = worst
            rows.append(row)
        return rows

    def _measured(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the identity of each match and the rank of the truth, (pairs, cells), and the groups (pairs,)."""
        rows = self.get_buffer()
        if rows is None:
            raise InvalidInputError("MatchingAccuracy has nothing to aggregate; call it with costs and targets first")
        return rows[:, 0], rows[:, 1], rows[:, 2, 0]


def _matches(matches: Any, cost: torch.Tensor) -> torch.Tensor:
    """Return given matches (N,), or refuse them, or the optimal ones of a cost (N, M)."""
    if matches is None:
        return match_cells(cost)
    matches = torch.as_tensor(matches).to(cost.device)
    n, m = cost.shape
    if matches.shape != (n,) or matches.is_floating_point() or matches.min() < -1 or matches.max() >= m:
        raise InvalidInputError(
            f"matches of shape {tuple(matches.shape)} are not valid; expected {n} columns of {m} or -1"
        )
    return matches.to(torch.int64)


def _share(hits: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Return the fraction of the counted cells (pairs, cells) that are hits, per pair; NaN where none counts."""
    return (hits & counted).sum(1).double() / counted.sum(1)


def _mean(hits: torch.Tensor) -> float:
    """Return the fraction of hits, NaN of none."""
    return float(hits.double().mean()) if len(hits) else math.nan


def _summary(accuracy: torch.Tensor, suffix: str) -> dict[str, float]:
    """Return mean, standard error and number of the accuracies of pairs."""
    n = len(accuracy)
    error = float(accuracy.std() / math.sqrt(n)) if n > 1 else math.nan
    return {f"accuracy{suffix}": float(accuracy.mean()), f"accuracy_se{suffix}": error, f"pairs{suffix}": float(n)}
