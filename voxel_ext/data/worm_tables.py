"""Tables of matched and named cells as CSV files, and what they say about each cell."""

from __future__ import annotations

import csv
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.files import atomic_path
from voxel_ext.metrics.matching import left_right_partners

Row = dict[str, Any]


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
    slots = np.flatnonzero(known)
    local = left_right_partners([names[i] for i in slots]).numpy()
    partners = np.full(len(names), -2)
    partners[slots] = [slots[partner] if partner >= 0 else -2 for partner in local]
    counters: list[Counter[int]] = [Counter() for _ in names]
    for true, other in found:
        a, b = np.asarray(true), np.asarray(other)
        if a.shape != b.shape or (len(a) and not (0 <= a.min() and a.max() < len(names) and b.max() < len(names))):
            raise InvalidInputError(f"identities of the shapes {a.shape} and {b.shape} are not pairs of 0 to {len(names) - 1}")
        for i, j in zip(a.tolist(), b.tolist(), strict=True):
            counters[i][j] += 1
    return [_cell_row(int(i), names, int(partners[i]), counters[i]) for i in slots if counters[i]]


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
