"""What is known about the clusters of the objects of a label volume, and the files that tell it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.object_sources import (
    MEMORY_LIMIT_GIB,
    Source,
    check_object_memory,
)
from voxel_ext.engines.labeled_objects import known_classes
from voxel_ext.engines.object_clustering import ClusteredObjects
from voxel_ext.errors import check_option, require
from voxel_ext.morphology.clustering import EMBEDDINGS, Representatives, embed, external_scores, representatives
from voxel_ext.morphology.object_features import check_crop_memory

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class DescribedClusters:
    """Clusters of the objects of a label volume, made by :func:`describe_clusters`.

    Attributes:
        clustering: the clusters.
        classes: by id, of the clustered objects whose class is known; None where no classes are given.
        representatives: of each cluster.
        plane: (N, 2) the embedding.
        embedding: its name.
    """

    clustering: ClusteredObjects
    classes: Mapping[int, str] | None
    representatives: Sequence[Representatives]
    plane: NDArray[np.float64]
    embedding: str

    def table(self) -> pd.DataFrame:
        """Return ``id``, ``cluster``, ``silhouette``, ``distance_to_center`` and, where known, ``class``."""
        table, classes = self.clustering.table, self.classes
        if classes is None:
            return table
        return table.assign(**{"class": [classes.get(one) for one in table["id"].tolist()]})

    def embedding_table(self) -> pd.DataFrame:
        """Return ``id``, ``x``, ``y`` and ``cluster``."""
        result = self.clustering.result
        columns = {"id": result.ids, "x": self.plane[:, 0], "y": self.plane[:, 1], "cluster": result.labels}
        return require("pandas", extra="em").DataFrame(columns)

    def box_table(self) -> pd.DataFrame:
        """Return ``id`` and the bounding boxes ``lower_z`` to ``upper_x`` of all objects of the labels, in voxels."""
        rows = [(one.id, *one.lower, *one.upper) for one in sorted(self.clustering.objects.placed.values())]
        names = ["id", *(f"{corner}_{axis}" for corner in ("lower", "upper") for axis in "zyx")]
        return require("pandas", extra="em").DataFrame(rows, columns=names)

    def scores(self) -> dict[str, float]:
        """Return internal scores, external ones where classes are known, and the stability where there are repeats."""
        scores, repeats, result = dict(self.clustering.scores), self.clustering.stability, self.clustering.result
        if self.classes is not None:
            scores |= external_scores(result.labels, [self.classes.get(one) for one in result.ids.tolist()])
        if repeats is not None:
            scores |= {"stability": repeats.mean, "stability_minimum": repeats.minimum}
        return scores

    def cluster_rows(self) -> list[dict[str, Any]]:
        """Return of each cluster its number, count of objects, medoid, farthest members, and counts of the classes."""
        result, rows = self.clustering.result, []
        for number, (size, one) in enumerate(zip(result.sizes.tolist(), self.representatives, strict=True)):
            row = {"cluster": number, "objects": size, "medoid": one.medoid, "farthest": list(one.farthest)}
            if self.classes is not None:
                members = [self.classes.get(member) for member in result.ids[result.labels == number].tolist()]
                row["classes"] = dict(Counter(name for name in members if name is not None).most_common())
            rows.append(row)
        return rows

    def summary(self, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return all that is in ``scores.json``.

        Args:
            settings: of the command, to be told beside the rest.
        """
        result, present = self.clustering.result, np.array(sorted(self.clustering.objects.placed), dtype=np.int64)
        return {
            "scores": self.scores(),
            "clusters": self.cluster_rows(),
            "noise": result.noise,
            "algorithm": result.algorithm,
            "parameters": result.parameters,
            "features": self.clustering.sources.describe(),
            "volumes": self.clustering.objects.volumes.describe(),
            "without_features": np.setdiff1d(present, result.ids),
            "settings": dict(settings or {}),
        }


def describe_clusters(
    clustering: ClusteredObjects,
    *,
    classes: Source | Mapping[int, Any] | None = None,
    embedding: str = "umap",
    farthest: int = 3,
    memory_limit_gib: float = MEMORY_LIMIT_GIB,
) -> DescribedClusters:
    """Find what is typical of each cluster, and what its members are known to be.

    Args:
        clustering: what ``cluster_objects`` returned.
        classes: for external scores, see :func:`~voxel_ext.engines.labeled_objects.known_classes`.
        embedding: "umap" or "pca", of the scaled features.
        farthest: how many of the members farthest from each cluster's center to show beside the medoid.
        memory_limit_gib: for one object that is shown.

    Returns:
        what is known.

    Raises:
        MissingDataError: the classes do not exist.
        InvalidInputError: an unknown embedding; wrong classes; an object to be shown that needs more memory.
        MissingDependencyError: a library of the extra "em" is not installed.
    """
    check_option("embedding", embedding, EMBEDDINGS)
    objects = clustering.objects
    known = known_classes(classes, objects, clustering.result.ids)
    chosen = representatives(clustering.matrix, clustering.result, farthest)
    shown = [objects.placed[member] for one in chosen for member in (one.medoid, *one.farthest)]
    check_object_memory(shown, objects.volumes, memory_limit_gib)
    if shown:  # their surfaces take more memory than their voxels
        ids, extents = np.array([one.id for one in shown]), np.array([one.shape for one in shown])
        check_crop_memory(ids, extents, objects.volumes.voxel_size, memory_limit_gib, "memory_limit_gib")
    plane = embed(clustering.matrix, embedding, clustering.seed)
    return DescribedClusters(clustering, known, chosen, plane, embedding)
