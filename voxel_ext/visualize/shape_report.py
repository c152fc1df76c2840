"""Pictures of what an autoencoder of objects has learned."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.visualize import colors
from voxel_ext.visualize.figures import blank_figure, figure_png, picture_element, plain_axes
from voxel_ext.visualize.object_views import ObjectShape, colored_view, shaded_view

TILE = 96
"""Height of a picture of an object in pixels."""

USED = 0.1
"""A dimension of the code counts as used from this mean divergence (nats) on."""

Tile = NDArray[np.uint8]

_GAP = 3
_TURN = (25.0, 20.0)  # degrees about the vertical and the horizontal axis, so that depth shows
_ROOM = 1.25  # side of a picture over that of the cube


def object_tile(image: NDArray, channels: Sequence[str], color: str = colors.SIGNAL) -> Tile:
    """Draw an object: the lit surface of its mask, and the middle slice of its intensities.

    The first axis goes to the right, the second down. The picture shows the whole cube, so that sizes compare.

    Args:
        image: (C, S, S, S), from 0 to 1; what is above 0.5 in a mask is inside.
        channels: "mask", "masked_image" or both, the channels of the image.
        color: of the surface.

    Returns:
        (96, 96, 3), or (96, 192, 3) where both are drawn.

    Raises:
        InvalidInputError: the image has another shape.
    """
    if image.ndim != 4 or len(image) != len(channels):
        raise InvalidInputError(f"the image has shape {image.shape}; expected ({len(channels)}, S, S, S)")
    draw = {"mask": lambda cube: _surface(cube, color), "masked_image": _slice}
    return np.concatenate([draw[name](cube) for name, cube in zip(channels, image, strict=True)], axis=1)


def difference_tile(image: NDArray, reconstruction: NDArray) -> Tile:
    """Draw the middle slice of a reconstruction (S, S, S) less that of the image: red where it is more, blue less."""
    middle = image.shape[-1] // 2
    change = np.clip(np.asarray(reconstruction - image, np.float32)[:, :, middle].T, -1, 1)[..., None]
    white = np.ones(3, np.float32)
    more, less = colors.rgb("#c0262d"), colors.rgb("#1d4ed8")
    mixed = white + np.maximum(change, 0) * (more - white) + np.maximum(-change, 0) * (less - white)
    return _enlarged((mixed * 255).astype(np.uint8))


def mosaic(
    tiles: Sequence[Sequence[Tile]], rows: Sequence[str], columns: Sequence[str], alternative: str, caption: str
) -> str:
    """Put tiles into a grid, with names beside the rows and above the columns.

    Args:
        tiles: by row, all of one shape.
        rows: their names.
        columns: their names.
        alternative: what the picture shows, for those who cannot see it.
        caption: text below it.

    Returns:
        an HTML element.

    Raises:
        InvalidInputError: the numbers of tiles and names differ.
    """
    if len(tiles) != len(rows) or any(len(row) != len(columns) for row in tiles):
        found = [len(row) for row in tiles]
        raise InvalidInputError(f"{found} tiles in rows; expected {len(columns)} in each of {len(rows)}")
    height, width = (length + _GAP for length in tiles[0][0].shape[:2])
    canvas = np.zeros((height * len(rows) - _GAP, width * len(columns) - _GAP, 4), np.uint8)
    for row, line in enumerate(tiles):
        for column, tile in enumerate(line):
            part = canvas[row * height :, column * width :][: height - _GAP, : width - _GAP]
            part[..., :3], part[..., 3] = tile, 255
    figure = blank_figure(canvas.shape[1] / 100 + 1.4, canvas.shape[0] / 100 + 0.4)
    axes = figure.add_subplot()
    axes.imshow(canvas, interpolation="nearest")
    axes.set_xticks((np.arange(len(columns)) + 0.5) * width - _GAP / 2)
    axes.set_yticks((np.arange(len(rows)) + 0.5) * height - _GAP / 2)
    axes.set_xticklabels(columns, fontsize=8, color=colors.NEUTRAL, parse_math=False)
    axes.set_yticklabels(rows, fontsize=8, color=colors.NEUTRAL, parse_math=False)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    return picture_element(figure_png(figure), alternative, caption)


def code_picture(divergence: NDArray) -> str:
    """Draw the mean Kullback-Leibler divergence of each dimension of the code, the largest first.

    Args:
        divergence: (L,) in nats.

    Returns:
        an HTML element.
    """
    ordered = np.sort(np.asarray(divergence, float))[::-1]
    used = int((ordered >= USED).sum())
    figure = blank_figure(8, 2.6)
    axes = figure.add_subplot()
    inks = [colors.SIGNAL if value >= USED else colors.NEUTRAL for value in ordered]
    axes.bar(np.arange(1, len(ordered) + 1), ordered, color=inks)
    axes.axhline(USED, color=colors.NEUTRAL, lw=0.8, ls="--")
    plain_axes(axes, "dimension of the code, by divergence", "divergence (nats)")
    caption = (
        f"{used} of {len(ordered)} dimensions are used: on average their posteriors differ from the prior by {USED:g} "
        f"nats or more. {ordered.sum():.1f} nats in all."
    )
    return picture_element(figure_png(figure), "Divergence of each dimension of the code", caption)


def class_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Return a table of figures by class.

    Args:
        rows: name of the class -> name of the figure -> value.

    Returns:
        an HTML element.
    """
    columns = list(dict.fromkeys(key for values in rows.values() for key in values))
    head = "".join(f'<th scope="col" class="number">{html.escape(key)}</th>' for key in columns)

    def cell(value: float | None) -> str:
        text = "" if value is None else f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"
        return f'<td class="number">{text}</td>'

    body = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th>{"".join(cell(values.get(key)) for key in columns)}</tr>'
        for name, values in rows.items()
    )
    return (
        f'<div class="scroll"><table><thead><tr><th scope="col">class</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _surface(cube: NDArray, color: str) -> Tile:
    from scipy.spatial.transform import Rotation

    share = np.clip(np.asarray(cube, np.float32), 0, 1)
    if not (share > 0.5).any():
        return np.broadcast_to((colors.rgb(colors.DARK) * 255).astype(np.uint8), (TILE, TILE, 3)).copy()
    # the frame is that of the cube, not the object's own: differences of pose are to be seen
    shape = ObjectShape(share, (1.0, 1.0, 1.0), np.eye(3))
    turn: Any = Rotation.from_euler("yx", _TURN, degrees=True).as_matrix()
    return colored_view(shaded_view(shape, TILE, turn, len(share) * _ROOM / TILE), color)


def _slice(cube: NDArray) -> Tile:
    middle = np.clip(np.asarray(cube, np.float32)[:, :, cube.shape[-1] // 2].T, 0, 1)
    return _enlarged(np.repeat((middle * 255).round().astype(np.uint8)[..., None], 3, axis=-1))


def _enlarged(picture: Tile) -> Tile:
    """To the height of a tile, without smoothing."""
    at = np.arange(TILE) * len(picture) // TILE
    return picture[at][:, np.arange(TILE) * picture.shape[1] // TILE]
