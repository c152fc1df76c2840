"""A walk through the slices of a target: the input, the truth and the prediction side by side."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError, require
from voxel_ext.files import atomic_path
from voxel_ext.visualize import colors
from voxel_ext.visualize.arrays import as_image, check_voxel_size, normalize
from voxel_ext.visualize.target_fields import ShownTarget
from voxel_ext.visualize.vectors import vector_colors

_GAP, _HEADER = 4, 20
_PANEL_BACKGROUND = 24

Panel = Callable[[int], NDArray[np.float32]]


def walk_slices(depth: int, max_frames: int) -> list[int]:
    """Return the indices of at most ``max_frames`` evenly spaced slices of ``depth``.

    Raises:
        InvalidInputError: ``max_frames`` is below 1.
    """
    if max_frames < 1:
        raise InvalidInputError(f"max_frames={max_frames}, expected at least 1")
    count = min(depth, max_frames)
    return [int((i + 0.5) * depth / count) for i in range(count)]


def walk_frames(
    image: ArrayLike,
    shown: ShownTarget,
    where: NDArray[np.bool_] | None = None,
    voxel_size: Sequence[float] | None = None,
    max_frames: int = 96,
    min_side: int = 192,
) -> NDArray[np.uint8]:
    """Draw slices along z as frames: input, truth and prediction side by side, each with its name above.

    A mask is tinted and outlined over the input, green where true and red where predicted; classes and the channels of
    a mask have a color each; vectors are colors, see :func:`~voxel_ext.visualize.vectors.vector_colors`; values are
    gray, both from the 0.5th to the 99.8th percentile of the truth, or of the prediction where there is no truth.

    Args:
        image: (D, H, W).
        shown: the target, of the same size.
        where: (D, H, W), the voxels whose vectors are drawn; None for all.
        voxel_size: µm along D, H, W, for the aspect; square pixels if None.
        max_frames: the most slices, evenly spaced.
        min_side: panels whose longer side has fewer pixels are enlarged by a whole factor.

    Returns:
        (T, height, width, 3).

    Raises:
        InvalidInputError: shapes that do not fit (names both), NaN in the image, or ``max_frames`` or
            ``min_side`` below 1.
        MissingDependencyError: pillow is not installed.
    """
    array = as_image(image, ndims=(3,))
    if shown.spatial_shape != array.shape or (where is not None and where.shape != array.shape):
        other = shown.spatial_shape if where is None or shown.spatial_shape != array.shape else where.shape
        raise InvalidInputError(
            f"target {shown.target.name!r} has shape {other} but the image has shape {array.shape}; expected the same"
        )
    sizes = check_voxel_size(voxel_size, 3)
    if min_side < 1:
        raise InvalidInputError(f"min_side={min_side}, expected at least 1")
    panels = _panels(normalize(array), shown, where)
    enlarge = _enlargement(array.shape[1:], sizes[1] / sizes[2], min_side)
    height, width = enlarge[0].size, enlarge[1].size
    header = _header(list(panels), width)
    frames = np.full(
        (len(slices := walk_slices(len(array), max_frames)), height + _HEADER, header.shape[1], 3),
        _PANEL_BACKGROUND,
        np.uint8,
    )
    frames[:, :_HEADER] = header
    for frame, index in zip(frames, slices, strict=True):
        for number, panel in enumerate(panels.values()):
            left = number * (width + _GAP)
            picture = np.clip(panel(index)[enlarge], 0, 1)
            frame[_HEADER:, left : left + width] = (picture * 255).round().astype(np.uint8)
    return frames


def gif_bytes(frames: NDArray[np.uint8], fps: float = 12) -> bytes:
    """Encode frames as an animated GIF that repeats.

    Args:
        frames: (T, H, W, 3). Equal neighbors become one frame that lasts longer.
        fps: frames per second.

    Raises:
        InvalidInputError: another shape, no frame, or ``fps`` is not positive.
        MissingDependencyError: pillow is not installed.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise InvalidInputError(f"frames have shape {frames.shape}, expected (T, H, W, 3) with no empty axis")
    if not fps > 0:
        raise InvalidInputError(f"fps={fps!r}, expected a positive number of frames per second")
    pil: Any = require("PIL.Image", extra="viz")
    # an octree is many times faster than the median cut that Pillow takes by itself
    pictures = [pil.fromarray(frame).quantize(256, pil.Quantize.FASTOCTREE, dither=pil.Dither.NONE) for frame in frames]
    first, *others = pictures
    stream = io.BytesIO()
    first.save(stream, "GIF", save_all=True, append_images=others, duration=1000 / fps, loop=0)
    return stream.getvalue()


