"""A picture of a labeled animal for a page: names large enough to be read, in the color of their verdict."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from gallery_pictures.panels import INK

from voxel_ext.errors import require
from voxel_ext.visualize import LabeledAnimal
from voxel_ext.visualize.figures import blank_figure, figure_png
from voxel_ext.visualize.labeled_projection import composite, place_texts, verdict_color, verdicts

_WIDTH = 10.2  # inches, 1020 pixels
_DPI = 100
_FONT = 8.5
_NOISE = 0.12
_WORDS = {"right but for ? or -alt": "right but for the side (?) or a second ROI (-alt)"}


def names_picture(animal: LabeledAnimal) -> bytes:
    """Draw the maximum along z of the channels, and of every ROI its outline and its name.

    Args:
        animal: labeled by the greedy assignment.

    Returns:
        a PNG file, 1020 pixels wide.
    """
    _, height, width = animal.roi.shape
    tall = _WIDTH * height / width
    figure = blank_figure(_WIDTH, tall + 0.62, _DPI)
    figure.set_facecolor("white")
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, tall / (tall + 0.62)))
    found = verdicts(animal)
    # the noise between the neurons is black, which also makes a small file
    picture = 0.9 * (composite(animal.image, animal.channels, 0) - _NOISE).clip(0)
    axes.imshow(picture, extent=(0, width, height, 0), interpolation="bicubic", aspect="equal")
    _draw_outlines(axes, animal, found)
    _write_names(axes, animal, found)
    axes.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
    axes.spines[:].set_visible(False)
    _write_legend(figure, found)
    return figure_png(figure)


def _draw_outlines(axes: Any, animal: LabeledAnimal, found: list[str]) -> None:
    """The outline of every ROI along z, also where another one lies above it."""
    _, height, width = animal.roi.shape
    # the middle of voxel i lies at i + 1/2; a border of 1 closes the outlines at the edge of the volume
    across, down = np.arange(-1, width + 1) + 0.5, np.arange(-1, height + 1) + 0.5
    for label, verdict in zip(animal.greedy, found, strict=True):
        seen = np.pad((animal.roi == label.roi_id).any(axis=0).astype(np.float32), 1)
        axes.contour(across, down, seen, [0.5], colors=[verdict_color(verdict)], linewidths=1.1, alpha=0.9)


def _write_names(axes: Any, animal: LabeledAnimal, found: list[str]) -> None:
    """Names beside the centers of their ROIs, with a line to where there was no room nearby."""
    effects: Any = require("matplotlib.patheffects", extra="viz")
    _, height, width = animal.roi.shape
    unit = width / (_WIDTH * 72)
    # the middle of voxel i lies at i + 1/2
    points = np.array([label.center[:0:-1] for label in animal.greedy]).reshape(-1, 2) + 0.5
    texts = [label.neuron_class for label in animal.greedy]
    boxes = np.array([[0.8 * _FONT * len(text), 1.2 * _FONT] for text in texts]).reshape(-1, 2) * unit
    shadow = [effects.withStroke(linewidth=2.5, foreground="black")]
    for text, verdict, point, place, box in zip(
        texts, found, points, place_texts(points, boxes, (width, height)), boxes, strict=True
    ):
        ink = verdict_color(verdict)
        if np.linalg.norm(place - point) > 1.2 * box[1]:
            axes.plot(*np.stack([point, place]).T, color=ink, linewidth=0.8, path_effects=shadow)
        axes.text(
            *place, text, color=ink, fontsize=_FONT, ha="center", va="center", parse_math=False,
            path_effects=shadow, weight="bold",
        )  # fmt: skip


def _write_legend(figure: Any, found: list[str]) -> None:
    """How many names are right, and the colors."""
    patch: Any = require("matplotlib.patches", extra="viz").Patch
    counts = Counter(found)
    title = f"{counts['right']} of {len(found)} neurons of an animal that was not trained on are named right"
    figure.text(0.01, 0.985, title, color=INK, fontsize=11, va="top")
    keys = [
        patch(facecolor=verdict_color(verdict), label=f"{_WORDS.get(verdict, verdict)}: {number}")
        for verdict, number in counts.most_common()
    ]
    figure.legend(handles=keys, loc="upper left", bbox_to_anchor=(0.002, 0.955), ncols=3, fontsize=9, frameon=False)
