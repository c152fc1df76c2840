"""Joining feature tables by the ids of their objects."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError, check_option

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

ID = "id"
MISSING_RULES = ("error", "impute", "drop")
LISTED = 20
"""How many ids a message lists."""


@dataclass(frozen=True)
class FeatureMatrix:
    """Features of objects, a row each.

    Attributes:
        ids: (N,) int64, ascending.
        values: (N, F) float64, finite.
        columns: F names, ``<feature>.<column of its table>``.
        blocks: by feature, its columns of ``values``.
    """

    ids: NDArray[np.int64]
    values: NDArray[np.float64]
    columns: tuple[str, ...]
    blocks: Mapping[str, slice] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def block(self, name: str) -> NDArray[np.float64]:
        """Return the columns (N, f) of one feature.

        Raises:
            InvalidInputError: there is no such feature; lists those there are.
        """
        return self.values[:, self.blocks[check_option("feature", name, self.blocks)]]


def check_ids(ids: ArrayLike, where: str) -> NDArray[np.int64]:
    """Return object ids as int64.

    Args:
        ids: (N,) integers of any type, 1 to 2^63 - 1, no two equal.
        where: whose they are, for the message.

    Raises:
        InvalidInputError: they are no integers (float64 cannot tell ids above 2^53 apart), out of range or repeated.
    """
    found = np.asarray(ids)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise InvalidInputError(
            f"{where}: the ids are {found.dtype} of shape {found.shape}; expected one list of integers (as floats, ids "
            "above 2^53 are not told apart)"
        )
    if found.size and (int(found.min()) < 1 or int(found.max()) >= 2**63):
        raise InvalidInputError(f"{where}: the ids are {found.min()} to {found.max()}; expected 1 to 2^63 - 1")
    unique, counts = np.unique(found, return_counts=True)
    if len(unique) < len(found):
        raise InvalidInputError(f"{where}: more than one row has the id {list_some(unique[counts > 1])}; expected one")
    return found.astype(np.int64)


def list_some(values: ArrayLike) -> str:
    """Write the first 20 of some values, and how many more there are."""
    found = list(np.asarray(values).tolist())
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return ", ".join(map(str, found[:LISTED])) + more


def missing_ids(ids: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.int64]]:
    """Tell which ids each of several tables lacks.

    Args:
        ids: by name of the table, its ids (N,).

    Returns:
        by name, the ids that another table has and this one has not, ascending; without the tables that lack none.

    Raises:
        InvalidInputError: as :func:`check_ids`.
    """
    checked = {name: check_ids(values, f"feature {name!r}") for name, values in ids.items()}
    union = _union(checked)
    lacking = {name: np.setdiff1d(union, values, assume_unique=True) for name, values in checked.items()}
    return {name: values for name, values in lacking.items() if values.size}


def join_features(
    tables: Mapping[str, pd.DataFrame], missing: str = "error", features: Sequence[str] | None = None
) -> FeatureMatrix:
    """Join feature tables by id, whatever the order of their rows.

    NaN (and None) is a missing value. Booleans count as 0 and 1.

    Args:
        tables: by name of the feature: a column ``id`` (integers) and numeric columns; a row for each object.
        missing: what to do with an object that is not in every table, or has a missing value: "error"; "impute", the
            median of the column takes its place; "drop", the object is left out.
        features: which of ``tables``, in which order; None for all.

    Returns:
        the objects in the order of their ids.

    Raises:
        InvalidInputError: an unknown feature or rule; a table without rows, ``id`` or values, or with text; wrong ids
            (see :func:`check_ids`); infinite values; with "error": ids that differ between tables (listed), missing
            values (the objects and columns are named); with "impute": a column without any value; with "drop": no
            object is left.
    """
    check_option("missing", missing, MISSING_RULES)
    names = _choose(tables, features)
    parts = {name: _read_table(name, tables[name]) for name in names}
    if missing == "error":
        _refuse_different_ids({name: ids for name, (ids, _, _) in parts.items()})
    union = _union({name: ids for name, (ids, _, _) in parts.items()})
    columns = [f"{name}.{column}" for name, (_, found, _) in parts.items() for column in found]
    values = np.full((len(union), len(columns)), np.nan)
    blocks, start = {}, 0
    for name, (ids, found, part) in parts.items():
        blocks[name] = slice(start, start + len(found))
        values[np.searchsorted(union, ids), blocks[name]] = part
        start += len(found)
    kept, values = _complete(union, values, columns, missing)
    return FeatureMatrix(kept, values, tuple(columns), blocks)


def _choose(tables: Mapping[str, Any], features: Sequence[str] | None) -> list[str]:
    names = list(tables) if features is None else [check_option("feature", name, tables) for name in features]
    if not names or len(set(names)) < len(names):
        raise InvalidInputError(f"features={names}; expected at least one, each once")
    return names


def _union(ids: Mapping[str, NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.unique(np.concatenate([np.empty(0, np.int64), *ids.values()]))


def _read_table(name: str, table: pd.DataFrame) -> tuple[NDArray[np.int64], list[str], NDArray[np.float64]]:
    """Ids, columns and values of one table."""
    if ID not in table.columns or len(table.columns) < 2 or not len(table):
        raise InvalidInputError(
            f"feature {name!r} has {len(table)} rows and the columns {[str(c) for c in table.columns]}; expected rows, "
            f"a column {ID!r} and at least one of values"
        )
    ids = check_ids(table[ID].to_numpy(), f"feature {name!r}")
    columns = [column for column in table.columns if column != ID]
    values = np.empty((len(ids), len(columns)))
    for index, column in enumerate(columns):
        try:
            values[:, index] = table[column].to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(
                f"feature {name!r}: the column {column!r} is {table[column].dtype}, not numbers ({error}); leave it out"
            ) from error
    infinite = np.isinf(values)
    if infinite.any():
        raise InvalidInputError(
            f"feature {name!r} has infinite values: {_cells(infinite, ids, columns)}; expected finite numbers, or NaN "
            "for a missing one"
        )
    return ids, [str(column) for column in columns], values


def _cells(mask: NDArray[np.bool_], ids: NDArray[np.int64], columns: Sequence[Any]) -> str:
    """Name the objects and columns where ``mask`` (N, F) is set."""
    wrong = np.flatnonzero(mask.any(axis=0))
    named = [f"{columns[index]} of object {list_some(ids[mask[:, index]])}" for index in wrong[:LISTED]]
    more = [f"{len(wrong) - LISTED} more columns"] if len(wrong) > LISTED else []
    return "; ".join(named + more)


def _refuse_different_ids(ids: Mapping[str, NDArray[np.int64]]) -> None:
    lacking = missing_ids(ids)
    if lacking:
        listed = "; ".join(f"{name!r} lacks {len(lost)}: {list_some(lost)}" for name, lost in lacking.items())
        raise InvalidInputError(
            f"the features are not of the same objects: {listed}; compute them of the same labels, or give "
            "missing='impute' or 'drop'"
        )


def _complete(
    ids: NDArray[np.int64], values: NDArray[np.float64], columns: Sequence[str], missing: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Treat missing values by the rule."""
    lost = np.isnan(values)
    if not lost.any():
        return ids, values
    if missing == "error":
        raise InvalidInputError(
            f"missing values (NaN): {_cells(lost, ids, columns)}; compute them, or give missing='impute' or 'drop'"
        )
    rows = lost.any(1)
    if missing == "drop":
        logger.warning("%d of %d objects lack a feature and are left out", rows.sum(), len(ids))
        if rows.all():
            raise InvalidInputError(f"every object lacks a feature; {_emptiest(lost, columns)}; nothing is left")
        return ids[~rows], values[~rows]
    if lost.all(0).any():
        raise InvalidInputError(f"{_emptiest(lost, columns)}; there is no median to impute; leave that column out")
    logger.warning("%d values of %d objects are missing: imputed by the median", lost.sum(), rows.sum())
    return ids, np.where(lost, np.nanmedian(values, axis=0), values)


def _emptiest(lost: NDArray[np.bool_], columns: Sequence[str]) -> str:
    worst = int(lost.sum(0).argmax())
    return f"{columns[worst]} is missing for {lost[:, worst].sum()} of {len(lost)} objects"
