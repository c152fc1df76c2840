"""Pictures of point clouds beside their reconstructions, and between two of them."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError, require
from voxel_ext.visualize import colors
from voxel_ext.visualize.viewer import data_url

_REACH = 1.05
_FLATTEST = 0.3  # lowest height of a panel over its width
_WIDTH, _HEADING = 11.0, 0.35  # inches
# the depth of points in the unit sphere is seen as their color
_COLORS = "viridis"
_VIEWS = ((0, 1, 2), (0, 2, 1))


class CloudPair(NamedTuple):
    """An object and what was made of it."""

    name: str
    points: NDArray[np.float32]
    """(P, 3), in the unit sphere."""
    reconstruction: NDArray[np.float32]
    """(R, 3)."""


def cloud_pairs(pairs: Sequence[CloudPair]) -> str:
    """Draw clouds and their reconstructions from two sides, a row per object.

    Args:
        pairs: at least one; the text of a name may have several lines.

    Returns:
        HTML of a figure.

    Raises:
        InvalidInputError: there are no pairs, or a cloud is not (P, 3).
        MissingDependencyError: matplotlib is not installed.
    """
    if not pairs:
        raise InvalidInputError("there are no point clouds to draw; expected at least one pair")
    columns = ("input", "reconstruction", "input, turned by 90°", "reconstruction, turned by 90°")
    heights = [max(_height(pair.points), _height(pair.reconstruction)) for pair in pairs]
    figure, axes = _grid(heights, len(columns), margin=1.1)
    for row, pair in enumerate(pairs):
        for column in range(len(columns)):
            cloud = (pair.points, pair.reconstruction)[column % 2]
            _draw(axes[row, column], cloud, _VIEWS[column // 2], heights[row])
            if row == 0:
                axes[row, column].set_title(columns[column], color=colors.NEUTRAL, fontsize=10)
        label = {"rotation": 0, "ha": "right", "va": "center", "parse_math": False}
        axes[row, 0].set_ylabel(pair.name, color=colors.NEUTRAL, fontsize=8, **label)
    caption = (
        "The first stored axis (the longest one of aligned clouds) runs to the right, the second upward, and in the "
        "turned views the third; the color is the depth. Each is reconstructed from its code alone."
    )
    names = "; ".join(pair.name.replace("\n", ", ") for pair in pairs)
    return _element(figure, f"Point clouds of {names}", caption)


def cloud_path(clouds: Sequence[ArrayLike], first: str, last: str) -> str:
    """Draw clouds that lead from one object to another, side by side.

    Args:
        clouds: at least two, each (R, 3) in the unit sphere.
        first: name of the object that they start from.
        last: name of the object that they end at.

    Returns:
        HTML of a figure.

    Raises:
        InvalidInputError: there are fewer than two clouds, or one is not (R, 3).
        MissingDependencyError: matplotlib is not installed.
    """
    if len(clouds) < 2:
        raise InvalidInputError(f"{len(clouds)} point clouds make no path; expected at least two")
    height = max(map(_height, clouds))
    figure, axes = _grid([height], len(clouds), margin=0.0)
    for column, cloud in enumerate(clouds):
        _draw(axes[0, column], cloud, _VIEWS[0], height)
        axes[0, column].set_title(f"{column / (len(clouds) - 1):.0%}", color=colors.NEUTRAL, fontsize=9)
    names = [name.replace("\n", ", ") for name in (first, last)]
    caption = f"Reconstructions of codes on the straight line from {names[0]} (left) to {names[1]} (right)."
    return _element(figure, f"Interpolation from {names[0]} to {names[1]}", caption)


def _height(cloud: ArrayLike) -> float:
    """Return the height over the width of a panel that holds a cloud: aligned ones are longest to the right."""
    points = np.asarray(cloud, dtype=float)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise InvalidInputError(f"a point cloud has shape {points.shape}; expected (P, 3) with at least one point")
    reach = np.abs(points[:, 1:]).max(initial=0, where=np.isfinite(points[:, 1:])) + _REACH - 1
    return float(np.clip(reach, _FLATTEST, _REACH)) / _REACH


def _grid(heights: Sequence[float], columns: int, margin: float) -> tuple[Any, Any]:
    """Make rows of panels below a line of headings, with a margin at the left, in inches."""
    figure_type: Any = require("matplotlib.figure", extra="viz").Figure
    agg: Any = require("matplotlib.backends.backend_agg", extra="viz").FigureCanvasAgg
    # margins by hand: a layout engine takes seconds for so many panels
    height = (_WIDTH - margin) / columns * sum(heights) + _HEADING
    figure = figure_type(figsize=(_WIDTH, height), dpi=100, facecolor="none")
    agg(figure)
    places = {
        "left": margin / _WIDTH, "right": 1, "bottom": 0, "top": 1 - _HEADING / height,
        "wspace": 0, "hspace": 0, "height_ratios": heights,
    }  # fmt: skip
    return figure, figure.subplots(len(heights), columns, squeeze=False, gridspec_kw=places)


def _draw(panel: Any, cloud: ArrayLike, view: tuple[int, int, int], height: float) -> None:
    points = np.asarray(cloud, dtype=float)
    across, up, depth = (points[:, axis] for axis in view)
    order = np.argsort(depth)  # the nearest last, on top
    panel.scatter(
        across[order], up[order], c=depth[order], s=3, cmap=_COLORS, vmin=-0.5, vmax=0.5, linewidths=0, rasterized=True
    )
    top = _REACH * height
    panel.set(xlim=(-_REACH, _REACH), ylim=(-top, top), xticks=[], yticks=[], aspect="equal")
    panel.set_facecolor("none")
    panel.spines[:].set_visible(False)


def _element(figure: Any, alternative: str, caption: str) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return (
        f'<figure class="overlays"><img src="{data_url(stream.getvalue(), "png")}" '
        f'alt="{html.escape(alternative, quote=True)}"><figcaption>{html.escape(caption)}</figcaption></figure>'
    )
