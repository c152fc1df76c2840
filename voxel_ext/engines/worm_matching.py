"""Matching and naming worms whose cells have features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.losses.matching_loss import MatchingLoss
from voxel_ext.matching import assign, assignment_margin

NAMING = ("mean_features", "mean_cost", "votes")


@dataclass(frozen=True, eq=False)
class WormFeatures:
    """A worm as the network sees it.

    Attributes:
        name: of the worm.
        features: one tensor (N, F) per layer, by slot; rows of missing cells mean nothing.
        valid: (N,) bool.
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
        row_slots: (A,) slots of the rows of ``matrix``.
        column_slots: (B,) slots of its columns.
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
        InvalidInputError: a worm has no cells, or the features are not finite.
    """
    for worm in (first, second):
        if not len(worm.slots):
            raise InvalidInputError(f"worm {worm.name} has no valid cells")
    matrix = loss.cost(list(zip(first.layers(), second.layers(), strict=True)))
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
            each, and the assignment with the most votes wins, the mean cost (less than a vote) breaking ties.
        dummy_cost: leave cells unnamed rather than pay this (for "votes", with a share of the votes of zero or less).

    Returns:
        matches whose columns are slots of the references; for "votes" the cost is minus the share of the votes.

    Raises:
        InvalidInputError: no references, an unknown method, or names that differ between the references.
    """
    check_option("naming", method, NAMING)
    if not references:
        raise InvalidInputError("naming needs at least one reference worm")
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
    place = np.full(present.shape[1], -1)
    place[slots] = np.arange(len(slots))
    total = torch.zeros(len(worm.slots), len(slots))
    count = torch.zeros(len(slots))
    votes = torch.zeros_like(total)
    for reference in references:
        found = match_worms(worm, reference, loss)
        columns = torch.from_numpy(place[found.column_slots])
        total[:, columns] += found.matrix.float().cpu()
        count[columns] += 1
        row = {int(slot): i for i, slot in enumerate(found.row_slots)}
        votes[[row[int(slot)] for slot in found.rows], place[found.columns]] += 1 / len(references)
    mean = total / count
    if method == "votes":
        spread = (mean.max() - mean.min()).clamp_min(1e-12)
        mean = -votes + (mean - mean.min()) / spread * 0.5 / len(references)
    return _solve(worm.name, title, mean, worm.slots, slots, dummy_cost)


def _mean_features(layers: list[torch.Tensor], present: torch.Tensor) -> torch.Tensor:
    """Mean over the references that have the cell, (N, F)."""
    weight = present.float()[..., None]
    return (torch.stack(layers) * weight).sum(0) / weight.sum(0).clamp_min(1)


def _solve(
    first: str,
    second: str,
    matrix: torch.Tensor,
    row_slots: NDArray[np.int64],
    column_slots: NDArray[np.int64],
    dummy_cost: float | None,
) -> CellMatches:
    cost = matrix.detach().double().cpu().numpy()
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
