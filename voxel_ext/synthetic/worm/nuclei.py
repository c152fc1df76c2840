"""Nuclei as ellipsoids that do not overlap, with an appearance that depends on the cell's identity."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError

Array = NDArray[np.float64]

IDENTITY_SEED = 558  # of the table of appearances; the same in every worm
RADIUS = 5.4  # median radius in voxels, before the contact rule
IDENTITY_RADIUS, OWN_RADIUS = 0.12, 0.06  # standard deviations of the logarithm: of the identity, of the worm's nucleus
IDENTITY_BRIGHTNESS, OWN_BRIGHTNESS = 0.35, 0.15
CONTRAST, IDENTITY_CONTRAST, OWN_CONTRAST = 0.3, 0.4, 0.1  # of the chromatin: median and deviations of the logarithm
GRAIN, IDENTITY_GRAIN, OWN_GRAIN = 1.2, 0.25, 0.05  # size of its granules in voxels: the same
ELONGATION = 0.08  # standard deviation of the logarithm of a semi-axis over the radius
TILT = 0.3  # standard deviation of the angles that turn a nucleus, in radians
GAP = 0.5  # voxels kept free between two nuclei
LOWEST_DISTANCE = 5.0  # voxels between two nuclei that can be rendered; the nearest real ones are 5.6 apart
RADIUS_RANGE = (0.62, 1.6)  # lowest and highest radius over the mean one


@dataclass(frozen=True)
class Nuclei:
    """Ellipsoids and how they look, one row per cell.

    Attributes:
        centers: (N, 3) (z, y, x) in voxels.
        shapes: (N, 3, 3) symmetric B; a point at offset d lies inside if |B^-1 d| is at most 1.
        radii: (N,) geometric mean of the semi-axes in voxels.
        brightness: (N,) relative brightness, 1 in the median.
        contrast: (N,) relative standard deviation of the chromatin's brightness.
        grain: (N,) size of the chromatin's granules in voxels.
    """

    centers: Array
    shapes: Array
    radii: Array
    brightness: Array
    contrast: Array
    grain: Array

    @property
    def extents(self) -> Array:
        """Half sizes (N, 3) of the bounding boxes: sqrt((B B^T)_aa)."""
        return np.sqrt((self.shapes**2).sum(axis=2))


def identity_table(names: Sequence[str]) -> Array:
    """Standard normal numbers that belong to the identities, the same in every worm.

    Args:
        names: N names of cells.

    Returns:
        (N, 4): of brightness, radius, contrast and grain. A row depends on its name alone.
    """
    seeds = ([IDENTITY_SEED, zlib.crc32(name.encode())] for name in names)
    return np.stack([np.random.default_rng(seed).standard_normal(4) for seed in seeds])


def draw_nuclei(rng: np.random.Generator, centers: Array, names: Sequence[str], strength: float) -> Nuclei:
    """Draw the nuclei of one worm.

    With the identity's standard normal number a, the nucleus's own b and their deviations s and t, a quantity is
    median exp(strength s a + t b).

    Args:
        rng: source of randomness of this worm.
        centers: (N, 3) (z, y, x) in voxels.
        names: N names of the cells.
        strength: factor on what depends on the identity; 0 leaves nuclei that differ at random only.

    Raises:
        InvalidInputError: two centers are nearer than 5 voxels.
    """
    deviations = strength * np.array([IDENTITY_BRIGHTNESS, IDENTITY_RADIUS, IDENTITY_CONTRAST, IDENTITY_GRAIN])
    own = np.array([OWN_BRIGHTNESS, OWN_RADIUS, OWN_CONTRAST, OWN_GRAIN])
    logarithms = identity_table(names) * deviations + rng.standard_normal((len(names), 4)) * own
    factors = np.exp(logarithms)
    factors[:, 1] = np.clip(factors[:, 1], *RADIUS_RANGE)
    brightness, radius, contrast, grain = (factors * [1.0, RADIUS, CONTRAST, GRAIN]).T
    axes = np.exp(rng.standard_normal((len(names), 3)) * ELONGATION)
    axes *= (radius / np.cbrt(axes.prod(axis=1)))[:, None]
    turns = _rotations(rng.standard_normal((len(names), 3)) * TILT)
    shapes = turns @ (axes[:, :, None] * turns.transpose(0, 2, 1))
    factor = contact_factors(centers, shapes, names)
    return Nuclei(centers, shapes * factor[:, None, None], radius * factor, brightness, contrast, grain)


def contact_factors(centers: Array, shapes: Array, names: Sequence[str]) -> Array:
    """Factors (N,) of at most 1 that shrink ellipsoids until none overlap.

    An ellipsoid reaches h(u) = |B u| along the unit vector u. Two of them at distance d along u are separated by a
    plane across u if h_1(u) + h_2(u) <= d; each is shrunk to the least (d - gap) / (h_1 + h_2) of its neighbors.

    Raises:
        InvalidInputError: two centers are nearer than 5 voxels.
    """
    from scipy.spatial import cKDTree

    factor = np.ones(len(centers))
    reach = 2 * np.linalg.norm(shapes, ord=2, axis=(1, 2)).max(initial=0) + GAP
    pairs = cKDTree(centers).query_pairs(reach, output_type="ndarray")
    if not len(pairs):
        return factor
    first, second = pairs.T
    line = centers[second] - centers[first]
    distance = np.linalg.norm(line, axis=1)
    nearest = int(distance.argmin())
    if distance[nearest] < LOWEST_DISTANCE:
        raise InvalidInputError(
            f"{names[first[nearest]]} and {names[second[nearest]]} are {distance[nearest]:.2f} voxels apart; expected "
            f"at least {LOWEST_DISTANCE:g}. Correct the positions, or check that they are in voxels."
        )
    unit = line / distance[:, None]
    reached = [np.linalg.norm(np.einsum("nij,nj->ni", shapes[side], unit), axis=1) for side in (first, second)]
    allowed = np.minimum((distance - GAP) / (reached[0] + reached[1]), 1.0)
    for side in (first, second):
        np.minimum.at(factor, side, allowed)
    return factor


def _rotations(vectors: Array) -> Array:
    """Rotation matrices (N, 3, 3) of rotation vectors (N, 3)."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(vectors).as_matrix()


