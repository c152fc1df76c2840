"""Small drawings by matplotlib inside a report: readable on a white as well as on a dark page."""

from __future__ import annotations

import html
import io
from typing import Any

from voxel_ext.errors import require
from voxel_ext.visualize import colors
from voxel_ext.visualize.viewer import data_url


def blank_figure(width: float, height: float, dpi: int = 100) -> Any:
    """Return an empty matplotlib figure without a background.

    Args:
        width: in inches.
        height: in inches.
        dpi: pixels per inch.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure_type: Any = require("matplotlib.figure", extra="viz").Figure
    agg: Any = require("matplotlib.backends.backend_agg", extra="viz").FigureCanvasAgg
    figure = figure_type(figsize=(width, height), dpi=dpi, layout="constrained", facecolor="none")
    agg(figure)
    return figure


def plain_axes(axes: Any, xlabel: str, ylabel: str, title: str = "") -> None:
    """Give axes of a diagram their texts, and gray ink.

    Args:
        axes: of matplotlib.
        xlabel: with its unit.
        ylabel: with its unit.
        title: above the axes.
    """
    ink = colors.NEUTRAL
    axes.set_xlabel(xlabel, color=ink, fontsize=10)
    axes.set_ylabel(ylabel, color=ink, fontsize=10)
    if title:
        axes.set_title(title, color=ink, fontsize=11, loc="left", parse_math=False)
    axes.tick_params(which="both", colors=ink, labelsize=9)
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(ink)


def figure_png(figure: Any) -> bytes:
    """Return a matplotlib figure as a PNG file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def picture_element(png: bytes, alternative: str, caption: str = "") -> str:
    """Return a PNG file as an HTML element.

    Args:
        png: the file.
        alternative: what the picture shows, for those who cannot see it.
        caption: text below it.
    """
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    source = data_url(png, "png")
    return f'<figure class="overlays"><img src="{source}" alt="{html.escape(alternative, quote=True)}">{below}</figure>'
