"""Classes of objects where they are known: from a table, or from a volume of classes."""

from __future__ import annotations

import csv
import hashlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.lazy_volume import LazyVolume
from voxel_ext.data.object_sources import PlacedObject, Source, describe_volume, open_like
from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.morphology.runs import LARGEST_ID, check_label_type

logger = logging.getLogger(__name__)

UNKNOWN = -1
"""The class of an object for which none is given."""


_DIGITS = len(str(LARGEST_ID))


@dataclass(frozen=True, eq=False)
class ObjectClasses:
    """Classes of objects; made by :func:`open_classes`.

    Attributes:
        table: class by id.
        volume: (D, H, W) classes, 0 where none is known; None if there is a table.
        names: of the classes 0, 1, ..., or None where they are numbers.
    """

    table: Mapping[int, int]
    volume: LazyVolume | None = None
    names: tuple[str, ...] | None = None

    def of(self, placed: PlacedObject, mask: NDArray[np.bool_]) -> int:
        """Return an object's class: that of the table, or the most frequent one inside it, the least of several.

        Args:
            placed: the object.
            mask: its mask, as ``ObjectVolumes.read`` returns it.

        Raises:
            InvalidInputError: a class of the volume is above 2**63 - 1.
        """
        if self.volume is None:
            return self.table.get(placed.id, UNKNOWN)
        inside = self.volume.read(placed.box)[0][mask]
        values, counts = np.unique(inside[inside != 0], return_counts=True)
        found = int(values[counts.argmax()]) if len(values) else UNKNOWN
        if found > LARGEST_ID:
            raise InvalidInputError(
                f"{self.volume.address} has the class {found} of the object {placed.id}; expected at most 2**63 - 1"
            )
        return found

    def only(self, ids: Iterable[int]) -> ObjectClasses:
        """Return the classes of some objects only."""
        return replace(self, table={one: self.table[one] for one in ids if one in self.table})

    def describe(self) -> dict[str, Any]:
        """Tell, for JSON, what changes whenever the classes do."""
        if self.volume is not None:
            return {"volume": describe_volume(self.volume)}
        return {"table": hashlib.sha256(repr((sorted(self.table.items()), self.names)).encode()).hexdigest()}


def class_label(number: int, names: Sequence[str] | None) -> str:
    """Return what a class is called: its name, "class 3" where there are no names, "" for an unknown one."""
    if number < 0:
        return ""
    return names[number] if names else f"class {number}"


def open_classes(classes: Source | Mapping[int, Any] | None, labels: LazyVolume) -> ObjectClasses | None:
    """Open what tells the classes of objects.

    Args:
        classes: path of a table, see :func:`read_class_table`; a mapping from id to class; or a volume of classes of
            the shape of the labels, see ``open_volume``, 0 where no class is known. None for none.
        labels: the label volume.

    Raises:
        MissingDataError: the file does not exist.
        InvalidInputError: the table or volume is wrong.
    """
    if classes is None:
        return None
    if isinstance(classes, Mapping):
        return _numbered({int(one): str(value) for one, value in classes.items()})
    if isinstance(classes, str | os.PathLike) and os.fspath(classes).lower().endswith(".csv"):
        return _numbered(read_class_table(classes))
    volume = open_like(classes, "classes", labels)
    check_label_type(volume.dtype, volume.address)
    return ObjectClasses({}, volume)


def read_class_table(path: str | os.PathLike[str]) -> dict[int, str]:
    """Read a table of classes.

    Args:
        path: a CSV file with the columns ``id`` and ``class``, and perhaps others.

    Returns:
        class by id, as written.

    Raises:
        MissingDataError: there is no such file.
        InvalidInputError: columns are missing, an id is no positive whole number, a class is empty, or an object has
            two classes (names the line); or it is not UTF-8.
    """
    if not Path(path).is_file():
        raise MissingDataError(f"{path} does not exist or is no file (current folder: {os.getcwd()})")
    found: dict[int, str] = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            _read_rows(csv.DictReader(file), path, found)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(f"{path} is no CSV file in UTF-8 ({error}); save it as one") from error
    if not found:
        raise InvalidInputError(f"{path} has no rows; expected an id and a class in each")
    return found


def _read_rows(rows: csv.DictReader[str], path: str | os.PathLike[str], found: dict[int, str]) -> None:
    lacking = {"id", "class"}.difference(rows.fieldnames or ())
    if lacking:
        raise InvalidInputError(f"{path} has no column {sorted(lacking)}; it has {list(rows.fieldnames or ())}")
    for row in rows:
        text, value = (row["id"] or "").strip(), (row["class"] or "").strip()
        if not text.isdecimal() or len(text) > _DIGITS or int(text) < 1 or not value:
            raise InvalidInputError(
                f"{path}, line {rows.line_num}: id {text[:40]!r}, class {value[:40]!r}; expected a positive id, of at "
                f"most {_DIGITS} digits, and a class"
            )
        if found.setdefault(int(text), value) != value:
            raise InvalidInputError(
                f"{path}, line {rows.line_num}: object {text} has the classes {found[int(text)]!r} and {value!r}"
            )


def _numbered(classes: Mapping[int, str]) -> ObjectClasses:
    """Classes as numbers: as they are where all are whole numbers, else by the order of their names."""
    if all(value.isdecimal() and len(value) <= _DIGITS and int(value) <= LARGEST_ID for value in classes.values()):
        return ObjectClasses({one: int(value) for one, value in classes.items()})
    names = tuple(sorted(set(classes.values())))
    numbers = {name: number for number, name in enumerate(names)}
    return ObjectClasses({one: numbers[value] for one, value in classes.items()}, None, names)
