"""The members of clusters: a table of all, and the most and least typical ones."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError, require
from voxel_ext.files import atomic_path
from voxel_ext.morphology.clustering.feature_table import FeatureMatrix
from voxel_ext.morphology.clustering.fitting import ClusterResult
from voxel_ext.morphology.clustering.scores import silhouettes

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Representatives:
    """Objects that show what a cluster is like.

    Attributes:
        medoid: id of the member with the least sum of distances to the others (of equal ones the least id).
        farthest: ids of the members farthest from the center, the farthest first; without the medoid.
    """

    medoid: int
    farthest: tuple[int, ...]


def representatives(matrix: FeatureMatrix, result: ClusterResult, farthest: int = 3) -> list[Representatives]:
    """Find the medoid and the farthest members of each cluster.

    Time grows with the square of a cluster's size, memory does not.

    Args:
        matrix: the features that were clustered.
        result: the clusters.
        farthest: how many, at least 0; of a smaller cluster all members.

    Returns:
        one for each cluster, in their order.

    Raises:
        InvalidInputError: the result is of other objects, or ``farthest`` is negative.
    """
    _check_same(matrix, result)
    if farthest < 0:
        raise InvalidInputError(f"farthest={farthest}; expected at least 0")
    found = []
    for number in range(result.n_clusters):
        rows = np.flatnonzero(result.labels == number)
        medoid = rows[_medoid(matrix.values[rows])]
        order = rows[np.argsort(-result.distances[rows], kind="stable")]
        far = order[order != medoid][:farthest]
        found.append(Representatives(int(matrix.ids[medoid]), tuple(matrix.ids[far].tolist())))
    return found


def _medoid(values: NDArray[np.float64]) -> int:
    metrics = require("sklearn.metrics", extra="em")
    chunks = metrics.pairwise_distances_chunked(values, reduce_func=lambda distances, _: distances.sum(1))
    return int(np.argmin(np.concatenate(list(chunks))))


def cluster_table(matrix: FeatureMatrix, result: ClusterResult) -> pd.DataFrame:
    """Make a table of the objects and their clusters.

    Args:
        matrix: the features that were clustered.
        result: the clusters.

    Returns:
        the columns ``id``, ``cluster`` (-1 for noise), ``silhouette`` (see :func:`silhouettes`) and
        ``distance_to_center`` (Euclidean, of the scaled features); sorted by id.

    Raises:
        InvalidInputError: the result is of other objects.
    """
    _check_same(matrix, result)
    pandas = require("pandas", extra="em")
    return pandas.DataFrame(
        {
            "id": result.ids,
            "cluster": result.labels,
            "silhouette": silhouettes(matrix.values, result.labels),
            "distance_to_center": result.distances,
        }
    )


def write_clusters(table: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write what :func:`cluster_table` made as CSV; an undefined silhouette or distance is an empty field.

    Args:
        table: the table.
        path: of the file; one that exists is replaced.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)


def _check_same(matrix: FeatureMatrix, result: ClusterResult) -> None:
    if not np.array_equal(matrix.ids, result.ids):
        raise InvalidInputError(
            f"the clusters are of {len(result.ids)} objects, the features of {len(matrix.ids)} others; expected the "
            "features that were clustered"
        )
