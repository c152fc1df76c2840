"""Worms in 3D whose cells are matched with each other or named, as fragments of HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError, require
from voxel_ext.visualize import colors
from voxel_ext.visualize.scene import html_fragment

RIGHT, WRONG, UNMATCHED = colors.NEUTRAL, colors.PREDICTION, "#f8fafc"
_FIRST, _SECOND, _NAMED = colors.SIGNAL, "#fbbf24", colors.TRUTH
_SCALE = "Viridis"
_LABELS = 12

Array = NDArray[np.floating]


def match_scene(
    first: ArrayLike,
    second: ArrayLike,
    pairs: ArrayLike,
    correct: ArrayLike | None = None,
    cost: ArrayLike | None = None,
    margin: ArrayLike | None = None,
    titles: Sequence[str] = ("first worm", "second worm"),
    first_names: Sequence[str] | None = None,
    second_names: Sequence[str] | None = None,
    unit: str = "voxels",
    div_id: str = "match-scene",
    include_plotlyjs: bool = False,
) -> str:
    """Draw two worms, one above the other, and lines between the cells that were matched.

    Right lines are thin and gray, wrong ones red; where the truth is not known lines take a color by their margin.
    Unmatched cells are hollow. Buttons show all lines, the wrong ones or none; the legend shows and hides each part.

    Args:
        first: (A, 3) zyx positions of the worm above; rows of NaN are missing cells.
        second: (B, 3) of the one below. Both are drawn centered, shifted along y, with equal scale on all axes.
        pairs: (K, 2) rows of ``first`` and ``second`` that were matched.
        correct: (K,) bool, None if the truth is not known.
        cost: (K,) of each match, for the text at the pointer.
        margin: (K,) to the second best choice, for the text and the color.
        titles: names of the two worms.
        first_names: of the A cells; their numbers by default.
        second_names: of the B cells.
        unit: of the positions.
        div_id: id of the element, unique in its page.
        include_plotlyjs: put the whole of plotly.js (5 MB) in front; else the page must have it already.

    Returns:
        a ``<div>`` and a ``<script>`` that need no network.

    Raises:
        InvalidInputError: shapes that do not fit, pairs outside or with a missing cell, a worm without cells.
        MissingDependencyError: plotly is not installed.
    """
    a, b = _positions(first, "first"), _positions(second, "second")
    matches = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    _check_pairs(matches, a, b)
    values = [
        _column(value, len(matches), name) for value, name in ((correct, "correct"), (cost, "cost"), (margin, "margin"))
    ]
    truth = None if values[0] is None else values[0].astype(bool)
    a_names, b_names = _names(first_names, len(a), "first_names"), _names(second_names, len(b), "second_names")
    a, b = _stack(a, b)
    lines = _match_lines(a[matches[:, 0]], b[matches[:, 1]], truth, values[2])
    texts = [_match_text(a_names[i], b_names[j], k, values) for k, (i, j) in enumerate(matches)]
    traces = [
        *lines,
        *_cells(a, a_names, matches[:, 0], texts, f"{titles[0]} (above)", _FIRST),
        *_cells(b, b_names, matches[:, 1], texts, f"{titles[1]} (below)", _SECOND),
    ]
    layout = _layout(np.concatenate([a, b]), unit)
    layout["updatemenus"] = [_line_menu(traces, len(lines))] if lines else []
    return html_fragment(traces, layout, div_id, include_plotlyjs)


def naming_scene(
    positions: ArrayLike,
    names: Sequence[str],
    correct: ArrayLike | None = None,
    margin: ArrayLike | None = None,
    cost: ArrayLike | None = None,
    true_names: Sequence[str] | None = None,
    title: str = "worm",
    unit: str = "voxels",
    div_id: str = "naming-scene",
    include_plotlyjs: bool = False,
) -> str:
    """Draw one worm whose cells were named, with the names of the most doubtful ones.

    Right cells are green, wrong ones red; where the truth is not known cells take a color by their margin. Cells
    without a name are hollow.

    Args:
        positions: (N, 3) zyx; rows of NaN are missing cells.
        names: of the N cells, "" for none.
        correct: (N,) bool, None if the truth is not known; counts only where there is a name.
        margin: (N,) to the second best name; the smallest ones are written beside their cells.
        cost: (N,) of the name.
        true_names: of the N cells, for the text at the pointer.
        title: name of the worm.
        unit: of the positions.
        div_id: id of the element, unique in its page.
        include_plotlyjs: put the whole of plotly.js (5 MB) in front; else the page must have it already.

    Returns:
        a ``<div>`` and a ``<script>`` that need no network.

    Raises:
        InvalidInputError: shapes that do not fit, or a worm without cells.
        MissingDependencyError: plotly is not installed.
    """
    points = _positions(positions, "positions")
    labels = _names(names, len(points), "names")
    truth, distance, price = (
        _column(value, len(points), name) for value, name in ((correct, "correct"), (margin, "margin"), (cost, "cost"))
    )
    real = _names(true_names, len(points), "true_names") if true_names is not None else None
    there = ~np.isnan(points[:, 0])
    points = points - points[there].mean(axis=0)
    named = there & np.array([bool(name) for name in labels])
    texts = [_naming_text(i, labels, truth, price, distance, real) for i in range(len(points))]
    traces = []
    if truth is None:
        traces += _points(points, named, texts, title, _NAMED, distance)
    else:
        traces += _points(points, named & truth.astype(bool), texts, "right", _NAMED)
        traces += _points(points, named & ~truth.astype(bool), texts, "wrong", WRONG)
    traces += _points(points, there & ~named, texts, "no name", UNMATCHED, hollow=True)
    traces += _doubtful(points, named, labels, distance)
    return html_fragment(traces, _layout(points[there], unit), div_id, include_plotlyjs)


def _positions(values: ArrayLike, name: str) -> Array:
    points = np.asarray(values, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise InvalidInputError(f"{name} must have the shape (N, 3), zyx; got {points.shape}")
    if not np.isfinite(points).all(axis=1).any():
        raise InvalidInputError(f"{name} has {len(points)} rows but no cell that is there; expected finite positions")
    return np.where(np.isfinite(points).all(axis=1, keepdims=True), points, np.nan)


def _column(values: ArrayLike | None, count: int, name: str) -> Array | None:
    if values is None:
        return None
    column = np.asarray(values, dtype=np.float64)
    if column.shape != (count,):
        raise InvalidInputError(f"{name} has the shape {column.shape}; expected ({count},)")
    return column


def _names(names: Sequence[str] | None, count: int, what: str) -> list[str]:
    if names is None:
        return [f"cell {i}" for i in range(count)]
    if len(names) != count:
        raise InvalidInputError(f"{what} has {len(names)} entries; expected {count}, one per cell")
    return [html.escape(str(name)) for name in names]


def _check_pairs(pairs: NDArray[np.int64], a: Array, b: Array) -> None:
    for column, points, name in ((0, a, "first"), (1, b, "second")):
        rows = pairs[:, column]
        wrong = rows[(rows < 0) | (rows >= len(points))]
        if len(wrong):
            raise InvalidInputError(f"pairs: row {wrong[0]} is not one of the {len(points)} rows of {name}")
        missing = rows[np.isnan(points[rows, 0])]
        if len(missing):
            raise InvalidInputError(f"pairs: row {missing[0]} of {name} is a missing cell (NaN) and cannot be matched")


def _stack(a: Array, b: Array) -> tuple[Array, Array]:
    """Center both and put the first above the second, with as much room between them as the larger is high."""
    a, b = (points - np.nanmean(points, axis=0) for points in (a, b))
    shift = 1.25 * max(np.nanmax(p[:, 1]) - np.nanmin(p[:, 1]) for p in (a, b)) or 1.0
    offset = np.array([0.0, shift, 0.0])
    return a + offset, b - offset


def _match_lines(start: Array, end: Array, truth: NDArray[np.bool_] | None, margin: Array | None) -> list[Any]:
    if truth is not None:
        parts = [(truth, "right", RIGHT, 1.5, 0.6), (~truth, "wrong", WRONG, 4.0, 1.0)]
        return [
            _lines(start[rows], end[rows], f"{name} ({rows.sum()})", {"color": color, "width": width}, opacity)
            for rows, name, color, width, opacity in parts
            if rows.any()
        ]
    if not len(start):
        return []
    line: dict[str, Any] = {"width": 2.5, "color": RIGHT}
    if margin is not None and np.isfinite(margin).any():
        line = {"width": 2.5, "color": np.repeat(_bounded(margin), 3).round(6), "colorscale": _SCALE}
        line |= {"showscale": True, "colorbar": _colorbar()}
    return [_lines(start, end, f"matched ({len(start)})", line, 0.9)]


def _bounded(margin: Array) -> Array:
    """Margins within their 1st and 99th percentiles, so that single large ones leave the others their colors."""
    finite = margin[np.isfinite(margin)]
    low, high = np.percentile(finite, (1, 99)) if len(finite) else (0.0, 0.0)
    return np.clip(np.nan_to_num(margin, nan=low, posinf=high, neginf=low), low, high)


def _colorbar() -> dict[str, Any]:
    return {"title": {"text": "margin"}, "thickness": 10, "len": 0.6, "x": 1.0, "xanchor": "right"}


def _lines(start: Array, end: Array, name: str, line: dict[str, Any], opacity: float) -> Any:
    graph: Any = require("plotly.graph_objects", extra="viz")
    # NaN ends a line; it becomes null in the page
    corners = np.stack([start, end, np.full_like(start, np.nan)], axis=1).reshape(-1, 3).round(2)
    z, y, x = corners.T.copy()
    return graph.Scatter3d(
        x=x, y=y, z=z, name=name, mode="lines", line=line, opacity=opacity, hoverinfo="skip", connectgaps=False
    )  # fmt: skip


def _cells(
    points: Array, names: list[str], rows: NDArray[np.int64], texts: list[str], title: str, color: str
) -> list[Any]:
    """The matched cells of a worm, and the unmatched ones."""
    notes = [f"{name}<br>not matched" for name in names]
    for row, text in zip(rows, texts, strict=True):
        notes[row] = text
    matched = np.zeros(len(points), dtype=bool)
    matched[rows] = True
    there = ~np.isnan(points[:, 0])
    left = there & ~matched
    return [
        *_points(points, matched, notes, html.escape(title), color),
        *_points(points, left, notes, f"{html.escape(title)}, unmatched ({left.sum()})", color, hollow=True),
    ]


def _points(
    points: Array,
    rows: NDArray[np.bool_],
    texts: list[str],
    name: str,
    color: str,
    values: Array | None = None,
    hollow: bool = False,
) -> list[Any]:
    """A point cloud, or nothing if there is no point."""
    if not rows.any():
        return []
    graph: Any = require("plotly.graph_objects", extra="viz")
    marker: dict[str, Any] = {"size": 4 if hollow else 3.5, "color": color, "opacity": 0.95}
    if hollow:
        marker["symbol"] = "circle-open"
    elif values is not None and np.isfinite(values[rows]).any():
        marker |= {"color": _bounded(values[rows]), "colorscale": _SCALE, "showscale": True, "colorbar": _colorbar()}
    z, y, x = points[rows].round(2).T.copy()
    return [
        graph.Scatter3d(
            x=x, y=y, z=z, name=name, mode="markers", marker=marker, text=[texts[i] for i in np.flatnonzero(rows)],
            hovertemplate="%{text}<extra></extra>",
        )
    ]  # fmt: skip


def _doubtful(points: Array, named: NDArray[np.bool_], labels: list[str], margin: Array | None) -> list[Any]:
    """The names of the cells with the smallest margins."""
    if margin is None or not (named & np.isfinite(margin)).any():
        return []
    graph: Any = require("plotly.graph_objects", extra="viz")
    rows = np.flatnonzero(named & np.isfinite(margin))
    rows = rows[np.argsort(margin[rows], kind="stable")][:_LABELS]
    z, y, x = points[rows].round(2).T.copy()
    return [
        graph.Scatter3d(
            x=x, y=y, z=z, name=f"{len(rows)} most doubtful", mode="markers+text", text=[labels[i] for i in rows],
            textposition="top center", textfont={"size": 11, "color": UNMATCHED}, hoverinfo="skip",
            marker={"size": 8, "color": _SECOND, "symbol": "circle-open"},
        )
    ]  # fmt: skip


def _match_text(first: str, second: str, k: int, values: list[Array | None]) -> str:
    correct, cost, margin = values
    verdict = "" if correct is None else " (right)" if correct[k] else " (wrong)"
    return f"{first} ↔ {second}{verdict}{_numbers(k, cost, margin)}"


def _naming_text(
    i: int, names: list[str], correct: Array | None, cost: Array | None, margin: Array | None, real: list[str] | None
) -> str:
    text = names[i] or "no name"
    if names[i] and correct is not None:
        text += " (right)" if correct[i] else " (wrong)"
    if real is not None and real[i] and real[i] != names[i]:
        text += f"<br>truth: {real[i]}"
    return text + (_numbers(i, cost, margin) if names[i] else "")


def _numbers(k: int, cost: Array | None, margin: Array | None) -> str:
    parts = [f"{name} {values[k]:.4g}" for name, values in (("cost", cost), ("margin", margin)) if values is not None]
    return f"<br>{', '.join(parts)}" if parts else ""


def _layout(points: Array, unit: str) -> dict[str, Any]:
    """A dark stage with equal scale on all axes, seen from the side with the body axis horizontal."""
    points = points[~np.isnan(points[:, 0])]
    low, high = points.min(axis=0), points.max(axis=0)
    room = 0.04 * (high - low).max() + 1e-6
    extent = high - low + 2 * room
    look = {"gridcolor": "#2b3650", "zerolinecolor": "#2b3650", "showbackground": False, "color": "#93a0b8"}
    look |= {"showspikes": False, "nticks": 6}
    axes = {
        f"{name}axis": {
            "title": {"text": name},
            "range": [low[i] - room, high[i] + room],
            "showticklabels": False,
            **look,
        }
        for i, name in enumerate("zyx")
    }
    axes["xaxis"] |= {"title": {"text": f"x ({unit}), centered"}, "showticklabels": True}
    ratio = extent / extent[2] * 2.6
    camera = {"eye": {"x": 0.0, "y": -0.45, "z": 1.25}, "up": {"x": 0, "y": 1, "z": 0}}
    return {
        "scene": {
            **axes,
            "aspectmode": "manual",
            "aspectratio": dict(zip("zyx", ratio.tolist(), strict=True)),
            "camera": camera,
            "dragmode": "orbit",
        },
        "paper_bgcolor": colors.DARK,
        "font": {"color": "#dbe4f3", "family": "system-ui, sans-serif"},
        "legend": {"x": 0.01, "y": 0.99, "bgcolor": "rgba(0,0,0,0)", "orientation": "h", "itemsizing": "constant"},
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "template": None,
    }


def _line_menu(traces: list[Any], lines: int) -> dict[str, Any]:
    """Buttons for the lines, which are the first traces."""
    wrong = [trace.name.startswith("wrong") for trace in traces[:lines]]
    options = [("all lines", [True] * lines), ("no lines", [False] * lines)]
    if lines > 1:
        options.insert(1, ("wrong lines only", wrong))
    which = list(range(lines))
    buttons = [
        {"label": label, "method": "restyle", "args": [{"visible": visible}, which]} for label, visible in options
    ]
    place = {"x": 0.01, "y": 0.02, "xanchor": "left", "yanchor": "bottom", "pad": {"t": 0, "l": 0}}
    look = {"bgcolor": "#1b2438", "bordercolor": "#3a4763", "font": {"color": "#93a0b8", "size": 11}}
    return {"type": "buttons", "direction": "right", "showactive": False, "buttons": buttons, **place, **look}
