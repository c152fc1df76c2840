"""The table of a worm's cells: a tab-separated file with name, position and number of each."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.files import atomic_path

COLUMNS = ("label_number", "label_name", "x", "y", "z", "Aligned_No")
"""The columns of a coordinate file, as MA_FeatureLearning has them."""


@dataclass(frozen=True, eq=False)
class WormTable:
    """The annotated cells of one worm.

    Args:
        names: of the N cells, each once.
        positions: (N, 3) float64, (z, y, x) in voxels of the worm's own volume; x is the body axis.
        numbers: (N,) int64, the identities from 1 on (``Aligned_No``), each once.
        label_numbers: (N,) int64, the annotation's own numbers of the cells.
        path: the file they were read from, for messages.

    Raises:
        InvalidInputError: lengths that differ, NaN, or a number below 1 or twice.
    """

    names: tuple[str, ...]
    positions: NDArray[np.float64]
    numbers: NDArray[np.int64]
    label_numbers: NDArray[np.int64]
    path: str = ""

    def __post_init__(self) -> None:
        for name, dtype in (("positions", np.float64), ("numbers", np.int64), ("label_numbers", np.int64)):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=dtype))
        object.__setattr__(self, "names", tuple(str(name) for name in self.names))
        count = len(self.names)
        shapes = (self.positions.shape, self.numbers.shape, self.label_numbers.shape)
        if shapes != ((count, 3), (count,), (count,)):
            raise InvalidInputError(
                f"{self.source}: {count} names, but positions, numbers and label_numbers have the shapes {shapes}; "
                f"expected {(count, 3)}, {(count,)}, {(count,)}"
            )
        if not np.isfinite(self.positions).all():
            raise InvalidInputError(f"{self.source}: positions have NaN or infinite values; leave those cells out")
        if count and (self.numbers.min() < 1 or len(np.unique(self.numbers)) < count):
            raise InvalidInputError(f"{self.source}: numbers must be different and at least 1, got {self.numbers}")

    @property
    def source(self) -> str:
        """The file's name, or words that stand for it."""
        return self.path or "the table of cells"

    @property
    def centers(self) -> NDArray[np.int64]:
        """The voxels (N, 3) that hold the positions: rounded, halves up, floor(p + 0.5)."""
        return np.floor(self.positions + 0.5).astype(np.int64)

    def __len__(self) -> int:
        return len(self.names)


def read_worm_table(path: str | os.PathLike[str]) -> WormTable:
    """Read a coordinate file: tab-separated, one line of column names, then one line per cell.

    Args:
        path: a text file with the columns ``label_number label_name x y z Aligned_No``, in any order; other columns
            are passed over, and so are empty lines.

    Returns:
        the cells in the order of the file.

    Raises:
        MissingDataError: there is no such file.
        InvalidInputError: no cells; missing columns; text, NaN or fractions where (whole) numbers belong; a number or
            name twice. Says the line and the column.
    """
    file = Path(path)
    if not file.exists():
        raise MissingDataError(f"{file} does not exist (current folder: {os.getcwd()})")
    if not file.is_file():
        raise InvalidInputError(f"{file} is a folder; expected a tab-separated text file")
    rows = _rows(file)
    if not rows:
        raise InvalidInputError(
            f"{file} is empty; expected the column names {', '.join(COLUMNS)} and one line per cell"
        )
    header = [name.strip() for name in rows[0][1]]
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise InvalidInputError(
            f"{file}, line {rows[0][0]}: no column {', '.join(missing)}; expected {', '.join(COLUMNS)} "
            f"separated by tabs, found {', '.join(map(repr, header[:10]))}"
        )
    if len(rows) == 1:
        raise InvalidInputError(f"{file} has column names but no cells")
    cells = [_cell(file, line, fields, header) for line, fields in rows[1:]]
    lines = [line for line, _ in rows[1:]]
    for column in ("Aligned_No", "label_name"):
        _check_unique(file, column, zip(lines, (cell[column] for cell in cells), strict=True))
    return WormTable(
        tuple(cell["label_name"] for cell in cells),
        np.array([[cell["z"], cell["y"], cell["x"]] for cell in cells]),
        np.array([cell["Aligned_No"] for cell in cells]),
        np.array([cell["label_number"] for cell in cells]),
        str(file),
    )


