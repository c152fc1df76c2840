"""Fluorescence of the columns: clouds of points around clouds of points, drawn into the volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.synthetic.optic_lobe.parallel import Workers, fast_normal, slabs

Array = NDArray[np.float64]

EMPTY, DENSE, CLUSTERED, RING = range(4)  # the types of the original: empty, A, B, C

POINTS = 250  # points of a last-level cloud
LOG_MEAN = 1.0  # mean of the logarithm of a cloud's intensity
RADIAL, RING_RADIAL, AXIAL = 0.12, 0.06, 0.20  # standard deviations over the spacing
RING_RADIUS, RING_SPREAD = 0.3, 0.1  # over the spacing
LEVELS = {DENSE: (10, 10), CLUSTERED: (3, 4, 5), RING: (75,)}  # clouds per cloud, level by level
REACH = 5.0  # standard deviations after which a cloud counts as outside the volume
BLOCK = 128  # clouds drawn at once, so that the arrays stay in the cache


@dataclass(frozen=True)
class Clouds:
    """Gaussian clouds of points, in voxels.

    Attributes:
        centers: (K, 3).
        axes: (K, 3, 3) row vectors whose sum, weighted by standard normal numbers, is a point's offset.
        values: (K,) mean intensity.
    """

    centers: NDArray[np.float32]
    axes: NDArray[np.float32]
    values: NDArray[np.float32]

    def reaching(self, size: Sequence[int]) -> Clouds:
        """The clouds that come within 5 standard deviations of the volume, in the same order."""
        reach = REACH * np.sqrt((self.axes**2).sum(axis=1))
        keep = ((self.centers + reach > 0) & (self.centers - reach < np.asarray(size))).all(axis=1)
        return Clouds(self.centers[keep], self.axes[keep], self.values[keep])


def split_types(rng: np.random.Generator, count: int, ratios: Sequence[float]) -> NDArray[np.uint8]:
    """Split ``count`` columns at random by ``ratios`` into the types empty, dense, clustered and ring (0 to 3)."""
    edges = (np.cumsum(ratios) / np.sum(ratios) * count + 1e-9).astype(int)
    types = np.searchsorted(edges, np.arange(count), side="right")
    return rng.permutation(types.astype(np.uint8))


def draw_clouds(
    rng: np.random.Generator,
    kind: int,
    centers: Array,
    frames: Array,
    *,
    spacing: float,
    simplify_factor: float,
    intensity: float,
    intensity_sigma: float,
    size: Sequence[int],
) -> Clouds:
    """Draw the last-level clouds of columns of one type.

    Args:
        rng: source of randomness.
        kind: ``DENSE`` (10 × 10 clouds per column), ``CLUSTERED`` (3 × 4 × 5) or ``RING`` (75 on a ring).
        centers: (N, 3) middles of the columns in the unit cube.
        frames: (N, 3, 3) unit row vectors phi, theta, radial.
        spacing: mean spacing of the columns in the unit cube.
        simplify_factor: divides the standard deviations of the clouds.
        intensity: intensity exp(0) of a cloud.
        intensity_sigma: standard deviation of the logarithm of a cloud's intensity.
        size: (X, Y, Z) of the volume in voxels.

    Returns:
        Clouds, column by column, in voxels.
    """
    radial = spacing / simplify_factor * (RING_RADIAL if kind == RING else RADIAL)
    axial = spacing / simplify_factor * AXIAL
    local = np.zeros((len(centers), 1, 3))  # positions in the column's frame
    for count in LEVELS[kind]:
        shape = (len(centers), local.shape[1], count)
        offset = ring_offsets(rng, shape, spacing) if kind == RING else rng.normal(0, radial, (*shape, 3))
        offset[..., 2] = rng.normal(0, axial, shape)
        local = (local[:, :, None] + offset).reshape(len(centers), local.shape[1] * count, 3)
    number = local.shape[:2]
    values = intensity * rng.lognormal(LOG_MEAN, intensity_sigma, number)
    spread = np.full((*number, 3), radial)
    spread[..., 2] = np.maximum(rng.normal(axial, axial, number), 0)
    clouds = (centers[:, None] + local @ frames) * size
    axes = spread[..., None] * frames[:, None] * np.asarray(size)
    single = np.float32
    return Clouds(
        clouds.reshape(-1, 3).astype(single), axes.reshape(-1, 3, 3).astype(single), values.reshape(-1).astype(single)
    )


def ring_offsets(rng: np.random.Generator, shape: tuple[int, ...], spacing: float) -> Array:
    """Offsets (*shape, 3) on a ring around the axis, of radius 0.3 ± 0.1 spacings, with 0 along the axis."""
    radius = rng.normal(RING_RADIUS * spacing, RING_SPREAD * spacing, shape)
    angle = rng.uniform(0, 2 * np.pi, shape)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), np.zeros(shape)], axis=-1)


def concatenate(clouds: Sequence[Clouds]) -> Clouds:
    """Several groups of clouds as one, in order."""
    return Clouds(
        np.concatenate([group.centers for group in clouds]),
        np.concatenate([group.axes for group in clouds]),
        np.concatenate([group.values for group in clouds]),
    )


def render_clouds(
    seeds: np.random.SeedSequence,
    clouds: Clouds,
    size: Sequence[int],
    value_sigma: float,
    workers: Workers,
) -> NDArray[np.float32]:
    """Draw 250 points of every cloud into a volume; a voxel keeps the intensity of the last point it was given.

    A point's intensity is normal around the cloud's. As only one point per voxel is seen, that noise is drawn once
    per voxel.

    Args:
        seeds: source of randomness.
        clouds: K clouds in voxels; later ones overwrite earlier ones.
        size: (X, Y, Z) of the volume in voxels.
        value_sigma: standard deviation of a point's intensity around its cloud's.
        workers: threads to use.

    Returns:
        (X, Y, Z) intensities, 0 where no point fell.
    """
    padded = np.zeros([length + 2 for length in size], dtype=np.float32)  # the rim takes the points that fall outside
    flat = padded.reshape(-1)
    parts = slabs(len(clouds.values))
    *streams, noise = seeds.spawn(len(parts) + 1)
    jobs = zip(parts, streams, strict=True)
    for part, index in workers.map(lambda job: (job[0], _voxels_of(job[1], clouds, job[0], size)), jobs):
        flat[index] = np.repeat(clouds.values[part], POINTS)
    volume = padded[1:-1, 1:-1, 1:-1].copy()
    lit = np.flatnonzero(volume)
    volume.reshape(-1)[lit] += value_sigma * np.random.default_rng(noise).standard_normal(len(lit), dtype=np.float32)
    return volume


def _voxels_of(stream: np.random.SeedSequence, clouds: Clouds, part: slice, size: Sequence[int]) -> NDArray[np.intp]:
    """Flat index into the padded volume of every point of the clouds in ``part``, cloud by cloud."""
    rng = np.random.default_rng(stream)
    index = np.empty((part.stop - part.start, POINTS), dtype=np.intp)
    normals = np.empty((3, BLOCK, POINTS), dtype=np.float32)
    for start in range(part.start, part.stop, BLOCK):
        stop = min(start + BLOCK, part.stop)
        block = normals.reshape(-1)[: 3 * (stop - start) * POINTS].reshape(3, -1, POINTS)
        fast_normal(rng, block.reshape(2, -1))
        target = index[start - part.start : stop - part.start]
        _flat_index(block, clouds.centers[start:stop], clouds.axes[start:stop], size, target)
    return index.reshape(-1)


def _flat_index(
    normals: NDArray[np.float32],
    centers: NDArray[np.float32],
    axes: NDArray[np.float32],
    size: Sequence[int],
    out: NDArray[np.intp],
) -> None:
    """Flat index (K, P) into the volume padded by a voxel of the points center + Σ normals[i] axes[i]."""
    position, term = np.empty_like(normals[0]), np.empty_like(normals[0])
    for axis, length in enumerate(size):
        np.multiply(normals[0], axes[:, 0, axis, None], out=position)
        for i in (1, 2):
            position += np.multiply(normals[i], axes[:, i, axis, None], out=term)
        position += centers[:, axis, None] + 1
        np.clip(position, 0, length + 1, out=position)
        voxel = position.astype(np.int32)  # truncation is the floor here
        if axis == 0:
            out[:] = voxel
        else:
            out *= length + 2
            out += voxel


def voxel_index(points: ArrayLike, size: Sequence[int]) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Which points (N, 3), in voxels, lie inside a volume (X, Y, Z), and the flat index of the voxel of each of those.

    The voxel i of an axis spans [i, i + 1).
    """
    voxel = np.floor(np.asarray(points)).astype(np.intp)
    inside = ((voxel >= 0) & (voxel < np.asarray(size))).all(axis=1)
    return inside, np.ravel_multi_index(tuple(voxel[inside].T), tuple(size))
