"""Masks of solids of known measures, at random subvoxel positions and poses."""

import numpy as np
from scipy.spatial.transform import Rotation


def _positions(extent, voxel_size, seed, pose):
    rng = np.random.default_rng(seed)
    axes = []
    for side in voxel_size:
        count = int(np.ceil(extent / side)) + 2
        axes.append((np.arange(-count, count + 1) + rng.uniform(-0.5, 0.5)) * side)
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    return points @ Rotation.random(random_state=seed).as_matrix() if pose else points


def ellipsoid(semi_axes, voxel_size, seed=0, pose=True):
    points = _positions(max(semi_axes), voxel_size, seed, pose)
    return ((points / semi_axes) ** 2).sum(-1) <= 1


def capsule(radius, length, voxel_size, seed=0, pose=True):
    """A cylinder of this length along the first axis with half balls at its ends."""
    points = _positions(radius + length / 2, voxel_size, seed, pose)
    nearest = np.clip(points[..., 0], -length / 2, length / 2)
    return (points[..., 0] - nearest) ** 2 + points[..., 1] ** 2 + points[..., 2] ** 2 <= radius**2


def torus(ring, radius, voxel_size, seed=0, pose=True):
    points = _positions(ring + radius, voxel_size, seed, pose)
    return (np.hypot(points[..., 0], points[..., 1]) - ring) ** 2 + points[..., 2] ** 2 <= radius**2


def arms(directions, length, radius, voxel_size, seed=0, pose=True):
    """Capsules from one point along each of the directions."""
    points = _positions(length + radius, voxel_size, seed, pose)
    mask = np.zeros(points.shape[:3], bool)
    for direction in np.array(directions, float):
        unit = direction / np.linalg.norm(direction)
        nearest = np.clip(points @ unit, 0, length)[..., None] * unit
        mask |= ((points - nearest) ** 2).sum(-1) <= radius**2
    return mask
