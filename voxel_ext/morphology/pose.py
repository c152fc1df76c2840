"""The frame of an object's principal axes, in which its pose no longer shows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology.point_clouds import checked_points

_VANISHES = 1e-6  # a skewness below this is rounding


def principal_frame(points: ArrayLike, weights: ArrayLike | None = None) -> NDArray[np.float64]:
    """Compute the rotation into the frame of the principal axes of points.

    The axes are the eigenvectors of the covariance, the variance descending. Each points to where its skewness, the
    third central moment over the variance to the power 3/2, is positive; if the three were then a mirrored frame, the
    axis of the least skewness is reversed. Turned points have so the same coordinates in their frame. Where that leaves
    a choice it is made, the same each time: an axis without skewness has its largest component positive, and axes of
    equal variance are as LAPACK gives them.

    Args:
        points: (N, 3), (z, y, x) in nm.
        weights: (N,), at least 0, of the points; None for 1.

    Returns:
        (3, 3) a proper rotation R, a row per axis: ``(points - center) @ R.T`` are the coordinates along the axes.

    Raises:
        InvalidInputError: a shape is another, a number is not finite, or the weights are negative or all 0.
    """
    points = checked_points(points).astype(np.float64)
    share = _checked_weights(weights, len(points))
    centered = points - share @ points
    variance, vectors = np.linalg.eigh((centered * share[:, None]).T @ centered)
    variance, frame = np.maximum(variance[::-1], 0), vectors[:, ::-1].T.copy()
    skewness = _skewness(centered @ frame.T, share, variance)
    largest = np.take_along_axis(frame, np.abs(frame).argmax(axis=1)[:, None], axis=1)[:, 0]
    known = np.abs(skewness) > _VANISHES
    frame *= np.where(np.where(known, skewness, largest) < 0, -1.0, 1.0)[:, None]
    if np.linalg.det(frame) < 0:
        # of axes without skewness, the last: it is the shortest
        frame[2 - np.where(known, np.abs(skewness), 0)[::-1].argmin()] *= -1
    return frame


def align_points(points: ArrayLike, center: ArrayLike | None = None) -> NDArray[np.float64]:
    """Turn points into the frame of their principal axes, see :func:`principal_frame`.

    Args:
        points: (N, 3), (z, y, x) in nm.
        center: (3,) what becomes the origin, in nm; None for the mean of the points.

    Returns:
        (N, 3) coordinates along the axes of the largest, the middle and the least variance, in nm.

    Raises:
        InvalidInputError: a shape is another, or a number is not finite.
    """
    points = checked_points(points).astype(np.float64)
    origin = points.mean(axis=0) if center is None else np.asarray(center, float)
    if origin.shape != (3,) or not np.isfinite(origin).all():
        raise InvalidInputError(f"center={center!r} is not valid; expected three numbers (z, y, x), in nm")
    return (points - origin) @ principal_frame(points).T


def _skewness(along: NDArray, share: NDArray, variance: NDArray) -> NDArray:
    """Return the skewness (3,) of coordinates (N, 3); 0 along axes without extent."""
    there = variance > variance[0] * 1e-12
    return np.where(there, share @ along**3, 0) / np.where(there, variance, 1) ** 1.5


def _checked_weights(weights: ArrayLike | None, count: int) -> NDArray[np.float64]:
    """Return weights (N,) whose sum is 1."""
    if weights is None:
        return np.full(count, 1 / count)
    weights = np.asarray(weights, float)
    if weights.shape != (count,) or not np.isfinite(weights).all() or weights.min() < 0 or not weights.sum() > 0:
        raise InvalidInputError(
            f"the weights have shape {weights.shape}; expected ({count},), finite numbers of at least 0, not all 0"
        )
    return weights / weights.sum()
