"""Fields of vectors, such as the normals of surfaces, as colors and as arrows on slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.visualize import colors
from voxel_ext.visualize.arrays import as_image, check_voxel_size, normalize
from voxel_ext.visualize.figures import blank_figure

AXES = "zyx"
# arrows along the longer side of a slice
_ARROWS = 16
_CELL = 4.4


def vector_colors(vectors: ArrayLike, oriented: bool = False) -> NDArray[np.float32]:
    """Color vectors by their direction.

    With the vector n of length 1: RGB = (abs n_x, abs n_y, abs n_z) where v and -v are the same, which so have one
    color; RGB = ((n_x, n_y, n_z) + 1) / 2 where the sign counts.

    Args:
        vectors: (3, ...), components (z, y, x), of any length.
        oriented: whether the sign counts.

    Returns:
        (..., 3) in [0, 1]; black where the vector is zero or not finite.

    Raises:
        InvalidInputError: there are no 3 components.
    """
    array = np.asarray(vectors, dtype=np.float32)
    if array.ndim < 1 or array.shape[0] != 3:
        raise InvalidInputError(f"vectors have shape {array.shape}, expected (3, D, H, W)")
    length = np.sqrt((array.astype(np.float64) ** 2).sum(axis=0))
    known = np.isfinite(length) & (length > 0)
    unit = np.moveaxis(array[::-1] / np.where(known, length, 1), 0, -1)
    shades = (unit + 1) / 2 if oriented else np.abs(unit)
    return np.where(known[..., None], np.clip(shades, 0, 1), 0).astype(np.float32)


def vector_key(oriented: bool = False) -> Any:
    """Draw the colors of all directions: a ball seen along z, and from behind too where the sign counts.

    Args:
        oriented: as for :func:`vector_colors`.

    Returns:
        a matplotlib figure.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    sides = {"z towards you": -1, "z away from you": 1} if oriented else {"": 1}
    figure = blank_figure(1.9 * len(sides) + 0.3, 2.1)
    y, x = np.mgrid[-1:1:161j, -1:1:161j]
    inside = x**2 + y**2 <= 1
    for axes, (title, sign) in zip(figure.subplots(1, len(sides), squeeze=False)[0], sides.items(), strict=True):
        z = sign * np.sqrt(np.clip(1 - x**2 - y**2, 0, None))
        ball = vector_colors(np.stack([z, y, x]), oriented)
        axes.imshow(np.dstack([ball, inside]), extent=(-1, 1, 1, -1), interpolation="bilinear")
        axes.set(xticks=[], yticks=[], xlim=(-1.05, 1.05), ylim=(1.05, -1.05))
        axes.spines[:].set_visible(False)
        axes.set_xlabel("x →", color=colors.NEUTRAL, fontsize=9, labelpad=1)
        axes.set_ylabel("← y", color=colors.NEUTRAL, fontsize=9, labelpad=1)
        axes.set_title(title, color=colors.NEUTRAL, fontsize=9)
    return figure


def key_text(oriented: bool) -> str:
    """The caption of :func:`vector_key`."""
    if oriented:
        return "Color of a direction: red, green and blue are (x + 1) / 2, (y + 1) / 2 and (z + 1) / 2; black: unknown."
    return "Color of a direction: red, green and blue are |x|, |y| and |z|, the same for v and -v; black: unknown."


def fullest_slice(where: NDArray[np.bool_], axis: int) -> int:
    """Return the middle slice along an axis, or if it has no voxel of ``where``, the one with the most."""
    counts = np.moveaxis(where, axis, 0).reshape(where.shape[axis], -1).sum(axis=1)
    middle = len(counts) // 2
    return middle if counts[middle] or not counts.any() else int(counts.argmax())


