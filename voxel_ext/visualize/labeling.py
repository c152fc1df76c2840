"""Tables and figures about labeled ROIs: accuracy by confidence and by class, confusions, doubtful ROIs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from voxel_ext.labeling.accuracy import DoubtfulRoi, LabelingAccuracy, is_lenient_match
from voxel_ext.visualize import colors
from voxel_ext.visualize.figures import blank_figure, figure_png, picture_element, plain_axes
from voxel_ext.visualize.worm_tables import html_table

MAX_HEAT_MAP = 60
"""Most rows and most columns of a heat map of confusions."""
_BARS = (colors.SIGNAL, colors.FALSE_POSITIVE, colors.TRUTH)

Accuracies = Mapping[str, LabelingAccuracy]


def accuracy_table(accuracies: Accuracies) -> str:
    """List the accuracy of each way of assignment.

    Args:
        accuracies: name, such as ``"greedy"`` -> accuracy over all animals.

    Returns:
        HTML; empty if no truth is known.
    """
    columns = {
        "name": "assignment", "rois": "ROIs", "labeled": "named", "known": "truth known", "counted": "counted",
        "strict": "accuracy", "lenient": "accuracy, ? and -alt allowed", "found": "found",
    }  # fmt: skip
    rows = [
        {"name": name, **{key: getattr(accuracy, key) for key in columns if key != "name"}}
        for name, accuracy in accuracies.items()
        if accuracy.known
    ]
    note = (
        "<p class='muted'>Counted: ROIs with a name whose truth is known. Accuracy: the share of them that is right. "
        "Found: the share of the ROIs with a known truth, named or not, that has the right name.</p>"
    )
    return html_table(rows, columns) + note if rows else ""


def confidence_table(accuracies: Accuracies) -> str:
    """List how many ROIs there are at each confidence, and how many are right, for each way of assignment.

    Args:
        accuracies: as in :func:`accuracy_table`.

    Returns:
        HTML; empty if no ROI is counted.
    """
    known = {name: accuracy for name, accuracy in accuracies.items() if accuracy.counted}
    columns = {"confidence": "confidence"}
    for name in known:
        columns |= {f"{name} count": f"{name}: ROIs", f"{name} strict": "accuracy", f"{name} lenient": "? allowed"}
        columns |= {f"{name} from": f"{name}: at least this confidence", f"{name} strict from": "accuracy from here on"}
    levels = sorted({row.confidence for accuracy in known.values() for row in accuracy.by_confidence}, reverse=True)
    rows = []
    for level in levels:
        cells: dict[str, object] = {"confidence": level}
        for name, accuracy in known.items():
            for row in accuracy.by_confidence:
                if row.confidence == level:
                    cells |= {f"{name} count": row.count, f"{name} strict": row.strict, f"{name} lenient": row.lenient}
                    cells |= {f"{name} from": row.count_from, f"{name} strict from": row.strict_from}
        rows.append(cells)
    return html_table(rows, columns)


def confidence_figure(accuracies: Accuracies) -> str:
    """Draw the accuracy at each confidence, the ways of assignment side by side, with the numbers of ROIs.

    Args:
        accuracies: as in :func:`accuracy_table`.

    Returns:
        HTML; empty if no ROI is counted.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    known = {name: accuracy for name, accuracy in accuracies.items() if accuracy.counted}
    if not known:
        return ""
    figure = blank_figure(8, 3.2)
    axes = figure.subplots()
    width = 0.8 / len(known)
    for k, (name, accuracy) in enumerate(known.items()):
        rows = [row for row in accuracy.by_confidence if row.count]
        places = np.array([row.confidence for row in rows]) + (k + 0.5) * width - 0.4
        heights = [row.lenient for row in rows]
        axes.bar(places, heights, 0.92 * width, color=_BARS[k % 3], alpha=0.4)
        strict = [row.strict for row in rows]
        axes.bar(places, strict, 0.92 * width, color=_BARS[k % 3], label=f"{name} ({accuracy.counted} ROIs)")
        for place, height, row in zip(places, heights, rows, strict=True):
            axes.text(place, height + 0.015, str(row.count), ha="center", fontsize=8, color=colors.NEUTRAL)
    axes.set(ylim=(0, 1.1), xticks=sorted({row.confidence for a in known.values() for row in a.by_confidence}))
    plain_axes(axes, "confidence of the label", "share that is right")
    axes.legend(
        frameon=False, fontsize=9, labelcolor=colors.NEUTRAL, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(known)
    )
    caption = "Pale: ? and -alt allowed. Above the bars: how many ROIs."
    return picture_element(figure_png(figure), "Accuracy by confidence: " + ", ".join(known), caption)


