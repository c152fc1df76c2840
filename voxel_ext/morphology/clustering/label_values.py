"""From object ids to the numbers of their clusters, voxel by voxel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.morphology.clustering.feature_table import check_ids

NOISE_RULES = ("background", "own")


def cluster_values(labels: NDArray[np.int64], noise: str = "background") -> NDArray[Any]:
    """Number clusters for a label volume, where 0 is the background.

    Args:
        labels: (N,) clusters from 0 on; -1 for noise.
        noise: "background": 0; "own": the number after that of the last cluster.

    Returns:
        (N,) cluster + 1, of the smallest of uint8, uint16 and uint32 that holds them.

    Raises:
        InvalidInputError: an unknown rule, or labels below -1.
    """
    check_option("noise", noise, NOISE_RULES)
    found = np.asarray(labels)
    if found.dtype.kind not in "iu" or found.ndim != 1 or found.min(initial=0) < -1:
        raise InvalidInputError(f"clusters {found.dtype} of shape {found.shape}; expected (N,) integers from -1 on")
    top = int(found.max(initial=-1)) + 1
    values = np.where(found < 0, top + 1 if noise == "own" else 0, found.astype(np.int64) + 1)
    # the type depends on the clusters alone, so that noise or none gives files of the same type
    return values.astype(np.min_scalar_type(top + 1))


def map_labels(labels: NDArray[Any], ids: NDArray[np.int64], values: NDArray[Any]) -> NDArray[Any]:
    """Replace the ids of a label array.

    Args:
        labels: integers of any shape.
        ids: (N,) which are replaced, in any order.
        values: (N,) by what.

    Returns:
        the shape of ``labels`` and the type of ``values``; 0 where the id is not in ``ids``.

    Raises:
        InvalidInputError: labels that are not integers, wrong ids, or another number of values.
    """
    if labels.dtype.kind not in "iu":
        raise InvalidInputError(f"labels of data type {labels.dtype}; expected integers")
    known, numbers = check_ids(ids, "ids"), np.asarray(values)
    if numbers.shape != known.shape:
        raise InvalidInputError(f"values of shape {numbers.shape} for {len(known)} ids; expected one for each")
    result = np.zeros(labels.shape, dtype=numbers.dtype)
    inside = labels != 0
    if not known.size or not inside.any():
        return result
    order = np.argsort(known)
    # compared as unsigned: negative labels become 2^63 and more, which no id is
    known = known[order].astype(np.uint64)
    wanted = labels[inside].astype(np.int64).astype(np.uint64) if labels.dtype.kind == "i" else labels[inside]
    wanted = wanted.astype(np.uint64)
    place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    result[inside] = np.where(known[place] == wanted, numbers[order][place], 0)
    return result
