"""A 3D view that the reader can turn, as a fragment of HTML."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError, require
from voxel_ext.visualize import colors
from voxel_ext.visualize.arrays import as_image, as_labels, check_voxel_size, normalize, shrink

# volumes are averaged down to this, and further until a surface has few enough vertices: 3 surfaces stay below 3 MB
_MAX_SIDE = 96
_MAX_VERTICES = 16_000
_OPTIONS = {
    "responsive": True,
    "displaylogo": False,
    "scrollZoom": False,
    # the button that sends the data to a web service is on by default
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "modeBarButtonsToRemove": ["tableRotation", "resetCameraLastSave3d"],
}

Mesh = tuple[NDArray[np.float32], NDArray[np.integer]]


def volume_scene(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    truth: ArrayLike | None = None,
    voxel_size: Sequence[float] | None = None,
    div_id: str = "volume-scene",
    include_plotlyjs: bool = False,
    instances: bool = False,
) -> str:
    """Draw the signal as translucent blue surfaces, the prediction in red and the truth in green.

    Surfaces are found by marching cubes (Lorensen and Cline 1987) after smoothing: of the signal at Otsu's threshold
    and half-way from there to the maximum. An empty mask or a constant image is said in the picture. The truth is off
    at first; a click on the legend switches a surface on and off, two buttons make the masks
    solid or see-through.

    Args:
        image: (D, H, W).
        mask: mask or instance ids of the same shape, e.g. the prediction.
        truth: likewise.
        voxel_size: µm along D, H, W; axes are in voxels if None.
        div_id: id of the element, unique in its page.
        include_plotlyjs: put the whole of plotly.js (5 MB) in front; else the page must have it already.
        instances: draw each object of ``mask`` in its own color, with its id at the pointer; the signal is off at
            first.

    Returns:
        a ``<div>`` and a ``<script>`` that need no network.

    Raises:
        InvalidInputError: shapes that do not fit (names both), or NaN.
        MissingDependencyError: plotly is not installed.
    """
    volume = as_image(image, ndims=(3,))
    sizes = check_voxel_size(voxel_size, 3)
    limit = _MAX_VERTICES // 3 if instances else _MAX_VERTICES
    surfaces = _signal_surfaces(volume, sizes, limit)[: 1 if instances else 2]
    for surface in surfaces if instances else []:
        surface.visible = "legendonly"
    messages = [] if surfaces else ["the signal is constant: no surface to show"]
    layers = (("prediction", mask, colors.PREDICTION, True), ("truth", truth, colors.TRUTH, "legendonly"))
    for name, labels, color, visible in layers:
        if labels is None:
            continue
        ids = as_labels(labels, volume, name)
        if not ids.any():
            messages.append(f"the {name} is empty")
        elif instances and name == "prediction":
            surfaces.append(_instances3d(ids, sizes, name))
        else:
            surfaces.append(_mesh3d(_mask_surface(ids > 0, sizes, limit), name, color, 1.0, visible))
    extent = [side * size for side, size in zip(volume.shape, sizes, strict=True)]
    layout = _layout(extent, messages, "µm" if voxel_size is not None else "voxels")
    solid = [index for index, surface in enumerate(surfaces) if surface.name in ("prediction", "truth")]
    if solid:
        layout["updatemenus"] = [_opacity_menu(solid)]
    return html_fragment(surfaces, layout, div_id, include_plotlyjs)


def mask_mesh(mask: NDArray[np.bool_], voxel_size: Sequence[float]) -> Mesh | None:
    """Find the smoothed surface of a mask, averaged down until it has at most 16 000 vertices.

    Args:
        mask: (D, H, W).
        voxel_size: edge lengths along D, H, W.

    Returns:
        vertices (N, 3) in the unit of ``voxel_size`` along D, H, W, and triangles (M, 3) of vertex indices; None if
        the mask is empty.
    """
    if not mask.any():
        return None
    return _mask_surface(mask, voxel_size, _MAX_VERTICES)


def instance_mesh(
    labels: NDArray[np.integer], voxel_size: Sequence[float], max_vertices: int = 12_000
) -> tuple[NDArray[np.float32], NDArray[np.integer], NDArray[np.int32]]:
    """Find the smoothed surface of each object on its own, so that objects that touch stay apart.

    Args:
        labels: (D, H, W) ids, 0 is background.
        voxel_size: edge lengths along D, H, W.
        max_vertices: over all objects, each has an equal share; tiny objects may need more than theirs.

    Returns:
        vertices (N, 3) in the unit of ``voxel_size`` along D, H, W, triangles (M, 3) of vertex indices, and the ids
        (N,) of the objects that the vertices belong to; all empty without objects.
    """
    from scipy import ndimage

    # ids may be as large as their type allows
    names, places = np.unique(labels, return_inverse=True)
    first = int((names <= 0).sum())
    compact = np.maximum(places.reshape(labels.shape) - first + 1, 0)
    boxes = ndimage.find_objects(compact)
    share = max_vertices // max(len(boxes), 1)
    parts: list[tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]] = []
    count = 0
    for number, box in enumerate(boxes, start=1):
        vertices, faces = _mask_surface(np.pad(compact[box] == number, 1), voxel_size, share)
        corner = np.array([side.start - 1 for side in box]) * voxel_size
        ids = np.full(len(vertices), names[number + first - 1], np.int32)
        parts.append(((vertices + corner).astype(np.float32), faces.astype(np.int32) + count, ids))
        count += len(vertices)
    if not parts:
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32), np.zeros(0, np.int32)
    vertices, faces, ids = (np.concatenate(column) for column in zip(*parts, strict=True))
    return vertices, faces.astype(np.uint16) if count < 65536 else faces, ids


def _mask_surface(mask: NDArray[np.bool_], voxel_size: Sequence[float], max_vertices: int) -> Mesh:
    # below one half, so that objects of one voxel survive the smoothing
    return _mesh(
        mask.astype(np.float32), voxel_size, 0.6, lambda field: min(0.4, 0.5 * float(field.max())), max_vertices
    )


def _signal_surfaces(volume: NDArray[np.float32], voxel_size: Sequence[float], max_vertices: int) -> list[Any]:
    """The outer surface of the signal, almost transparent, and an inner one; none if the volume is constant."""
    gray = normalize(volume)
    if gray.max() <= gray.min():
        return []
    from skimage.filters import threshold_otsu

    def outer(field: NDArray[np.float32]) -> float:
        return float(threshold_otsu(field.ravel()))

    def inner(field: NDArray[np.float32]) -> float:
        return 0.5 * (outer(field) + float(field.max()))

    looks = (("signal", outer, colors.SIGNAL, 0.2), ("strong signal", inner, "#1d6fff", 0.6))
    return [
        _mesh3d(_mesh(gray, voxel_size, 1.0, level, max_vertices), name, color, opacity)
        for name, level, color, opacity in looks
    ]


def _mesh(field: NDArray[np.float32], voxel_size: Sequence[float], sigma: float, level: Any, max_vertices: int) -> Mesh:
    """Marching cubes on a smoothed field, at the finest averaging that gives few enough vertices."""
    from scipy import ndimage
    from skimage import measure

    side = min(_MAX_SIDE, max(field.shape))
    while True:
        small, sizes = shrink(field, voxel_size, side)
        # zeros around it close the surface where it meets the border
        padded = np.pad(ndimage.gaussian_filter(small, sigma, mode="nearest"), 1)
        vertices, faces, _, _ = measure.marching_cubes(padded, level(padded), spacing=sizes)
        if len(vertices) <= max_vertices or side <= 8:
            # the first voxel spans [0, size]; its value sits in its middle, and one voxel was padded before it
            vertices = vertices - 0.5 * np.array(sizes)
            return vertices.astype(np.float32), faces.astype(np.uint16 if len(vertices) < 65536 else np.int32)
        side = max(8, int(max(small.shape) * 0.85))


def _mesh3d(mesh: Mesh, name: str, color: str, opacity: float, visible: bool | str = True) -> Any:
    graph: Any = require("plotly.graph_objects", extra="viz")
    (vertices, faces) = mesh
    z, y, x = np.ascontiguousarray(vertices.T.round(3))
    i, j, k = np.ascontiguousarray(faces.T)
    light = {"ambient": 0.3, "diffuse": 0.75, "specular": 0.12, "roughness": 0.6, "fresnel": 0.0}
    return graph.Mesh3d(
        x=x, y=y, z=z, i=i, j=j, k=k, name=name, color=color, opacity=opacity, visible=visible, showlegend=True,
        hoverinfo="name", flatshading=False, lighting=light, lightposition={"x": 1000, "y": -6000, "z": 6000},
    )  # fmt: skip


def _instances3d(ids: NDArray[np.int32], voxel_size: Sequence[float], name: str) -> Any:
    """One trace for all objects: a color number and an id per vertex."""
    vertices, faces, owners = instance_mesh(ids, voxel_size)
    trace = _mesh3d((vertices, faces), name, colors.SIGNAL, 1.0)
    palette = [f"rgb({r},{g},{b})" for r, g, b in (colors.instance_palette() * 255).round().astype(int).tolist()]
    steps = np.linspace(0, 1, len(palette)).round(5).tolist()
    trace.update(
        intensity=colors.instance_slots(owners).astype(np.uint8), cmin=1, cmax=len(palette), showscale=False,
        colorscale=list(zip(steps, palette, strict=True)),
        customdata=owners.astype(np.min_scalar_type(int(owners.max()))),
        hovertemplate="instance %{customdata}<extra></extra>",
    )  # fmt: skip
    return trace


def _layout(extent: Sequence[float], messages: Sequence[str], unit: str) -> dict[str, Any]:
    """A dark stage with a box as large as the volume."""
    grid = {"gridcolor": "#2b3650", "zerolinecolor": "#2b3650", "showbackground": False, "color": "#93a0b8"}
    axes = {
        f"{name}axis": {"title": {"text": f"{name} ({unit})"}, "range": [0, length], **grid}
        for name, length in zip("zyx", extent, strict=True)
    }
    notes = [
        {"text": html.escape(text), "x": 0.5, "y": 0.5 - 0.08 * i, "xref": "paper", "yref": "paper", "showarrow": False}
        for i, text in enumerate(messages)
    ]
    # plotly gives the box the volume 1; a long one needs the camera farther away
    away = max(1.0, 0.55 * max(extent) / float(np.prod(extent)) ** (1 / 3))
    eye = {"x": 1.5 * away, "y": -1.5 * away, "z": 1.0 * away}
    return {
        "scene": {
            **axes,
            "aspectmode": "data",
            "camera": {"eye": eye, "center": {"x": 0, "y": 0, "z": -0.1}},
        },
        "paper_bgcolor": colors.DARK,
        "font": {"color": "#dbe4f3", "family": "system-ui, sans-serif"},
        "legend": {"x": 0.01, "y": 0.99, "bgcolor": "rgba(0,0,0,0)"},
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "annotations": notes,
        "template": None,
    }


def _opacity_menu(traces: list[int]) -> dict[str, Any]:
    """Buttons that make the masks solid or see-through."""
    buttons = [
        {"label": label, "method": "restyle", "args": [{"opacity": opacity}, traces]}
        for label, opacity in (("solid", 1.0), ("see-through", 0.25))
    ]
    place = {"x": 0.01, "y": 0.02, "xanchor": "left", "yanchor": "bottom", "pad": {"t": 0, "l": 0}}
    look = {"bgcolor": "#1b2438", "bordercolor": "#3a4763", "font": {"color": "#93a0b8", "size": 11}}
    return {"type": "buttons", "direction": "right", "showactive": False, "buttons": buttons, **place, **look}


def html_fragment(
    surfaces: Sequence[Any],
    layout: dict[str, Any],
    div_id: str,
    include_plotlyjs: bool,
    label: str = "rotatable 3D view",
    height: int = 460,
) -> str:
    """Return an HTML element, and the script that draws a plotly figure into it.

    Args:
        surfaces: traces of the figure.
        layout: its layout.
        div_id: id of the element.
        include_plotlyjs: whether plotly's own script comes with it; one per page is enough.
        label: what the figure is, for those who cannot see it.
        height: of the element in pixels.

    Raises:
        InvalidInputError: ``div_id`` has other characters than letters, digits, "-" and "_".
        MissingDependencyError: plotly is not installed.
    """
    if not div_id.replace("-", "").replace("_", "").isalnum():
        raise InvalidInputError(f"div_id={div_id!r}, expected letters, digits, '-' and '_'")
    graph: Any = require("plotly.graph_objects", extra="viz")
    # without a surface the axes still need a trace to be drawn
    figure = graph.Figure(data=list(surfaces) or [graph.Scatter3d(showlegend=False)], layout=layout)
    # as text inside <script>, "<" must not begin a tag
    drawing = figure.to_json().replace("<", "\\u003c")
    options = json.dumps(_OPTIONS)
    library = plotly_script() if include_plotlyjs else ""
    return (
        f'{library}<div id="{div_id}" class="volume-scene" style="height:{height}px" role="img" '
        f'aria-label="{html.escape(label, quote=True)}"></div>\n<script>(() => {{ const figure = {drawing};\n'
        f"Plotly.newPlot({json.dumps(div_id)}, figure.data, figure.layout, {options}); }})();</script>"
    )


def plotly_script() -> str:
    """Return plotly.js as a ``<script>`` element to be put once in a page.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    offline: Any = require("plotly.offline", extra="viz")
    return f"<script>{offline.get_plotlyjs()}</script>\n"
