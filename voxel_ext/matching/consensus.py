"""Naming a worm by several references."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.matching.assignment import assign, checked_cost


def name_by_references(costs: Sequence[ArrayLike], mode: str = "votes") -> NDArray[np.intp]:
    """Combine the costs of one worm against several references into one name per cell.

    Args:
        costs: R matrices (N, M): cell n of the worm against identity m in reference r, the same identities in the
            same columns. ``inf`` where a reference lacks the identity.
        mode: "votes" (default): each reference assigns alone, and the identities with the most votes are assigned,
            ties by the mean cost; "mean": one assignment of the mean cost of the references that have the identity.

    Returns:
        (N,) the column of each cell; -1 if it got none (N > M).

    Raises:
        InvalidInputError: no or different matrices, NaN in one, or another mode.
    """
    check_option("mode", mode, ("votes", "mean"))
    matrices = [checked_cost(cost) for cost in costs]
    shapes = sorted({matrix.shape for matrix in matrices})
    if len(shapes) != 1:
        raise InvalidInputError(f"the costs must be matrices of one shape, at least one; got the shapes {shapes}")
    stack = np.stack(matrices)
    finite = np.isfinite(stack)
    total = np.where(finite, stack, 0.0).sum(axis=0)
    seen = finite.sum(axis=0)
    mean = np.where(seen > 0, total / np.maximum(seen, 1), np.inf)
    if mode == "votes":
        mean = _ballot(matrices, mean)
    names = np.full(mean.shape[0], -1, dtype=np.intp)
    high = 1 + 2 * np.abs(mean[np.isfinite(mean)]).sum()
    rows, columns = assign(np.where(np.isfinite(mean), mean, high))
    named = np.isfinite(mean[rows, columns])
    names[rows[named]] = columns[named]
    return names


def _ballot(matrices: list[NDArray[np.float64]], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Minus the votes, plus the mean cost scaled so far down that it only decides between equal sums of votes."""
    votes = np.zeros(mean.shape)
    for matrix in matrices:
        high = 1 + 2 * np.abs(matrix[np.isfinite(matrix)]).sum()
        rows, columns = assign(np.where(np.isfinite(matrix), matrix, high))
        real = np.isfinite(matrix[rows, columns])
        votes[rows[real], columns[real]] += 1
    finite = np.isfinite(mean)
    low, high = (mean[finite].min(), mean[finite].max()) if finite.any() else (0.0, 0.0)
    ties = (mean - low) / ((high - low or 1.0) * 2 * min(mean.shape))
    return ties - votes
