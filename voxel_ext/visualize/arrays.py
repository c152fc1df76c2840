"""Checking and normalization of what is to be drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError


def as_image(image: ArrayLike, name: str = "image", ndims: Sequence[int] = (2, 3)) -> NDArray[np.float32]:
    """Return an image as float32.

    Args:
        image: (D, H, W) or (H, W), finite.
        name: what to call it in a message.
        ndims: the numbers of axes that are accepted.

    Raises:
        InvalidInputError: another number of axes, an empty axis, complex or non-numeric values, NaN or infinity.
    """
    array = np.asarray(image)
    if array.ndim not in ndims or array.size == 0:
        expected = " or ".join({2: "(H, W)", 3: "(D, H, W)"}[n] for n in ndims)
        raise InvalidInputError(
            f"{name} has shape {array.shape}, expected {expected} with no empty axis; index the channel before drawing"
        )
    if array.dtype.kind not in "biuf":
        raise InvalidInputError(f"{name} has dtype {array.dtype}, expected real numbers")
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        raise InvalidInputError(f"{name} has {bad} values that are NaN or infinite of {array.size}; clean it first")
    return array.astype(np.float32)


def as_labels(labels: ArrayLike, image: NDArray, name: str) -> NDArray[np.int32]:
    """Return a mask or instance labels as int32 ids, 0 is background.

    Args:
        labels: the shape of ``image``; bool, integers (ids), or floats (whole numbers are ids, others are foreground
            where above 0.5).
        image: the image that the labels belong to.
        name: what to call the labels in a message.

    Raises:
        InvalidInputError: the shapes differ (names both), or the values are not finite numbers.
    """
    array = np.asarray(labels)
    if array.shape != image.shape:
        raise InvalidInputError(
            f"{name} has shape {array.shape} but the image has shape {image.shape}; they must be the same"
        )
    if array.dtype.kind == "f":
        array = as_image(array, name, (array.ndim,))
        whole = np.array_equal(array, np.rint(array))
        return (np.maximum(array, 0) if whole else array > 0.5).astype(np.int32)
    if array.dtype.kind not in "biu":
        raise InvalidInputError(f"{name} has dtype {array.dtype}, expected bool, integers or floats")
    return np.clip(array, 0, np.iinfo(np.int32).max).astype(np.int32)


def check_voxel_size(voxel_size: Sequence[float] | None, ndim: int) -> tuple[float, ...]:
    """Return the voxel size in µm per axis of the array, ones where None is given.

    Raises:
        InvalidInputError: not one positive number per axis.
    """
    if voxel_size is None:
        return (1.0,) * ndim
    sizes = tuple(float(value) for value in voxel_size)
    if len(sizes) != ndim or not all(np.isfinite(value) and value > 0 for value in sizes):
        raise InvalidInputError(
            f"voxel_size={voxel_size!r}, expected {ndim} positive numbers, one per axis of the image"
        )
    return sizes


def normalize(image: NDArray[np.float32], low: float = 0.5, high: float = 99.8) -> NDArray[np.float32]:
    """Map the ``low`` and ``high`` percentiles of an image to 0 and 1, and clip; a constant image becomes 0."""
    # a sparse subset gives the percentiles of a large volume as well
    sample = image.ravel()[:: max(1, image.size // 4_000_000)]
    bottom, top = np.percentile(sample, (low, high))
    if top <= bottom:
        bottom, top = float(image.min()), float(image.max())
    if top <= bottom:
        return np.zeros_like(image)
    return np.clip((image - np.float32(bottom)) / np.float32(top - bottom), 0, 1).astype(np.float32)


def pick_slices(foreground: NDArray[np.integer], slices: int | Sequence[int]) -> list[int]:
    """Choose slices: evenly spaced ones for a count, the given ones for a list.

    Args:
        foreground: (D,) how many foreground voxels a slice has; a count is spread over the slices between the first
            and the last hundredth of them, or over all slices if there are none.
        slices: a count (at most as many as there are slices are returned) or a list of indices.

    Raises:
        InvalidInputError: a count below 1, an empty list, or an index outside [0, depth).
    """
    depth = len(foreground)
    if isinstance(slices, (int, np.integer)):
        count = int(slices)
        if count < 1:
            raise InvalidInputError(f"slices={slices}, expected at least 1")
        first, length = 0, depth
        if foreground.any():
            share = np.cumsum(foreground) / foreground.sum()
            first = int(np.searchsorted(share, 0.01, side="right"))
            length = int(np.searchsorted(share, 0.99)) - first + 1
        count = min(count, length)
        return [first + int((i + 0.5) * length / count) for i in range(count)]
    chosen = [int(index) for index in slices]
    wrong = [index for index in chosen if not 0 <= index < depth]
    if wrong or not chosen:
        raise InvalidInputError(f"slices={list(slices)}, expected one or more indices from 0 to {depth - 1}")
    return chosen


def shrink(
    volume: NDArray[np.float32], voxel_size: Sequence[float], max_side: int
) -> tuple[NDArray[np.float32], tuple[float, ...]]:
    """Average voxels (D, H, W) so that no axis is longer than ``max_side``.

    Returns:
        the smaller volume and its voxel size; the extent stays what it was.
    """
    shape = tuple(min(side, max_side) for side in volume.shape)
    if shape == volume.shape:
        return volume, tuple(voxel_size)
    small = torch.nn.functional.adaptive_avg_pool3d(torch.from_numpy(volume)[None], shape)[0].numpy()
    return small, tuple(size * old / new for size, old, new in zip(voxel_size, volume.shape, shape, strict=True))
