"""Flips of a vector field: the voxels are reversed along an axis, and that component changes its sign."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from monai.config import KeysCollection, NdarrayOrTensor
from monai.utils import ensure_tuple
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.spatial.affine import check_probability
from voxel_ext.transforms.vector.cube_rotation import RandCubeTransform, turn_vectors


def flip_matrix(axes: int | Sequence[int]) -> NDArray[np.int64]:
    """Return the reflection that reverses some axes.

    Args:
        axes: of 0, 1, 2 for z, y, x; may be empty.

    Returns:
        (3, 3), diagonal.

    Raises:
        InvalidInputError: another axis, or one twice.
    """
    chosen = ensure_tuple(axes)
    if len(set(chosen)) != len(chosen) or not set(chosen) <= {0, 1, 2}:
        raise InvalidInputError(f"axes={axes!r}; expected different ones of 0, 1, 2 for z, y, x")
    return np.diag([-1 if axis in chosen else 1 for axis in range(3)])


def flip_vectors(field: NdarrayOrTensor, axes: int | Sequence[int], component_order: str = "zyx") -> NdarrayOrTensor:
    """Flip a vector field with its vectors, normals or directions.

    Args:
        field: (3, D, H, W) float; tensor, MetaTensor or NumPy array.
        axes: of 0, 1, 2 for z, y, x.
        component_order: "zyx" or "xyz".

    Returns:
        of the kind, type and shape of ``field``.

    Raises:
        InvalidInputError: another shape or type, an unknown order or axis.
    """
    return turn_vectors(field, flip_matrix(axes), component_order)


class RandFlipVectord(RandCubeTransform):
    """Flip volumes and vector fields at random, every axis on its own.

    Args:
        keys: scalar images and labels (C, D, H, W); any type, which is kept.
        vector_keys: vector fields (3, D, H, W), normals or directions, which flip alike.
        component_order: "zyx" or "xyz", one for all vector keys or one each.
        oriented: makes no difference here, flips are exact for both.
        prob: probability of flipping, of every axis on its own.
        spatial_axis: the axes, of 0, 1, 2 for z, y, x; None for all.
        allow_missing_keys: do not complain about a key that is not there.

    Raises:
        InvalidInputError: an unknown order or axis, or a probability outside [0, 1].
    """

    def __init__(
        self,
        keys: KeysCollection,
        vector_keys: KeysCollection,
        component_order: str | Sequence[str] = "zyx",
        oriented: bool | Sequence[bool] = True,
        prob: float = 0.5,
        spatial_axis: int | Sequence[int] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, vector_keys, component_order, oriented, 1.0, allow_missing_keys)
        self.axis_prob = check_probability("prob", prob)
        self.axes = (0, 1, 2) if spatial_axis is None else ensure_tuple(spatial_axis)
        flip_matrix(self.axes)
        self.matrix = flip_matrix(())

    def draw(self, shape: tuple[int, int, int]) -> None:
        """Draw ``matrix``, the reflection of the axes drawn."""
        self.matrix = flip_matrix([axis for axis in self.axes if self.R.rand() < self.axis_prob])


RandFlipVectorD = RandFlipVectorDict = RandFlipVectord
