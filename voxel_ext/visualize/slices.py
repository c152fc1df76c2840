"""A grid of slices: the input, the truth, the prediction, and where they differ."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import require
from voxel_ext.visualize import colors
from voxel_ext.visualize.arrays import as_image, as_labels, check_voxel_size, normalize, pick_slices

Panel = Callable[[int], NDArray[np.float32]]


def slice_figure(
    image: ArrayLike,
    truth: ArrayLike | None = None,
    prediction: ArrayLike | None = None,
    slices: int | Sequence[int] = 5,
    title: str = "",
    voxel_size: Sequence[float] | None = None,
    transparent: bool = False,
    instances: bool = False,
) -> bytes:
    """Draw slices as rows; the columns are the input, the truth, the prediction and their disagreement.

    Args:
        image: (D, H, W), or (H, W) for one row. Shown from its 0.5th to its 99.8th percentile.
        truth: mask or instance ids of the same shape; its column is left out if None.
        prediction: likewise.
        slices: how many slices along D, or which. A count is spread over the slices that have foreground.
        title: heading of the figure.
        voxel_size: µm per axis of ``image``, for the aspect of the panels; square pixels if None.
        transparent: no background and gray text, for a page whose color is not known.
        instances: draw each object of truth and prediction in its own color.

    Returns:
        a PNG file.

    Raises:
        InvalidInputError: shapes that do not fit (names both), NaN, or a slice outside the volume.
        MissingDependencyError: matplotlib is not installed.
    """
    array = as_image(image)
    sizes = check_voxel_size(voxel_size, array.ndim)[-2:]
    masks = {
        name: as_labels(labels, array, name).reshape((-1, *array.shape[-2:]))
        for name, labels in (("truth", truth), ("prediction", prediction))
        if labels is not None
    }
    volume = normalize(array if array.ndim == 3 else array[None])
    foreground = sum(((labels > 0).sum(axis=(1, 2)) for labels in masks.values()), np.zeros(len(volume), dtype=int))
    rows = pick_slices(foreground, slices)
    row_names = [f"slice {index}" if array.ndim == 3 else "" for index in rows]
    panels = _panels(volume, masks, instances)
    aspect = sizes[0] / sizes[1]
    pictures = [[panel(index) for panel in panels.values()] for index in rows]
    return _draw(pictures, list(panels), row_names, title, aspect, _legend(masks, instances), transparent)


def _panels(
    volume: NDArray[np.float32], masks: dict[str, NDArray[np.int32]], instances: bool = False
) -> dict[str, Panel]:
    """Name of a column -> function from the slice's index to the picture (H, W, 3)."""

    def gray(index: int) -> NDArray[np.float32]:
        return np.repeat(volume[index][..., None], 3, axis=-1)

    def tinted(name: str, color: str) -> Panel:
        if instances:
            return lambda index: colors.overlay_instances(gray(index), masks[name][index])
        return lambda index: colors.overlay(gray(index), masks[name][index], color)

    def difference(index: int) -> NDArray[np.float32]:
        truth, prediction = masks["truth"][index] > 0, masks["prediction"][index] > 0
        picture = colors.blend(gray(index) * 0.6, truth & prediction, colors.AGREEMENT, 0.45)
        picture = colors.blend(picture, prediction & ~truth, colors.FALSE_POSITIVE, 0.85)
        return colors.blend(picture, truth & ~prediction, colors.FALSE_NEGATIVE, 0.85)

    panels: dict[str, Panel] = {"input": gray}
    if "truth" in masks:
        panels["truth"] = tinted("truth", colors.TRUTH)
    if "prediction" in masks:
        panels["prediction"] = tinted("prediction", colors.PREDICTION)
    if len(masks) == 2:
        panels["difference"] = difference
    return panels


def _legend(masks: dict[str, NDArray[np.int32]], instances: bool) -> dict[str, str]:
    """Text -> color of the legend below the figure; masks whose objects have a color each have none."""
    shown = {} if instances else masks
    legend = {name: {"truth": colors.TRUTH, "prediction": colors.PREDICTION}[name] for name in shown}
    if len(masks) == 2:
        legend |= {
            "both": colors.AGREEMENT,
            "false positive": colors.FALSE_POSITIVE,
            "false negative": colors.FALSE_NEGATIVE,
        }
    return legend


def _draw(
    pictures: list[list[NDArray[np.float32]]],
    columns: list[str],
    row_names: list[str],
    title: str,
    aspect: float,
    legend: dict[str, str],
    transparent: bool,
) -> bytes:
    """Lay the pictures out with matplotlib's object interface, which keeps no global state."""
    figure_type: Any = require("matplotlib.figure", extra="viz").Figure
    agg: Any = require("matplotlib.backends.backend_agg", extra="viz").FigureCanvasAgg
    patch: Any = require("matplotlib.patches", extra="viz").Patch
    height, width = pictures[0][0].shape[:2]
    cell = 2.6
    cell_height = cell * min(max(height * aspect / width, 0.2), 3)
    top, bottom = (0.65 if title else 0.3), (0.4 if legend else 0.1)
    total = (cell * len(columns) + 0.3, cell_height * len(row_names) + top + bottom)
    figure = figure_type(figsize=total, dpi=100, facecolor="none" if transparent else "white")
    agg(figure)
    ink = colors.NEUTRAL if transparent else "#1f2937"
    axes = figure.subplots(len(row_names), len(columns), squeeze=False)
    figure.subplots_adjust(0.3 / total[0], bottom / total[1], 1, 1 - top / total[1], 0.03, 0.03 * cell / cell_height)
    for i, row in enumerate(pictures):
        for j, picture in enumerate(row):
            axes[i, j].imshow(picture, aspect=aspect, interpolation="nearest", vmin=0, vmax=1)
            axes[i, j].set(xticks=[], yticks=[])
            axes[i, j].spines[:].set_visible(False)
        axes[i, 0].set_ylabel(row_names[i], color=ink, fontsize=9)
    for j, name in enumerate(columns):
        axes[0, j].set_title(name, color=ink, fontsize=11, pad=5)
    if title:
        figure.suptitle(title, color=ink, fontsize=13, y=1 - 0.12 / total[1], va="top", parse_math=False)
    if legend:
        handles = [patch(facecolor=color, label=text) for text, color in legend.items()]
        figure.legend(
            handles=handles, loc="lower center", ncols=len(handles), frameon=False, fontsize=9, labelcolor=ink
        )
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
