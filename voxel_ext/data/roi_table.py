"""Tables that name the ROIs of an animal: neuron, ROI id(s), confidence."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from voxel_ext.data.neuron_names import UNKNOWN
from voxel_ext.errors import InvalidInputError, MissingDataError

HEADERS = {
    "name": ("neuron class", "neuron", "name", "neuron name", "neuron id", "class"),
    "roi": ("roi id", "roi ids", "roi", "rois"),
    "confidence": ("confidence",),
    "comments": ("comments", "comment", "notes"),
}
"""How a column may be called; case, ``_`` and spaces around it do not matter."""

POSITIONS = {"name": 0, "roi": 2, "confidence": 3, "comments": 4}
"""Columns of a table without known headers: neuron, coordinates, ROI, confidence, comments."""

_ROI = re.compile(r"\d{1,18}(?:\.0*)?")


@dataclass(frozen=True)
class RoiLabel:
    """The name given to an ROI in a line of a table.

    Args:
        name: of the neuron, as written.
        roi_id: the ROI.
        confidence: 1 (a guess) to 5 (certain); 0 only for UNKNOWN.
        line: in the file.
        comments: "" where there are none.
    """

    name: str
    roi_id: int
    confidence: int
    line: int
    comments: str = ""


@dataclass(frozen=True)
class RoiTable:
    """The labels of one animal.

    Args:
        source: the file they are from.
        labels: in the order of the file; a line with several ROIs gives several.
    """

    source: str
    labels: tuple[RoiLabel, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def check_ids(self, roi_ids: Collection[int], volume: str) -> None:
        """Refuse ROIs that the volume does not have.

        Args:
            roi_ids: of the volume.
            volume: its file, for the message.

        Raises:
            InvalidInputError: lists all such lines.
        """
        there = set(map(int, roi_ids))
        lost = [f"line {x.line}: ROI {x.roi_id} ({x.name})" for x in self.labels if x.roi_id not in there]
        if lost:
            span = f"its {len(there)} ids are from {min(there)} to {max(there)}" if there else "it has none"
            raise InvalidInputError(
                f"{self.source} names {len(lost)} ROIs that are not in {volume} ({span}); correct or remove the lines, "
                "or use the ROI volume of this animal:\n" + "\n".join(lost)
            )


def read_roi_table(path: str | os.PathLike[str], confidence: bool = True) -> RoiTable:
    """Read a table of comma-, semicolon- or tab-separated values.

    The columns are found by their header (:data:`HEADERS`), in any order and among others. If no header is known, they
    are taken by position: neuron, coordinates, ROI, confidence, comments (the first line is then passed over if it has
    no ROI id). An ROI cell holds an integer, ``12.0``, or several as ``12/15``.

    Args:
        path: the file, UTF-8.
        confidence: False for a table of true names, which needs no such column; its labels have confidence 5.

    Raises:
        MissingDataError: there is no such file.
        InvalidInputError: no rows, a column is missing, or rows that are wrong (lists all with their lines): an empty
            name, an empty ROI cell or one that is no positive integer, a confidence that is no integer from 1 to 5,
            the same name and ROI twice.
    """
    file = Path(path)
    if not file.is_file():
        raise MissingDataError(f"{file} does not exist (current folder: {os.getcwd()}); expected a table of ROIs")
    rows = _rows(file)
    if not rows:
        raise InvalidInputError(f"{file} is empty; expected a table with neuron names, ROI ids and confidences")
    columns, rows = _columns(file, rows, confidence)
    if not rows:
        raise InvalidInputError(f"{file} has a header but no rows; remove the file or fill it in")
    problems: list[str] = []
    labels: list[RoiLabel] = []
    for line, fields in rows:
        labels += _labels(line, fields, columns, problems)
    problems += _duplicates(labels)
    if problems:
        raise InvalidInputError(f"{file} has {len(problems)} errors:\n" + "\n".join(problems))
    return RoiTable(str(file), tuple(labels))


def _rows(file: Path) -> list[tuple[int, list[str]]]:
    """Line numbers and stripped fields of the lines that are not empty."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as opened:
            first = opened.readline()
            opened.seek(0)
            delimiter = max(",\t;", key=first.count)
            reader = csv.reader(opened, delimiter=delimiter)
            rows = [(reader.line_num, fields) for fields in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(f"{file} is not a table of comma- or tab-separated UTF-8 text ({error})") from error
    stripped = [(line, [field.strip() for field in fields]) for line, fields in rows]
    return [(line, fields) for line, fields in stripped if any(fields)]


def _columns(
    file: Path, rows: list[tuple[int, list[str]]], confidence: bool
) -> tuple[dict[str, int], list[tuple[int, list[str]]]]:
    """The number of each column, and the rows that are no header."""
    wanted = ("name", "roi", "confidence") if confidence else ("name", "roi")
    header = [field.replace("_", " ").casefold().strip() for field in rows[0][1]]
    found: dict[str, int] = {}
    for column, names in HEADERS.items():
        there = [index for name in names for index, field in enumerate(header) if field == name]
        if there:
            found[column] = there[0]
    if not found:
        found = {column: index for column, index in POSITIONS.items() if column in wanted or column == "comments"}
        last = max(found[column] for column in wanted)
        if len(header) <= last:
            raise InvalidInputError(
                f"{file} has no known header, and {len(header)} columns; expected the headers Neuron Class, ROI ID, "
                f"Confidence, or at least {last + 1} columns: neuron, coordinates, ROI, confidence"
            )
        headed = not _ids(header[found["roi"]])
        return found, rows[1:] if headed else rows
    lacking = [HEADERS[column][0].title() for column in wanted if column not in found]
    if lacking:
        raise InvalidInputError(f"{file} has no column {', '.join(lacking)}; its first line is {', '.join(rows[0][1])}")
    if not confidence:
        found.pop("confidence", None)
    return found, rows[1:]


def _labels(line: int, fields: Sequence[str], columns: dict[str, int], problems: list[str]) -> Iterator[RoiLabel]:
    """The labels of a line; what is wrong with it is added to ``problems``."""
    texts = {column: fields[index] if index < len(fields) else "" for column, index in columns.items()}
    start = len(problems)
    name, ids = texts["name"], _ids(texts["roi"])
    if not name:
        problems.append(f"line {line}: the neuron name is empty")
    if not texts["roi"]:
        problems.append(f"line {line}: the ROI cell of {name!r} is empty")
    elif not ids:
        problems.append(f"line {line}: ROI {texts['roi']!r}; expected a positive integer, or several such as 12/15")
    confidence = _confidence(texts["confidence"]) if "confidence" in texts else 5
    if not (0 if name == UNKNOWN else 1) <= confidence <= 5:
        problems.append(f"line {line}: confidence {texts['confidence']!r}; expected an integer from 1 to 5")
    if len(problems) == start:
        for roi_id in ids:
            yield RoiLabel(name, roi_id, confidence, line, texts.get("comments", ""))


def _ids(text: str) -> list[int]:
    """The ROI ids in a cell; none if it does not hold such."""
    parts = [part.strip() for part in text.split("/")]
    if not all(_ROI.fullmatch(part) for part in parts):
        return []
    ids = [int(part.partition(".")[0]) for part in parts]
    return ids if min(ids) > 0 else []


def _confidence(text: str) -> int:
    """A whole number, or -1."""
    try:
        value = float(text)
    except ValueError:
        return -1
    return int(value) if math.isfinite(value) and value == int(value) else -1


def _duplicates(labels: Sequence[RoiLabel]) -> list[str]:
    seen: dict[tuple[str, int], int] = {}
    problems = []
    for label in labels:
        key = (label.name, label.roi_id)
        if key in seen:
            problems.append(f"line {label.line}: {label.name} for ROI {label.roi_id} is also in line {seen[key]}")
        seen.setdefault(key, label.line)
    return problems