def confused_pairs(accuracy: LabelingAccuracy) -> list[tuple[str, str, int]]:
    """Return (true name, label, how often) of what was taken for something else, the most frequent first.

    ``?`` and ``-alt`` are allowed; ROIs without a name are not among them.

    Args:
        accuracy: over all animals.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for (true, label), count in accuracy.confusion.items():
        if not is_lenient_match(label, true) and label != "UNKNOWN":
            counts[true, label.removesuffix("-alt")] += count
    return sorted(((*pair, count) for pair, count in counts.items()), key=lambda row: (-row[2], row[0], row[1]))


def confusion_table(accuracy: LabelingAccuracy) -> str:
    """List the confused pairs, see :func:`confused_pairs`.

    Args:
        accuracy: over all animals.

    Returns:
        HTML; empty if nothing was confused.
    """
    rows = [{"true": true, "label": label, "count": count} for true, label, count in confused_pairs(accuracy)]
    return html_table(rows, {"true": "true name", "label": "taken for", "count": "times"})


def confusion_heat_map(accuracy: LabelingAccuracy) -> str:
    """Draw which share of each true class got which label.

    All classes if they are at most 60, else those in confused pairs, if these are at most 60.

    Args:
        accuracy: over all animals.

    Returns:
        HTML; empty if there are too many classes, or none.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for (true, label), count in accuracy.confusion.items():
        counts[true, label.removesuffix("-alt")] += count
    total: Counter[str] = Counter()
    for (true, _), count in counts.items():
        total[true] += count
    if len(_axes_of(counts)[0]) > MAX_HEAT_MAP or len(_axes_of(counts)[1]) > MAX_HEAT_MAP:
        pairs = confused_pairs(accuracy)
        names = {name for true, label, _ in pairs for name in (true, label)}
        counts = Counter({(t, p): n for (t, p), n in counts.items() if t in names and p in names})
    rows, columns = _axes_of(counts)
    if not rows or max(len(rows), len(columns)) > MAX_HEAT_MAP:
        return ""
    share = np.array([[counts[true, label] / total[true] for label in columns] for true in rows])
    figure = blank_figure(0.17 * len(columns) + 2.2, 0.17 * len(rows) + 1.2, dpi=110)
    axes = figure.subplots()
    picture = axes.imshow(share, cmap="viridis", vmin=0, vmax=1)
    plain_axes(axes, "label", "true name")
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=6.5, parse_math=False)
    axes.set_yticks(range(len(rows)), rows, fontsize=6.5, parse_math=False)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(picture, ax=axes, fraction=0.03, pad=0.02)
    bar.set_label("share of the true class", color=colors.NEUTRAL, fontsize=9)
    bar.ax.tick_params(colors=colors.NEUTRAL, labelsize=8)
    return picture_element(figure_png(figure), f"Confusions between {len(rows)} classes")


def _axes_of(counts: Mapping[tuple[str, str], int]) -> tuple[list[str], list[str]]:
    """True names and labels, both sorted alike: classes first, then labels that are no class."""
    rows = sorted({true for true, _ in counts})
    labels = {label for _, label in counts}
    return rows, [name for name in rows if name in labels] + sorted(labels - set(rows))


def class_table(accuracy: LabelingAccuracy) -> str:
    """List the true classes, those that are most often wrong first.

    Args:
        accuracy: over all animals.

    Returns:
        HTML; empty if no truth is known.
    """
    columns = {
        "name": "class", "count": "ROIs", "labeled": "named", "strict": "right", "lenient": "right, ? allowed",
        "share": "accuracy", "wrong_name": "most often taken for", "wrong_count": "times",
    }  # fmt: skip
    rows = [
        {
            **{key: getattr(row, key) for key in columns if key != "share"},
            "share": row.lenient / row.count,
            "wrong_count": row.wrong_count or None,
        }
        for row in accuracy.by_class
    ]
    return html_table(sorted(rows, key=lambda row: (row["share"], -row["count"], row["name"])), columns)


def doubtful_table(found: Mapping[str, Sequence[DoubtfulRoi]], limit: int = 60) -> str:
    """List the ROIs that a person should check first, over all animals.

    Args:
        found: name of an animal -> its doubtful ROIs.
        limit: the most to list, the most doubtful first.

    Returns:
        HTML; empty if there are none.
    """
    columns = {
        "animal": "animal", "roi_id": "ROI", "name": "name", "confidence": "confidence", "probability": "probability",
        "alternatives": "alternatives", "reason": "reason",
    }  # fmt: skip
    every = [(animal, roi) for animal, rois in found.items() for roi in rois]
    every.sort(key=lambda item: (-item[1].score, item[0], item[1].label.roi_id))
    rows = [
        {
            "animal": animal,
            "roi_id": roi.label.roi_id,
            "name": roi.label.neuron_class,
            "confidence": roi.label.confidence,
            "probability": roi.label.probability,
            "alternatives": roi.label.alternatives,
            "reason": roi.reason,
        }
        for animal, roi in every[:limit]
    ]
    note = f"<p>The {len(rows)} of {len(every)} ROIs with a reason to be checked, the most doubtful first.</p>"
    return note + html_table(rows, columns) if rows else ""
