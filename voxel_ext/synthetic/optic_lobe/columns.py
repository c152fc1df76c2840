"""Ground truth: every column is a truncated cone along the radial direction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxel_ext.synthetic.optic_lobe.parallel import Workers

Array = NDArray[np.float64]

CHUNK = 16  # columns whose candidate voxels are tested in one broadcast


@dataclass(frozen=True)
class Cones:
    """Truncated cones, in the coordinates of the unit cube.

    Attributes:
        points: (N, 3) centers of the first face.
        axes: (N, 3) unit vectors along the axis.
        radius: radius of the first face.
        end_radius: radius of the second face.
        depth: distance of the two faces.
    """

    points: Array
    axes: Array
    radius: float
    end_radius: float
    depth: float

    @property
    def middles(self) -> Array:
        """Points (N, 3) on the axis at half depth."""
        return self.points + self.axes * (self.depth / 2)


def mean_spacing(points: Array) -> float:
    """Mean distance of the points (N, 3) to their nearest neighbors; N must be at least 2."""
    from scipy.spatial import cKDTree

    return float(cKDTree(points).query(points, k=2)[0][:, 1].mean())


def column_labels(cones: Cones, size: tuple[int, int, int], workers: Workers | None = None) -> NDArray[np.int32]:
    """Instance ids of the columns: a voxel belongs to a column if its center lies inside the cone.

    With the offset d of a voxel from the center of the first face and t = d · axis, that is 0 ≤ t ≤ depth and
    √(d² − t²) ≤ r(t) = radius + (end_radius − radius) t / depth.

    Where columns overlap, the one with the smallest distance to the axis over its local radius has the voxel, and the
    first of them in a tie.

    Args:
        cones: N columns in the unit cube, which spans the volume along each axis.
        size: (X, Y, Z) of the volume in voxels; voxel i of L has its center at (i + 0.5) / L.
        workers: threads to use, default the calling one.

    Returns:
        (X, Y, Z) ids from 1 to N, 0 elsewhere.
    """
    labels = np.zeros(size, dtype=np.int32)
    flat = labels.reshape(-1)
    dominant = np.abs(cones.axes).argmax(axis=1)
    chunks = []
    for axis in range(3):
        members = np.flatnonzero((dominant == axis) & _reaching(cones))
        chunks += [(axis, members[i : i + CHUNK]) for i in range(0, len(members), CHUNK)]
    if not chunks:
        return labels
    hits = list((workers or Workers(1)).map(lambda chunk: _chunk_hits(cones, size, *chunk), chunks))
    voxel, column, distance = (np.concatenate(parts) for parts in zip(*hits, strict=True))
    flat[voxel] = column + 1
    lost = flat[voxel] != column + 1
    flat[voxel[lost]] = -1  # claimed by several columns
    shared = np.flatnonzero(flat[voxel] == -1)
    order = shared[np.lexsort((-column[shared], -distance[shared]))]  # the last writer wins
    flat[voxel[order]] = column[order] + 1
    return labels


def consecutive(label: NDArray[np.int32], count: int) -> tuple[NDArray[np.integer], NDArray[np.intp]]:
    """Renumber ids 1 … ``count`` so that those in use follow each other.

    Args:
        label: (X, Y) or (X, Y, Z) ids, 0 for background.
        count: highest possible id.

    Returns:
        Renumbered label, uint16 or, for more than 65 535 ids, int32; and (N,) the former id − 1 of every new id.
    """
    inside = np.flatnonzero(label)
    ids = label.reshape(-1)[inside]
    used = np.bincount(ids, minlength=count + 1) > 0
    number = int(used.sum())
    dtype = np.uint16 if number <= np.iinfo(np.uint16).max else np.int32
    renumbered = np.zeros(label.shape, dtype=dtype)
    renumbered.reshape(-1)[inside] = np.cumsum(used).astype(dtype)[ids]
    return renumbered, np.flatnonzero(used[1:])


def _bounds(cones: Cones) -> tuple[Array, Array]:
    """Lowest and highest coordinates (N, 3) of each cone: a disc of radius r extends r √(1 − e²) along an axis."""
    across = np.sqrt(np.maximum(1 - cones.axes**2, 0))
    end = cones.points + cones.depth * cones.axes
    low = np.minimum(cones.points - cones.radius * across, end - cones.end_radius * across)
    high = np.maximum(cones.points + cones.radius * across, end + cones.end_radius * across)
    return low, high


def _reaching(cones: Cones) -> NDArray[np.bool_]:
    """Which cones (N,) may reach into the unit cube."""
    low, high = _bounds(cones)
    return np.all((high > 0) & (low < 1), axis=1)


def _chunk_hits(
    cones: Cones, size: tuple[int, int, int], main: int, members: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """Flat voxel index, column and squared relative distance of every voxel inside the columns ``members``.

    The columns are cut into planes across their main axis; in each plane only a window around the axis is tested,
    from sums of terms that depend on one coordinate each.
    """
    second, third = (axis for axis in range(3) if axis != main)
    points, axes = cones.points[members], cones.axes[members]
    low, high = (bound[members, main] * size[main] - 0.5 for bound in _bounds(cones))
    start = np.ceil(np.maximum(low, 0)).astype(np.intp)
    stop = np.floor(np.minimum(high, size[main] - 1)).astype(np.intp) + 1
    plane = start[:, None] + np.arange(max(int((stop - start).max()), 0))
    x = (plane + 0.5) / size[main] - points[:, [main]]  # (C, P)
    window_y, y = _window(cones, size, points, axes, main, second, x)  # (C, P, W) each
    window_z, z = _window(cones, size, points, axes, main, third, x)
    e_x, e_y, e_z = (axes[:, axis, None] for axis in (main, second, third))
    t_xy, square_xy = (x * e_x)[..., None] + y * e_y[..., None], (x**2)[..., None] + y**2
    t = t_xy[..., None] + (z * e_z[..., None])[..., None, :]
    square = square_xy[..., None] + (z**2)[..., None, :]
    square -= t * t
    local = t * ((cones.end_radius - cones.radius) / cones.depth) + cones.radius
    local *= local
    inside = (square <= local) & (t >= 0) & (t <= cones.depth)
    inside &= (plane < stop[:, None])[..., None, None]
    inside &= ((window_y >= 0) & (window_y < size[second]))[..., None]
    inside &= ((window_z >= 0) & (window_z < size[third]))[..., None, :]
    c, p, i, j = np.nonzero(inside)
    strides = (size[1] * size[2], size[2], 1)
    voxel = plane[c, p] * strides[main] + window_y[c, p, i] * strides[second] + window_z[c, p, j] * strides[third]
    return voxel, members[c], square[inside] / local[inside]


def _window(
    cones: Cones, size: tuple[int, int, int], points: Array, axes: Array, main: int, axis: int, x: Array
) -> tuple[NDArray[np.intp], Array]:
    """Voxel indices (C, P, W) along ``axis`` that a cone can reach in planes across ``main``, and offsets (C, P, W).

    A cylinder of radius R cut by a plane across the main axis m reaches R √(1 + (e_a / e_m)²) from its axis along a.
    """
    slope = (axes[:, axis] / axes[:, main])[:, None]
    reach = max(cones.radius, cones.end_radius) * np.sqrt(1 + slope**2) * size[axis]
    middle = (points[:, [axis]] + slope * x) * size[axis] - 0.5
    start = np.ceil(middle - reach).astype(np.intp)
    index = start[..., None] + np.arange(int(np.floor(2 * reach.max())) + 1)
    return index, (index + 0.5) / size[axis] - points[:, axis, None, None]
