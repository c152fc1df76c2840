"""The report about animals whose ROIs are labeled with names of cells."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from voxel_ext.labeling.accuracy import DoubtfulRoi, LabelingAccuracy, doubtful, pooled_accuracy
from voxel_ext.labeling.label import CellLabel
from voxel_ext.visualize.figures import picture_element
from voxel_ext.visualize.labeled_projection import LabeledAnimal, labeled_projection, labeled_scatter
from voxel_ext.visualize.labeling import (
    accuracy_table,
    class_table,
    confidence_figure,
    confidence_table,
    confusion_heat_map,
    confusion_table,
    doubtful_table,
)
from voxel_ext.visualize.report import write_report

Sections = list[tuple[str, str]]
Labeled = tuple[Sequence[CellLabel], Mapping[int, str]]


def labeling_report(
    path: str | os.PathLike[str],
    animals: Sequence[LabeledAnimal],
    title: str = "Cell labeling",
    settings: Mapping[str, Any] | None = None,
    history: Iterable[Mapping[str, object]] = (),
    metrics: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
    max_animals: int = 3,
) -> Path:
    """Write a page about labeled animals.

    Args:
        path: the file, replaced when it is complete.
        animals: labeled; all of them are counted.
        title: heading of the page.
        settings: what to list as settings, may be nested.
        history: rows for the learning curves, see :func:`~voxel_ext.visualize.write_report`.
        metrics: further values to show on top of the page.
        notes: sentences to put above the curves.
        max_animals: how many animals to show in pictures.

    Returns:
        the path.

    Raises:
        InvalidInputError: a channel has NaN, or a label has no probabilities.
        MissingDependencyError: a library that draws is not installed.
        OSError: the page cannot be written.
    """
    accuracies = labeling_accuracies(animals)
    found = {animal.name: doubtful_rois(animal) for animal in animals}
    return write_report(
        path,
        title,
        settings=settings,
        history=history,
        metrics=accuracy_figures(accuracies) | dict(metrics or {}),
        notes=notes,
        sections=labeling_sections(animals[:max_animals], accuracies, found),
    )


def labeling_accuracies(animals: Sequence[LabeledAnimal]) -> dict[str, LabelingAccuracy]:
    """Return the accuracy of ``"greedy"`` and, where all animals have it, of ``"optimal"`` over all animals.

    Args:
        animals: labeled; without a truth they count as labeled only.
    """
    truths = [animal.truth or {} for animal in animals]
    accuracies = {"greedy": pooled_accuracy(zip([animal.greedy for animal in animals], truths, strict=True))}
    others = [animal.optimal for animal in animals if animal.optimal is not None]
    if others and len(others) == len(animals):
        accuracies["optimal"] = pooled_accuracy(zip(others, truths, strict=True))
    return accuracies


def doubtful_rois(animal: LabeledAnimal, limit: int | None = None) -> list[DoubtfulRoi]:
    """Return the ROIs to check first; empty where the animal has no probabilities.

    Args:
        animal: labeled.
        limit: the most to return; None for all.

    Raises:
        InvalidInputError: a label has no probabilities.
    """
    return [] if animal.rois is None else doubtful(animal.greedy, animal.rois, limit, animal.optimal)


def accuracy_figures(accuracies: Mapping[str, LabelingAccuracy]) -> dict[str, float]:
    """Return what stands on top of a report: accuracies where the truth is known, and counts.

    Args:
        accuracies: of :func:`labeling_accuracies`.
    """
    figures: dict[str, float] = {}
    for name, accuracy in accuracies.items():
        if accuracy.counted:
            figures |= {f"accuracy, {name}": accuracy.strict, f"accuracy, {name}, ? allowed": accuracy.lenient}
    greedy = accuracies["greedy"]
    figures |= {"ROIs": greedy.rois, "named": greedy.labeled}
    return figures | ({"truth known": greedy.known} if greedy.known else {})


def labeling_sections(
    animals: Sequence[LabeledAnimal],
    accuracies: Mapping[str, LabelingAccuracy],
    found: Mapping[str, Sequence[DoubtfulRoi]],
) -> Sections:
    """Return the sections of a report, as :func:`~voxel_ext.visualize.write_report` takes them.

    Args:
        animals: to show in pictures.
        accuracies: over all animals, by the way of assignment; the confusions are those of ``"greedy"``.
        found: name of an animal -> its doubtful ROIs.

    Raises:
        InvalidInputError: a channel has NaN.
        MissingDependencyError: a library that draws is not installed.
    """
    greedy = accuracies["greedy"]
    confidence = confidence_figure(accuracies)
    pairs, heat_map = confusion_table(greedy), confusion_heat_map(greedy)
    sections = [
        ("Accuracy", accuracy_table(accuracies)),
        ("Accuracy by confidence", confidence and confidence + confidence_table(accuracies)),
        ("Labeled animals", "".join(_article(animal, f"labeled-{i}") for i, animal in enumerate(animals))),
        ("ROIs to check first", doubtful_table(found)),
        ("Confusions", pairs + heat_map),
        ("Classes", class_table(greedy)),
    ]
    return [(heading, content) for heading, content in sections if content]


def _article(animal: LabeledAnimal, div_id: str) -> str:
    """The labeled projections, and the picture to point at."""
    named = sum(not label.is_unknown for label in animal.greedy)
    picture = picture_element(
        labeled_projection(animal),
        f"Maximum projections of {animal.name} with the names of its ROIs",
        _caption(animal),
    )
    scatter = labeled_scatter(animal, div_id)
    size = " × ".join(map(str, animal.roi.shape))
    return (
        f'<article class="volume"><h3>{html.escape(animal.name)} <span class="muted">{size}, {named} of '
        f"{len(animal.greedy)} ROIs have a name</span></h3>{scatter}"
        f"<figcaption>Point at an ROI for its name, probability and alternatives. Drag to zoom, double-click to "
        f"return.</figcaption>{picture}</article>"
    )


def _caption(animal: LabeledAnimal) -> str:
    if animal.truth is None:
        colors = "Names are colored by confidence, from red (1) to green (5)"
    else:
        colors = "Names are green where right, yellow where right but for ? or -alt, red where wrong, white where the "
        colors += "truth is not known"
    return f"{colors}; rings are ROIs without a name. Channels: {', '.join(animal.channels)}."
