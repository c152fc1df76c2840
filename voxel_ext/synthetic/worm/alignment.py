"""Affine alignment of worms whose nuclei are known by name, and the distances that drawn ones keep."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

HALF_TURN = np.array([-1.0, -1.0, 1.0])  # 180 degrees about the x axis, on (z, y, x)


def turn_about_x(positions: Array) -> Array:
    """Turn positions by 180 degrees about the line along x through their centroid.

    Args:
        positions: (N, 3) (z, y, x) in voxels.

    Returns:
        (N, 3) positions.
    """
    center = positions.mean(axis=0)
    return (positions - center) * HALF_TURN + center


def align_worms(positions: Array, iterations: int = 10) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Bring worms to one pose by their named nuclei: roll of 0 or 180 degrees, shift and a linear map.

    Each worm W, less its centroid, is S A with A (3, 3) the least-squares fit of the running mean to it, and S the
    aligned worm; the mean of the S is the next running mean. The linear map that the mean leaves free is fixed by
    mean A = 1.

    Args:
        positions: (M, N, 3) (z, y, x) in voxels, cell by cell in the same order.
        iterations: rounds.

    Returns:
        Aligned worms S (M, N, 3), linear maps A (M, 3, 3), and whether each worm lay turned (M,), relative to the
        first one.
    """
    worms, turned = canonical_rolls(positions - positions.mean(axis=1, keepdims=True))
    mean = worms.mean(axis=0)
    aligned, maps = worms, np.tile(np.eye(3), (len(worms), 1, 1))
    for _ in range(iterations):
        maps = np.stack([np.linalg.lstsq(mean, worm, rcond=None)[0] for worm in worms])
        maps = np.linalg.inv(maps.mean(axis=0)) @ maps
        aligned = worms @ np.linalg.inv(maps)
        mean = aligned.mean(axis=0)
    return aligned, maps, turned


def canonical_rolls(worms: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Turn centered worms by 0 or 180 degrees about x, each to where it is nearer to the mean of those before it.

    Args:
        worms: (M, N, 3) with centroids at 0.

    Returns:
        Turned worms (M, N, 3), and which were turned (M,); the first one never is.
    """
    worms, turned = worms.copy(), np.zeros(len(worms), dtype=bool)
    for count in range(1, len(worms)):
        mean = worms[:count].mean(axis=0)
        # |W - mean|^2 differs between the rolls by the sign of its mixed term
        turned[count] = (worms[count] * mean)[:, :2].sum() < 0
        if turned[count]:
            worms[count] *= HALF_TURN
    return worms, turned


def nearest_distances(positions: Array) -> Array:
    """Distance (N,) of each of the points (N, 3) to its nearest neighbor."""
    from scipy.spatial import cKDTree

    return cKDTree(positions).query(positions, k=2)[0][:, 1]


def push_apart(positions: Array, spacing: Array, rounds: int = 100) -> Array:
    """Move points that are too near each other apart along the line that joins them.

    Args:
        positions: (N, 3) in voxels.
        spacing: (N,) lowest distances in voxels; the smaller one of a pair counts.
        rounds: highest number of passes over the pairs that are too near. Crowds may need more than it allows.

    Returns:
        (N, 3) positions; those with enough room are unchanged.
    """
    from scipy.spatial import cKDTree

    positions = positions.copy()
    for _ in range(rounds):
        pairs = cKDTree(positions).query_pairs(spacing.max(), output_type="ndarray")
        pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
        line = positions[pairs[:, 1]] - positions[pairs[:, 0]]
        length = np.linalg.norm(line, axis=1)
        line[length == 0] = [0.0, 0.0, 1e-6]
        length[length == 0] = 1e-6
        wanted = spacing[pairs].min(axis=1)
        near = length < wanted
        if not near.any():
            break
        pairs, step = pairs[near], (line * ((1.01 * wanted - length) / (2 * length))[:, None])[near]
        np.subtract.at(positions, pairs[:, 0], step)
        np.add.at(positions, pairs[:, 1], step)
    return positions