def write_worm_table(path: str | os.PathLike[str], table: WormTable) -> Path:
    """Write a coordinate file that :func:`read_worm_table` reads; an existing one is replaced at the end.

    Args:
        path: the file.
        table: the cells; positions are written with six decimals.

    Returns:
        the file.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_path(path) as temporary:
        lines = ["\t".join(COLUMNS)]
        for name, (z, y, x), number, label in zip(
            table.names, table.positions, table.numbers, table.label_numbers, strict=True
        ):
            lines.append(f"{label}\t{name}\t{x:.6f}\t{y:.6f}\t{z:.6f}\t{number}")
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Path(path)


def check_inside(table: WormTable, shape: Sequence[int], volume: str = "the volume") -> None:
    """Refuse cells whose center voxel is not in the volume.

    Args:
        table: the cells.
        shape: (Z, Y, X) of the volume.
        volume: what the message calls it.

    Raises:
        InvalidInputError: lists the first such cells with their positions.
    """
    centers = table.centers
    outside = np.flatnonzero(((centers < 0) | (centers >= np.asarray(shape))).any(axis=1))
    if len(outside):
        first = "; ".join(f"{table.names[i]} at {tuple(table.positions[i].round(2).tolist())}" for i in outside[:3])
        raise InvalidInputError(
            f"{table.source}: {len(outside)} of {len(table)} cells are outside of {volume} of shape (z, y, x) = "
            f"{tuple(shape)}: {first}{' …' if len(outside) > 3 else ''}. Are the axes in order, and is it this worm's?"
        )


def _rows(file: Path) -> list[tuple[int, list[str]]]:
    """Line numbers and fields of the lines that are not empty."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as opened:
            reader = csv.reader(opened, delimiter="\t", quoting=csv.QUOTE_NONE)
            return [(reader.line_num, fields) for fields in reader if any(field.strip() for field in fields)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(f"{file} is not a tab-separated UTF-8 text file ({error})") from error


def _cell(file: Path, line: int, fields: Sequence[str], header: Sequence[str]) -> dict[str, Any]:
    if len(fields) != len(header):
        raise InvalidInputError(f"{file}, line {line}: {len(fields)} columns; expected {len(header)}, as in the header")
    texts = dict(zip(header, (field.strip() for field in fields), strict=True))
    if not texts["label_name"]:
        raise InvalidInputError(f"{file}, line {line}, column label_name: the name is empty")
    cell: dict[str, Any] = {"label_name": texts["label_name"]}
    for column in ("x", "y", "z"):
        cell[column] = _number(file, line, column, texts[column], float)
    for column in ("label_number", "Aligned_No"):
        cell[column] = _number(file, line, column, texts[column], int)
    if cell["Aligned_No"] < 1:
        raise InvalidInputError(f"{file}, line {line}, column Aligned_No: {cell['Aligned_No']}; expected 1 or more")
    return cell


def _number(file: Path, line: int, column: str, text: str, kind: Callable[[str], float]) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= 2**62:
        expected = "a whole number" if kind is int else "a finite number"
        raise InvalidInputError(f"{file}, line {line}, column {column}: {text!r}; expected {expected}")
    return value


def _check_unique(file: Path, column: str, values: Iterable[tuple[int, Any]]) -> None:
    seen: dict[Any, int] = {}
    for line, value in values:
        if value in seen:
            raise InvalidInputError(
                f"{file}, line {line}, column {column}: {value!r} is also in line {seen[value]}; each cell appears once"
            )
        seen[value] = line
