"""One self-contained HTML page about a run: settings, curves, metrics, slices and 3D views."""

from __future__ import annotations

import html
import importlib.resources
import json
import math
import os
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from voxel_ext.errors import InvalidInputError
from voxel_ext.files import atomic_path
from voxel_ext.visualize import colors
from voxel_ext.visualize.arrays import as_image, as_labels, check_voxel_size
from voxel_ext.visualize.curves import learning_curves
from voxel_ext.visualize.scene import plotly_script, volume_scene
from voxel_ext.visualize.slices import slice_figure
from voxel_ext.visualize.viewer import data_url, viewer_frames

_VOLUME_KEYS = {"name", "image", "truth", "prediction", "voxel_size", "instances"}
# 3D views beyond this make a page slow
_SCENES = 2
_LONG_TABLE = 14


def write_report(
    path: str | os.PathLike[str],
    title: str,
    settings: Mapping[str, Any] | None = None,
    history: Iterable[Mapping[str, object]] = (),
    metrics: Mapping[str, float] | None = None,
    volumes: Sequence[Mapping[str, Any]] = (),
    notes: Sequence[str] = (),
    metric_rows: Sequence[Mapping[str, object]] = (),
    sections: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write a page that needs no other file and no network.

    Args:
        path: where to write it; written whole or not at all.
        title: heading of the page.
        settings: what the run was told; nested mappings become keys such as ``optimizer::lr``.
        history: rows as :func:`~voxel_ext.visualize.curves.learning_curves` takes them.
        metrics: name -> value over all volumes, shown on top of the page; the means of ``metric_rows`` if None.
        volumes: each ``{"name": str, "image": (D, H, W) or (H, W), "truth": optional, "prediction": optional,
            "voxel_size": optional, µm per axis, "instances": optional, whether to draw each object of the masks in its
            own color}``. The first two 3D ones have a 3D view.
        notes: sentences to put above the curves.
        metric_rows: one mapping per volume, ``name`` and metrics.
        sections: further parts of the page, heading and HTML, which is put in as it is; after the metrics.

    Returns:
        the path.

    Raises:
        InvalidInputError: a volume has an unknown key, no image or name, NaN, or masks of another shape (names both);
            a row of the history has no epoch.
        MissingDependencyError: matplotlib, plotly or pillow is not installed.
        OSError: the page cannot be written.
    """
    summary = _means(metric_rows) if metrics is None else metrics
    curves = learning_curves(history)
    parts = [
        _section("Notes", "".join(f"<p>{_text(note)}</p>" for note in notes)),
        _section("Learning curves", f'<div class="wide">{curves}</div>' if curves else ""),
        _section("Metrics", _metric_table(summary, metric_rows) if metric_rows or not sections else ""),
        *(_section(_text(heading), content) for heading, content in sections),
        _section("Volumes", "\n".join(_volume(volume, index) for index, volume in enumerate(volumes))),
        _settings(dict(_flatten(settings or {}))),
    ]
    body = "\n".join(part for part in parts if part)
    page = string.Template(_resource("report_template.html")).substitute(
        title=_text(title),
        date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        style=_resource("report.css"),
        library=plotly_script() if 'class="volume-scene"' in body else "",
        figures=_key_figures(summary),
        sections=body,
        script=_resource("report.js"),
    )
    with atomic_path(path) as temporary:
        # a file name that is no UTF-8 has characters that cannot be encoded
        temporary.write_text(page, encoding="utf-8", errors="replace")
    return Path(path)


def _resource(name: str) -> str:
    return importlib.resources.files("voxel_ext.visualize").joinpath(name).read_text(encoding="utf-8")


def _text(value: object) -> str:
    """Return a value as text that cannot be taken for HTML."""
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if not math.isfinite(number):
            return "n/a"
        return f"{number:.3f}" if number == 0 or 0.01 <= abs(number) < 1000 else f"{number:.3g}"
    return html.escape(str(value))


def _section(heading: str, content: str) -> str:
    return f"<section>\n<h2>{heading}</h2>\n{content}\n</section>" if content else ""


def _means(rows: Sequence[Mapping[str, object]]) -> dict[str, float]:
    """Mean of each numeric column, over the rows where it is defined."""
    columns: dict[str, list[float]] = {}
    for row in rows:
        for key, value in row.items():
            if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
                columns.setdefault(key, []).extend([float(value)] if np.isfinite(value) else [])
    return {key: float(np.mean(values)) if values else float("nan") for key, values in columns.items()}


def _key_figures(summary: Mapping[str, float]) -> str:
    cards = "".join(f"<div><dt>{_text(key)}</dt><dd>{_text(value)}</dd></div>" for key, value in summary.items())
    return f'<dl class="figures">{cards}</dl>' if cards else ""


def _metric_table(summary: Mapping[str, float], rows: Sequence[Mapping[str, object]]) -> str:
    """One row for all volumes and one per volume; one column per metric."""
    columns = list(dict.fromkeys([*summary, *(key for row in rows for key in row if key != "name")]))
    if not columns:
        return ""

    def line(name: object, values: Mapping[str, object], kind: str) -> str:
        cells = "".join(f'<td class="number">{_text(values.get(key, ""))}</td>' for key in columns)
        return f'<tr{kind}><th scope="row">{_text(name)}</th>{cells}</tr>'

    head = "".join(f'<th scope="col" class="number">{_text(key)}</th>' for key in columns)
    body = [line("all volumes", summary, ' class="mean"')]
    body += [line(row.get("name", f"volume {index}"), row, "") for index, row in enumerate(rows)]
    return (
        f'<div class="scroll"><table><thead><tr><th scope="col">volume</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the leaves of nested mappings with the path that leads to them, as MONAI's configs write it."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}::")
        else:
            yield f"{prefix}{key}", value


def _settings(settings: Mapping[str, object]) -> str:
    """A table; folded and with a search box if it is long."""
    if not settings:
        return ""
    rows = "".join(f'<tr><th scope="row">{_text(k)}</th><td>{_setting(v)}</td></tr>' for k, v in settings.items())
    table = f'<div class="scroll settings"><table><tbody>{rows}</tbody></table></div>'
    if len(settings) <= _LONG_TABLE:
        return _section("Settings", table)
    search = '<input type="search" placeholder="Search in the settings" aria-label="Search in the settings">'
    return f"<section><details><summary>Settings ({len(settings)})</summary>{search}{table}</details></section>"


def _setting(value: object) -> str:
    """A setting is shown as it was given, not rounded."""
    return html.escape(repr(value) if isinstance(value, float) else str(value))


def _volume(volume: Mapping[str, Any], index: int) -> str:
    """Slider, 3D view and slices of one volume."""
    if not {"name", "image"} <= set(volume) <= _VOLUME_KEYS:
        raise InvalidInputError(
            f"volumes[{index}] has the keys {sorted(volume)}, expected 'name', 'image' and no others than "
            f"{sorted(_VOLUME_KEYS - {'name', 'image'})}"
        )
    name = str(volume["name"])
    image = as_image(volume["image"], f"the image of volume {name!r}")
    masks = {
        key: as_labels(volume[key], image, f"the {key} of volume {name!r}")
        for key in ("truth", "prediction")
        if volume.get(key) is not None
    }
    voxel_size = volume.get("voxel_size")
    instances = bool(volume.get("instances", False))
    frames = viewer_frames(image, masks, check_voxel_size(voxel_size, image.ndim), instances)
    views = viewer_element(name, frames, instances)
    if image.ndim == 3 and index < _SCENES:
        scene = volume_scene(
            image, masks.get("prediction"), masks.get("truth"), voxel_size, f"scene-{index}", instances=instances
        )
        views += f"<figure>{scene}<figcaption>Drag to turn. Click a name to show or hide it.</figcaption></figure>"
    picture = data_url(
        slice_figure(
            image,
            masks.get("truth"),
            masks.get("prediction"),
            # a color for each object makes the picture large
            slices=4 if instances else 5,
            voxel_size=voxel_size,
            transparent=True,
            instances=instances,
        ),
        "png",
    )
    shape = " × ".join(map(str, image.shape))
    return (
        f'<article class="volume"><h3>{_text(name)} <span class="muted">{shape}</span></h3>'
        f'<div class="views">{views}</div>'
        f'<figure class="overlays"><img src="{picture}" alt="Slices of {_text(name)}: '
        f'{", ".join(["input", *masks])}"></figure></article>'
    )


def viewer_element(name: str, frames: dict[str, Any], instances: bool = False) -> str:
    """Return the layers of a slice above each other, a slider that steps and plays, and a box to tick per mask.

    Args:
        name: of the volume.
        frames: as :func:`~voxel_ext.visualize.viewer.viewer_frames` gives them, the masks may be missing.
        instances: as for that function.

    Returns:
        HTML for a page of :func:`write_report`, which has the script.
    """
    last = len(frames["slices"]) - 1
    # outlines lie above the tints
    order = ("image", "prediction", "truth") if instances else ("image", "truth", "prediction")
    layers = [layer for layer in order if layer in frames]
    pictures = "".join(
        f'<img data-layer="{layer}" src="{frames[layer][frames["start"]]}" alt="{layer} of {_text(name)}">'
        for layer in layers
    )
    swatches = {"truth": colors.TRUTH, "prediction": colors.PREDICTION}
    texts = {"truth": "truth", "prediction": "prediction"}
    if instances:
        wheel = ",".join(f"hsl({hue} 85% 60%)" for hue in range(0, 361, 60))
        swatches = {"truth": f"{colors.TRUE_OUTLINE};border:1px solid", "prediction": f"conic-gradient({wheel})"}
        texts = {"truth": "true outlines", "prediction": "predicted instances"}
    boxes = "".join(
        f'<label><input type="checkbox" value="{layer}"{" checked" if instances or layer == layers[-1] else ""}> '
        f'<span class="swatch" style="background:{swatches[layer]}"></span>{texts[layer]}</label>'
        for layer in layers[1:]
    )
    hidden = "" if last else " hidden"
    aspect = frames["width"] / frames["height"]
    slices = {key: frames[key] for key in ("slices", "start", *layers)}
    return (
        f'<figure class="viewer"><div class="stage" style="aspect-ratio:{aspect:.4f};max-width:{460 * aspect:.0f}px">'
        f'{pictures}</div><div class="controls"{hidden}><input type="range" min="0" max="{last}" '
        f'value="{frames["start"]}" aria-label="slice of {_text(name)}"><output></output>'
        f'<button type="button">Play</button></div><div class="controls">{boxes}</div>'
        f'<script type="application/json">{json.dumps(slices)}</script></figure>'
    )
