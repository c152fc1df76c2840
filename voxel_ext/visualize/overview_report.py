"""A page that compares runs: their metrics, the settings in which they differ, and their curves over each other."""

from __future__ import annotations

import html
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from voxel_ext.errors import InvalidInputError
from voxel_ext.visualize.curves import overlaid_curves
from voxel_ext.visualize.report import write_report
from voxel_ext.visualize.worm_tables import html_table

MAX_PANELS = 9
"""Quantities that are drawn."""

_NOT_COMPARED = ("epoch", "seconds", "learning_rate")
_LOWER_IS_BETTER = ("loss", "error", "angle", "distance")
_ABSENT = "—"


@dataclass(frozen=True)
class Run:
    """What is known of a run.

    Args:
        name: what it is called on the page; no two are called the same.
        settings: what its training was told.
        history: a row per epoch, with ``epoch``; as training wrote them, the validation's key metric before the others.
        metrics: of its evaluation.
        pages: reports to link to.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, float]] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    pages: Sequence[Path] = ()


def write_overview(
    path: str | os.PathLike[str], runs: Sequence[Run], title: str = "Runs", metric: str | None = None
) -> Path:
    """Write a page that needs no other file: a row per run, settings that differ, learning curves, links to reports.

    Args:
        path: the file to write, replaced whole. Links are relative to its folder.
        runs: one or more.
        title: heading of the page.
        metric: of the history, the one to compare by. Default: each run's first one that is not the training's nor a
            loss, which is the key metric of the bundles; the training loss without such.

    Returns:
        the path.

    Raises:
        InvalidInputError: no runs, two of one name, no run has ``metric`` (lists those there are), or a row of a
            history has no epoch.
        MissingDependencyError: matplotlib is not installed.
        OSError: the page cannot be written.
    """
    names = [run.name for run in runs]
    if not runs or len(set(names)) < len(names):
        raise InvalidInputError(f"the runs are called {names}; expected one or more, each with a name of its own")
    quantities = list(dict.fromkeys(key for run in runs for row in run.history for key in row))
    quantities = [key for key in quantities if key not in _NOT_COMPARED]
    if metric is not None and metric not in quantities:
        raise InvalidInputError(
            f"no run has metric={metric!r} in its history; there are: {', '.join(quantities) or 'none'}"
        )
    shown = _order(quantities, runs, metric)
    curves = overlaid_curves({run.name: run.history for run in runs if run.history}, shown[:MAX_PANELS])
    left_out = [f"{len(shown) - MAX_PANELS} more quantities are not drawn."] if len(shown) > MAX_PANELS else []
    sections = [
        ("Runs", _table(runs, metric, Path(path).resolve().parent)),
        ("Settings that differ", html_table(*_differing(runs))),
        ("Learning curves", f'<div class="wide">{curves}</div>' if curves else ""),
    ]
    return write_report(path, title, metrics={"runs": len(runs)}, sections=sections, notes=left_out)


def key_metric(run: Run) -> str | None:
    """Return the name of the quantity that a run is judged by, None without a history.

    Args:
        run: see :func:`write_overview` for the choice.
    """
    keys = [key for row in run.history for key in row if key not in _NOT_COMPARED]
    scores = [key for key in keys if "loss" not in key and not key.startswith("train_")]
    return next(iter(scores or keys), None)


def best_value(run: Run, metric: str) -> tuple[float, float] | None:
    """Return the best value of a metric in a history and its epoch, None if there is none.

    Args:
        run: with the history.
        metric: one whose name tells of a loss, an error, an angle or a distance is best where it is least.
    """
    found = [(float(row[metric]), float(row["epoch"])) for row in run.history if _is_finite(row.get(metric))]
    if not found:
        return None
    least = any(word in metric.lower() for word in _LOWER_IS_BETTER)
    return min(found, key=lambda one: one[0] if least else -one[0])


def _is_finite(value: object) -> bool:
    largest = sys.float_info.max  # of a whole number with more digits math.isfinite raises an error
    return isinstance(value, int | float) and not isinstance(value, bool) and -largest <= value <= largest


def _order(quantities: Sequence[str], runs: Sequence[Run], metric: str | None) -> list[str]:
    """The key metrics first, then the losses, then the rest."""
    keys = [metric] if metric else [key for run in runs if (key := key_metric(run))]
    return list(dict.fromkeys([*keys, *(key for key in quantities if "loss" in key), *quantities]))


def _table(runs: Sequence[Run], metric: str | None, folder: Path) -> str:
    """A row per run: links, epochs, the best of the key metric, and the metrics of the evaluation."""
    rows = [_row(run, metric) for run in runs]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head = "".join(f'<th scope="col" class="number">{html.escape(key)}</th>' for key in columns)
    body = "".join(
        f'<tr><th scope="row">{_links(run, folder)}</th>'
        + "".join(f'<td class="number">{html.escape(row.get(key, _ABSENT))}</td>' for key in columns)
        + "</tr>"
        for run, row in zip(runs, rows, strict=True)
    )
    return (
        f'<div class="scroll"><table><thead><tr><th scope="col">run</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _row(run: Run, metric: str | None) -> dict[str, str]:
    chosen = metric or key_metric(run)
    best = best_value(run, chosen) if chosen else None
    row = {"epochs": f"{max(float(one['epoch']) for one in run.history if 'epoch' in one):g}"} if run.history else {}
    if chosen and best:
        row |= {f"best {chosen}": f"{best[0]:.4g}", "in epoch": f"{best[1]:g}"}
    return row | {f"evaluation: {key}": f"{value:.4g}" for key, value in run.metrics.items()}


def _links(run: Run, folder: Path) -> str:
    """The run's name, as a link where it has one page, with links behind it where it has several."""
    names = [page.parent.name for page in run.pages]
    targets = [quote(Path(os.path.relpath(page.resolve(), folder)).as_posix()) for page in run.pages]
    if len(run.pages) == 1:
        return f'<a href="{html.escape(targets[0], quote=True)}">{html.escape(run.name)}</a>'
    links = ", ".join(
        f'<a href="{html.escape(target, quote=True)}">{html.escape(name)}</a>'
        for name, target in zip(names, targets, strict=True)
    )
    return html.escape(run.name) + (f' <span class="muted">({links})</span>' if links else "")


def _differing(runs: Sequence[Run]) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Rows and columns of a table of the settings that are not the same in all runs that have settings."""
    known = [run for run in runs if run.settings]
    names = dict.fromkeys(name for run in known for name in run.settings)
    texts = {name: [str(run.settings.get(name, _ABSENT)) for run in known] for name in names}
    columns = {"run": "run", **{f"setting {name}": name for name, values in texts.items() if len(set(values)) > 1}}
    rows = [
        {"run": run.name, **{f"setting {name}": values[i] for name, values in texts.items()}}
        for i, run in enumerate(known)
    ]
    return (rows if len(columns) > 1 else []), columns
