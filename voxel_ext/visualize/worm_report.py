"""The parts of a report about matched and named worms."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import numpy as np

from voxel_ext.data.worm_tables import FoundCells, Row
from voxel_ext.visualize.worm_matches import match_scene, naming_scene
from voxel_ext.visualize.worm_tables import body_accuracy, html_table, margin_histogram

_DOUBTFUL = 60
_CONFUSED = 40
_HEADINGS = {
    "worm": "worm", "worm_a": "worm A", "worm_b": "worm B", "cells": "cells", "matched": "matched", "named": "named",
    "accuracy": "accuracy", "opposite_roll": "opposite roll", "mean_cost": "mean cost", "mean_margin": "mean margin",
}  # fmt: skip

Sections = list[tuple[str, str]]


def worm_figures(pairs: Sequence[FoundCells], namings: Sequence[FoundCells]) -> dict[str, float]:
    """Return what stands on top of a report: accuracies where the truth is known, and counts.

    Args:
        pairs: matched pairs of worms.
        namings: named worms.
    """
    figures: dict[str, float] = {}
    known = [item for item in pairs if len(item.counted)]
    if known:
        figures["pair accuracy, mean"] = _mean([item.accuracy for item in known])
        figures["pair accuracy, worst"] = min(item.accuracy for item in known)
        for name, opposite in (("equal", False), ("opposite", True)):
            group = [item.accuracy for item in known if item.opposite is not None and item.opposite == opposite]
            if group:
                figures[f"pair accuracy, {name} roll"] = _mean(group)
    named = [item.accuracy for item in namings if len(item.counted)]
    if named:
        figures |= {"naming accuracy, mean": _mean(named), "naming accuracy, worst": min(named)}
    if pairs:
        figures["pairs of worms"] = len(pairs)
    if namings:
        figures["named worms"] = len(namings)
    return figures


def worm_sections(
    pairs: Sequence[FoundCells], namings: Sequence[FoundCells], cells: Sequence[Row], max_scenes: int = 3
) -> tuple[dict[str, float], Sections]:
    """Return the figures and the sections of a report, as :func:`~voxel_ext.visualize.write_report` takes them.

    Args:
        pairs: matched pairs of worms.
        namings: named worms.
        cells: rows of :func:`~voxel_ext.data.worm_tables.per_cell_rows`.
        max_scenes: pairs to show in 3D, from the worst to the best; named worms: the worst and the best, none if 0.
    """
    sections = [
        ("Named worms", _named(namings, max_scenes)),
        ("Pairs of worms", html_table([item.summary() for item in _ranked(pairs)], _columns(pairs))),
        ("Pairs in 3D", _pairs_3d(pairs, max_scenes)),
        ("Doubtful cells", _doubtful(namings or pairs)),
        ("Margins", _margins(pairs, namings)),
        ("Cells", _cells(cells, namings if any(len(item.counted) for item in namings) else pairs)),
    ]
    return worm_figures(pairs, namings), [(heading, content) for heading, content in sections if content]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _quality(item: FoundCells) -> float:
    """Accuracy where it is known, else the mean margin."""
    if len(item.counted):
        return item.accuracy
    margin = item.margin[np.isfinite(item.margin)]
    return float(margin.mean()) if len(margin) else -math.inf


def _ranked(found: Sequence[FoundCells]) -> list[FoundCells]:
    return sorted(found, key=_quality)


def _spread(found: Sequence[FoundCells], count: int) -> list[FoundCells]:
    """So many items from the worst to the best: the worst, the median and the best of three."""
    places = np.unique(np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int))
    ranked = _ranked(found)
    return [ranked[i] for i in places] if found else []


def _columns(found: Sequence[FoundCells]) -> dict[str, str]:
    keys = {key for item in found for key in item.summary()}
    return {key: heading for key, heading in _HEADINGS.items() if key in keys}


def _heading(item: FoundCells, title: str) -> str:
    value = f"accuracy {item.accuracy:.3f}" if len(item.counted) else f"mean margin {_quality(item):.3g}"
    roll = "" if item.opposite is None else f", {'opposite' if item.opposite else 'equal'} roll"
    return f'<h3 style="margin-top:1.2rem">{html.escape(title)} <span class="muted">{value}{roll}</span></h3>'


def _truth(item: FoundCells) -> list[bool] | None:
    """Right or wrong for each match; None if nothing is known of the worm. A match of unknown names is not right."""
    return [bool(value) for value in item.correct] if len(item.counted) else None


def _pairs_3d(pairs: Sequence[FoundCells], count: int) -> str:
    parts = []
    for number, item in enumerate(_spread(pairs, count)):
        if item.other_positions is None:
            continue
        scene = match_scene(
            item.positions,
            np.where(item.other_present[:, None], item.other_positions, np.nan),
            np.stack([item.rows, item.columns], axis=1),
            _truth(item),
            item.cost,
            item.margin,
            (item.first, item.second),
            item.names if any(item.names) else None,
            item.other_names if any(item.other_names) else None,
            div_id=f"match-{number}",
        )
        parts.append(f'<article class="volume">{_heading(item, f"{item.first} ↔ {item.second}")}{scene}</article>')
    note = (
        "Drag to turn. Click a name to show or hide it. Equal scale on all axes; the worms are shifted apart along y."
    )
    return "".join(parts) + (f"<p class='muted'>{note}</p>" if parts else "")


def _named(namings: Sequence[FoundCells], count: int) -> str:
    table = html_table([item.summary() for item in _ranked(namings)], _columns(namings))
    return table + "".join(
        naming_article(item, f"naming-{number}") for number, item in enumerate(_spread(namings, min(count, 2)))
    )


def naming_article(item: FoundCells, div_id: str) -> str:
    """Draw a named worm in 3D under a heading.

    Args:
        item: the worm.
        div_id: id of the element, unique in its page.
    """
    count = len(item.names)
    names, correct = [""] * count, np.zeros(count, dtype=bool)
    cost, margin = np.full(count, np.nan), np.full(count, np.nan)
    for k, (i, j) in enumerate(zip(item.rows.tolist(), item.columns.tolist(), strict=True)):
        names[i], correct[i] = item.other_names[j] or f"slot {j}", bool(item.correct[k])
        cost[i], margin[i] = item.cost[k], item.margin[k]
    truth = len(item.counted) > 0
    scene = naming_scene(
        item.positions,
        names,
        correct if truth else None,
        margin,
        cost,
        item.names if truth else None,
        item.first,
        div_id=div_id,
    )
    return f'<article class="volume">{_heading(item, item.first)}{scene}</article>'


def _doubtful(found: Sequence[FoundCells]) -> str:
    """The matches with the smallest margins of all worms."""
    rows = []
    for item in found:
        for k, row in enumerate(item.pair_rows()):
            title = item.first if item.other_positions is None else f"{item.first} ↔ {item.second}"
            verdict = {True: "right", False: "wrong", None: ""}[row["correct"]]
            where = round(float(item.positions[item.rows[k], 2]))
            rows.append({"worm": title, **row, "where": where, "correct": verdict})
    finite = [row for row in rows if math.isfinite(row["margin"])]
    shown = sorted(finite, key=lambda row: row["margin"])[:_DOUBTFUL]
    truth = any(len(item.counted) for item in found)
    cell = "cell" if truth or any(row["cell_a"] for row in shown) else ""
    columns = {"worm": "worm", "slot_a": "slot", **({"cell_a": cell} if cell else {}), "where": "x (voxels)"}
    columns |= {"cell_b": "taken for"} if any(row["cell_b"] for row in shown) else {"slot_b": "taken for slot"}
    columns |= {"cost": "cost", "margin": "margin", **({"correct": "verdict"} if truth else {})}
    note = f"The {len(shown)} of {len(rows)} matches with the smallest margin to the second best choice."
    return f"<p>{note}</p>{html_table(shown, columns)}" if shown else ""


def _margins(pairs: Sequence[FoundCells], namings: Sequence[FoundCells]) -> str:
    parts = []
    for title, found in (("Pairs", pairs), ("Naming", namings)):
        known = [item for item in found if len(item.counted)]
        used = known or found
        if used:
            margin = np.concatenate([item.margin for item in used])
            truth = np.concatenate([_truth(item) or [] for item in known]).astype(bool) if known else None
            drawing = margin_histogram(margin, truth)
            parts.append(f"<div><h3>{title}</h3>{drawing}</div>" if drawing else "")
    return f'<div class="views">{"".join(parts)}</div>' if any(parts) else ""


def _cells(cells: Sequence[Row], found: Sequence[FoundCells]) -> str:
    if not cells:
        return ""
    counted = [item for item in found if len(item.counted)]
    x = np.concatenate([item.positions[item.counted[:, 0], 2] for item in counted])
    right = np.concatenate([item.counted[:, 1] == item.counted[:, 2] for item in counted])
    sides = [row for row in cells if not math.isnan(row["left_right"])]
    swapped = sum(row["left_right"] * row["count"] for row in sides) / max(sum(row["count"] for row in sides), 1)
    worst = sorted(cells, key=lambda row: (row["accuracy"], -row["count"], row["slot"]))[:_CONFUSED]
    columns = {"name": "cell", "source": "by", "count": "times", "accuracy": "accuracy", "left_right": "left-right"}
    columns |= {"confused_with": "most often taken for", "confused": "times taken"}
    perfect = sum(row["accuracy"] == 1 for row in cells)
    note = (
        f"{perfect} of {len(cells)} rows about cells have accuracy 1. Cells with a partner on the other side "
        f"were taken for it in {swapped:.1%} of the cases."
    )
    return (
        f"<p>{note}</p><h3>Along the body</h3>{body_accuracy(x, right)}"
        f"<h3>Most confused cells</h3>{html_table(worst, columns)}"
    )
