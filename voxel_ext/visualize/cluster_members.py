"""Pictures of the typical and the farthest members of clusters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.object_sources import ObjectVolumes, PlacedObject
from voxel_ext.errors import require
from voxel_ext.morphology.clustering import Representatives
from voxel_ext.visualize import colors
from voxel_ext.visualize.object_thumbnails import read_shape, slice_picture
from voxel_ext.visualize.object_views import ObjectShape, colored_view, shaded_view
from voxel_ext.visualize.scene import _mesh3d, html_fragment, instance_mesh
from voxel_ext.visualize.viewer import jpeg_url

# right, down and away from the viewer in terms of the long, middle and short axis
_VIEWS = (
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
)
_PANEL = 132  # pixels
_VERTICES = 60_000  # of all surfaces of a scene
_INK = "#93a0b8"


def member_pictures(
    volumes: ObjectVolumes, members: Representatives, placed: Mapping[int, PlacedObject], color: str
) -> str:
    """Draw the medoid and the farthest members of a cluster, each along its three principal axes.

    Args:
        volumes: where the objects are; with an image, a slice of it is beside the views.
        members: their ids.
        placed: by id, the objects and their boxes.
        color: of the cluster.

    Returns:
        HTML, a figure for each object with a scale bar.

    Raises:
        InvalidInputError: an object is not in its box.
        MissingDependencyError: pillow is not installed.
    """
    figures = []
    for number, one in enumerate([members.medoid, *members.farthest]):
        role = "medoid" if number == 0 else f"farthest {number}"
        url = jpeg_url(object_picture(volumes, placed[one], color).astype(np.float32) / np.float32(255))
        figures.append(
            f'<figure style="margin:0"><img src="{url}" alt="object {one}, {role}" style="border-radius:6px;'
            f'max-width:100%"><figcaption>{role}: object {one}</figcaption></figure>'
        )
    return f'<div style="display:flex;flex-wrap:wrap;gap:0.8rem">{"".join(figures)}</div>'


def object_picture(volumes: ObjectVolumes, placed: PlacedObject, color: str) -> NDArray[np.uint8]:
    """Draw an object along its short, middle and long axis to one scale, with a scale bar; and a slice of the image.

    Args:
        volumes: where the object is.
        placed: the object.
        color: of its surface, ``"#rrggbb"``.

    Returns:
        (132, 396, 3), or (132, 528, 3) with an image, uint8.

    Raises:
        InvalidInputError: the object is not in its box.
        MissingDependencyError: pillow is not installed.
    """
    shape = read_shape(volumes, placed)
    first = shaded_view(shape, _PANEL)
    views = [first, *(shaded_view(shape, _PANEL, rotation, first.pixel_size) for rotation in _VIEWS[1:])]
    picture = np.concatenate([colored_view(view, color) for view in views], axis=1)
    picture = _with_scale_bar(picture, first.pixel_size)
    if volumes.image is None:
        return picture
    return np.concatenate([picture, slice_picture(volumes, placed, _PANEL)], axis=1)


def round_length(limit: float) -> float:
    """Return the largest of 1, 2 or 5 times a power of ten that is at most ``limit``, which is above 0."""
    power = 10.0 ** math.floor(math.log10(limit))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= limit)


def _with_scale_bar(picture: NDArray[np.uint8], pixel_size: float) -> NDArray[np.uint8]:
    pil: Any = require("PIL.Image", extra="viz")
    pen_type: Any = require("PIL.ImageDraw", extra="viz")
    font = require("PIL.ImageFont", extra="viz").load_default(10)
    length = round_length(0.4 * _PANEL * pixel_size)
    stage = pil.fromarray(picture)
    pen = pen_type.Draw(stage)
    pen.line([(6, _PANEL - 7), (6 + length / pixel_size, _PANEL - 7)], fill="#ffffff", width=2)
    pen.text((6, _PANEL - 10), f"{length:g} nm", fill="#ffffff", font=font, anchor="lb")
    return np.asarray(stage)


def medoid_scene(shapes: Sequence[ObjectShape], names: Sequence[str], palette: Sequence[str], div_id: str) -> str:
    """Draw objects side by side in 3D, to one scale and each in its principal axes, with a scale bar.

    Args:
        shapes: the objects.
        names: of each.
        palette: a color for each.
        div_id: id of the element, unique in its page.

    Returns:
        a ``<div>`` and a ``<script>`` for a page that has plotly's script.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    graph: Any = require("plotly.graph_objects", extra="viz")
    meshes = [_aligned_mesh(shape, _VERTICES // len(shapes)) for shape in shapes]
    cell = 1.12 * max(float(np.ptp(vertices, axis=0)[:2].max()) for vertices, _ in meshes)
    columns = math.ceil(math.sqrt(1.6 * len(shapes)))
    traces, corners = [], []
    for number, ((vertices, faces), name, color) in enumerate(zip(meshes, names, palette, strict=True)):
        row, column = divmod(number, columns)
        corner = np.array([column * cell, -row * cell, 0])
        corners.append(corner)
        # the scene's traces take (z, y, x)
        traces.append(_mesh3d(((vertices + corner)[:, ::-1], faces), name, color, 1.0))
    x, y, z = (np.array(corners) - (0, 0.46 * cell, 0)).T
    text = {"color": "#dbe4f3", "size": 12}
    traces.append(
        graph.Scatter3d(x=x, y=y, z=z, mode="text", text=list(names), textfont=text, showlegend=False, hoverinfo="skip")
    )
    bar = round_length(0.5 * cell)
    left, low = -0.45 * cell, float(y.min()) - 0.2 * cell
    traces.append(
        graph.Scatter3d(
            x=[left, left + bar], y=[low, low], z=[0, 0], mode="lines+text", text=["", f"{bar:g} nm"],
            textposition="middle right", line={"color": "#ffffff", "width": 6}, textfont=text, showlegend=False,
            hoverinfo="skip",
        )
    )  # fmt: skip
    lines = math.ceil(len(shapes) / columns)
    label = f"rotatable 3D view of {len(shapes)} objects side by side"
    layout = _stage(min(columns, len(shapes)), lines, cell)
    return html_fragment(traces, layout, div_id, False, label, min(760, 160 + 240 * lines))


def _aligned_mesh(shape: ObjectShape, max_vertices: int) -> tuple[NDArray[np.float32], NDArray[np.integer]]:
    """The surface in the object's frame, (long, middle, short) in nm, its box centered."""
    inside = shape.coverage >= min(0.5, 0.5 * float(shape.coverage.max()))
    vertices, faces, _ = instance_mesh(inside.astype(np.int32), shape.voxel_size, max_vertices)
    turned = vertices @ shape.frame.T * (1, -1, -1)
    return (turned - (turned.min(axis=0) + turned.max(axis=0)) / 2).astype(np.float32), faces


def _stage(columns: int, lines: int, cell: float) -> dict[str, Any]:
    """A dark stage without axes that holds all cells, of 1 unit each, seen from above."""
    width, height, depth = columns + 0.1, lines + 0.35, 1.0
    low = (-0.55, 0.5 - height, -0.5)
    hidden = {"visible": False, "showspikes": False}
    axes = {
        f"{name}axis": {**hidden, "range": [start * cell, (start + length) * cell]}
        for name, start, length in zip("xyz", low, (width, height, depth), strict=True)
    }
    # of the distance, what the camera sees to each side on a stage that is half again as wide as high
    away = depth / 2 + max(height / 0.9, width / 1.35)
    return {
        "scene": {
            **axes,
            "aspectmode": "manual",
            "aspectratio": {"x": width, "y": height, "z": depth},
            "camera": {"eye": {"x": 0, "y": -0.2 * away, "z": away}, "up": {"x": 0, "y": 1, "z": 0}},
        },
        "paper_bgcolor": colors.DARK,
        "showlegend": False,
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "template": None,
    }
