"""Figures of one or more rows of panels: slices, labels, arrows, point clouds, text."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import require
from voxel_ext.visualize import colors, vector_colors
from voxel_ext.visualize.arrays import normalize
from voxel_ext.visualize.figures import blank_figure, figure_png
from voxel_ext.visualize.vectors import draw_arrows

INK = "#1f2937"
_CELL = 3.2  # inches
_LEGEND = 10  # groups of points that have a legend


class Panel(NamedTuple):
    """A part of a figure."""

    title: str
    paint: Callable[[Any], None]
    """Draws on the axes of matplotlib."""
    ratio: float = 1.0
    """Height over width."""


def figure_of(rows: Sequence[Sequence[Panel]], cell: float = _CELL, dpi: int = 100) -> bytes:
    """Lay panels out on white.

    Args:
        rows: of panels; shorter rows are filled with nothing.
        cell: width of a panel in inches.
        dpi: pixels per inch.

    Returns:
        a PNG file.
    """
    columns = max(map(len, rows))
    heights = [cell * float(np.clip(max(panel.ratio for panel in row), 0.12, 1.5)) + 0.5 for row in rows]
    figure = blank_figure(cell * columns + 0.2, sum(heights) + 0.1, dpi)
    figure.set_facecolor("white")
    grid = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
    for line, row in zip(grid, rows, strict=True):
        for axes in line[len(row) :]:
            axes.set_visible(False)
        for axes, panel in zip(line, row, strict=False):
            panel.paint(axes)
            axes.set_title(panel.title, color=INK, fontsize=10, parse_math=False)
    return figure_png(figure)


def gray_panel(
    title: str, plane: ArrayLike, like: ArrayLike | None = None, axes: str = "yx", aspect: float = 1.0
) -> Panel:
    """Show a plane (H, W) in gray.

    Args:
        title: above it.
        plane: the values.
        like: another array, whose lowest and highest values are black and white; None for the plane's own.
        axes: names of the axes, down and across.
        aspect: height over width of a pixel.
    """
    values = np.asarray(plane, np.float32)
    reference = values if like is None else np.asarray(like, np.float32)
    low, high = np.nanpercentile(reference, (0.5, 99.8))

    def paint(canvas: Any) -> None:
        canvas.imshow(values, cmap="gray", vmin=low, vmax=high if high > low else low + 1, aspect=aspect)
        _frame(canvas, axes)

    return Panel(title, paint, aspect * values.shape[0] / values.shape[1])


def ids_panel(
    title: str, labels: ArrayLike, image: ArrayLike | None = None, axes: str = "yx", aspect: float = 1.0
) -> Panel:
    """Show instance ids (H, W), each in its own color, over an image or black."""
    ids = np.rint(np.asarray(labels, np.float64)).astype(np.int64)
    gray = np.zeros(ids.shape, np.float32) if image is None else normalize(np.asarray(image, np.float32))
    picture = colors.overlay_instances(np.repeat(gray[..., None], 3, -1), ids)
    return rgb_panel(title, picture, axes, aspect)


def mask_panel(
    title: str,
    mask: ArrayLike,
    image: ArrayLike,
    color: str = colors.PREDICTION,
    truth: ArrayLike | None = None,
    axes: str = "yx",
) -> Panel:
    """Show a mask (H, W) in a color over an image, and the outline of the truth in green."""
    gray = np.repeat(normalize(np.asarray(image, np.float32))[..., None], 3, -1)
    picture = colors.overlay(gray, (np.asarray(mask) > 0).astype(np.int32), color)
    if truth is not None:
        picture = colors.blend(picture, colors.outline((np.asarray(truth) > 0).astype(np.int32)), colors.TRUTH)
    return rgb_panel(title, picture, axes)


def rgb_panel(title: str, picture: NDArray, axes: str = "yx", aspect: float = 1.0) -> Panel:
    """Show a color picture (H, W, 3), float in [0, 1] or uint8; ``axes`` empty for a picture without directions."""

    def paint(canvas: Any) -> None:
        canvas.imshow(picture, interpolation="nearest", aspect=aspect)
        _frame(canvas, axes)

    return Panel(title, paint, aspect * picture.shape[0] / picture.shape[1])


def png_panel(title: str, png: bytes) -> Panel:
    """Show a PNG file."""
    pil: Any = require("PIL.Image", extra="viz")
    return rgb_panel(title, np.asarray(pil.open(io.BytesIO(png)).convert("RGB")), axes="")


def arrow_panel(title: str, image: ArrayLike, vectors: NDArray, oriented: bool = True) -> Panel:
    """Show the components (y, x) of vectors (3, H, W) as arrows over a plane; black where they are zero."""
    gray = normalize(np.asarray(image, np.float32))
    plane = np.asarray(vectors, np.float32)
    known = np.linalg.norm(plane, axis=0) > 0.5

    # fewer and longer ones than elsewhere, since the panel is small
    every = max(1, max(gray.shape) // 9)

    def paint(canvas: Any) -> None:
        draw_arrows(canvas, gray, {"truth": plane}, known, 0, oriented, (1, 1, 1), every)
        _frame(canvas, "yx")

    return Panel(title, paint, gray.shape[0] / gray.shape[1])


def direction_panel(title: str, vectors: NDArray, where: ArrayLike) -> Panel:
    """Show vectors (3, H, W) as colors, red, green and blue for |x|, |y| and |z|, in a mask (H, W)."""
    return rgb_panel(title, vector_colors(np.asarray(vectors, np.float32)) * np.asarray(where, bool)[..., None])


def cloud_panel(title: str, points: ArrayLike, size: float = 4, across: str = "x", up: str = "y") -> Panel:
    """Show points (P, 3): the third axis to the right, the second upward, the first as color; with their names."""
    cloud = np.asarray(points, np.float64)

    def paint(canvas: Any) -> None:
        canvas.scatter(cloud[:, 2], cloud[:, 1], c=cloud[:, 0], s=size, cmap="viridis", linewidths=0)
        canvas.set_aspect("equal", adjustable="datalim")
        canvas.set(xticks=[], yticks=[])
        canvas.set_xlabel(f"{across} →", color=INK, fontsize=9, labelpad=2)
        canvas.set_ylabel(f"{up} →", color=INK, fontsize=9, labelpad=2)

    return Panel(title, paint)


def scatter_panel(title: str, points: ArrayLike, groups: Sequence[str], xlabel: str, ylabel: str) -> Panel:
    """Show points (P, 2) in a color for each group, with a legend of up to 10."""
    places, names = np.asarray(points, np.float64), np.asarray(groups)

    def paint(canvas: Any) -> None:
        palette = colors.instance_palette()
        for number, name in enumerate(sorted(set(names))):
            one = places[names == name]
            canvas.scatter(one[:, 0], one[:, 1], s=14, color=palette[number], label=name, linewidths=0)
        if len(set(names)) <= _LEGEND:
            canvas.legend(fontsize=8, frameon=False, loc="best")
        canvas.set_xlabel(xlabel, color=INK, fontsize=9)
        canvas.set_ylabel(ylabel, color=INK, fontsize=9)
        canvas.tick_params(labelsize=7, colors=INK)
        canvas.spines[["top", "right"]].set_visible(False)

    return Panel(title, paint)


def text_panel(title: str, text: str, width: int = 40) -> Panel:
    """Show a text, such as the message of an error."""

    def paint(canvas: Any) -> None:
        lines = "\n".join(textwrap.wrap(text, width))
        canvas.text(0.02, 0.5, lines, color=INK, fontsize=9, va="center", family="monospace", parse_math=False)
        _frame(canvas, "")

    return Panel(title, paint)


def _frame(canvas: Any, axes: str) -> None:
    canvas.set(xticks=[], yticks=[])
    canvas.spines[:].set_visible(False)
    if axes:
        canvas.set_ylabel(f"← {axes[0]}", color=INK, fontsize=9, labelpad=2)
        canvas.set_xlabel(f"{axes[1]} →", color=INK, fontsize=9, labelpad=2)
