"""The report about a multi-task network: masks, classes, values and directions, beside the truth."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.visualize.angle_histogram import AngleHistogram, angle_section
from voxel_ext.visualize.figures import figure_png, picture_element
from voxel_ext.visualize.report import viewer_element, write_report
from voxel_ext.visualize.slice_walk import walk_frames, walk_slices
from voxel_ext.visualize.target_fields import ShownTarget
from voxel_ext.visualize.vectors import key_text, vector_figure, vector_key
from voxel_ext.visualize.viewer import data_url, jpeg_url

_KEYS = {"name", "image", "targets", "voxel_size", "extent"}
_SUB = '<h3 style="margin-top:1.2rem">{}</h3>'
# of a walk inside a page
_MAX_FRAMES, _MIN_SIDE = 48, 128


def write_surface_report(
    path: str | os.PathLike[str],
    volumes: Sequence[Mapping[str, Any]],
    title: str = "Surfaces",
    settings: Mapping[str, Any] | None = None,
    history: Iterable[Mapping[str, object]] = (),
    metrics: Mapping[str, float] | None = None,
    metric_rows: Sequence[Mapping[str, object]] = (),
    histograms: Mapping[str, AngleHistogram] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write a page that needs no other file and no network.

    Args:
        path: where to write it; written whole or not at all.
        volumes: what to show, each ``{"name": str, "image": (D, H, W), "targets": {name: ShownTarget}, "voxel_size":
            optional, µm along D, H, W, "extent": optional, a sentence about which part of the volume this is}``.
        title: heading of the page.
        settings: what to list as settings, may be nested.
        history: rows for the learning curves, see :func:`~voxel_ext.visualize.write_report`.
        metrics: name -> value over all volumes.
        metric_rows: one mapping per volume, ``name`` and metrics.
        histograms: of the angle errors over all volumes, by target.
        notes: sentences to put above the curves.

    Returns:
        the path.

    Raises:
        InvalidInputError: a volume has an unknown key, lacks one, has NaN in its image, or a target of another shape
            (names both); a row of the history has no epoch.
        MissingDependencyError: matplotlib, plotly or pillow is not installed.
        OSError: the page cannot be written.
    """
    for index, volume in enumerate(volumes):
        if not {"name", "image", "targets"} <= set(volume) <= _KEYS:
            raise InvalidInputError(
                f"volumes[{index}] has the keys {sorted(volume)}, expected 'name', 'image', 'targets' and no others "
                "than 'voxel_size' and 'extent'"
            )
    sections = [
        ("Angle errors", angle_section(histograms or {})),
        ("Slice by slice", "".join(map(_walks, volumes))),
        ("Directions", _keys(volumes) + "".join(map(_directions, volumes))),
    ]
    return write_report(
        path,
        title,
        settings=settings,
        history=history,
        metrics=metrics,
        metric_rows=metric_rows,
        volumes=[article for volume in volumes for article in _mask_articles(volume)],
        notes=notes,
        sections=[(heading, content) for heading, content in sections if content],
    )


def drawn_voxels(targets: Mapping[str, ShownTarget], name: str) -> NDArray[np.bool_]:
    """Return where the vectors of a target are drawn, (D, H, W).

    That is where the truth is known; without a truth, where the first mask is predicted; without a mask, where the
    prediction is not zero.

    Args:
        targets: all of the volume.
        name: of the vectors.
    """
    field = targets[name]
    if field.truth is not None:
        return (field.truth != 0).any(axis=0)
    masks = [one.prediction for one in targets.values() if one.target.kind == "mask" and one.prediction is not None]
    if masks:
        return masks[0] > 0
    return (next(iter(field.layers.values())) != 0).any(axis=0)


def target_frames(volume: Mapping[str, Any], name: str, max_frames: int = 96, min_side: int = 192) -> NDArray[np.uint8]:
    """Return the walk through the slices of one target of a volume, (T, H, W, 3).

    Args:
        volume: as for :func:`write_surface_report`.
        name: of the target.
        max_frames: the most slices, evenly spaced.
        min_side: smaller panels are enlarged by a whole factor.
    """
    shown = volume["targets"][name]
    where = drawn_voxels(volume["targets"], name) if shown.target.kind == "vectors" else None
    return walk_frames(volume["image"], shown, where, volume.get("voxel_size"), max_frames, min_side)


def _heading(volume: Mapping[str, Any]) -> str:
    size = " × ".join(map(str, np.shape(volume["image"])))
    extent = f", {html.escape(str(volume['extent']))}" if volume.get("extent") else ""
    return f'<h3>{html.escape(str(volume["name"]))} <span class="muted">{size}{extent}</span></h3>'


def _walks(volume: Mapping[str, Any]) -> str:
    """A slider per target over the frames."""
    parts = []
    for name in volume["targets"]:
        frames = target_frames(volume, name, _MAX_FRAMES, _MIN_SIDE)
        slices = walk_slices(len(volume["image"]), _MAX_FRAMES)
        content = {
            "slices": slices,
            "start": len(slices) // 2,
            "width": frames.shape[2],
            "height": frames.shape[1],
            "image": [jpeg_url(frame / 255) for frame in frames],
        }
        element = viewer_element(f"{volume['name']}, {name}", content)
        parts.append(f"{_SUB.format(html.escape(name))}{element}")
    return f'<article class="volume">{_heading(volume)}{"".join(parts)}</article>'


def _vectors(volume: Mapping[str, Any]) -> dict[str, ShownTarget]:
    return {name: shown for name, shown in volume["targets"].items() if shown.target.kind == "vectors"}


def _keys(volumes: Iterable[Mapping[str, Any]]) -> str:
    """The meaning of the colors."""
    kinds = sorted({shown.target.oriented for volume in volumes for shown in _vectors(volume).values()})
    return "".join(
        '<figure style="display:flex;flex-wrap:wrap;align-items:center;gap:1rem;margin:0 0 1rem">'
        f'<img src="{data_url(figure_png(vector_key(oriented)), "png")}" alt="Colors of directions">'
        f"<figcaption>{key_text(oriented)}</figcaption></figure>"
        for oriented in kinds
    )


def _directions(volume: Mapping[str, Any]) -> str:
    """Per target, colors and arrows on a slice across each axis."""
    parts = []
    for name, shown in _vectors(volume).items():
        where, oriented = drawn_voxels(volume["targets"], name), shown.target.oriented
        figure = vector_figure(volume["image"], shown.layers, where, oriented, volume.get("voxel_size"))
        signs = "" if oriented else " They have no heads, since v and -v are the same."
        caption = f"Arrows: components in the plane, truth green, prediction red.{signs}"
        text = f"{name} of {volume['name']} on a slice across z, y and x: {', '.join(shown.layers)}"
        parts.append(f"{_SUB.format(html.escape(name))}{picture_element(figure_png(figure), text, caption)}")
    return f'<article class="volume">{_heading(volume)}{"".join(parts)}</article>' if parts else ""


def _mask_articles(volume: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What ``write_report`` shows of the masks and classes."""
    articles = []
    for name, shown in volume["targets"].items():
        if shown.target.kind in ("mask", "classes"):
            article = {"name": f"{volume['name']}: {name}", "image": volume["image"], **shown.layers}
            articles.append(article | {"voxel_size": volume.get("voxel_size"), "instances": shown.colored_ids})
    return articles
