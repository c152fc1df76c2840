"""Pictures of an animal whose ROIs are labeled: maximum projections with the names, and one to point at."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError, require
from voxel_ext.labeling.accuracy import is_known_name, is_lenient_match
from voxel_ext.labeling.label import CellLabel, RoiProbabilities
from voxel_ext.visualize import colors
from voxel_ext.visualize.arrays import as_image, check_voxel_size, normalize
from voxel_ext.visualize.figures import blank_figure, figure_png
from voxel_ext.visualize.scene import html_fragment
from voxel_ext.visualize.viewer import jpeg_url

CHANNEL_COLORS = {
    "mTagBFP2": (0.25, 0.4, 1.0),
    "CyOFP1": (0.15, 0.9, 0.25),
    "mNeptune2.5": (1.0, 0.15, 0.2),
    "TagRFP": (0.4, 0.4, 0.4),
}
"""Color of each NeuroPAL channel in a composite; TagRFP, which all neurons have, is dark gray."""
VERDICTS = {
    "right": "#4ade80",
    "right but for ? or -alt": "#facc15",
    "wrong": "#f87171",
    "truth not known": "#e2e8f0",
    "no name": "#94a3b8",
}
"""Color of a name whose truth is known, and of those where it is not."""
CONFIDENCES = ("#94a3b8", "#f87171", "#fb923c", "#facc15", "#a3e635", "#4ade80")
"""Color of a name by its confidence 0 to 5, where no truth is known."""

_OTHER_COLORS = ((0.2, 0.8, 0.9), (0.9, 0.3, 0.9), (0.9, 0.8, 0.2))
_FONT = 7.5
_WIDTH = 11.0
_DPI = 140
# the outlines of ROIs are drawn at so many pixels per voxel
_ZOOM = 4

Array = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class LabeledAnimal:
    """What a report shows of one animal.

    Attributes:
        name: of the animal.
        image: (C, D, H, W), the channels that the network saw.
        channels: (C,) their names; those of NeuroPAL have their own colors, see :data:`CHANNEL_COLORS`.
        roi: (D, H, W) ids of the ROIs, 0 is background.
        greedy: the labels by the greedy assignment.
        optimal: those by the optimal one, None if it was not done.
        truth: id of an ROI -> its true name, for those that a human labeled; None if nothing is known.
        rois: the probabilities of the ROIs, for the list of doubtful ones; no list if None.
        voxel_size: µm along D, H, W; cubic voxels if None.

    Raises:
        InvalidInputError: the shapes do not fit, or a channel has no name.
    """

    name: str
    image: NDArray[Any]
    channels: Sequence[str]
    roi: NDArray[Any]
    greedy: Sequence[CellLabel]
    optimal: Sequence[CellLabel] | None = None
    truth: Mapping[int, str] | None = None
    rois: RoiProbabilities | None = None
    voxel_size: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 4 or self.image.shape[1:] != self.roi.shape or len(self.channels) != len(self.image):
            raise InvalidInputError(
                f"the image of {self.name!r} has shape {self.image.shape}, its ROIs {self.roi.shape} and there are "
                f"{len(self.channels)} channel names; expected (C, D, H, W), (D, H, W) and C names"
            )
        check_voxel_size(self.voxel_size, 3)


def composite(image: ArrayLike, channels: Sequence[str], axis: int) -> NDArray[np.float32]:
    """Project the channels of an image to their maxima, and mix them by color.

    Args:
        image: (C, D, H, W). Each channel is shown from the 1st to the 99.7th percentile of its projection.
        channels: (C,) names, which choose the colors; a single channel is gray.
        axis: the spatial axis to project along: 0 is z, 1 is y, 2 is x.

    Returns:
        the two other axes and (..., 3) in [0, 1].
    """
    array = np.asarray(image)
    spare = iter(3 * _OTHER_COLORS)
    picture = np.zeros((*np.delete(array.shape[1:], axis), 3), np.float32)
    for volume, name in zip(array, channels, strict=True):
        color = (0.9, 0.9, 0.9) if len(array) == 1 else CHANNEL_COLORS.get(name) or next(spare, (0.3, 0.3, 0.3))
        gray = normalize(as_image(volume.max(axis=axis), f"channel {name!r}"), 1, 99.7)
        # several bright channels in one place shall not all become white
        picture += 0.85 * gray[..., None] * np.array(color, np.float32)
    return picture.clip(0, 1)


def verdicts(animal: LabeledAnimal) -> list[str]:
    """Return a key of :data:`VERDICTS` per greedy label, or where no truth is known the ``confidence`` and its number.

    Args:
        animal: labeled.
    """
    return [_verdict(label, animal.truth) for label in animal.greedy]


def _verdict(label: CellLabel, truth: Mapping[int, str] | None) -> str:
    if label.is_unknown:
        return "no name"
    if truth is None:
        return f"confidence {label.confidence}"
    name = truth.get(label.roi_id, "")
    if not is_known_name(name):
        return "truth not known"
    if label.neuron_class == name:
        return "right"
    return "right but for ? or -alt" if is_lenient_match(label.neuron_class, name) else "wrong"


def verdict_color(verdict: str) -> str:
    """Return the color ``"#rrggbb"`` of what :func:`verdicts` says of a label."""
    return VERDICTS.get(verdict) or CONFIDENCES[int(verdict.removeprefix("confidence "))]


def place_texts(points: ArrayLike, sizes: ArrayLike, extent: Sequence[float], tries: int = 160) -> Array:
    """Find a place for a text beside each point, such that the texts do not overlap as far as there is room.

    From the densest point on, each text takes the first free place on a spiral around its point; if none of the
    tries is free, the one with the least overlap.

    Args:
        points: (N, 2) x and y.
        sizes: (N, 2) width and height of the texts, in the unit of the points.
        extent: width and height of the area that texts stay in, from (0, 0).
        tries: places that are tried for each text.

    Returns:
        (N, 2) centers of the texts.
    """
    where, boxes = np.asarray(points, float).reshape(-1, 2), np.asarray(sizes, float).reshape(-1, 2)
    centers = where.copy()
    if not len(where):
        return centers
    steps = np.arange(tries)
    angle, radius = steps * 2.399963 + np.pi / 2, np.sqrt(steps / 6)
    spiral = np.stack([np.cos(angle) * radius, np.sin(angle) * radius], axis=1)
    # a text just above or below its point leaves the point visible
    spiral = np.concatenate([[[0, -0.9], [0, 0.9]], spiral[6:]])
    distances = np.linalg.norm(where[:, None] - where[None], axis=2)
    crowded = (distances < 3 * boxes.max()).sum(axis=1)
    placed: list[int] = []
    for i in np.argsort(-crowded, kind="stable").tolist():
        scale = np.array([0.55 * boxes[i, 0] + 0.45 * boxes[i, 1], 1.15 * boxes[i, 1]])
        candidates = where[i] + spiral * scale
        candidates = np.clip(candidates, boxes[i] / 2, np.maximum(np.array(extent) - boxes[i] / 2, boxes[i] / 2))
        gap = np.abs(candidates[:, None] - centers[placed][None]) - (boxes[i] + boxes[placed])[None] / 2
        overlap = np.prod(np.maximum(-gap, 0), axis=2).sum(axis=1)
        # a text over another's point hides it
        covers = (np.abs(candidates[:, None] - where[None]) < boxes[i] / 2).all(axis=2).sum(axis=1)
        cost = overlap + 0.02 * boxes[i].prod() * covers
        centers[i] = candidates[int(np.argmin(cost > 0)) if (cost <= 0).any() else int(np.argmin(cost))]
        placed.append(i)
    return centers


def labeled_projection(animal: LabeledAnimal) -> bytes:
    """Draw the maximum projections along z and, below, along y, with outlines and names of the ROIs.

    Names are green where right and red where wrong, or colored by confidence where no truth is known. ROIs without a
    name have a ring.

    Args:
        animal: labeled.

    Returns:
        a PNG file.

    Raises:
        InvalidInputError: a channel has NaN.
        MissingDependencyError: matplotlib is not installed.
    """
    sizes = np.array(check_voxel_size(animal.voxel_size, 3))
    depth, height, width = np.array(animal.roi.shape) * sizes
    tall, flat = (_WIDTH * side / width for side in (height, depth))
    figure = blank_figure(_WIDTH, tall + flat + 0.75, _DPI)
    panels = figure.subplots(2, 1, gridspec_kw={"height_ratios": [tall, flat]})
    for axes, axis, title in ((panels[0], 0, "along z (x to the right, y down)"), (panels[1], 1, "along y (z down)")):
        rows = (1, 0)[axis]
        picture = _outlined(composite(animal.image, animal.channels, axis), animal.roi.max(axis=axis))
        extent = (0, width, animal.roi.shape[rows] * sizes[rows], 0)
        axes.imshow(picture, extent=extent, interpolation="nearest", aspect="equal")
        _write_names(axes, animal, rows, sizes, (extent[1], extent[2]))
        axes.set_title(f"maximum {title}", color=colors.NEUTRAL, fontsize=10, loc="left")
        axes.set(xticks=[], yticks=[], xlim=(0, extent[1]), ylim=(extent[2], 0))
        axes.spines[:].set_visible(False)
    return figure_png(figure)


def _outlined(picture: NDArray[np.float32], ids: NDArray[Any]) -> NDArray[np.float32]:
    """Thin outlines of the ROIs, as they lie above each other in the projection."""
    large = picture.repeat(_ZOOM, 0).repeat(_ZOOM, 1)
    border = colors.outline(ids.repeat(_ZOOM, 0).repeat(_ZOOM, 1))
    # darker than it is, for names to stand out
    return colors.blend(0.7 * large, border, "#ffffff", 0.4)


def _write_names(
    axes: Any, animal: LabeledAnimal, rows: int, sizes: NDArray[np.float64], extent: tuple[float, float]
) -> None:
    effects: Any = require("matplotlib.patheffects", extra="viz")
    unit = extent[0] / (_WIDTH * 72)
    # the middle of voxel i lies at i + 1/2
    points = np.array([[label.center[2], label.center[rows]] for label in animal.greedy]).reshape(-1, 2) + 0.5
    points = points * sizes[[2, rows]]
    inks = [verdict_color(verdict) for verdict in verdicts(animal)]
    named = np.array([not label.is_unknown for label in animal.greedy], dtype=bool)
    axes.scatter(*points[~named].T, s=9, facecolors="none", linewidths=0.6, edgecolors=VERDICTS["no name"])
    shown = np.flatnonzero(named).tolist()
    axes.scatter(*points[named].T, s=2.5, c=[inks[i] for i in shown], linewidths=0)
    texts = [animal.greedy[i].neuron_class for i in shown]
    boxes = np.array([[0.64 * _FONT * len(text), 1.15 * _FONT] for text in texts]).reshape(-1, 2) * unit
    places = place_texts(points[named], boxes, extent)
    shadow = [effects.withStroke(linewidth=2, foreground="black", alpha=0.8)]
    for i, text, place, box in zip(shown, texts, places, boxes, strict=True):
        if np.linalg.norm(place - points[i]) > 1.2 * box[1]:
            axes.plot(*np.stack([points[i], place]).T, color=inks[i], linewidth=0.6, alpha=0.9)
        axes.text(
            *place, text, color=inks[i], fontsize=_FONT, ha="center", va="center", parse_math=False,
            path_effects=shadow,
        )  # fmt: skip


def labeled_scatter(animal: LabeledAnimal, div_id: str = "labeled-scatter") -> str:
    """Draw the projection along z with a point for each ROI, which tells at the pointer all that is known of it.

    Args:
        animal: labeled.
        div_id: id of the element, unique in its page.

    Returns:
        a ``<div>`` and a ``<script>``; the page must have plotly.js.

    Raises:
        InvalidInputError: a channel has NaN.
        MissingDependencyError: plotly or pillow is not installed.
    """
    graph: Any = require("plotly.graph_objects", extra="viz")
    other = {label.roi_id: label for label in animal.optimal or ()}
    found = verdicts(animal)
    traces = []
    for verdict in sorted(set(found), key=lambda v: (v.startswith("confidence"), v)):
        labels = [label for label, word in zip(animal.greedy, found, strict=True) if word == verdict]
        traces.append(
            graph.Scatter(
                x=[round(label.center[2] + 0.5, 2) for label in labels],
                y=[round(label.center[1] + 0.5, 2) for label in labels],
                name=f"{verdict} ({len(labels)})", mode="markers",
                marker={"size": 8, "color": verdict_color(verdict), "line": {"width": 1, "color": "#0d1321"}},
                text=[html.escape(label.neuron_class) for label in labels],
                textposition="top center", textfont={"size": 10, "color": verdict_color(verdict)},
                hovertext=[_hover(label, other.get(label.roi_id), animal.truth) for label in labels],
                hoverinfo="text",
            )
        )  # fmt: skip
    height, width = animal.roi.shape[1:]
    _, dy, dx = check_voxel_size(animal.voxel_size, 3)
    source = jpeg_url(composite(animal.image, animal.channels, 0))
    return html_fragment(
        traces,
        _scatter_layout(source, width, height, dy / dx),
        div_id,
        include_plotlyjs=False,
        label=f"labeled ROIs of {animal.name}, seen along z",
        height=int(np.clip(1240 * height * dy / (width * dx) + 90, 260, 720)),
    )


def _hover(label: CellLabel, optimal: CellLabel | None, truth: Mapping[int, str] | None) -> str:
    z, y, x = (round(value, 1) for value in label.center)
    lines = [f"<b>{html.escape(label.neuron_class)}</b> (ROI {label.roi_id})"]
    lines.append(f"probability {label.probability:.3f}, confidence {label.confidence}")
    if truth is not None:
        lines.append(f"truth: {html.escape(truth.get(label.roi_id, '') or 'not known')}")
    if optimal is not None and optimal.neuron_class != label.neuron_class:
        lines.append(f"optimal assignment: {html.escape(optimal.neuron_class)}")
    lines += [f"alternatives: {html.escape(label.alternatives)}"] if label.alternatives else []
    lines += [html.escape(label.notes)] if label.notes else []
    return "<br>".join([*lines, f"z {z}, y {y}, x {x}"])


def _scatter_layout(source: str, width: int, height: int, ratio: float) -> dict[str, Any]:
    look = {"color": "#93a0b8", "showgrid": False, "zeroline": False}
    names = [
        {"label": text, "method": "restyle", "args": [{"mode": mode}]}
        for text, mode in (("points", "markers"), ("names", "markers+text"))
    ]
    menu = {
        "type": "buttons", "direction": "right", "showactive": False, "buttons": names, "x": 0, "y": 1.01,
        "xanchor": "left", "yanchor": "bottom", "pad": {"t": 0, "l": 0}, "bgcolor": "#1b2438",
        "bordercolor": "#3a4763", "font": {"color": "#93a0b8", "size": 11},
    }  # fmt: skip
    place = {"xref": "x", "yref": "y", "x": 0, "y": 0, "sizex": width, "sizey": height}
    return {
        "images": [{"source": source, **place, "sizing": "stretch", "layer": "below"}],
        "xaxis": {"title": {"text": "x (voxels)"}, "range": [0, width], "constrain": "domain", **look},
        "yaxis": {
            "title": {"text": "y (voxels)"}, "range": [height, 0], "scaleanchor": "x", "scaleratio": ratio,
            "constrain": "domain", **look,
        },
        "paper_bgcolor": colors.DARK,
        "plot_bgcolor": "#000000",
        "font": {"color": "#dbe4f3", "family": "system-ui, sans-serif"},
        "legend": {"orientation": "h", "x": 0.16, "y": 1.01, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)"},
        "margin": {"l": 50, "r": 15, "t": 40, "b": 45},
        "hoverlabel": {"align": "left", "bgcolor": "#1b2438", "font": {"color": "#f1f5f9"}},
        "updatemenus": [menu],
        "template": None,
    }  # fmt: skip
