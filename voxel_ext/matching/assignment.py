"""Linear assignment with checked costs."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError


def checked_cost(cost: ArrayLike) -> NDArray[np.float64]:
    """Return a cost matrix as float64 after checking it.

    Args:
        cost: (N, M) numbers; ``inf`` forbids a pair.

    Raises:
        InvalidInputError: not a matrix, or it holds NaN or ``-inf``; names the first row and column.
    """
    values = np.asarray(cost, dtype=np.float64)
    if values.ndim != 2:
        raise InvalidInputError(f"the cost must be a matrix (N, M); got the shape {values.shape}")
    wrong = np.argwhere(np.isnan(values) | np.isneginf(values))
    if len(wrong):
        row, column = wrong[0]
        raise InvalidInputError(
            f"the cost of row {row} and column {column} is {values[row, column]} ({len(wrong)} such entries of "
            f"{values.size}); expected numbers, or inf to forbid a pair"
        )
    return values


def assign(cost: ArrayLike, dummy_cost: float | None = None) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pair rows with columns at the least total cost (SciPy's ``linear_sum_assignment``).

    Args:
        cost: (N, M), may be rectangular; ``inf`` forbids a pair.
        dummy_cost: price of leaving one row and one column unmatched instead of pairing them, so a pair that costs
            more is never made. None (default) pairs as many as the smaller side has.

    Returns:
        rows (K,), ascending, and columns (K,) of the pairs; K = min(N, M) without ``dummy_cost``.

    Raises:
        InvalidInputError: NaN in the cost, or the forbidden pairs leave no complete assignment.
    """
    from scipy.optimize import linear_sum_assignment

    values = checked_cost(cost)
    if dummy_cost is None:
        try:
            return linear_sum_assignment(values)
        except ValueError as error:
            forbidden = int(np.isinf(values).sum())
            raise InvalidInputError(
                f"no assignment of {values.shape[0]} rows to {values.shape[1]} columns avoids the {forbidden} "
                "forbidden (inf) pairs; give dummy_cost to leave some unmatched"
            ) from error
    if not np.isfinite(dummy_cost):
        raise InvalidInputError(f"dummy_cost={dummy_cost} must be a finite number")
    # a pair dearer than the dummy saves nothing, so min(cost - dummy, 0) is what pairing can save
    rows, columns = linear_sum_assignment(np.minimum(values - dummy_cost, 0.0))
    kept = values[rows, columns] < dummy_cost
    return rows[kept], columns[kept]


def assignment_margin(cost: ArrayLike, rows: ArrayLike, columns: ArrayLike) -> NDArray[np.float64]:
    """How much dearer the second best choice of each pair is.

    Args:
        cost: (N, M).
        rows: (K,) rows of the pairs.
        columns: (K,) columns of the pairs.

    Returns:
        (K,) the least cost among the other columns of the row and the other rows of the column, minus the cost of the
        pair. Negative where the assignment had to give way; ``inf`` where there is no other choice.

    Raises:
        InvalidInputError: NaN in the cost, pairs outside the matrix, or a forbidden pair.
    """
    values = checked_cost(cost)
    r, c = np.asarray(rows, dtype=np.intp), np.asarray(columns, dtype=np.intp)
    inside = r.shape == c.shape and bool(np.all((r >= 0) & (r < values.shape[0]) & (c >= 0) & (c < values.shape[1])))
    if not inside:
        raise InvalidInputError(f"{r.shape} rows and {c.shape} columns are not pairs of a matrix of {values.shape}")
    others_of_row, others_of_column = values[r, :].copy(), values[:, c].T.copy()
    pairs = np.arange(len(r))
    others_of_row[pairs, c] = np.inf
    others_of_column[pairs, r] = np.inf
    second = np.minimum(others_of_row.min(axis=1, initial=np.inf), others_of_column.min(axis=1, initial=np.inf))
    chosen = values[r, c]
    if np.isinf(chosen).any():
        raise InvalidInputError(f"row {r[np.isinf(chosen)][0]} is paired with a forbidden (inf) column")
    return second - chosen
