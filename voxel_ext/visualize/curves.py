"""Learning curves as an SVG drawing."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from voxel_ext.errors import InvalidInputError, require

# stands for the color of the surrounding text; no other color of the drawing is equal to it
_INK = "#010203"
_PALETTE = (
    "#3b82f6",
    "#f97316",
    "#10b981",
    "#a855f7",
    "#ef4444",
    "#14b8a6",
    "#eab308",
    "#ec4899",
    "#64748b",
    "#84cc16",
)
_RATES = ("learning_rate", "lr")
_ANGLES = "angles (degrees)"

Curve = list[tuple[float, float]]


def learning_curves(history: Iterable[Mapping[str, object]]) -> str:
    """Draw loss, metrics and learning rate over epochs.

    Keys with ``loss`` in them share one panel, those with ``angle`` another, other keys that start with ``train_``,
    ``val_`` or ``test_`` a third; ``learning_rate`` or ``lr`` has the fourth, and whatever else is numeric the fifth.
    Panels without data are left out. Rows of one epoch are merged, the later row wins, as when a run was resumed.

    Args:
        history: rows such as ``{"epoch": 3, "train_loss": 0.5, "val_iou": 0.4, "learning_rate": 1e-3}``; any key but
            ``epoch`` may be missing in any row.

    Returns:
        an ``<svg>`` element; text and axes take the color of the surrounding page. Empty if there is nothing to draw.

    Raises:
        InvalidInputError: a row without a numeric ``epoch``.
        MissingDependencyError: matplotlib is not installed.
    """
    panels = {title: curves for title, curves in _panels(_merge(history)).items() if curves}
    return _draw(panels) if panels else ""


def overlaid_curves(histories: Mapping[str, Iterable[Mapping[str, object]]], keys: Iterable[str]) -> str:
    """Draw the same quantities of several runs over each other: a panel per quantity, a curve per run.

    Args:
        histories: name of a run -> its rows, as for :func:`learning_curves`.
        keys: the quantities to draw, in this order; those that no run has are left out.

    Returns:
        an ``<svg>`` element as of :func:`learning_curves`. Empty if there is nothing to draw.

    Raises:
        InvalidInputError: a row without a numeric ``epoch``.
        MissingDependencyError: matplotlib is not installed.
    """
    merged = {name: _merge(history) for name, history in histories.items()}
    panels: dict[str, dict[str, Curve]] = {}
    for key in keys:
        points = {
            name: [(epoch, number) for epoch, row in rows.items() if (number := _number(row.get(key))) is not None]
            for name, rows in merged.items()
        }
        if found := {name: curve for name, curve in points.items() if curve}:
            panels[key] = found
    return _draw(panels) if panels else ""


def _number(value: object) -> float | None:
    """Return a finite number, or None for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _merge(history: Iterable[Mapping[str, object]]) -> dict[float, dict[str, object]]:
    """Epoch -> its row, in the order of epochs."""
    rows: dict[float, dict[str, object]] = {}
    for index, row in enumerate(history):
        epoch = _number(row.get("epoch"))
        if epoch is None:
            raise InvalidInputError(f"row {index} of the history has no numeric 'epoch'; its keys are {sorted(row)}")
        rows.setdefault(epoch, {}).update(row)
    return dict(sorted(rows.items()))


def _panels(rows: dict[float, dict[str, object]]) -> dict[str, dict[str, Curve]]:
    """Title of a panel -> name of a curve -> its points."""
    titles = ("loss", "metrics", _ANGLES, "learning rate", "other")
    panels: dict[str, dict[str, Curve]] = {title: {} for title in titles}
    for epoch, row in rows.items():
        for key, value in row.items():
            number = _number(value)
            if key != "epoch" and number is not None:
                panels[_panel_of(key)].setdefault(key, []).append((epoch, number))
    return panels


def _panel_of(key: str) -> str:
    if "loss" in key.lower():
        return "loss"
    if key.lower() in _RATES:
        return "learning rate"
    if "angle" in key.lower():
        return _ANGLES
    return "metrics" if key.startswith(("train_", "val_", "test_")) else "other"


def _draw(panels: dict[str, dict[str, Curve]]) -> str:
    """Draw up to three panels side by side, four in two rows."""
    matplotlib: Any = require("matplotlib", extra="viz")
    figure_type: Any = require("matplotlib.figure", extra="viz").Figure
    columns = min(len(panels), 3) if len(panels) != 4 else 2
    rows = -(-len(panels) // columns)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "curves", "font.family": "sans-serif"}):
        figure = figure_type(figsize=(5.6 * columns, 3 * rows), layout="constrained", facecolor="none")
        for position, (title, curves) in enumerate(panels.items(), start=1):
            _plot(figure.add_subplot(rows, columns, position), title, curves)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Creator": None, "Date": None, "Format": None, "Type": None})
    return _inline(stream.getvalue(), 560 * columns)


def _plot(axes: Any, title: str, curves: dict[str, Curve]) -> None:
    ticker: Any = require("matplotlib.ticker", extra="viz")
    for index, (name, points) in enumerate(curves.items()):
        marker = "o" if len(points) < 25 else ""
        # matplotlib leaves labels that start with an underscore out of the legend
        label = name.lstrip("_") or "_"
        color, dashes = _PALETTE[index % len(_PALETTE)], "--" if name.startswith("train_") and title != "loss" else "-"
        axes.plot(*zip(*points, strict=True), dashes, color=color, marker=marker, markersize=3, lw=1.6, label=label)
    values = [value for points in curves.values() for _, value in points]
    if title in ("loss", "learning rate") and min(values) > 0 and max(values) / min(values) > 20:
        axes.set_yscale("log")
    axes.set_title(title, color=_INK, fontsize=12, loc="left")
    axes.set_xlabel("epoch", color=_INK, fontsize=10)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.tick_params(which="both", colors=_INK, labelsize=9)
    axes.grid(color="#808080", alpha=0.2)
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_INK)
    for text in axes.legend(
        frameon=False, fontsize=9, labelcolor=_INK, loc="upper left", bbox_to_anchor=(1, 1)
    ).get_texts():
        text.set_parse_math(False)


def _inline(svg: str, width: int) -> str:
    """Cut the XML prologue and metadata; the size follows the page up to ``width``, and text takes its font."""
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: system-ui, sans-serif", svg)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    # a style sheet inside inline SVG would apply to the whole page
    svg = svg.replace("*{stroke", ".curves *{stroke", 1)
    head = f'<svg class="curves" style="max-width:{width}px" role="img" aria-label="learning curves over epochs"'
    return svg.replace("<svg", head, 1)
