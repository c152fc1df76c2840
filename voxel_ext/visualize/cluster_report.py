"""The report about clusters of objects: a page with a scatter plot, tables, distributions and pictures."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.object_sources import ObjectVolumes
from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology.clustering import ClusterResult, FeatureMatrix, Representatives
from voxel_ext.visualize.cluster_distributions import NOISE_COLOR, feature_distributions, group_colors, separation
from voxel_ext.visualize.cluster_members import medoid_scene, member_pictures
from voxel_ext.visualize.cluster_scatter import ObjectGroups, scatter_element
from voxel_ext.visualize.cluster_tables import cluster_composition, key_scores, score_table
from voxel_ext.visualize.object_thumbnails import object_thumbnails, place_objects, read_shape
from voxel_ext.visualize.report import write_report

if TYPE_CHECKING:
    import pandas as pd

_THUMBNAIL = 64  # pixels
_PICTURED = 16  # clusters whose members are drawn
_COLORABLE = 64  # features that points can be colored by
_SEED = 0
_UNKNOWN = "unknown"


def write_cluster_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    matrix: FeatureMatrix,
    result: ClusterResult,
    table: pd.DataFrame,
    features: pd.DataFrame,
    representatives: Sequence[Representatives],
    scores: Mapping[str, Any],
    embedding: NDArray[np.floating],
    embedding_name: str,
    volumes: ObjectVolumes,
    objects: pd.DataFrame,
    classes: Mapping[int, str] | None,
    settings: Mapping[str, Any],
    max_thumbnails: int = 3000,
    progress: bool = True,
) -> Path:
    """Write a page about clusters that needs no other file and no network.

    It has a scatter plot with a picture of each object at the pointer, a table of the clusters and the classes in
    them, box plots of the features by cluster (those first that separate the clusters best), pictures of the medoids
    and the farthest members, the scores and the settings.

    Args:
        path: where to write it; written whole or not at all.
        title: heading of the page.
        matrix: the scaled features that were clustered, N objects.
        result: the clusters.
        table: of ``cluster_table``: ``id``, ``cluster``, ``silhouette``, ``distance_to_center``.
        features: ``id`` and the features as measured, a row for each object at least; columns that are not numbers are
            passed over.
        representatives: medoid and farthest members of each cluster.
        scores: by name, numbers or mappings of them, e.g. of ``internal_scores`` and ``external_scores``.
        embedding: (N, 2), in the order of ``matrix``.
        embedding_name: what it is, e.g. "UMAP".
        volumes: the labels, and the image or None.
        objects: ``id``, ``lower_z`` to ``upper_x`` (voxels, upper ends excluded) of the objects.
        classes: by id, the known classes; objects without one are "unknown". None where no class is known.
        settings: what to list as settings, may be nested.
        max_thumbnails: of more objects, a random sample has pictures; the members that are drawn always have.
        progress: show a bar.

    Returns:
        the path.

    Raises:
        InvalidInputError: the parts are of different objects (says which lacks what), the labels have no voxel of an
            object in its box, or a number is not valid.
        MissingDependencyError: matplotlib, plotly or pillow is not installed.
        OSError: the page cannot be written.
    """
    values = _check_parts(matrix, result, table, features, representatives, embedding)
    if max_thumbnails < 0:
        raise InvalidInputError(f"max_thumbnails={max_thumbnails}; expected at least 0")
    clusters = _cluster_groups(result)
    groups = [clusters, *([_class_groups(result.ids, classes)] if classes else [])]
    drawn = _choose(result.ids, representatives[:_PICTURED], max_thumbnails)
    thumbnails = object_thumbnails(volumes, objects, drawn, _THUMBNAIL, progress)
    # what tells clusters apart comes first, in the plot as in the distributions
    order = np.argsort(-separation(np.column_stack(list(values.values())), result.labels), kind="stable")
    ranked = {name: values[name] for name in (list(values)[k] for k in order)}
    shown = dict(list(ranked.items())[:_COLORABLE]) | {"silhouette": table["silhouette"].to_numpy(np.float64)}
    sections = [
        (
            "Objects",
            scatter_element(result.ids, embedding, groups, shown, thumbnails, drawn, f"{embedding_name} of features"),
        ),
        ("Clusters", cluster_composition(clusters, groups[1] if classes else None, table, representatives)),
        ("Features by cluster", feature_distributions(ranked, result.labels)),
        ("Members", _members(volumes, objects, representatives, clusters)),
        ("Scores", score_table(scores)),
    ]
    return write_report(
        path,
        title,
        settings=settings,
        metrics=key_scores(len(result.ids), result.n_clusters, result.noise, scores),
        notes=_notes(len(result.ids), len(drawn), len(ranked)),
        sections=[(heading, content) for heading, content in sections if content],
    )


def _check_parts(
    matrix: FeatureMatrix,
    result: ClusterResult,
    table: pd.DataFrame,
    features: pd.DataFrame,
    representatives: Sequence[Representatives],
    embedding: NDArray[np.floating],
) -> dict[str, NDArray[np.float64]]:
    """Refuse parts of different objects; return the numeric features in the order of the clusters."""
    for name, ids in (("matrix", matrix.ids), ("table", table["id"].to_numpy())):
        if not np.array_equal(ids, result.ids):
            raise InvalidInputError(f"{name} has {len(ids)} objects that are not the {len(result.ids)} of the clusters")
    if np.shape(embedding) != (len(result.ids), 2):
        raise InvalidInputError(
            f"the embedding has shape {np.shape(embedding)}; expected ({len(result.ids)}, 2), a row for each object"
        )
    if len(representatives) != result.n_clusters:
        raise InvalidInputError(f"{len(representatives)} representatives; expected one for each of {result.n_clusters}")
    missing = np.setdiff1d(result.ids, features["id"].to_numpy())
    if missing.size:
        raise InvalidInputError(
            f"features lacks {missing.size} of {len(result.ids)} objects: the ids {missing[:20].tolist()}"
        )
    rows = features.set_index("id").loc[result.ids].select_dtypes(["number", "bool"])
    if not rows.shape[1]:
        raise InvalidInputError(f"features has no column of numbers; its columns are {features.columns.tolist()}")
    return {str(name): rows[name].to_numpy(np.float64) for name in rows.columns}


def _cluster_groups(result: ClusterResult) -> ObjectGroups:
    """Clusters by number; noise comes last, in gray."""
    names, palette = [str(number) for number in range(result.n_clusters)], group_colors(result.n_clusters)
    members = np.where(result.labels < 0, result.n_clusters, result.labels)
    if result.noise:
        names, palette = [*names, "noise"], [*palette, NOISE_COLOR]
    return ObjectGroups("cluster", names, palette, members)


def _class_groups(ids: NDArray[np.int64], classes: Mapping[int, str]) -> ObjectGroups:
    """Classes by name; objects without one come last, in gray."""
    given = [classes.get(one) for one in ids.tolist()]
    names = sorted({str(one) for one in given if one is not None})
    numbers = {name: number for number, name in enumerate(names)}
    members = np.array([len(names) if one is None else numbers[str(one)] for one in given])
    palette = group_colors(len(names))
    if (members == len(names)).any():
        names, palette = [*names, _UNKNOWN], [*palette, NOISE_COLOR]
    return ObjectGroups("class", names, palette, members)


def _choose(ids: NDArray[np.int64], members: Sequence[Representatives], limit: int) -> NDArray[np.int64]:
    """The objects that have thumbnails, ascending: all, or the members and a random sample."""
    if len(ids) <= limit:
        return ids
    fixed = np.array([one for each in members for one in (each.medoid, *each.farthest)], np.int64)[:limit]
    others = np.setdiff1d(ids, fixed)
    sample = np.random.default_rng(_SEED).choice(others, limit - len(fixed), replace=False)
    return np.sort(np.concatenate([fixed, sample]))


def _notes(objects: int, drawn: int, features: int) -> list[str]:
    notes = []
    if drawn < objects:
        notes.append(
            f"{drawn} of {objects} objects have a thumbnail: the members of clusters that are drawn below, and a "
            f"random sample (seed {_SEED})."
        )
    if features > _COLORABLE:
        notes.append(
            f"The points can be colored by the {_COLORABLE} of {features} features that separate the clusters best."
        )
    return notes


def _members(
    volumes: ObjectVolumes, objects: pd.DataFrame, representatives: Sequence[Representatives], clusters: ObjectGroups
) -> str:
    """The medoids in 3D, and pictures of the members of each cluster."""
    if not representatives:
        return ""
    shown = representatives[:_PICTURED]
    ids = [one for each in shown for one in (each.medoid, *each.farthest)]
    placed = dict(zip(ids, place_objects(objects, ids), strict=True))
    names = [f"cluster {name}" for name in clusters.labels[: len(shown)]]
    shapes = [read_shape(volumes, placed[each.medoid]) for each in shown]
    counts = np.bincount(clusters.members)
    parts = [
        medoid_scene(shapes, names, clusters.colors[: len(shown)], "medoids"),
        "<figcaption>The medoids of the clusters to one scale, each turned to its principal axes. Drag to turn."
        "</figcaption>",
    ]
    for number, (each, name) in enumerate(zip(shown, names, strict=True)):
        color = clusters.colors[number]
        parts.append(
            f'<h3 style="margin-top:1.2rem"><span class="chip" style="background:{color}"></span>'
            f'{html.escape(name)} <span class="muted">{counts[number]} objects</span></h3>'
            + member_pictures(volumes, each, placed, color)
        )
    views = "Each object is seen along its short, middle and long principal axis, to a scale of its own"
    views += "." if volumes.image is None else "; beside it, a slice of the image with the object's outline."
    if len(shown) < len(representatives):
        views += f" Shown are the {len(shown)} largest of {len(representatives)} clusters."
    return "".join([*parts, f"<figcaption>{views}</figcaption>"])
