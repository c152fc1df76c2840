"""Tables and a picture of how well sets of features tell classes apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mitochondria_scores import best

Rows = Sequence[Mapping[str, Any]]
PAIRS = 2  # of classes that are listed as confused


def scores_table(rows: Rows) -> str:
    """Adjusted Rand index of each set and scaling by each algorithm in Markdown; a set's best ones are bold."""
    algorithms = list(dict.fromkeys(row["algorithm"] for row in rows))
    lines = [f"| ARI of features | scaling | {' | '.join(algorithms)} |", "| --- | --- |" + " --- |" * len(algorithms)]
    for name in dict.fromkeys(row["set"] for row in rows):
        of_set = [row for row in rows if row["set"] == name]
        highest = _rounded(best(of_set))
        for scaling in dict.fromkeys(row["scaling"] for row in of_set):
            found = {row["algorithm"]: _rounded(row) for row in of_set if row["scaling"] == scaling}
            cells = [f"**{found[a]}**" if found[a] == highest > "0.00" else found[a] for a in algorithms]
            lines.append(f"| {name} | {scaling} | {' | '.join(cells)} |")
    return "\n".join(lines)


def sets_table(rows: Rows) -> str:
    """The best of each set of features in Markdown, with the classes that it confuses."""
    lines = ["| features | best by | ARI | NMI | accuracy | clusters | confused |", "| --- |" + " --- |" * 6]
    winner = best(rows)
    for name in dict.fromkeys(row["set"] for row in rows):
        row = best([one for one in rows if one["set"] == name])
        if "error" in row:
            continue
        ari = _number(row["ari"], 3)
        pairs = ", ".join(f"{pair} {count}" for pair, count in list(row["confused"].items())[:PAIRS])
        cells = [
            name,
            f"{row['algorithm']}, {row['scaling']}",
            f"**{ari}**" if row["ari"] == winner["ari"] else ari,
            f"{row['nmi']:.3f}",
            f"{row['accuracy']:.3f}",
            str(row["clusters"]),
            pairs or "none",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _rounded(row: Mapping[str, Any]) -> str:
    return _number(row.get("ari", np.nan), 2)


def _number(value: float, digits: int) -> str:
    """Text without a sign before 0; "-" for NaN."""
    return "-" if np.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"


def draw_heat_map(rows: Rows, path: Path) -> None:
    """Write a picture of the adjusted Rand index of each set, of the best scaling, by each algorithm."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sets = list(dict.fromkeys(row["set"] for row in rows))
    algorithms = list(dict.fromkeys(row["algorithm"] for row in rows))
    cells = np.full((len(sets), len(algorithms)), np.nan)
    for row in rows:
        place = sets.index(row["set"]), algorithms.index(row["algorithm"])
        cells[place] = np.fmax(cells[place], row.get("ari", np.nan))
    figure, axes = pyplot.subplots(figsize=(2.8 + 0.95 * len(algorithms), 1.4 + 0.32 * len(sets)), layout="constrained")
    picture = axes.imshow(cells, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(algorithms)), algorithms, rotation=30, ha="right")
    axes.set_yticks(range(len(sets)), sets)
    for (y, x), value in np.ndenumerate(cells):
        color = "black" if value > 0.6 else "white"
        axes.text(x, y, _number(value, 2), ha="center", va="center", color=color, fontsize=8)
    figure.colorbar(picture, label="adjusted Rand index, best scaling")
    axes.set_title("Clusters of objects against their classes of shape")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
