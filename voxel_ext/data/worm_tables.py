"""Tables of matched and named cells as CSV files, and what they say about each cell."""

from __future__ import annotations

import csv
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.files import atomic_path
from voxel_ext.metrics.matching import left_right_partners

Row = dict[str, Any]

PAIR_COLUMNS = ("cell_a", "slot_a", "cell_b", "slot_b", "cost", "margin")
"""Columns about a pair of worms; ``correct`` follows where the truth is known."""
NAME_COLUMNS = ("slot", "z", "y", "x", "name", "cost", "margin")
"""Columns about a named worm; ``true_name`` and ``correct`` follow where the truth is known."""
CELL_COLUMNS = ("slot", "name", "source", "count", "accuracy", "left_right", "confused_with", "confused")
"""Columns about the cells over all worms."""


@dataclass(frozen=True, eq=False)
class FoundCells:
    """Which cells of a worm were taken for which of another worm, or for which names.

    Attributes:
        first: name of the worm.
        second: name of the other worm, or of what gave the names.
        rows: (K,) matched cells of the worm.
        columns: (K,) what they were matched with.
        cost: (K,) of each match.
        margin: (K,) how much dearer the second best choice is.
        positions: (N, 3) zyx voxels of the worm; NaN where missing.
        names: of its N cells; "" or beginning with "?" where not known.
        other_names: of the M cells or names that could be found.
        other_present: (M,) bool, which of them were there.
        truth: whether the names of the worm can be used to tell right from wrong.
        other_positions: (M, 3) of the other worm; None for names.
        opposite: whether the two worms lie on opposite sides; None where that is not known.
    """

    first: str
    second: str
    rows: NDArray[np.integer]
    columns: NDArray[np.integer]
    cost: NDArray[np.floating]
    margin: NDArray[np.floating]
    positions: NDArray[np.floating]
    names: tuple[str, ...]
    other_names: tuple[str, ...]
    other_present: NDArray[np.bool_]
    truth: bool = True
    other_positions: NDArray[np.floating] | None = None
    opposite: bool | None = None

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Which of the N cells are there."""
        return np.asarray(np.isfinite(self.positions).all(axis=1))

    @cached_property
    def counted(self) -> NDArray[np.int64]:
        """(C, 3): cells whose counterpart is known and there, the counterpart, and what was found, -1 for nothing."""
        if not self.truth:
            return np.zeros((0, 3), np.int64)
        usable = known_names(self.other_names) & self.other_present
        place = {self.other_names[j]: int(j) for j in np.flatnonzero(usable)}
        taken = dict(zip(self.rows.tolist(), self.columns.tolist(), strict=True))
        cells = [i for i in np.flatnonzero(self.present).tolist() if self.names[i] in place]
        return np.array([(i, place[self.names[i]], taken.get(i, -1)) for i in cells], np.int64).reshape(-1, 3)

    @property
    def accuracy(self) -> float:
        """Share of the counted cells that were found; NaN if there are none."""
        counted = self.counted
        return float((counted[:, 1] == counted[:, 2]).mean()) if len(counted) else math.nan

    @cached_property
    def correct(self) -> list[bool | None]:
        """For each of the K matches whether it is right; None where a name is not known."""
        if not self.truth:
            return [None] * len(self.rows)
        known, other = known_names(self.names), known_names(self.other_names)
        return [
            self.names[i] == self.other_names[j] if known[i] and other[j] else None
            for i, j in zip(self.rows.tolist(), self.columns.tolist(), strict=True)
        ]

    def pair_rows(self) -> list[Row]:
        """One row per match, see :data:`PAIR_COLUMNS`."""
        return [
            {
                "cell_a": self.names[i],
                "slot_a": i,
                "cell_b": self.other_names[j],
                "slot_b": j,
                "cost": float(self.cost[k]),
                "margin": float(self.margin[k]),
                "correct": self.correct[k],
            }
            for k, (i, j) in enumerate(zip(self.rows.tolist(), self.columns.tolist(), strict=True))
        ]

    def name_rows(self) -> list[Row]:
        """One row per cell that is there, see :data:`NAME_COLUMNS`; without a name ``name`` is empty."""
        place = {int(i): k for k, i in enumerate(self.rows)}
        known = known_names(self.names)
        rows = []
        for i in np.flatnonzero(self.present).tolist():
            row: Row = {"slot": i, **dict(zip("zyx", self.positions[i].tolist(), strict=True)), "name": ""}
            if self.truth and known[i]:
                row["true_name"] = self.names[i]
            if (k := place.get(i)) is not None:
                row |= {"name": self.other_names[self.columns[k]], "correct": self.correct[k]}
                row |= {"cost": float(self.cost[k]), "margin": float(self.margin[k])}
            rows.append(row)
        return rows

    def summary(self) -> Row:
        """One row about the worm or the pair; accuracies only where the truth is known."""
        pair = self.other_positions is not None
        row: Row = {"worm_a": self.first, "worm_b": self.second} if pair else {"worm": self.first}
        row |= {"cells": int(self.present.sum()), "matched" if pair else "named": len(self.rows)}
        if len(self.counted):
            row["accuracy"] = self.accuracy
        if self.opposite is not None:
            row["opposite_roll"] = bool(self.opposite)
        return row | {"mean_cost": _mean(self.cost), "mean_margin": _mean(self.margin)}


def _mean(values: NDArray[np.floating]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan


def write_rows(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> Path:
    """Write a CSV file (UTF-8, one line of column names), whole or not at all.

    Args:
        path: the file.
        rows: one mapping per line. Numbers have seven significant digits; None and NaN become empty, truth values
            ``true`` and ``false``.
        columns: which entries to write, in this order; one that a row lacks is empty.

    Returns:
        the file.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_field(row.get(column)) for column in columns])
    return Path(path)


