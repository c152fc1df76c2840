"""A page about one volume and its segmentation."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.visualize.arrays import as_image, as_labels
from voxel_ext.visualize.instances import instance_section, instance_sizes
from voxel_ext.visualize.report import write_report
from voxel_ext.visualize.worm_tables import html_table

LISTED = 50
"""Labels that are listed one by one, the largest."""


def write_volume_report(
    path: str | os.PathLike[str],
    name: str,
    image: ArrayLike,
    labels: ArrayLike | None = None,
    reference: ArrayLike | None = None,
    voxel_size: Sequence[float] | None = None,
    metrics: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write a page that needs no other file: slices to walk through, a 3D view, the sizes of the labels, and metrics.

    Args:
        path: the file to write, replaced whole.
        name: of the volume.
        image: (D, H, W) or (H, W).
        labels: mask or ids of the same shape, None for none; see :func:`~voxel_ext.visualize.arrays.as_labels`.
        reference: the true ones, likewise.
        voxel_size: µm per axis, None if it is not known.
        metrics: name -> value, shown on top of the page.
        notes: sentences above the rest.

    Returns:
        the path.

    Raises:
        InvalidInputError: shapes that differ (names both), or NaN.
        MissingDependencyError: a library that draws is not installed.
        OSError: the page cannot be written.
    """
    gray = as_image(image, f"the image {name}")
    volume: dict[str, object] = {"name": name, "image": gray, "voxel_size": voxel_size}
    sizes: dict[str, object] = {"name": name}
    ids: dict[str, NDArray[np.int32]] = {}
    for key, array in (("prediction", labels), ("truth", reference)):
        if array is not None:
            ids[key] = as_labels(array, gray, f"the {key} of {name}")
            sizes[key] = instance_sizes(ids[key])
    volume |= ids | {"instances": any(int(one.max()) > 1 for one in ids.values())}
    sections = (
        [("Labels", instance_section([sizes]) + _label_table(ids["prediction"], voxel_size))]
        if labels is not None
        else []
    )
    return write_report(path, name, metrics=dict(metrics or {}), volumes=[volume], notes=notes, sections=sections)


def _label_table(labels: NDArray[np.int32], voxel_size: Sequence[float] | None) -> str:
    """The size of each label, of the largest ones if there are many."""
    found, counts = np.unique(labels[labels > 0], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:LISTED]
    unit = math.prod(voxel_size) if voxel_size else None
    share = 100 / labels.size
    rows = [
        {
            "label": str(found[i]),
            "voxels": int(counts[i]),
            "share": float(counts[i]) * share,
            "volume": float(counts[i]) * unit if unit else None,
        }
        for i in order
    ]
    columns = {"label": "label", "voxels": "voxels", "share": "share (%)"}
    if unit:
        columns["volume"] = "volume (µm³)" if labels.ndim == 3 else "area (µm²)"
    more = f"<p class='muted'>The {LISTED} largest of {len(found)} labels.</p>" if len(found) > LISTED else ""
    return html_table(rows, columns) + more
