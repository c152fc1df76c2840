"""Tables about clusters: their sizes, the classes in them, and scores."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from voxel_ext.morphology.clustering import Representatives
from voxel_ext.visualize.cluster_scatter import ObjectGroups
from voxel_ext.visualize.worm_tables import html_table

if TYPE_CHECKING:
    import pandas as pd

_MEANINGS = {
    "silhouette": "mean silhouette, -1 to 1; higher is better",
    "davies_bouldin": "Davies-Bouldin index; lower is better",
    "calinski_harabasz": "Calinski-Harabasz index; higher is better",
    "clusters": "number of clusters",
    "noise": "objects in no cluster",
    "ari": "adjusted Rand index against the classes; 1 is perfect, 0 is chance",
    "nmi": "normalized mutual information with the classes, 0 to 1",
    "purity": "share of objects that are of the commonest class of their cluster",
    "accuracy": "share of objects in the cluster of their class, in the best one-to-one assignment",
    "known": "objects of known class",
    "mean": "mean over all pairs of repeats",
    "minimum": "of all pairs of repeats",
}
_COUNTS = {"clusters", "noise", "known"}
_KEY = ("silhouette", "ari", "nmi", "accuracy")


def cluster_composition(
    clusters: ObjectGroups,
    classes: ObjectGroups | None,
    table: pd.DataFrame,
    representatives: Sequence[Representatives],
) -> str:
    """Return a table of the clusters: size, share, silhouette, medoid, and how many objects of each class.

    Args:
        clusters: of the N objects; the first ones have a representative each.
        classes: of the same objects, or None.
        table: ``silhouette`` of the objects in the same order, NaN where undefined.
        representatives: of the clusters.

    Returns:
        HTML; the shares of a cluster's objects are the strengths of the classes' colors.
    """
    head = ["cluster", "objects", "share", "silhouette", "medoid"]
    cells = "".join(f'<th scope="col"{_NUMBER if k else ""}>{text}</th>' for k, text in enumerate(head))
    if classes is not None:
        cells += "".join(
            f'<th scope="col"{_NUMBER}>{_chip(color)}{html.escape(label)}</th>'
            for label, color in zip(classes.labels, classes.colors, strict=True)
        )
    silhouette = table["silhouette"].to_numpy(np.float64)
    lines = []
    for number, (label, color) in enumerate(zip(clusters.labels, clusters.colors, strict=True)):
        rows = np.flatnonzero(np.asarray(clusters.members) == number)
        known = silhouette[rows][np.isfinite(silhouette[rows])]
        texts = [
            str(len(rows)),
            f"{100 * len(rows) / len(silhouette):.1f} %",
            f"{known.mean():.3f}" if len(known) else "",
            str(representatives[number].medoid) if number < len(representatives) else "",
        ]
        line = "".join(f"<td{_NUMBER}>{text}</td>" for text in texts)
        if classes is not None:
            counts = np.bincount(np.asarray(classes.members)[rows], minlength=len(classes.labels)).tolist()
            line += "".join(_shaded(count, len(rows), tint) for count, tint in zip(counts, classes.colors, strict=True))
        lines.append(f'<tr><th scope="row">{_chip(color)}{html.escape(label)}</th>{line}</tr>')
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


_NUMBER = ' class="number"'


def _chip(color: str) -> str:
    return f'<span class="chip" style="background:{color}"></span>'


def _shaded(count: int, total: int, color: str) -> str:
    share = count / total if total else 0.0
    tint = f' style="background:color-mix(in srgb, {color} {70 * share:.0f}%, transparent)"' if count else ""
    return f"<td{_NUMBER}{tint}>{count or ''}</td>"


def score_table(scores: Mapping[str, Any]) -> str:
    """Return a table of scores and of what they mean.

    Args:
        scores: by name, numbers or mappings of these; anything else is passed over.

    Returns:
        HTML; empty without scores.
    """
    rows = [
        {"name": name, "value": value, "meaning": _MEANINGS.get(name.split("::")[-1], "")}
        for name, value in _numbers(scores)
    ]
    return html_table(rows, {"name": "score", "value": "value", "meaning": ""})


def key_scores(objects: int, clusters: int, noise: int, scores: Mapping[str, Any]) -> dict[str, float]:
    """Return what stands on top of the page: counts, silhouette, and the agreement with classes where it is known.

    Args:
        objects: number of objects.
        clusters: number of clusters.
        noise: objects in no cluster.
        scores: as for :func:`score_table`.
    """
    found = {name.split("::")[-1]: value for name, value in _numbers(scores)}
    key = {name: found[name] for name in _KEY if name in found}
    return {"objects": objects, "clusters": clusters, **({"noise": noise} if noise else {}), **key}


def _numbers(scores: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of nested mappings, with the path to each."""
    for name, value in scores.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}::")
        elif isinstance(value, Real) and not isinstance(value, bool):
            number = float(value)
            yield f"{prefix}{name}", int(number) if name in _COUNTS and np.isfinite(number) else number
