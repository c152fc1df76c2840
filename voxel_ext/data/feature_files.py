"""Tables of features per object in Parquet and HDF5 files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.container import READ_ERRORS
from voxel_ext.errors import InvalidInputError, MissingDataError, require
from voxel_ext.files import atomic_path
from voxel_ext.hdf5 import read_hdf5, write_hdf5
from voxel_ext.hdf5_checks import check_file, read_whole
from voxel_ext.morphology.clustering.feature_table import ID, check_ids, missing_ids

if TYPE_CHECKING:
    import pandas as pd

VALUES = "values"
PARQUET_SUFFIXES = (".parquet",)
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
EXACT = 2**53
"""Whole numbers up to this are exact as float64."""


def write_features(table: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a table of features.

    Parquet keeps every column with its type. HDF5 has the datasets ``id`` (N,) int64 and ``values`` (N, F) float64
    (float32 where all columns are), the latter with the attributes ``columns`` and ``dtypes`` (JSON lists), and holds
    numbers only.

    Args:
        table: the column ``id`` (integers) and others; a row for each object, in any order.
        path: that ends with ``.parquet``, ``.h5``, ``.hdf5`` or ``.hdf``; a file that exists is replaced.

    Raises:
        InvalidInputError: another suffix, no ids or wrong ones; or for HDF5 text, or whole numbers that float64 does
            not hold.
        OSError: it cannot be written.
    """
    target = Path(path)
    is_hdf5 = _is_hdf5(target)
    if ID not in table.columns:
        raise InvalidInputError(f"{path}: the table has the columns {_names(table.columns)}; expected one {ID!r}")
    ids = check_ids(table[ID].to_numpy(), str(path))
    order = np.argsort(ids)
    columns = [ID, *(column for column in table.columns if column != ID)]
    rows = table[columns].iloc[order].reset_index(drop=True)
    if is_hdf5:
        _write_hdf5(rows, ids[order], target)
        return
    require("pyarrow", extra="em")
    with atomic_path(target) as temporary:
        rows.astype({ID: np.int64}).to_parquet(temporary, engine="pyarrow", index=False)


def _write_hdf5(rows: pd.DataFrame, ids: NDArray[np.int64], target: Path) -> None:
    columns = [column for column in rows.columns if column != ID]
    kinds = [str(rows[column].dtype) for column in columns]
    dtype = np.float32 if kinds and set(kinds) == {"float32"} else np.float64
    values = np.empty((len(ids), len(columns)), dtype=dtype)
    for index, column in enumerate(columns):
        values[:, index] = _numbers(rows[column], f"{target}: the column {column!r}")
    with atomic_path(target) as temporary, write_hdf5(temporary) as (file, _):
        file.create_dataset(ID, data=ids)
        dataset = file.create_dataset(VALUES, data=values)
        dataset.attrs["columns"] = json.dumps([str(column) for column in columns])
        dataset.attrs["dtypes"] = json.dumps(kinds)


def _numbers(column: pd.Series, where: str) -> NDArray[np.float64]:
    try:
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{where} is {column.dtype}, not numbers; HDF5 holds numbers only, use Parquet"
        ) from error
    # compared as whole numbers: as float64 they may be rounded to 2^53
    if column.dtype.kind in "iu" and len(values) and max(int(column.max()), -int(column.min())) > EXACT:
        raise InvalidInputError(f"{where} has whole numbers above 2^53, which HDF5 would round; use Parquet")
    return values


