"""A scatter plot of clustered objects in a page: the pointer shows an object's picture and features."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.visualize.report import _resource
from voxel_ext.visualize.viewer import jpeg_url

_SHEET_COLUMNS = 16
_PER_SHEET = 256
_MAIN = 6  # features at the pointer


@dataclass(frozen=True)
class ObjectGroups:
    """A way to group objects and to color them.

    Attributes:
        name: what the groups are, e.g. "cluster".
        labels: a name for each group.
        colors: ``"#rrggbb"`` for each group.
        members: (N,) group of each object.
    """

    name: str
    labels: Sequence[str]
    colors: Sequence[str]
    members: NDArray[np.integer]


def scatter_element(
    ids: ArrayLike,
    positions: ArrayLike,
    groups: Sequence[ObjectGroups],
    features: Mapping[str, ArrayLike],
    thumbnails: NDArray[np.uint8],
    thumbnail_ids: ArrayLike,
    axes_name: str,
) -> str:
    """Draw objects as points.

    The pointer shows the object's thumbnail, id, groups and first 6 features; a click keeps it below the plot. Points
    are colored by any grouping or feature. The legend, or a digit on the keyboard, hides and shows groups. Dragging
    zooms.

    Args:
        ids: (N,) of the objects.
        positions: (N, 2), right and up.
        groups: at least one; the first is what points are colored by in the beginning.
        features: by name, (N,) values; the most important one first.
        thumbnails: (M, H, W, 3) pictures of some of the objects.
        thumbnail_ids: (M,) ids of these.
        axes_name: what the positions are, e.g. "UMAP".

    Returns:
        HTML with its style and script, for a page of :func:`~voxel_ext.visualize.write_report`.

    Raises:
        InvalidInputError: numbers of rows differ, a position is not finite, or a thumbnail is of another object.
        MissingDependencyError: pillow is not installed, and there are thumbnails.
    """
    names, places = np.asarray(ids), np.asarray(positions, np.float64)
    _check_rows(len(names), places, groups, features)
    pictured = _rows_of(names, np.asarray(thumbnail_ids), len(thumbnails))
    content = {
        # as text: JavaScript's numbers are exact to 2^53 only
        "ids": [str(one) for one in names.tolist()],
        "x": _packed(places[:, 0], "<f4"),
        "y": _packed(places[:, 1], "<f4"),
        "groups": [_group(one) for one in groups],
        "features": [{"name": name, "values": _packed(values, "<f4")} for name, values in features.items()],
        "main": _MAIN,
        "thumbnails": _sheets(thumbnails) | {"rows": pictured},
    }
    choices = [(f"group:{k}", one.name) for k, one in enumerate(groups)]
    choices += [(f"feature:{k}", name) for k, name in enumerate(features)]
    options = "".join(f'<option value="{value}">{html.escape(text)}</option>' for value, text in choices)
    # as text inside <script>, "<" must not begin a tag
    packed = json.dumps(content).replace("<", "\\u003c")
    return (
        f"<style>{_resource('cluster_scatter.css')}</style>"
        f'<div class="scatter"><div class="bar"><label>Color by <select>{options}</select></label>'
        '<label>Find id <input type="text" class="find" inputmode="numeric"></label></div>'
        f'<div class="plot"><canvas tabindex="0" role="img" aria-label="{html.escape(axes_name, quote=True)} of '
        f'{len(names)} objects"></canvas><span class="axis">{html.escape(axes_name)}</span></div>'
        '<div class="tip card" hidden></div><div class="legend"></div><div class="pinned"></div>'
        f'<script type="application/json">{packed}</script></div>'
        f"<script>{_resource('cluster_scatter.js')}</script>"
        "<figcaption>Point at an object to see it, click to keep it below. Drag to zoom, double-click to return. Click "
        "a name in the legend to hide or show it, double-click for it alone. In the plot, digits hide and show "
        "clusters, a shows all, Esc removes what was kept.</figcaption>"
    )


def _check_rows(
    count: int, places: NDArray[np.float64], groups: Sequence[ObjectGroups], features: Mapping[str, ArrayLike]
) -> None:
    if places.shape != (count, 2) or not np.isfinite(places).all():
        raise InvalidInputError(f"positions of shape {places.shape}; expected finite ones of shape ({count}, 2)")
    lengths = {one.name: len(one.members) for one in groups}
    lengths |= {name: len(np.asarray(values)) for name, values in features.items()}
    wrong = {name: length for name, length in lengths.items() if length != count}
    if wrong or not groups:
        raise InvalidInputError(f"{wrong or 'no groups'}; expected a value for each of {count} objects in each")


def _rows_of(ids: NDArray[Any], pictured: NDArray[Any], thumbnails: int) -> list[int]:
    """Rows of the objects that have a picture."""
    rows = {one: row for row, one in enumerate(ids.tolist())}
    foreign = [one for one in pictured.tolist() if one not in rows]
    if foreign or len(pictured) != thumbnails:
        raise InvalidInputError(
            f"{thumbnails} thumbnails for {len(pictured)} ids, of which {foreign[:10]} are of no object here; expected "
            "one for each id"
        )
    return [rows[one] for one in pictured.tolist()]


def _group(group: ObjectGroups) -> dict[str, Any]:
    members = np.asarray(group.members)
    return {
        "name": group.name,
        "labels": list(group.labels),
        "colors": list(group.colors),
        "sizes": np.bincount(members, minlength=len(group.labels)).tolist(),
        "members": _packed(members, "<i4"),
    }


def _packed(values: ArrayLike, kind: str) -> str:
    return base64.b64encode(np.asarray(values).astype(kind).tobytes()).decode()


def _sheets(thumbnails: NDArray[np.uint8]) -> dict[str, Any]:
    """Pictures side by side in a few large ones."""
    height, width = thumbnails.shape[1:3]
    sheets = []
    for start in range(0, len(thumbnails), _PER_SHEET):
        part = thumbnails[start : start + _PER_SHEET]
        lines = -(-len(part) // _SHEET_COLUMNS)
        sheet = np.zeros((lines * _SHEET_COLUMNS, height, width, 3), np.float32)
        sheet[: len(part)] = part / np.float32(255)
        sheet = sheet.reshape(lines, _SHEET_COLUMNS, height, width, 3).transpose(0, 2, 1, 3, 4)
        sheets.append(jpeg_url(sheet.reshape(lines * height, _SHEET_COLUMNS * width, 3)))
    return {"width": width, "height": height, "columns": _SHEET_COLUMNS, "each": _PER_SHEET, "sheets": sheets}
