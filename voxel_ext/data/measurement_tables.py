"""The folder of tables that a measurement of objects writes, and the record of what they were measured of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxel_ext.data.feature_files import ID, read_features, write_features
from voxel_ext.data.prepared_folder import describe_difference
from voxel_ext.errors import InvalidInputError, require
from voxel_ext.files import atomic_path, read_json
from voxel_ext.hdf5 import write_hdf5
from voxel_ext.morphology.feature_names import ALIASES, FEATURE_GROUPS
from voxel_ext.morphology.object_columns import columns_of

if TYPE_CHECKING:
    import pandas

DISTANCE_MATRIX = "distance_matrix"
OBJECTS = "objects"
SUFFIXES = (".parquet", ".h5")

_CENTERS = [f"centroid_{axis}_nm" for axis in "zyx"]
_OBJECT_COLUMNS = [
    ID,
    "voxels",
    "volume_um3",
    *(f"{name}_{axis}" for name in ("lower", "upper", "centroid") for axis in "zyx"),
    *_CENTERS,
    "touches_border",
]
_NAMES = (OBJECTS, *FEATURE_GROUPS, *ALIASES, DISTANCE_MATRIX)
_ROWS = 256  # of the distance matrix at a time


@dataclass(frozen=True)
class MeasurementFolder:
    """A folder of feature tables that were measured of the same objects.

    ``measurement.json`` is written last. It has ``settings``, what the objects are and how they were measured, and
    ``tables``, the names of those that are complete.

    Args:
        path: the folder.
    """

    path: Path

    @property
    def record(self) -> Path:
        """The file that tells what the tables were measured of."""
        return self.path / "measurement.json"

    @property
    def parts(self) -> Path:
        """The folder of an unfinished measurement."""
        return self.path / ".objects.parts"

    def missing(self, names: Iterable[str], settings: Mapping[str, Any], overwrite: bool) -> list[str]:
        """Return the names of tables that are still to be made.

        Args:
            names: those asked for.
            settings: what they depend on.
            overwrite: whether tables of other settings may be replaced.

        Raises:
            InvalidInputError: without ``overwrite``, there are tables of other settings, or ones of which it is not
                known; tells in what they differ.
        """
        names = list(names)
        difference = ""
        if self.record.exists():
            there = self._read_record()
            difference = describe_difference(self.path, there.get("settings"), settings)
            if not difference:
                return [name for name in names if name not in there["tables"] or not self._has(name)]
        elif not self.parts.exists():  # else they are of an interrupted run, which checks its settings itself
            found = [file.name for name in _NAMES for file in self._files(name) if file.exists()]
            if found:
                difference = f"{self.path} has {', '.join(found)} without {self.record.name}, which tells of what"
        if difference and not overwrite:
            raise InvalidInputError(f"{difference}. Choose another output_dir, or set overwrite=True to replace them")
        return names

    def write(self, table: pandas.DataFrame, names: Mapping[str, str], settings: Mapping[str, Any]) -> None:
        """Write the tables of some names and the record; those of other settings are removed.

        Args:
            table: a row per object, ascending by id, with all columns.
            names: group by name of the tables; :data:`DISTANCE_MATRIX` for that.
            settings: what they depend on.

        Raises:
            OSError: a file cannot be written.
        """
        kept = self._remove_others(settings)
        more = [column for column in ("class",) if column in table]
        write_features(table[[*_OBJECT_COLUMNS, *more]], self.path / f"{OBJECTS}.parquet")
        for name, group in names.items():
            if name == DISTANCE_MATRIX:
                _write_distances(table, self.path / f"{DISTANCE_MATRIX}.h5")
                continue
            for file in self._files(name):
                write_features(table[[ID, *columns_of([group])]], file)
        record = {"settings": settings, "objects": len(table), "tables": [*kept, *(n for n in names if n not in kept)]}
        with atomic_path(self.record) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def read(self, names: Sequence[str]) -> pandas.DataFrame:
        """Read tables into one: ``id`` and the columns of all, each once.

        Args:
            names: of the tables.

        Raises:
            VoxelExtError: one is not there or damaged.
        """
        tables = [read_features(self.path / f"{name}.parquet") for name in names]
        joined = require("pandas", extra="em").concat(tables, axis=1)
        return joined.loc[:, ~joined.columns.duplicated()]

    def _read_record(self) -> dict[str, Any]:
        try:
            record = read_json(self.record, dict, "the record of a measurement")
            tables = record.get("tables")
            if not isinstance(tables, list) or not all(isinstance(name, str) for name in tables):
                raise InvalidInputError(f"its tables are {tables!r}; expected names")
        except InvalidInputError as error:
            raise InvalidInputError(f"{self.record} is damaged ({error}); remove it and set overwrite=True") from error
        return record

    def _remove_others(self, settings: Mapping[str, Any]) -> list[str]:
        """Remove tables of other settings, first the record, so that they are never taken for current ones."""
        if self.record.exists():
            there = self._read_record()
            if not describe_difference(self.path, there.get("settings"), settings):
                return list(there["tables"])
            self.record.unlink()
        for name in _NAMES:  # also those of a run that ended before it wrote the record
            for file in self._files(name):
                file.unlink(missing_ok=True)
        return []

    def _files(self, name: str) -> list[Path]:
        suffixes = {OBJECTS: SUFFIXES[:1], DISTANCE_MATRIX: SUFFIXES[1:]}.get(name, SUFFIXES)
        return [self.path / f"{name}{suffix}" for suffix in suffixes]

    def _has(self, name: str) -> bool:
        return all(file.is_file() for one in (OBJECTS, name) for file in self._files(one))


def check_distance_objects(objects: int, limit: int) -> None:
    """Refuse a distance matrix that is too large.

    Args:
        objects: their number.
        limit: largest number of objects.

    Raises:
        InvalidInputError: there are more.
    """
    if objects > limit:
        raise InvalidInputError(
            f"the distance matrix of {objects} objects takes {4 * objects**2 / 2**30:.1f} GiB and is only made for at "
            f"most max_distance_objects={limit}; raise that, narrow bounds, or leave distance_matrix out: the features "
            "'distance' need none"
        )


def _write_distances(table: pandas.DataFrame, path: Path) -> None:
    """Write ``id`` (N,) and ``values`` (N, N) float32, the distances between centroids in nm, a few rows at a time."""
    from scipy.spatial.distance import cdist

    points = table[_CENTERS].to_numpy()
    count = len(points)
    with atomic_path(path) as temporary, write_hdf5(temporary) as (file, guard):
        file.create_dataset(ID, data=table[ID].to_numpy())
        values = file.create_dataset("values", (count, count), np.float32)
        values.attrs["unit"] = "nm"
        for start in range(0, count, _ROWS):
            values[start : start + _ROWS] = cdist(points[start : start + _ROWS], points)
            guard.check()
