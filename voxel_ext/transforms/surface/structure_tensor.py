"""Normals of thin sheets: the direction in which an image changes most."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SKIMAGE_TRUNCATE = 4.0
"""Where scikit-image cuts its Gaussian off, in standard deviations."""

SOBEL_GAIN = 32.0
"""Sobel's answer (in 3D, as SciPy computes it) to a slope of 1 per voxel."""

MIN_SLOPE = 1e-3
"""Root mean square slope, per shortest voxel edge, below which there is no direction."""

MIN_ANISOTROPY = 0.05
"""Least share by which the largest eigenvalue must exceed the second."""

ROWS = 100_000
"""Tensors that are decomposed at a time, to bound the memory."""


def structure_tensor_normals(
    image: NDArray[np.floating], where: NDArray[np.bool_], sigma: float, edges: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return the principal eigenvector of the structure tensor of an image.

    The structure tensor is G(sigma) * (g gᵀ), g the gradient by Sobel (scikit-image's ``structure_tensor``), in
    physical space. (Bigün & Granlund, "Optimal orientation detection of linear symmetry", ICCV 1987.)

    Args:
        image: (D, H, W), smooth.
        where: (D, H, W) the voxels to compute.
        sigma: standard deviation of the Gaussian, in shortest voxel edges.
        edges: (z, y, x) of a voxel in units of the shortest.

    Returns:
        (3, D, H, W) unit vectors zyx without a meaningful sign; zero outside of ``where``, where the image is flat, and
        where two directions are alike (within 5 % of the eigenvalue).
    """
    from skimage.feature import structure_tensor

    normals = np.zeros((3, *image.shape), np.float32)
    elements = structure_tensor(np.asarray(image, np.float32), sigma=tuple(sigma / edges), mode="nearest", order="rc")
    slopes = np.stack([element[where] for element in elements], axis=1).astype(np.float64) / SOBEL_GAIN**2
    rows, columns = np.triu_indices(3)
    slopes /= edges[rows] * edges[columns]
    vectors = np.zeros((len(slopes), 3), np.float32)
    for start in range(0, len(slopes), ROWS):
        vectors[start : start + ROWS] = _principal(slopes[start : start + ROWS])
    normals[:, where] = vectors.T
    return normals


def structure_tensor_radius(sigma: float, edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Voxels (z, y, x) around a voxel that its structure tensor depends on."""
    return (SKIMAGE_TRUNCATE * sigma / edges + 0.5).astype(np.int64) + 1


def _principal(elements: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3) eigenvectors of the largest eigenvalue of tensors zz, zy, zx, yy, yx, xx (N, 6); zero if there is none."""
    rows, columns = np.triu_indices(3)
    tensors = np.empty((len(elements), 3, 3))
    tensors[:, rows, columns] = tensors[:, columns, rows] = elements
    values, vectors = np.linalg.eigh(tensors)
    clear = (values[:, 2] > MIN_SLOPE**2) & (values[:, 2] - values[:, 1] > MIN_ANISOTROPY * values[:, 2])
    return np.where(clear[:, None], vectors[:, :, 2], 0)