def read_features(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table of features.

    Args:
        path: of a Parquet file, or an HDF5 file with ``id`` (N,) and the values (N, F) or (N,): the dataset ``values``,
            or the only other one. Without the attribute ``columns`` its columns are called 0, 1, ...

    Returns:
        the table with ``id`` (int64) first, sorted by it.

    Raises:
        MissingDataError: it does not exist.
        InvalidInputError: it is damaged, or of another format; has no ids or wrong ones; or other numbers of ids and
            rows.
    """
    source = Path(path)
    is_hdf5 = _is_hdf5(source)
    if not source.exists():
        raise MissingDataError(f"{path} does not exist (current folder: {os.getcwd()})")
    table = _read_hdf5(source) if is_hdf5 else _read_parquet(source)
    if ID not in table.columns:
        raise InvalidInputError(f"{path} has the columns {_names(table.columns)}; expected one {ID!r}")
    table = table.assign(**{ID: check_ids(table[ID].to_numpy(), str(path))})
    columns = [ID, *(column for column in table.columns if column != ID)]
    return table[columns].sort_values(ID, ignore_index=True)


def _read_parquet(path: Path) -> pd.DataFrame:
    pandas, pyarrow = require("pandas", extra="em"), require("pyarrow", extra="em")
    try:
        return pandas.read_parquet(path, engine="pyarrow")
    except PermissionError:
        raise
    except (*READ_ERRORS, MemoryError, AttributeError, IndexError, pyarrow.ArrowException) as error:
        raise InvalidInputError(f"{path} cannot be read: truncated, or not a Parquet file ({error})") from error


def _read_hdf5(path: Path) -> pd.DataFrame:
    pandas = require("pandas", extra="em")
    with read_hdf5(path) as file:
        check_file(file)
        names = [name for name in file if getattr(file.get(name), "shape", None) is not None]
        others = [name for name in names if name != ID]
        key = VALUES if VALUES in others else others[0] if len(others) == 1 else None
        if ID not in names or key is None:
            raise InvalidInputError(f"{path} has the datasets {_names(names)}; expected {ID!r} and {VALUES!r}")
        ids, values, attributes = read_whole(file[ID]), read_whole(file[key]), dict(file[key].attrs)
    if values.ndim == 1:
        values = values[:, None]
    if ids.ndim != 1 or values.ndim != 2 or len(ids) != len(values):
        raise InvalidInputError(
            f"{path}: {ID!r} has shape {ids.shape} and {key!r} {values.shape}; expected (N,) and (N, F)"
        )
    columns = _attribute(path, attributes, "columns", list(range(values.shape[1])))
    kinds = _attribute(path, attributes, "dtypes", [str(values.dtype)] * values.shape[1])
    if len(columns) != values.shape[1] or len(kinds) != values.shape[1]:
        raise InvalidInputError(
            f"{path}: {key!r} has {values.shape[1]} columns, but its attributes {len(columns)} names and {len(kinds)} "
            "types; expected one for each"
        )
    names = [str(column) for column in columns]
    if len({ID, *names}) <= len(names) or values.dtype.kind not in "biuf":
        raise InvalidInputError(f"{path}: {key!r} is {values.dtype} with the columns {_names(names)}; expected numbers")
    try:
        table = pandas.DataFrame(values, columns=names).astype(dict(zip(names, kinds, strict=True)))
    except (TypeError, ValueError, KeyError, OverflowError, AttributeError, SyntaxError) as error:
        raise InvalidInputError(f"{path}: {key!r} cannot be of the types {_names(kinds)} ({error})") from error
    table.insert(0, ID, ids)
    return table


def _attribute(path: Path, attributes: Mapping[str, Any], name: str, default: list[Any]) -> list[Any]:
    if name not in attributes:
        return default
    try:
        found = json.loads(attributes[name])
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInputError(f"{path}: the attribute {name!r} is not JSON ({error})") from error
    if not isinstance(found, list):
        raise InvalidInputError(f"{path}: the attribute {name!r} is {found!r}; expected a list")
    return found


def read_feature_folder(folder: str | os.PathLike[str], features: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Read ``<feature>.parquet``, or where there is none ``<feature>.h5``, for each feature.

    Args:
        folder: where the files are.
        features: their names.

    Returns:
        by name, the table; see :func:`read_features`.

    Raises:
        MissingDataError: no such folder; or features without a file: names them all, and lists those there are.
        InvalidInputError: as :func:`read_features`.
    """
    place = Path(folder)
    if not place.is_dir():
        raise MissingDataError(f"{folder} is not a folder (current folder: {os.getcwd()}); expected one with features")
    suffixes = (*PARQUET_SUFFIXES, *HDF5_SUFFIXES)
    paths = {}
    for name in features:
        candidates = [place / f"{name}{suffix}" for suffix in suffixes]
        paths[name] = next((path for path in candidates if path.is_file()), None)
    absent = [name for name, path in paths.items() if path is None]
    if absent:
        present = sorted({path.stem for path in place.iterdir() if path.suffix in suffixes})
        raise MissingDataError(
            f"{folder} has no features {', '.join(absent)}; it has: {', '.join(present) or 'none'}. Compute them first"
        )
    return {name: read_features(path) for name, path in paths.items() if path is not None}


def compare_feature_ids(paths: Sequence[str | os.PathLike[str]]) -> dict[str, NDArray[np.int64]]:
    """Compare which objects are in several files of features.

    Args:
        paths: of the files.

    Returns:
        by path, the ids that are in another file and not in this one; without the files that lack none.

    Raises:
        VoxelExtError: as :func:`read_features`.
    """
    return missing_ids({os.fspath(path): read_features(path)[ID].to_numpy() for path in paths})


def _is_hdf5(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix not in (*PARQUET_SUFFIXES, *HDF5_SUFFIXES):
        known = ", ".join((*PARQUET_SUFFIXES, *HDF5_SUFFIXES))
        raise InvalidInputError(f"{path}: expected a file of features, a name that ends with one of {known}")
    return suffix in HDF5_SUFFIXES


def _names(names: Any) -> str:
    return ", ".join(map(str, names)) or "none"
