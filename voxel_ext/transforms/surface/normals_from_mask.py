"""Normals of the surfaces of a mask: of objects by the distance to their faces, of thin sheets by structure tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.transforms.surface.orientation import orient_normals, relative_edges
from voxel_ext.transforms.surface.structure_tensor import structure_tensor_normals, structure_tensor_radius

MASK_METHODS = ("distance", "structure_tensor")

TRUNCATE = 3.0
"""Where the Gaussian is cut off, in standard deviations."""

MIN_GRADIENT = 0.05
"""Gradient of the smoothed distance (1 far from any bend) below which there is no direction."""

AGREEMENT = math.cos(math.radians(3.0))
"""Least cosine between the normals with ignored voxels taken as sheet and as background."""


def normals_from_mask(
    mask: NDArray,
    sigma: float = 2.0,
    method: str = "distance",
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
    band: float = 0,
    max_distance: float | None = None,
    reference: ArrayLike | None = None,
    origin: Sequence[int] = (0, 0, 0),
    ignore_value: int | None = None,
) -> NDArray[np.float32]:
    """Estimate the surface normals of a mask.

    All lengths are in units of the shortest voxel edge, and normals are those of physical space: with voxels of
    (2, 1, 1), a plane through (0, 0, 0), (1, 2, 0) and (0, 0, 1) has a normal at 45 degrees.

    * "distance": the gradient of the smoothed signed distance to the mask's faces, pointing out of the mask. In a sheet
      it flips its sign at the mid-plane, where it vanishes: normals there (gradient below 0.05) are zero, as is the
      core of an object.
    * "structure_tensor": the principal eigenvector of the structure tensor of the smoothed signed distance, well
      defined inside thin sheets, without a sign of its own.

    Args:
        mask: (D, H, W) numbers or booleans; all that is neither 0 nor ``ignore_value`` is inside. What is cut off by
            the volume's border is taken to go on beyond it.
        sigma: standard deviation of the Gaussian smoothing; the integration scale too for the structure tensor.
        method: "distance" or "structure_tensor".
        voxel_size: (z, y, x) in micrometers, or in any unit.
        band: distance from the mask up to which the voxels around it get a normal as well.
        max_distance: the signed distance is cut at plus and minus this, more than 1 and the band: deeper inside there
            are no normals. It bounds what a voxel's normal depends on, see :func:`mask_normals_halo`. None: no bound.
        reference: decides the sign, see :func:`orient_normals`. None: outward for "distance"; for "structure_tensor"
            the first component that is not zero is positive.
        origin: voxel of the whole volume that is the first of ``mask``; where ``reference`` is a center line.
        ignore_value: of voxels that are unknown; they get no normal, nor do voxels whose normal changes by more than 3
            degrees if those are taken to be inside.

    Returns:
        float32 (3, D, H, W) unit vectors zyx, zero where there is none.

    Raises:
        InvalidInputError: unknown method, a mask that is not (D, H, W) or not finite, a number out of range.
    """
    array = np.asarray(mask)
    edges = relative_edges(voxel_size)
    check_mask_options(sigma, method, band, max_distance)
    if array.ndim != 3 or array.size == 0 or array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise InvalidInputError(
            f"mask of shape {array.shape} and data type {array.dtype}; expected finite numbers (D, H, W)"
        )
    inside = array != 0
    if ignore_value is None or not (array == ignore_value).any():
        normals = _normals(inside, sigma, method, edges, band, max_distance)
    else:
        ignored = array == ignore_value
        normals = _normals(inside & ~ignored, sigma, method, edges, band, max_distance)
        others = _normals(inside, sigma, method, edges, band, max_distance)
        cosine = np.einsum("c...,c...->...", normals, others)
        normals[:, ignored | ((cosine if method == "distance" else np.abs(cosine)) < AGREEMENT)] = 0
    if method == "distance" and reference is None:
        return normals
    return orient_normals(normals, reference, voxel_size, origin)


def mask_normals_halo(
    sigma: float, method: str, voxel_size: Sequence[float], max_distance: float
) -> tuple[int, int, int]:
    """Voxels (z, y, x) around a block that its normals depend on.

    Args:
        sigma: of :func:`normals_from_mask`, as are the others.
        method: "distance" or "structure_tensor".
        voxel_size: (z, y, x).
        max_distance: more than the ``band``.

    Raises:
        InvalidInputError: unknown method, or a number out of range.
    """
    check_mask_options(sigma, method, 0, max_distance)
    edges = relative_edges(voxel_size)
    reach = max_distance + edges.max() / 2  # of the nearest voxel of the other kind, see signed_distance
    halo = np.ceil(reach / edges).astype(np.int64) + (TRUNCATE * sigma / edges + 0.5).astype(np.int64) + 1
    if method == "structure_tensor":
        halo += structure_tensor_radius(sigma, edges)
    return int(halo[0]), int(halo[1]), int(halo[2])


def check_mask_options(sigma: float, method: str, band: float, max_distance: float | None) -> None:
    """Check options of :func:`normals_from_mask`.

    Raises:
        InvalidInputError: names the one that is out of range.
    """
    check_option("method", method, MASK_METHODS)
    if not 0 < sigma < math.inf:
        raise InvalidInputError(f"sigma={sigma!r}; expected a positive number of voxel edges")
    if not 0 <= band < math.inf:
        raise InvalidInputError(f"band={band!r}; expected a number of voxel edges, at least 0")
    if max_distance is not None and not max(1, band) < max_distance < math.inf:
        raise InvalidInputError(f"max_distance={max_distance!r}; expected more than 1 and more than the band ({band})")


def signed_distance(
    inside: NDArray[np.bool_], edges: NDArray[np.float64], max_distance: float | None = None
) -> NDArray[np.float32]:
    """Distance to the faces of a mask, negative inside.

    Args:
        inside: (D, H, W).
        edges: (z, y, x) of a voxel in units of the shortest.
        max_distance: the result is cut at plus and minus this. None for no bound; the mask must have a face then.

    Returns:
        float32 (D, H, W), in shortest voxel edges: the distance to the center of the nearest voxel of the other kind,
        less the part of the way that lies in that voxel.
    """
    far = math.inf if max_distance is None else max_distance
    signed = np.full(inside.shape, -far if inside.all() else far, np.float32)
    if inside.any() and not inside.all():
        signed = np.where(inside, -_to_face(inside, edges), _to_face(~inside, edges))
    return np.clip(signed, -far, far)


def _to_face(part: NDArray[np.bool_], edges: NDArray) -> NDArray[np.float32]:
    """Distance of the voxels of a part to the boundary of the nearest voxel outside of it, 0 elsewhere."""
    from scipy.ndimage import distance_transform_edt

    # sums of squares of these are exact, so that which of two equally near voxels is found depends on no rounding
    exact = np.round(edges * 1024) / 1024
    nearest = distance_transform_edt(part, sampling=exact, return_distances=False, return_indices=True)
    squares, steps = np.zeros(part.shape, np.float32), np.zeros(part.shape, np.float32)
    for axis, edge in enumerate(edges):
        here = np.arange(part.shape[axis]).reshape([-1 if other == axis else 1 for other in range(3)])
        step = np.abs(nearest[axis] - here).astype(np.float32)
        squares += (step * np.float32(edge)) ** 2
        np.maximum(steps, step, out=steps)
    return np.asarray(np.sqrt(squares) * (1 - 0.5 / np.maximum(steps, 1)), np.float32)


def _normals(
    inside: NDArray[np.bool_], sigma: float, method: str, edges: NDArray, band: float, max_distance: float | None
) -> NDArray[np.float32]:
    from scipy.ndimage import gaussian_filter

    if not inside.any() or inside.all():
        return np.zeros((3, *inside.shape), np.float32)
    signed = signed_distance(inside, edges, max_distance)
    where = signed <= band
    smooth = gaussian_filter(signed, tuple(sigma / edges), mode="nearest", truncate=TRUNCATE)
    if method == "structure_tensor":
        return structure_tensor_normals(smooth, where, sigma, edges)
    gradient = np.stack([_slope(smooth, axis, edge) for axis, edge in enumerate(edges)])
    length = np.linalg.norm(gradient, axis=0)
    known = where & (length > MIN_GRADIENT)
    return np.where(known, gradient / np.where(known, length, 1), 0).astype(np.float32)


def _slope(image: NDArray[np.float32], axis: int, edge: float) -> NDArray[np.float32]:
    """Central differences; zero along an axis of one voxel."""
    return np.zeros_like(image) if image.shape[axis] == 1 else np.gradient(image, edge, axis=axis)