def write_walk(path: str | os.PathLike[str], frames: NDArray[np.uint8], fps: float = 12) -> Path:
    """Write frames as a GIF file, whole or not at all; see :func:`gif_bytes`."""
    content = gif_bytes(frames, fps)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return Path(path)


def _panels(gray: NDArray[np.float32], shown: ShownTarget, where: NDArray[np.bool_] | None) -> dict[str, Panel]:
    """Name of a panel -> function from the slice's index to the picture (H, W, 3)."""

    def input_panel(index: int) -> NDArray[np.float32]:
        return np.repeat(gray[index][..., None], 3, axis=-1)

    def directions(array: NDArray) -> Panel:
        def panel(index: int) -> NDArray[np.float32]:
            picture = vector_colors(array[:, index], shown.target.oriented)
            return picture if where is None else np.where(where[index][..., None], picture, 0)

        return panel

    def values(array: NDArray) -> Panel:
        low, high = _range(next(iter(shown.layers.values())))
        scaled = np.nan_to_num((array - low) / (high - low), nan=0, posinf=1, neginf=0)
        return lambda index: np.repeat(scaled[index][..., None], 3, axis=-1)

    def ids(array: NDArray, color: str) -> Panel:
        if shown.colored_ids:
            return lambda index: colors.overlay_instances(input_panel(index), array[index])
        return lambda index: colors.overlay(input_panel(index), array[index], color)

    panels: dict[str, Panel] = {"input": input_panel}
    for name, array in shown.layers.items():
        if shown.target.kind == "vectors":
            panels[name] = directions(array)
        elif shown.target.kind == "values":
            panels[name] = values(array)
        else:
            panels[name] = ids(array.astype(np.int32), colors.TRUTH if name == "truth" else colors.PREDICTION)
    return panels


def _range(array: NDArray) -> tuple[float, float]:
    """Percentiles between which values are drawn; never empty."""
    finite = array[np.isfinite(array)]
    low, high = np.percentile(finite, (0.5, 99.8)) if finite.size else (0.0, 1.0)
    return float(low), float(high) if high > low else float(low) + 1.0


def _enlargement(sides: Sequence[int], aspect: float, min_side: int) -> tuple[NDArray[np.intp], ...]:
    """Indices that enlarge a slice (H, W) whose voxels are ``aspect`` times as high as wide."""
    edges = np.array([max(aspect, 1.0), max(1 / aspect, 1.0)])
    factor = max(1, np.ceil(min_side / (np.array(sides) * edges).max()))
    pixels = np.maximum((np.array(sides) * edges * factor).round().astype(int), 1)
    return np.ix_(*((np.arange(n) * 2 + 1) * side // (2 * n) for n, side in zip(pixels, sides, strict=True)))


def _header(names: Sequence[str], width: int) -> NDArray[np.uint8]:
    """The names of the panels, (_HEADER, W, 3)."""
    pil: Any = require("PIL.Image", extra="viz")
    draw: Any = require("PIL.ImageDraw", extra="viz")
    font: Any = require("PIL.ImageFont", extra="viz").load_default()
    total = len(names) * width + (len(names) - 1) * _GAP
    picture = pil.new("RGB", (total, _HEADER), 3 * (_PANEL_BACKGROUND,))
    for number, name in enumerate(names):
        draw.Draw(picture).text((number * (width + _GAP) + 4, 4), name, fill=(220, 226, 234), font=font)
    return np.asarray(picture)
