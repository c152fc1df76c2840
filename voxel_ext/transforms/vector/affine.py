"""Rotation, anisotropic scaling, shear and shift of a vector field with its vectors, in physical space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.spatial.deformation import Deformation
from voxel_ext.transforms.vector.components import check_field, device_of, three_numbers, voxel_sizes
from voxel_ext.transforms.vector.resample import SourceMap
from voxel_ext.transforms.vector.resampled import RandResampledTransform, resample_field


def affine_source(
    shape: Sequence[int],
    matrix: ArrayLike,
    translation: Sequence[float] = (0.0, 0.0, 0.0),
    voxel_size: float | Sequence[float] | None = None,
    device: torch.device | str = "cpu",
) -> SourceMap:
    """Return the source of every voxel under p ↦ S⁻¹ M S (p - c) + c + t, c the volume's center, S = diag(voxel size).

    Args:
        shape: (D, H, W).
        matrix: M, (3, 3), the forward map in physical space, on columns (z, y, x).
        translation: t, (z, y, x) in voxels.
        voxel_size: (z, y, x) in any unit; None for equal.
        device: where the map is to be.

    Raises:
        InvalidInputError: a matrix of another shape, not finite or singular, or a bad voxel size or translation.
    """
    forward = np.asarray(matrix, dtype=np.float64)
    if forward.shape != (3, 3) or not np.isfinite(forward).all() or abs(np.linalg.det(forward)) < 1e-9:
        raise InvalidInputError(f"matrix={forward.tolist()!r}; expected (3, 3), finite and invertible")
    shift = three_numbers("translation", tuple(translation), -math.inf)
    sizes = np.asarray(voxel_sizes(voxel_size))
    backward = np.linalg.inv(forward) * sizes / sizes[:, None]
    center = (np.asarray(shape, dtype=np.float64) - 1) / 2
    whole = np.column_stack([backward, center - backward @ (center + shift)])
    points, inside = Deformation((int(shape[0]), int(shape[1]), int(shape[2])), whole).source(device)
    return SourceMap(points, inside, torch.as_tensor(backward, dtype=torch.float32, device=device))


def affine_vectors(
    field: NdarrayOrTensor,
    matrix: ArrayLike,
    translation: Sequence[float] = (0.0, 0.0, 0.0),
    kind: str = "normal",
    oriented: bool = True,
    mode: str = "bilinear",
    component_order: str = "zyx",
    voxel_size: float | Sequence[float] | None = None,
) -> NdarrayOrTensor:
    """Take a vector field through an affine map about the volume's center: n' = M⁻ᵀ n or v' = M v, of unit length.

    See :func:`voxel_ext.transforms.vector.resample.move_vectors` for what is interpolated how.

    Args:
        field: (3, D, H, W) float, tensor, MetaTensor or NumPy array; components in physical space.
        matrix: M, (3, 3), the forward map in physical space, on (z, y, x) whatever the component order.
        translation: (z, y, x) in voxels.
        kind: "normal" or "direction".
        oriented: whether n and -n differ; if not, the result's sign is arbitrary.
        mode: "bilinear" or "nearest".
        component_order: "zyx" or "xyz".
        voxel_size: (z, y, x) in any unit; None for equal.

    Returns:
        float32 of the kind and shape of ``field``; zero where unknown or from outside.

    Raises:
        InvalidInputError: another shape or type, an unknown option, a singular matrix, or a bad voxel size.
    """
    check_field(field)
    source = affine_source(field.shape[1:], matrix, translation, voxel_size, device_of(field))
    return resample_field(field, source, kind, oriented, mode, component_order, voxel_sizes(voxel_size))


def rotation_matrix(angles: Sequence[float]) -> NDArray[np.float64]:
    """Return the rotation by angles about z, then y, then x.

    Args:
        angles: (z, y, x) in radians; a positive angle about z turns y to x, about y z to x, about x z to y.

    Returns:
        (3, 3) on columns (z, y, x).
    """
    rotation = np.eye(3)
    for (first, second), angle in zip(((1, 2), (0, 2), (0, 1)), angles, strict=True):
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[second, first], turn[first, second] = math.sin(angle), -math.sin(angle)
        rotation = turn @ rotation
    return rotation


class RandAffineVectord(RandResampledTransform):
    """Move volumes and vector fields by a random affine map about the volume's center, M = R S H.

    Shear first, then scale, then rotation, all in physical space, then a shift. The vectors go by the map's Jacobian:
    normals by M⁻ᵀ, directions by M, of unit length afterwards.

    Args:
        keys: scalar images and labels (C, D, H, W).
        vector_keys: vector fields (3, D, H, W), float, components in physical space, zero where unknown.
        component_order: "zyx" or "xyz", one for all vector keys or one each.
        oriented: whether n and -n differ, one for all vector keys or one each; if not, the result's sign is arbitrary.
        prob: probability of moving.
        rotate_range: largest angle about z, y and x in radians; uniform, in both directions.
        scale_range: largest change of scale along z, y and x; factors uniform in 1 ± range, each axis on its own.
        shear_range: largest shear; one number for all of z per y, z per x, y per z, y per x, x per z, x per y, or six.
        translate_range: largest shift along z, y and x, in voxels.
        **options: by keyword, defaults first: ``mode`` of scalars ("bilinear" or, for labels, "nearest"),
            ``padding_mode`` of scalars ("zeros", "border" or "reflection"; vectors from outside are zero),
            ``vector_mode`` ("bilinear" or "nearest"), ``kind`` ("normal" or "direction"), ``voxel_size`` (None for
            equal, or (z, y, x)), ``allow_missing_keys`` (False); see
            :class:`~voxel_ext.transforms.vector.resampled.RandResampledTransform`.

    Raises:
        InvalidInputError: an unknown option, a probability outside [0, 1], a negative range, a scale range of 1 or
            more, shear ranges that add up to 1 or more along an axis (the map could be singular).
    """

    def __init__(
        self,
        keys: KeysCollection,
        vector_keys: KeysCollection,
        component_order: str | Sequence[str] = "zyx",
        oriented: bool | Sequence[bool] = True,
        prob: float = 0.5,
        rotate_range: float | Sequence[float] = 0.0,
        scale_range: float | Sequence[float] = 0.0,
        shear_range: float | Sequence[float] = 0.0,
        translate_range: float | Sequence[float] = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(keys, vector_keys, component_order, oriented, prob, **options)
        self.rotate_range = three_numbers("rotate_range", rotate_range)
        self.scale_range = three_numbers("scale_range", scale_range)
        if max(self.scale_range) >= 1:
            raise InvalidInputError(f"scale_range={scale_range!r}; expected below 1, so that every factor is positive")
        self.shear_range = _shear_range(shear_range)
        self.translate_range = three_numbers("translate_range", translate_range)
        self.matrix = np.eye(3)
        self.translation = np.zeros(3)
        self.shape = (1, 1, 1)

    def draw(self, shape: tuple[int, int, int]) -> None:
        """Draw ``matrix`` (3, 3), forward in physical space, and ``translation`` (3,), in voxels."""
        rotation = rotation_matrix((self.R.uniform(-1, 1, 3) * self.rotate_range).tolist())
        scale = np.diag(1 + self.R.uniform(-1, 1, 3) * self.scale_range)
        shear = np.eye(3) + self.R.uniform(-1, 1, (3, 3)) * self.shear_range
        self.matrix = rotation @ scale @ shear
        self.translation = self.R.uniform(-1, 1, 3) * self.translate_range
        self.shape = shape

    def source(self, device: torch.device) -> SourceMap:
        """Return the map drawn last, on a device."""
        return affine_source(self.shape, self.matrix, self.translation.tolist(), self.voxel_size, device)


def _shear_range(value: float | Sequence[float]) -> NDArray[np.float64]:
    values = tuple(value) if isinstance(value, Sequence) else (value,) * 6
    if len(values) != 6 or not all(isinstance(one, int | float) and 0 <= one < 1 for one in values):
        raise InvalidInputError(
            f"shear_range={value!r}; expected one number or six (z per y, z per x, y per z, y per x, x per z, "
            "x per y), not negative, below 1"
        )
    ranges = np.zeros((3, 3))
    ranges[~np.eye(3, dtype=bool)] = values
    if ranges.sum(1).max() >= 1:
        raise InvalidInputError(
            f"shear_range={value!r} adds up to {ranges.sum(1).max():g} along an axis, so that the map could be "
            "singular; expected below 1"
        )
    return ranges


RandAffineVectorD = RandAffineVectorDict = RandAffineVectord