def inside(
    nuclei: Nuclei, index: int, shape: Sequence[int], margin: int = 0
) -> tuple[tuple[slice, ...], NDArray[np.bool_]]:
    """The part of a volume around a nucleus, and which of its voxels belong to it.

    Args:
        nuclei: the nuclei.
        index: row of the nucleus.
        shape: (Z, Y, X) of the volume; voxel i has its center at the coordinate i.
        margin: voxels added to the bounding box on every side.

    Returns:
        Slices of the volume, and a boolean mask (D, H, W).
    """
    center, extent = nuclei.centers[index], nuclei.extents[index]
    low = np.maximum(np.ceil(center - extent).astype(int) - margin, 0)
    high = np.minimum(np.floor(center + extent).astype(int) + margin + 1, shape)
    grid = [np.arange(a, b) - c for a, b, c in zip(low, high, center, strict=True)]
    inverse = np.linalg.inv(nuclei.shapes[index])
    columns = [np.multiply.outer(inverse[:, axis], grid[axis]) for axis in range(3)]
    sums = [columns[0][row][:, None, None] + columns[1][row][:, None] + columns[2][row] for row in range(3)]
    windows = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return windows, sums[0] ** 2 + sums[1] ** 2 + sums[2] ** 2 <= 1


def label_volume(nuclei: Nuclei, numbers: NDArray[np.integer], shape: Sequence[int]) -> NDArray[np.uint16]:
    """Instance ids of the nuclei.

    Args:
        nuclei: N nuclei that do not overlap.
        numbers: (N,) id of each; 0 leaves a nucleus out.
        shape: (Z, Y, X) of the volume.

    Returns:
        (Z, Y, X) ids, 0 elsewhere.
    """
    label = np.zeros(tuple(shape), dtype=np.uint16)
    for index in np.flatnonzero(numbers):
        window, mask = inside(nuclei, int(index), shape)
        label[window][mask] = numbers[index]
    return label
