"""Bringing an animal's image and ROIs to the size that the network sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError, check_option


@dataclass(frozen=True)
class CropReport:
    """What became of the ROIs when a volume was cropped.

    Args:
        start: (z, y, x) of the window in the volume; negative where the volume was padded.
        lost: ids of the ROIs that are wholly outside.
        cut: ids of those that are partly outside.
    """

    start: tuple[int, ...]
    lost: list[int]
    cut: list[int]


def window_start(roi: NDArray[np.integer], size: Sequence[int], center: str = "bounding_box") -> tuple[int, ...]:
    """Choose where a window lies in a volume.

    Args:
        roi: (D, H, W) ids, 0 for background; at least one ROI.
        size: of the window.
        center: "bounding_box" for the center of the box around all ROIs, so that none is cut if the box is not larger
            than the window; "mass" for the mean position of the ROIs' voxels.

    Returns:
        the first voxel per axis. The window is shifted to be inside of the volume; along an axis where the volume is
        smaller, the start is negative: half of what is missing, rounded down, stands before the volume.
    """
    check_option("center", center, ("bounding_box", "mass"))
    start = []
    mask = roi > 0
    for axis, (wanted, there) in enumerate(zip(size, roi.shape, strict=True)):
        if wanted >= there:
            start.append(-((wanted - there) // 2))
            continue
        counts = np.count_nonzero(mask, axis=tuple(other for other in range(roi.ndim) if other != axis))
        found = np.flatnonzero(counts)
        mass = center == "mass"
        middle = np.average(np.arange(there), weights=counts) if mass else (found[0] + found[-1]) / 2
        start.append(int(np.clip(np.floor(middle - (wanted - 1) / 2 + 0.5), 0, there - wanted)))
    return tuple(start)


def crop_or_pad(
    image: NDArray, roi: NDArray[np.integer], size: Sequence[int], center: str = "bounding_box"
) -> tuple[NDArray, NDArray[np.integer], CropReport]:
    """Cut a window around the ROIs, padded where the volume is smaller.

    Args:
        image: (C, D, H, W), padded by the median of each channel (rounded for integers).
        roi: (D, H, W) ids, padded by 0.
        size: (D, H, W) of the result.
        center: see :func:`window_start`.

    Returns:
        the image, the ROIs, and what became of the ROIs.

    Raises:
        InvalidInputError: there is no ROI; shapes that differ; a size that is not positive.
    """
    if image.shape[1:] != roi.shape:
        raise InvalidInputError(f"the image has shape {image.shape} and the ROIs {roi.shape}; (D, H, W) must be equal")
    if len(size) != roi.ndim or min(size) < 1:
        raise InvalidInputError(f"size={tuple(size)}; expected (D, H, W), each at least 1")
    ids, counts = np.unique(roi, return_counts=True)
    ids, counts = ids[ids > 0], counts[ids > 0]
    if not len(ids):
        raise InvalidInputError("the ROI volume is empty: all voxels are 0; expected the ids of ROIs")
    start = window_start(roi, size, center)
    axes = list(zip(start, size, roi.shape, strict=True))
    inside = tuple(slice(max(first, 0), max(first, 0) + min(wanted, there)) for first, wanted, there in axes)
    missing = [(max(-first, 0), wanted - min(wanted, there) - max(-first, 0)) for first, wanted, there in axes]
    cropped = np.pad(roi[inside], missing)
    left = dict(zip(*(x.tolist() for x in np.unique(cropped, return_counts=True)), strict=True))
    pairs = list(zip(ids.tolist(), counts.tolist(), strict=True))
    lost = [roi_id for roi_id, _ in pairs if roi_id not in left]
    cut = [roi_id for roi_id, count in pairs if 0 < left.get(roi_id, 0) < count]
    channels = [np.pad(c[inside], missing, constant_values=_median(c)) if np.any(missing) else c[inside] for c in image]
    return np.stack(channels), cropped, CropReport(start, lost, cut)


def _median(channel: NDArray) -> float:
    middle = float(np.median(channel))
    return round(middle) if channel.dtype.kind in "iu" else middle


def turn_about_x(volume: NDArray) -> NDArray:
    """Turn a volume (..., D, H, W) by 180° about the x axis: z and y are reversed."""
    return np.ascontiguousarray(volume[..., ::-1, ::-1, :])
