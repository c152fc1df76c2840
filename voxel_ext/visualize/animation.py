"""A walk through the slices of a volume as a GIF or an MP4 file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError, MissingDependencyError, check_option, require
from voxel_ext.files import atomic_path
from voxel_ext.visualize import colors
from voxel_ext.visualize.arrays import check_image, check_labels, normalize

# a slice with shorter sides is enlarged by a whole factor
_MIN_SIDE = 256


def write_animation(
    path: str | os.PathLike[str],
    image: ArrayLike,
    mask: ArrayLike | None = None,
    truth: ArrayLike | None = None,
    axis: int = 0,
    fps: float = 12,
) -> Path:
    """Write a volume slice by slice, with the mask in red and the truth outlined in green.

    Args:
        path: ends in ``.gif`` or ``.mp4``; written whole or not at all.
        image: (D, H, W), shown in gray.
        mask: mask or instance ids of the same shape, e.g. the prediction.
        truth: likewise.
        axis: the axis to walk along: 0, 1 or 2.
        fps: slices per second. A GIF holds equal neighboring frames as one that lasts longer.

    Returns:
        the path.

    Raises:
        InvalidInputError: another suffix, axis or fps; shapes that do not fit (names both); NaN.
        MissingDependencyError: imageio, or imageio-ffmpeg for MP4, is not installed.
    """
    path = Path(path)
    check_option("suffix of the animation", path.suffix.lower(), (".gif", ".mp4"))
    if axis not in (0, 1, 2):
        raise InvalidInputError(f"axis={axis!r}, expected 0, 1 or 2")
    if not fps > 0:
        raise InvalidInputError(f"fps={fps!r}, expected a positive number of slices per second")
    volume = check_image(image, ndims=(3,))
    layers = [
        None if labels is None else np.moveaxis(check_labels(labels, volume, name), axis, 0)
        for name, labels in (("mask", mask), ("truth", truth))
    ]
    frames = _frames(np.moveaxis(normalize(volume), axis, 0), *layers)
    write = _write_gif if path.suffix.lower() == ".gif" else _write_mp4
    write(path, frames, fps)
    return path


def _frames(
    volume: NDArray[np.float32], mask: NDArray[np.int32] | None, truth: NDArray[np.int32] | None
) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames (H, W, 3)."""
    zoom = max(1, -(-_MIN_SIDE // max(volume.shape[1:])))
    enlarge = np.ones((zoom, zoom), dtype=np.int32)
    for index, plane in enumerate(volume):
        picture = np.kron(np.repeat(plane[..., None], 3, axis=-1), enlarge[..., None]).astype(np.float32)
        if mask is not None:
            picture = colors.overlay(picture, np.kron(mask[index], enlarge), colors.PREDICTION)
        if truth is not None:
            picture = colors.blend(picture, colors.outline(np.kron(truth[index], enlarge)), colors.TRUTH)
        yield (picture * 255).round().astype(np.uint8)


def _write_gif(path: Path, frames: Iterator[NDArray[np.uint8]], fps: float) -> None:
    imageio: Any = require("imageio.v3", extra="viz")
    with atomic_path(path) as temporary:
        imageio.imwrite(temporary, list(frames), plugin="pillow", duration=1000 / fps, loop=0)


def _write_mp4(path: Path, frames: Iterator[NDArray[np.uint8]], fps: float) -> None:
    imageio: Any = require("imageio.v2", extra="viz")
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"writing {path} needs imageio-ffmpeg; install it with: pip install imageio-ffmpeg, or write a .gif"
        ) from error
    with atomic_path(path) as temporary, imageio.get_writer(temporary, fps=fps, macro_block_size=1) as writer:
        for frame in frames:
            # the usual pixel format of H.264 needs even sides
            height, width = frame.shape[:2]
            writer.append_data(np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0))))
