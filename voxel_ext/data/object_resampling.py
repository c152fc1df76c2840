"""Resampling of objects to cubes, along the axes of the volume or turned into the frame of the object."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxel_ext.morphology.pose import principal_frame

Size = Sequence[float] | NDArray[np.float64]

_FRAME_POINTS = 1_000_000
_TRUNCATE = 3.0  # standard deviations


@dataclass(frozen=True, eq=False)
class Pose:
    """Where an object lies in its array, and how it is to be turned.

    Attributes:
        center: (3,) of its box, in nm from the corner of the array, along the array's axes.
        extent: (3,) of its box, in nm, along the axes of the cube.
        rotation: (3, 3) a row per axis of the cube; None if these are the array's.
    """

    center: NDArray[np.float64]
    extent: NDArray[np.float64]
    rotation: NDArray[np.float64] | None = None

    def inward(self, at: Size) -> NDArray[np.float64]:
        """Turn a place (nm from the corner of the array) into one (nm from the corner of the box)."""
        away = np.asarray(at) - self.center
        return (away if self.rotation is None else self.rotation @ away) + self.extent / 2

    def outward(self, at: Size) -> NDArray[np.float64]:
        """Undo :meth:`inward`."""
        away = np.asarray(at) - self.extent / 2
        return (away if self.rotation is None else away @ self.rotation) + self.center


def find_pose(inside: NDArray, steps: Size, align: bool) -> Pose:
    """Return the pose of an object that fills its array from border to border.

    Args:
        inside: (d, h, w), not 0 in the object.
        steps: voxel size (z, y, x) in nm.
        align: turn it into the frame of its principal axes, the longest first, see ``principal_frame``; of objects of
            more than a million voxels every n-th voxel is used.
    """
    edge = np.asarray(steps, float)
    if not align:
        extent = np.array(inside.shape) * edge
        return Pose(extent / 2, extent)
    found = np.flatnonzero(inside)
    voxels = np.stack(np.unravel_index(found[:: -(-len(found) // _FRAME_POINTS)], inside.shape), axis=1)
    points = (voxels + 0.5) * edge
    rotation = principal_frame(points)
    along = points @ rotation.T
    low, high = along.min(axis=0), along.max(axis=0)
    # the corners of voxels are as far as this from their centers
    return Pose((low + high) / 2 @ rotation, high - low + np.abs(rotation) @ edge, rotation)


def resample(
    values: NDArray,
    center: Size,
    size: int,
    scale: float,
    steps: Size,
    beyond: bool,
    rotation: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """Resample an array to a cube of cubic voxels.

    Along the array's own axes that is linear interpolation where the cube's voxels are shorter than the array's, else
    the mean over what a voxel covers. Turned, the array is interpolated linearly at the centers of the cube's voxels;
    before, along each axis with shorter voxels than the cube's, it is blurred by a Gaussian of the variance that the
    mean over a longer voxel has, so that nothing between the centers is lost.

    Args:
        values: (d, h, w).
        center: of the cube, in nm from the corner of the array, along its axes.
        size: voxels S along each edge of the cube.
        scale: their length in nm.
        steps: voxel size (z, y, x) of the array in nm.
        beyond: whether the values at the border go on beyond the array; else it is 0 there.
        rotation: (3, 3) a row per axis of the cube; None if these are the array's.

    Returns:
        (S, S, S) float32.
    """
    values = np.asarray(values, np.float32)
    if rotation is not None:
        return _turned(values, np.asarray(center), size, scale, np.asarray(steps, float), beyond, rotation)
    # the axis that shrinks most comes first, so that no step makes more values than there are, or will be
    for axis in sorted(range(3), key=lambda one: size / values.shape[one]):
        weights = _weights(values.shape[axis], center[axis] / steps[axis], size, scale / steps[axis], beyond)
        values = np.moveaxis(np.tensordot(weights, values, (1, axis)), 0, axis)
    return np.ascontiguousarray(values, np.float32)


def _turned(
    values: NDArray[np.float32],
    center: NDArray[np.float64],
    size: int,
    scale: float,
    steps: NDArray[np.float64],
    beyond: bool,
    rotation: NDArray[np.float64],
) -> NDArray[np.float32]:
    sigmas = np.sqrt(np.maximum((scale / steps) ** 2 - 1, 0) / 12)
    margin = 0 if beyond else math.ceil(_TRUNCATE * sigmas.max()) + 1
    values = np.pad(values, margin)
    if sigmas.any():
        ndimage.gaussian_filter(values, sigmas, output=values, mode="nearest", truncate=_TRUNCATE)
    matrix = rotation.T * scale / steps[:, None]
    first = (center - (size - 1) / 2 * scale * rotation.sum(axis=0)) / steps - 0.5 + margin
    mode = "nearest" if beyond else "constant"
    return ndimage.affine_transform(values, matrix, first, (size, size, size), order=1, mode=mode, prefilter=False)


def _weights(length: int, center: float, size: int, ratio: float, beyond: bool) -> NDArray[np.float32]:
    """Weights (size, length) of the voxels of an axis for those of the output, which are ``ratio`` times as long.

    Below a ratio of 1 that is linear interpolation, else the mean over what an output voxel covers.

    Args:
        length: voxels of the input.
        center: of the output, in voxels from the start of the input.
        size: voxels of the output.
        ratio: length of an output voxel over that of an input voxel.
        beyond: whether the first and the last value go on beyond the input; else it is 0 there.
    """
    covered = max(ratio, 1.0)
    middle = center + (np.arange(size) - (size - 1) / 2) * ratio
    if beyond:
        middle = np.clip(middle, covered / 2, max(length - covered / 2, covered / 2))
    distance = np.abs(middle[:, None] - (np.arange(length) + 0.5))
    weights = np.clip((covered + 1) / 2 - distance, 0, 1) / covered
    if beyond:
        weights /= weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32)
