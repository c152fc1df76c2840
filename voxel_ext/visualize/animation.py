"""A walk through the slices of a volume as a GIF or an MP4 file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError, check_option, require
from voxel_ext.files import atomic_path
from voxel_ext.visualize import colors
from voxel_ext.visualize.arrays import as_image, as_labels, check_voxel_size, normalize

# a slice with shorter sides is enlarged by a whole factor
_MIN_SIDE = 256


def write_animation(
    path: str | os.PathLike[str],
    image: ArrayLike,
    mask: ArrayLike | None = None,
    truth: ArrayLike | None = None,
    axis: int = 0,
    fps: float = 12,
    voxel_size: Sequence[float] | None = None,
) -> Path:
    """Write a volume slice by slice, with the mask in red and the truth outlined in green.

    Args:
        path: ends in ``.gif`` or ``.mp4``; written whole or not at all.
        image: (D, H, W), shown in gray.
        mask: mask or instance ids of the same shape, e.g. the prediction.
        truth: likewise.
        axis: the axis to walk along: 0, 1 or 2.
        fps: slices per second. A GIF holds equal neighboring frames as one that lasts longer.
        voxel_size: µm along D, H, W, for the aspect of the frames; square pixels if None.

    Returns:
        the path.

    Raises:
        InvalidInputError: another suffix, axis, fps or voxel size; shapes that do not fit (names both); NaN.
        MissingDependencyError: imageio, pillow (GIF) or imageio-ffmpeg (MP4) is not installed.
    """
    path = Path(path)
    check_option("suffix of the animation", path.suffix.lower(), (".gif", ".mp4"))
    if axis not in (0, 1, 2):
        raise InvalidInputError(f"axis={axis!r}, expected 0, 1 or 2")
    if not fps > 0:
        raise InvalidInputError(f"fps={fps!r}, expected a positive number of slices per second")
    volume = as_image(image, ndims=(3,))
    layers = [
        None if labels is None else np.moveaxis(as_labels(labels, volume, name), axis, 0)
        for name, labels in (("mask", mask), ("truth", truth))
    ]
    height, width = np.delete(check_voxel_size(voxel_size, 3), axis)
    frames = _frames(np.moveaxis(normalize(volume), axis, 0), height / width, *layers)
    write = _write_gif if path.suffix.lower() == ".gif" else _write_mp4
    write(path, frames, fps)
    return path


def _frames(
    volume: NDArray[np.float32], aspect: float, mask: NDArray[np.int32] | None, truth: NDArray[np.int32] | None
) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames (H, W, 3); a voxel is ``aspect`` times as high as wide, and its shorter edge a whole number."""
    sides = np.array(volume.shape[1:])
    edges = np.array([max(aspect, 1.0), max(1 / aspect, 1.0)])
    pixels = (sides * edges * max(1, np.ceil(_MIN_SIDE / (sides * edges).max()))).round().astype(int)
    enlarge = np.ix_(*((np.arange(n) * 2 + 1) * side // (2 * n) for n, side in zip(pixels, sides, strict=True)))
    for index, plane in enumerate(volume):
        picture = np.repeat(plane[enlarge][..., None], 3, axis=-1)
        if mask is not None:
            picture = colors.overlay(picture, mask[index][enlarge], colors.PREDICTION)
        if truth is not None:
            picture = colors.blend(picture, colors.outline(truth[index][enlarge]), colors.TRUTH)
        yield (picture * 255).round().astype(np.uint8)


def _write_gif(path: Path, frames: Iterator[NDArray[np.uint8]], fps: float) -> None:
    imageio: Any = require("imageio.v3", extra="viz")
    with atomic_path(path) as temporary:
        imageio.imwrite(temporary, list(frames), plugin="pillow", duration=1000 / fps, loop=0)


def _write_mp4(path: Path, frames: Iterator[NDArray[np.uint8]], fps: float) -> None:
    imageio: Any = require("imageio.v2", extra="viz")
    require("imageio_ffmpeg", extra="viz")
    with atomic_path(path) as temporary, imageio.get_writer(temporary, fps=fps, macro_block_size=1) as writer:
        for frame in frames:
            # the usual pixel format of H.264 needs even sides
            height, width = frame.shape[:2]
            writer.append_data(np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0))))
