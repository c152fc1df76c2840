"""Tables and small drawings about matched and named cells, as fragments of HTML."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.visualize import colors

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 560, 220, 44, 40

Array = NDArray[np.floating]


def html_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Return a table that scrolls when it is long.

    Args:
        rows: one mapping per line; entries that are missing, None or NaN stay empty.
        columns: key -> heading, in their order. Numbers are aligned to the right.

    Returns:
        HTML with all text escaped; empty without rows.
    """
    if not rows:
        return ""
    numeric = {key for key in columns if all(_is_number(row.get(key)) or row.get(key) is None for row in rows)}
    kinds = {key: ' class="number"' if key in numeric else "" for key in columns}
    head = "".join(f'<th scope="col"{kinds[key]}>{html.escape(text)}</th>' for key, text in columns.items())
    body = "".join(
        f"<tr>{''.join(f'<td{kinds[key]}>{_text(row.get(key))}</td>' for key in columns)}</tr>" for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _text(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        number = float(value)
        short = f"{number:.3f}" if number == 0 or 0.01 <= abs(number) < 1000 else f"{number:.3g}"
        return "" if math.isnan(number) else short
    return "" if value is None else html.escape(str(value))


def margin_histogram(margin: ArrayLike, correct: ArrayLike | None = None, bins: int = 40) -> str:
    """Draw how many matches have which margin, right and wrong ones apart.

    Args:
        margin: (K,) to the second best choice; those that are not finite are left out, those beyond the 0.5th and
            99.5th percentiles are counted in the outermost bars.
        correct: (K,) bool, None if the truth is not known.
        bins: number of bars.

    Returns:
        an ``<svg>`` element whose text takes the color of the page; empty without finite margins.

    Raises:
        InvalidInputError: lengths that differ.
    """
    values = np.asarray(margin, dtype=np.float64)
    truth = None if correct is None else np.asarray(correct, dtype=bool)
    if truth is not None and truth.shape != values.shape:
        raise InvalidInputError(f"margin {values.shape} and correct {truth.shape} must have the same length")
    finite = np.isfinite(values)
    if not finite.any():
        return ""
    low, high = np.percentile(values[finite], (0.5, 99.5))
    edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
    clipped = np.clip(values, edges[0], edges[-1])
    parts = {"matches": (finite, colors.SIGNAL)}
    if truth is not None:
        parts = {"right": (finite & truth, colors.NEUTRAL), "wrong": (finite & ~truth, colors.PREDICTION)}
    series = {
        f"{name} ({rows.sum()})": (np.histogram(clipped[rows], edges)[0].astype(float), color)
        for name, (rows, color) in parts.items()
    }
    return _bars(edges, series, "margin to the second best choice", "matches")


def body_accuracy(x: ArrayLike, correct: ArrayLike, bins: int = 25) -> str:
    """Draw which share of the cells is right along the body axis.

    Args:
        x: (K,) positions along the body, in voxels; cells without one (NaN) are left out.
        correct: (K,) bool.
        bins: number of bars between the first and the last cell.

    Returns:
        an ``<svg>`` element whose text takes the color of the page; empty without cells.

    Raises:
        InvalidInputError: lengths that differ.
    """
    places, truth = np.asarray(x, dtype=np.float64), np.asarray(correct, dtype=bool)
    if places.shape != truth.shape:
        raise InvalidInputError(f"x {places.shape} and correct {truth.shape} must have the same length")
    here = np.isfinite(places)
    if not here.any():
        return ""
    low, high = places[here].min(), places[here].max()
    edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
    total = np.histogram(places[here], edges)[0]
    right = np.histogram(places[here & truth], edges)[0]
    share = np.where(total > 0, right / np.maximum(total, 1), np.nan)
    return _bars(edges, {"right": (share, colors.SIGNAL)}, "x along the body (voxels)", "share of cells", 1.0)


def _bars(
    edges: Array, series: Mapping[str, tuple[Array, str]], label: str, height: str, most: float | None = None
) -> str:
    """Stacked bars between edges, with axes and a legend."""
    total = np.nansum([values for values, _ in series.values()], axis=0)
    top = most or float(total.max()) or 1.0
    step = (_WIDTH - _LEFT - 10) / (len(edges) - 1)
    scale = (_HEIGHT - _BOTTOM - 24) / top
    floor = np.full(len(edges) - 1, _HEIGHT - _BOTTOM, dtype=float)
    parts: list[str] = []
    for name, (values, color) in series.items():
        for i, value in enumerate(np.nan_to_num(values)):
            if value > 0:
                floor[i] -= value * scale
                note = f"<title>{edges[i]:.4g} to {edges[i + 1]:.4g}: {value:.4g} {html.escape(name)}</title>"
                parts.append(
                    f'<rect x="{_LEFT + i * step:.1f}" y="{floor[i]:.1f}" width="{max(step - 1, 0.5):.1f}" '
                    f'height="{value * scale:.1f}" fill="{color}">{note}</rect>'
                )
    parts += [_legend(series), *_axes(edges, top, label, height)]
    return (
        f'<svg class="bars" viewBox="0 0 {_WIDTH} {_HEIGHT}" style="width:100%;max-width:{_WIDTH}px;height:auto" '
        f'role="img" aria-label="{height} over {label}" font-family="system-ui, sans-serif" font-size="11" '
        f'fill="currentColor">{"".join(parts)}</svg>'
    )


def _legend(series: Mapping[str, tuple[Array, str]]) -> str:
    entries = "".join(
        f'<rect x="{_LEFT + 8 + 130 * i}" y="4" width="10" height="10" fill="{color}"/>'
        f'<text x="{_LEFT + 22 + 130 * i}" y="13">{html.escape(name)}</text>'
        for i, (name, (_, color)) in enumerate(series.items())
    )
    return entries if len(series) > 1 else ""


def _axes(edges: Array, top: float, label: str, height: str) -> list[str]:
    base, right = _HEIGHT - _BOTTOM, _WIDTH - 10
    ticks = [
        f'<text x="{_LEFT + share * (right - _LEFT):.0f}" y="{base + 15}" text-anchor="middle">'
        f"{edges[0] + share * (edges[-1] - edges[0]):.3g}</text>"
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    marks = [
        f'<text x="{_LEFT - 5}" y="{base - share * (base - 24) + 4:.0f}" text-anchor="end">{share * top:.3g}</text>'
        for share in (0, 0.5, 1)
    ]
    return [
        *ticks,
        *marks,
        f'<path d="M{_LEFT} 24V{base}H{right}" fill="none" stroke="currentColor" stroke-opacity="0.5"/>',
        f'<text x="{(_LEFT + right) / 2:.0f}" y="{_HEIGHT - 8}" text-anchor="middle">{label}</text>',
        f'<text x="12" y="{(24 + base) / 2:.0f}" text-anchor="middle" '
        f'transform="rotate(-90 12 {(24 + base) / 2:.0f})">{height}</text>',
    ]
