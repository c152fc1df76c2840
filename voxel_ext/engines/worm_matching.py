"""Matching and naming worms whose cells have features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.losses.matching_loss import MatchingLoss
from voxel_ext.matching import assign, assignment_margin, combined_cost

NAMING = ("mean_features", "mean_cost", "votes")


@dataclass(frozen=True, eq=False)
class WormFeatures:
    """A worm as the network sees it.

    Attributes:
        name: of the worm.
        features: one tensor (N, F) per layer, by slot, on the CPU; rows of missing cells mean nothing.
        valid: (N,) bool, on the CPU.
        positions: (N, 3) (z, y, x) in voxels, by slot.
        names: of the N cells; "" or beginning with "?" where not known.
    """

    name: str
    features: list[torch.Tensor]
    valid: torch.Tensor
    positions: torch.Tensor
    names: tuple[str, ...]

    @property
    def slots(self) -> NDArray[np.int64]:
        """Slots of the valid cells."""
        return torch.nonzero(self.valid)[:, 0].numpy()

    def layers(self) -> list[torch.Tensor]:
        """Features of the valid cells, (A, F) per layer."""
        return [layer[self.valid] for layer in self.features]


@dataclass(frozen=True, eq=False)
class CellMatches:
    """Which cells of a worm were taken for which cells of another, or for which names.

    Attributes:
        first: name of the worm.
        second: name of the other worm, or of the references.
        rows: (K,) slots of matched cells of the first.
        columns: (K,) slots of their matches.
        cost: (K,) of each match.
        margin: (K,) how much dearer the second best choice is; negative where the cell had to give way.
        matrix: (A, B) cost of all valid cells of the first and the second.
        row_slots: (A,) slots of the rows of ``matrix``, ascending.
        column_slots: (B,) slots of its columns, ascending.
    """

    first: str
    second: str
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    cost: NDArray[np.float64]
    margin: NDArray[np.float64]
    matrix: torch.Tensor
    row_slots: NDArray[np.int64]
    column_slots: NDArray[np.int64]

    @property
    def target(self) -> torch.Tensor:
        """For each row of ``matrix`` the column of the same slot, -1 where there is none."""
        place = {int(slot): i for i, slot in enumerate(self.column_slots)}
        return torch.tensor([place.get(int(slot), -1) for slot in self.row_slots])

    @property
    def assigned(self) -> torch.Tensor:
        """For each row of ``matrix`` the column that it was matched with, -1 where there is none."""
        place = np.full(len(self.row_slots), -1)
        place[np.searchsorted(self.row_slots, self.rows)] = np.searchsorted(self.column_slots, self.columns)
        return torch.from_numpy(place)

    @property
    def accuracy(self) -> float:
        """Share of the cells with a counterpart that were matched with it; NaN if there are none."""
        shared = np.intersect1d(self.row_slots, self.column_slots)
        right = self.rows[self.rows == self.columns]
        return len(right) / len(shared) if len(shared) else float("nan")


def match_worms(
    first: WormFeatures, second: WormFeatures, loss: MatchingLoss, dummy_cost: float | None = None
) -> CellMatches:
    """Match the cells of two worms by linear assignment on their features.

    Args:
        first: a worm.
        second: another.
        loss: the loss that the network was trained with; its cost is used.
        dummy_cost: leave cells unmatched rather than pay this; None matches as many as possible.

    Raises:
        InvalidInputError: a worm has no cells, or the features are not finite (names the worms and the first cells).
    """
    _check_cells(first, second)
    matrix = _cost(first, second, loss)
    return _solve(first.name, second.name, matrix, first.slots, second.slots, dummy_cost)


def name_worm(
    worm: WormFeatures,
    references: Sequence[WormFeatures],
    loss: MatchingLoss,
    method: str = "mean_features",
    dummy_cost: float | None = None,
) -> CellMatches:
    """Name the cells of a worm by several reference worms whose cells are known.

    Args:
        worm: the worm to name.
        references: worms with the same order of slots, which the names belong to.
        loss: the loss that the network was trained with; its cost is used.
        method: "mean_features": the features of each name are averaged over the references, and the worm is matched
            with those; "mean_cost": the costs are averaged over the references; "votes": the worm is matched with
            each, and the assignment with the most votes wins, the mean cost (all in all less than half a vote)
            breaking ties.
        dummy_cost: leave cells unnamed rather than pay this; for "votes" leave them unmatched in the single matchings,
            and unnamed where they have no vote.

    Returns:
        matches whose columns are slots of the references; for "votes" the cost is minus the share of the votes, plus
        what breaks ties.

    Raises:
        InvalidInputError: no references, an unknown method, names or numbers of cells that differ between the
            references, a worm without cells, or features that are not finite.
    """
    check_option("naming", method, NAMING)
    if not references:
        raise InvalidInputError("naming needs at least one reference worm")
    _check_references(references)
    _check_cells(worm, *references)
    title = f"{len(references)} references"
    present = torch.stack([reference.valid for reference in references])
    slots = torch.nonzero(present.any(0))[:, 0].numpy()
    if method == "mean_features":
        matrix = loss.cost(
            [
                (layer, _mean_features([reference.features[i] for reference in references], present)[slots])
                for i, layer in enumerate(worm.layers())
            ]
        )
        return _solve(worm.name, title, matrix, worm.slots, slots, dummy_cost)
    costs = np.full((len(references), len(worm.slots), len(slots)), np.inf)
    for cost, reference in zip(costs, references, strict=True):
        matrix = _cost(worm, reference, loss)
        columns = np.searchsorted(slots, reference.slots)
        cost[:, columns] = _finite(worm.name, reference.name, matrix, worm.slots, reference.slots)
    by_votes = method == "votes"
    combined = combined_cost(list(costs), "votes" if by_votes else "mean", dummy_cost if by_votes else None)
    without = 0.0 if by_votes and dummy_cost is not None else dummy_cost
    return _solve(worm.name, title, torch.from_numpy(combined), worm.slots, slots, without)


def _cost(first: WormFeatures, second: WormFeatures, loss: MatchingLoss) -> torch.Tensor:
    return loss.cost(list(zip(first.layers(), second.layers(), strict=True)))


def _mean_features(layers: list[torch.Tensor], present: torch.Tensor) -> torch.Tensor:
    """Mean over the references that have the cell, (N, F)."""
    known = present[..., None]
    return torch.where(known, torch.stack(layers), 0).sum(0) / known.sum(0).clamp_min(1)


def _check_cells(*worms: WormFeatures) -> None:
    for worm in worms:
        if not len(worm.slots):
            raise InvalidInputError(f"worm {worm.name} has no valid cells")


def _check_references(references: Sequence[WormFeatures]) -> None:
    names: dict[int, tuple[str, str]] = {}
    for reference in references:
        if len(reference.valid) != len(references[0].valid):
            raise InvalidInputError(
                f"reference {reference.name} has {len(reference.valid)} cells, {references[0].name} has "
                f"{len(references[0].valid)}; expected references with the same order of slots"
            )
        for slot, name in enumerate(reference.names):
            if name and not name.startswith("?"):
                earlier, source = names.setdefault(slot, (name, reference.name))
                if earlier != name:
                    raise InvalidInputError(
                        f"references {source} and {reference.name} give slot {slot} (Aligned_No {slot + 1}) different "
                        f"names, {earlier!r} and {name!r}; expected references with the same order of slots"
                    )


def _solve(
    first: str,
    second: str,
    matrix: torch.Tensor,
    row_slots: NDArray[np.int64],
    column_slots: NDArray[np.int64],
    dummy_cost: float | None,
) -> CellMatches:
    cost = _finite(first, second, matrix, row_slots, column_slots)
    rows, columns = assign(cost, dummy_cost)
    margin = assignment_margin(cost, rows, columns)
    return CellMatches(
        first,
        second,
        row_slots[rows],
        column_slots[columns],
        cost[rows, columns],
        margin,
        matrix.detach(),
        row_slots,
        column_slots,
    )


def _finite(
    first: str,
    second: str,
    matrix: torch.Tensor,
    row_slots: NDArray[np.int64],
    column_slots: NDArray[np.int64],
) -> NDArray[np.float64]:
    """A cost matrix as an array, refused where it is not finite."""
    cost = matrix.detach().double().cpu().numpy()
    wrong = ~np.isfinite(cost)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise InvalidInputError(
            f"{first} cannot be matched with {second}: the cost of slot {row_slots[row]} of the one and slot "
            f"{column_slots[column]} of the other is {cost[row, column]} ({int(wrong.all(1).sum())} of {len(cost)} "
            f"rows and {int(wrong.all(0).sum())} of {cost.shape[1]} columns are not finite throughout); check "
            "the features (damaged weights, float16 overflow, NaN in the images?)"
        )
    return cost
