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
        costs: see :func:`combined_cost`.
        mode: likewise.

    Returns:
        (N,) the column of each cell; -1 if it got none (N > M).

    Raises:
        InvalidInputError: see :func:`combined_cost`.
    """
    total = combined_cost(costs, mode)
    names = np.full(len(total), -1, dtype=np.intp)
    rows, columns = _assign_allowed(total)
    names[rows] = columns
    return names


def combined_cost(
    costs: Sequence[ArrayLike], mode: str = "votes", dummy_cost: float | None = None
) -> NDArray[np.float64]:
    """Combine the costs of one worm against several references.

    Args:
        costs: R matrices (N, M): cell n of the worm against identity m in reference r, the same identities in the
            same columns. ``inf`` where a reference lacks the identity.
        mode: "votes" (default): each reference assigns alone; the cost is minus the share of the references that chose
            the pair, plus the mean cost scaled so far down that it only decides between assignments of as many votes.
            "mean": the mean cost of the references that have the identity.
        dummy_cost: of the single assignments, see :func:`~voxel_ext.matching.assign`.

    Returns:
        (N, M); ``inf`` where no reference has the identity.

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
    seen = finite.sum(axis=0)
    mean = np.where(seen > 0, np.where(finite, stack, 0.0).sum(axis=0) / np.maximum(seen, 1), np.inf)
    if mode == "mean":
        return mean
    votes = np.zeros(mean.shape)
    for matrix in matrices:
        votes[_assign_allowed(matrix, dummy_cost)] += 1
    known = mean[seen > 0]
    low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
    ties = (mean - low) / ((high - low or 1.0) * 2 * min(mean.shape))
    return (ties - votes) / len(matrices)


def _assign_allowed(
    cost: NDArray[np.float64], dummy_cost: float | None = None
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The assignment with as few forbidden pairs as there can be, without them."""
    allowed = np.isfinite(cost)
    forbidden = np.inf if dummy_cost is not None else 1 + 2 * np.abs(cost[allowed]).sum()
    rows, columns = assign(np.where(allowed, cost, forbidden), dummy_cost)
    kept = allowed[rows, columns]
    return rows[kept], columns[kept]
