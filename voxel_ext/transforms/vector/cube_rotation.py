"""The 48 turns and reflections of the cubic grid, acting on volumes and on vector fields; exact, no interpolation."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.utils import convert_to_tensor
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.groups import rotation_group
from voxel_ext.transforms.vector.base import RandVectorTransform
from voxel_ext.transforms.vector.components import array_like, check_volume, field_like, field_tensor, voxel_sizes


def cube_matrix(matrix: ArrayLike) -> NDArray[np.int64]:
    """Return a signed permutation matrix, one of the 48 maps of the cubic grid to itself, as whole numbers.

    Args:
        matrix: (3, 3), acting on columns (z, y, x).

    Raises:
        InvalidInputError: it is not one of the 48.
    """
    found = np.asarray(matrix)
    whole = found.shape == (3, 3) and bool(np.isin(found, (-1, 0, 1)).all())
    if not whole or not np.array_equal(found @ found.T, np.eye(3)):
        raise InvalidInputError(
            f"matrix={found.tolist()!r} does not map the cubic grid to itself; expected (3, 3) with one 1 or -1 in "
            "each row and column"
        )
    return found.astype(np.int64)


def turn_volume(img: NdarrayOrTensor, matrix: ArrayLike) -> NdarrayOrTensor:
    """Turn a scalar image about its center, (g f)(p) = f(M⁻¹ p): what lay at p comes to lie at M p.

    Args:
        img: (C, D, H, W) of any type; tensor, MetaTensor or NumPy array.
        matrix: M, (3, 3), one of the 48, on (z, y, x).

    Returns:
        of the kind and type of ``img``; the sizes change places with their axes.

    Raises:
        InvalidInputError: another shape, or not one of the 48.
    """
    check_volume(img)
    turned = _turn(convert_to_tensor(img, track_meta=False), cube_matrix(matrix))
    return array_like(turned, img, keep_type=True)


def turn_vectors(field: NdarrayOrTensor, matrix: ArrayLike, component_order: str = "zyx") -> NdarrayOrTensor:
    """Turn a vector field and its vectors, v'(p) = M v(M⁻¹ p).

    M⁻ᵀ = M, so that normals and directions turn alike, oriented or not. A reflection takes outward normals to outward
    normals.

    Args:
        field: (3, D, H, W) float; tensor, MetaTensor or NumPy array.
        matrix: M, (3, 3), one of the 48, on (z, y, x) whatever the component order.
        component_order: "zyx" or "xyz".

    Returns:
        of the kind and type of ``field``; the sizes change places with their axes.

    Raises:
        InvalidInputError: another shape or type, an unknown order, or not one of the 48.
    """
    whole = cube_matrix(matrix)
    tensor = field_tensor(field, component_order)
    source = np.abs(whole).argmax(1)
    signs = torch.as_tensor(whole.sum(1), dtype=tensor.dtype, device=tensor.device)
    turned = _turn(tensor[source.tolist()], whole) * signs.view(3, 1, 1, 1)
    return field_like(turned, field, component_order)


def _turn(tensor: torch.Tensor, matrix: NDArray[np.int64]) -> torch.Tensor:
    group = rotation_group("Oh")
    element = int((group.matrices == torch.from_numpy(matrix)).all(2).all(1).nonzero())
    return group.act(tensor, element)


def that_keep(matrices: NDArray[np.int64], *sizes: Sequence[float]) -> NDArray[np.int64]:
    """Return those of some matrices of the 48, (n, 3, 3), that exchange only axes of equal size, by all ``sizes``."""
    source = np.abs(matrices).argmax(2)
    keep = [(np.asarray(one)[source] == one).all(1) for one in sizes]
    return matrices[np.logical_and.reduce(keep)]


class RandCubeTransform(RandVectorTransform):
    """Base of the transforms that draw one of the 48: a subclass draws ``matrix``, (3, 3) on (z, y, x)."""

    matrix: NDArray[np.int64]

    def move_scalars(self, img: NdarrayOrTensor, key: Hashable) -> NdarrayOrTensor:
        """Turn a scalar image, see :func:`turn_volume`."""
        return turn_volume(img, self.matrix)

    def move_vectors(self, field: NdarrayOrTensor, key: Hashable) -> NdarrayOrTensor:
        """Turn a vector field, see :func:`turn_vectors`."""
        return turn_vectors(field, self.matrix, self.component_order[key])


class RandCubeRotationVectord(RandCubeTransform):
    """Turn volumes and vector fields by a random rotation of the cube, each equally likely, the identity among them.

    Args:
        keys: scalar images and labels (C, D, H, W); any type, which is kept.
        vector_keys: vector fields (3, D, H, W), normals or directions, which turn alike.
        component_order: "zyx" or "xyz", one for all vector keys or one each.
        oriented: makes no difference here, the turns are exact for both.
        prob: probability of drawing at all.
        reflections: all 48 instead of the 24 rotations.
        keep_shape: only draw among the elements that keep (D, H, W), where the sizes differ: 8 of the 24 (16 of the
            48) for two equal sizes, 4 (8) for three different ones. False lets the sizes change places.
        voxel_size: (z, y, x); axes of different voxel size are never exchanged. None for equal.
        allow_missing_keys: do not complain about a key that is not there.

    Raises:
        InvalidInputError: an unknown order, a probability outside [0, 1], or a voxel size that is not positive.
    """

    def __init__(
        self,
        keys: KeysCollection,
        vector_keys: KeysCollection,
        component_order: str | Sequence[str] = "zyx",
        oriented: bool | Sequence[bool] = True,
        prob: float = 1.0,
        reflections: bool = False,
        keep_shape: bool = True,
        voxel_size: float | Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, vector_keys, component_order, oriented, prob, allow_missing_keys)
        self.elements = rotation_group("Oh" if reflections else "S4").matrices.numpy()
        self.keep_shape = keep_shape
        self.voxel_size = voxel_sizes(voxel_size)
        self.matrix = np.eye(3, dtype=np.int64)

    def draw(self, shape: tuple[int, int, int]) -> None:
        """Draw ``matrix``."""
        valid = that_keep(self.elements, self.voxel_size, *([shape] if self.keep_shape else []))
        self.matrix = valid[self.R.randint(len(valid))]


RandCubeRotationVectorD = RandCubeRotationVectorDict = RandCubeRotationVectord