def _field(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return ""
    return f"{float(value):.7g}" if isinstance(value, float | np.floating) else str(value)


def file_names(names: Sequence[str]) -> list[str]:
    """Return names that can be those of files, each once.

    Args:
        names: of worms; anything but letters, digits, ``.``, ``-`` and ``_`` becomes ``_``, and a name that was there
            before gets a number.
    """
    result: list[str] = []
    taken: set[str] = set()
    for name in names:
        plain = re.sub(r"[^\w.-]", "_", name).lstrip(".") or "_"
        unique, number = plain, 1
        while unique.lower() in taken:
            number += 1
            unique = f"{plain}_{number}"
        taken.add(unique.lower())
        result.append(unique)
    return result


def known_names(names: Sequence[str]) -> NDArray[np.bool_]:
    """Tell which names (N,) are known: not empty, and not beginning with a question mark."""
    return np.array([bool(name) and not name.startswith("?") for name in names], dtype=bool)


def cell_rows(names: Sequence[str], found: Iterable[tuple[ArrayLike, ArrayLike]]) -> list[Row]:
    """Count how often each cell was found, and what else it was taken for.

    Args:
        names: of the N identities; those not known are left out.
        found: for each worm or pair of worms the true identities (K,) and those that were found (K,), -1 for none.

    Returns:
        for each cell that occurs ``slot`` (its identity), ``name``, ``count``, ``accuracy``, ``left_right`` (share
        taken for the partner on the other side; NaN without one), ``confused_with`` (the name it was wrongly given
        most often, None if there is none) and ``confused`` (how often).

    Raises:
        InvalidInputError: an identity outside, or a known name that is there twice.
    """
    known = known_names(names)
    slots: list[int] = np.flatnonzero(known).tolist()
    local = left_right_partners([names[i] for i in slots]).numpy()
    partners = np.full(len(names), -2)
    partners[slots] = [slots[partner] if partner >= 0 else -2 for partner in local]
    counters: list[Counter[int]] = [Counter() for _ in names]
    for true, other in found:
        a, b = np.asarray(true), np.asarray(other)
        if a.shape != b.shape or (len(a) and (a.min() < 0 or max(a.max(), b.max()) >= len(names))):
            raise InvalidInputError(
                f"identities of the shapes {a.shape} and {b.shape} are not pairs of 0 to {len(names) - 1}"
            )
        for i, j in zip(a.tolist(), b.tolist(), strict=True):
            counters[i][j] += 1
    return [_cell_row(i, names, int(partners[i]), counters[i]) for i in slots if counters[i]]


def _cell_row(slot: int, names: Sequence[str], partner: int, counter: Counter[int]) -> Row:
    total = counter.total()
    wrong = [(count, -other) for other, count in counter.items() if other not in (slot, -1)]
    count, other = max(wrong, default=(0, 0))
    return {
        "slot": slot,
        "name": names[slot],
        "count": total,
        "accuracy": counter[slot] / total,
        "left_right": counter[partner] / total if partner >= 0 else math.nan,
        "confused_with": (names[-other] or f"slot {-other}") if count else None,
        "confused": count,
    }


def per_cell_rows(names: Sequence[str], pairs: Sequence[FoundCells], namings: Sequence[FoundCells]) -> list[Row]:
    """Return :func:`cell_rows` over pairs of worms (``source`` "pairs") and over named worms ("naming").

    Args:
        names: of the cells that could be found, as ``other_names`` of all.
        pairs: matched pairs of worms.
        namings: named worms.
    """
    parts = (("pairs", pairs), ("naming", namings))
    return [
        {"source": source, **row}
        for source, found in parts
        for row in cell_rows(names, [(item.counted[:, 1], item.counted[:, 2]) for item in found])
    ]


def write_tables(
    folder: str | os.PathLike[str], pairs: Sequence[FoundCells], namings: Sequence[FoundCells], cells: Sequence[Row]
) -> None:
    """Write the CSV files that :class:`~voxel_ext.handlers.WormReportHandler` describes.

    Args:
        folder: to write to.
        pairs: matched pairs of worms.
        namings: named worms.
        cells: rows of ``per_cell.csv``; no file without any.

    Raises:
        OSError: a file cannot be written.
    """
    folder = Path(folder)
    for title, item in zip(file_names([f"{item.first}__{item.second}" for item in pairs]), pairs, strict=True):
        columns = [*PAIR_COLUMNS, *(["correct"] if len(item.counted) else [])]
        write_rows(folder / "pairs" / f"{title}.csv", item.pair_rows(), columns)
    for title, item in zip(file_names([item.first for item in namings]), namings, strict=True):
        columns = [*NAME_COLUMNS, *(["true_name", "correct"] if len(item.counted) else [])]
        write_rows(folder / "names" / f"{title}.csv", item.name_rows(), columns)
    for file, found in (("pairs.csv", pairs), ("names.csv", namings)):
        rows = [item.summary() for item in found]
        if rows:
            write_rows(folder / file, rows, max((list(row) for row in rows), key=len))
    if cells:
        write_rows(folder / "per_cell.csv", cells, CELL_COLUMNS)
