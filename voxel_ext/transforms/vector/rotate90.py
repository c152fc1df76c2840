"""Right-angle turns of a vector field in a plane of two axes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from monai.config import KeysCollection, NdarrayOrTensor
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.vector.components import voxel_sizes
from voxel_ext.transforms.vector.cube_rotation import RandCubeTransform, that_keep, turn_vectors

Plane = tuple[int, int]
PLANES: tuple[Plane, ...] = ((0, 1), (0, 2), (1, 2))


def rotate90_matrix(k: int, axes: Sequence[int]) -> NDArray[np.int64]:
    """Return the turn by ``k`` right angles from the first towards the second axis, as that of ``torch.rot90``.

    Args:
        k: number of right angles, negative to turn back.
        axes: two different ones of 0, 1, 2 for z, y, x.

    Returns:
        (3, 3) on columns (z, y, x).

    Raises:
        InvalidInputError: another plane.
    """
    if len(axes) != 2 or tuple(sorted(axes)) not in PLANES:
        raise InvalidInputError(f"axes={axes!r}; expected two different ones of 0, 1, 2 for z, y, x")
    quarter = np.eye(3, dtype=np.int64)
    first, second = axes
    quarter[first, first] = quarter[second, second] = 0
    quarter[second, first], quarter[first, second] = 1, -1
    return np.linalg.matrix_power(quarter, k % 4)


def rotate90_vectors(
    field: NdarrayOrTensor, k: int = 1, axes: Sequence[int] = (0, 1), component_order: str = "zyx"
) -> NdarrayOrTensor:
    """Turn a vector field with its vectors, normals or directions, by ``k`` right angles.

    Args:
        field: (3, D, H, W) float; tensor, MetaTensor or NumPy array.
        k: number of right angles from the first towards the second axis.
        axes: two different ones of 0, 1, 2 for z, y, x.
        component_order: "zyx" or "xyz".

    Returns:
        of the kind and type of ``field``; for odd ``k`` the sizes of the two axes change places.

    Raises:
        InvalidInputError: another shape or type, an unknown order or plane.
    """
    return turn_vectors(field, rotate90_matrix(k, axes), component_order)


class RandRotate90Vectord(RandCubeTransform):
    """Turn volumes and vector fields by right angles in a random plane.

    Plane and number of right angles are drawn together, each valid pair equally likely. Where none is valid (one right
    angle in a plane of different sizes, which are to be kept) the items stay as they are.

    Args:
        keys: scalar images and labels (C, D, H, W); any type, which is kept.
        vector_keys: vector fields (3, D, H, W), normals or directions, which turn alike.
        component_order: "zyx" or "xyz", one for all vector keys or one each.
        oriented: makes no difference here, the turns are exact for both.
        prob: probability of turning.
        max_k: largest number of right angles, 1 to 3.
        spatial_axes: one plane or several, each of two of 0, 1, 2 for z, y, x; None for all three.
        keep_shape: leave out the turns that would change (D, H, W). False lets the sizes change places.
        voxel_size: (z, y, x); axes of different voxel size are never exchanged. None for equal.
        allow_missing_keys: do not complain about a key that is not there.

    Raises:
        InvalidInputError: an unknown order or plane, a probability outside [0, 1], or ``max_k`` outside 1 to 3.
    """

    def __init__(
        self,
        keys: KeysCollection,
        vector_keys: KeysCollection,
        component_order: str | Sequence[str] = "zyx",
        oriented: bool | Sequence[bool] = True,
        prob: float = 0.5,
        max_k: int = 3,
        spatial_axes: Sequence[int] | Sequence[Sequence[int]] | None = None,
        keep_shape: bool = True,
        voxel_size: float | Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, vector_keys, component_order, oriented, prob, allow_missing_keys)
        if max_k not in (1, 2, 3):
            raise InvalidInputError(f"max_k={max_k!r}; expected 1, 2 or 3 right angles")
        self.planes = _planes(spatial_axes)
        self.turns = np.stack([rotate90_matrix(k, plane) for plane in self.planes for k in range(1, max_k + 1)])
        self.keep_shape = keep_shape
        self.voxel_size = voxel_sizes(voxel_size)
        self.matrix = np.eye(3, dtype=np.int64)

    def draw(self, shape: tuple[int, int, int]) -> None:
        """Draw ``matrix``; the identity where no turn is valid."""
        valid = that_keep(self.turns, self.voxel_size, *([shape] if self.keep_shape else []))
        self.matrix = valid[self.R.randint(len(valid))] if len(valid) else np.eye(3, dtype=np.int64)


def _planes(spatial_axes: Sequence[int] | Sequence[Sequence[int]] | None) -> list[Sequence[int]]:
    if spatial_axes is None:
        return list(PLANES)
    single = all(isinstance(one, int) for one in spatial_axes)
    planes: list[Sequence[int]] = [spatial_axes] if single else list(spatial_axes)  # type: ignore[list-item,arg-type]
    for plane in planes:
        rotate90_matrix(1, plane)
    if any(set(one) == set(other) for one, other in itertools.combinations(planes, 2)):
        raise InvalidInputError(f"spatial_axes={spatial_axes!r}; expected every plane once")
    return planes


RandRotate90VectorD = RandRotate90VectorDict = RandRotate90Vectord