def vector_figure(
    image: ArrayLike,
    fields: Mapping[str, NDArray],
    where: NDArray[np.bool_],
    oriented: bool = False,
    voxel_size: Sequence[float] | None = None,
    every: int | None = None,
) -> Any:
    """Draw a slice across each axis: the directions as colors, and their components in the plane as arrows.

    The slices are the middle ones, or the fullest ones where the middle has nothing. Arrows of directions whose sign
    does not count have no heads.

    Args:
        image: (D, H, W).
        fields: ``"truth"`` and/or ``"prediction"`` -> vectors (3, D, H, W), components (z, y, x), in units of space.
        where: (D, H, W), the voxels to draw.
        oriented: whether the sign counts.
        voxel_size: µm along D, H, W; ones if None.
        every: draw an arrow for each so many voxels along an axis; None for about 16 along the longer side.

    Returns:
        a matplotlib figure: a row per axis, a column of colors per field, and one of arrows.

    Raises:
        InvalidInputError: a field, the voxels or the voxel size do not fit the image, or ``every`` is below 1.
        MissingDependencyError: matplotlib is not installed.
    """
    array = as_image(image, ndims=(3,))
    sizes = check_voxel_size(voxel_size, 3)
    for name, field in [("mask of the voxels", where), *fields.items()]:
        if field.shape[-3:] != array.shape or field.ndim != (4 if name in fields else 3):
            raise InvalidInputError(f"the {name} has shape {field.shape}, but the image has shape {array.shape}")
    if every is not None and every < 1:
        raise InvalidInputError(f"every={every}, expected at least 1")
    gray = normalize(array)
    extents = np.array(array.shape) * sizes
    heights = [_CELL * float(np.clip(extents[b] / extents[c], 0.2, 1.2)) for b, c in ((1, 2), (0, 2), (0, 1))]
    columns = len(fields) + 1
    figure = blank_figure(_CELL * columns + 0.4, sum(heights) + 0.8)
    grid = figure.subplots(3, columns, squeeze=False, height_ratios=heights)
    for axis, row in enumerate(grid):
        index = fullest_slice(where, axis)
        known: NDArray[np.bool_] = np.take(where, index, axis)
        shown = known[..., None]
        planes = {name: field.take(index, axis + 1) for name, field in fields.items()}
        box = _extent(array.shape, sizes, axis)
        for axes, (name, plane) in zip(row, planes.items(), strict=False):
            axes.imshow(vector_colors(plane, oriented) * shown, extent=box, interpolation="nearest")
            _label(axes, name if axis == 0 else "")
        draw_arrows(row[-1], np.take(gray, index, axis), planes, known, axis, oriented, sizes, every)
        _label(row[-1], "directions in the plane" if axis == 0 else "")
        down, across = (name for name in AXES if name != AXES[axis])
        row[0].set_ylabel(f"{AXES[axis]} = {index}\n← {down}", color=colors.NEUTRAL, fontsize=9)
        row[0].set_xlabel(f"{across} →", color=colors.NEUTRAL, fontsize=9)
    handles, labels = grid[0, -1].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower right", ncols=2, frameon=False, fontsize=9, labelcolor=colors.NEUTRAL
    )
    return figure


def draw_arrows(
    axes: Any,
    gray: NDArray[np.float32],
    planes: Mapping[str, NDArray],
    where: NDArray[np.bool_],
    axis: int,
    oriented: bool,
    sizes: Sequence[float],
    every: int | None = None,
) -> None:
    """Draw the components in the plane of a slice over its image, in units of space.

    Args:
        axes: of matplotlib.
        gray: (H, W) in [0, 1].
        planes: ``"truth"`` and/or ``"prediction"`` -> vectors (3, H, W), components (z, y, x).
        where: (H, W), the voxels that may have an arrow.
        axis: the axis that the slice lies across: 0 (z), 1 (y) or 2 (x).
        oriented: False draws segments without heads, centered on their voxels.
        sizes: edges of a voxel along z, y, x.
        every: see :func:`vector_figure`.
    """
    down, across = (i for i in range(3) if i != axis)
    distance = max(gray.shape[0] * sizes[down], gray.shape[1] * sizes[across]) / _ARROWS
    steps = [every or max(1, round(distance / sizes[i])) for i in (down, across)]
    axes.imshow(gray * 0.5, cmap="gray", vmin=0, vmax=1, extent=_extent_of(gray.shape, sizes[down], sizes[across]))
    rows, columns = np.nonzero(where)
    chosen = _spread(rows // steps[0], columns // steps[1])
    rows, columns = rows[chosen], columns[chosen]
    length = 1.1 * min(steps[0] * sizes[down], steps[1] * sizes[across])
    heads = {} if oriented else {"headwidth": 1, "headlength": 0, "headaxislength": 0}
    for name, color, width in (("truth", colors.TRUTH, 0.014), ("prediction", colors.PREDICTION, 0.007)):
        if name in planes:
            vectors = np.nan_to_num(planes[name][:, rows, columns].astype(np.float32), posinf=0, neginf=0)
            axes.quiver(
                (columns + 0.5) * sizes[across],
                (rows + 0.5) * sizes[down],
                vectors[across],
                vectors[down],
                angles="xy",
                scale_units="xy",
                scale=1 / length,
                pivot="tail" if oriented else "middle",
                color=color,
                width=width,
                label=name,
                **heads,
            )


def _spread(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.intp]:
    """The middle one of the voxels in each box, given the row and column of its box; thin structures are not missed."""
    if not rows.size:
        return np.zeros(0, np.intp)
    order = np.lexsort((columns, rows))
    _, first, counts = np.unique(np.stack([rows, columns])[:, order], axis=1, return_index=True, return_counts=True)
    return np.sort(order[first + counts // 2])


def _extent(shape: Sequence[int], sizes: Sequence[float], axis: int) -> tuple[float, float, float, float]:
    down, across = (i for i in range(3) if i != axis)
    return _extent_of((shape[down], shape[across]), sizes[down], sizes[across])


def _extent_of(shape: Sequence[int], height: float, width: float) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of a slice in units of space, its first row on top."""
    return (0, shape[1] * width, shape[0] * height, 0)


def _label(axes: Any, title: str) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if title:
        axes.set_title(title, color=colors.NEUTRAL, fontsize=11)
