"""Random poses of an object in a cube: any rotation, a reflection, and one scale for all axes."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_dst_type, convert_to_tensor
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.spatial.affine import check_probability


def pose_volume(img: NdarrayOrTensor, matrix: ArrayLike) -> NdarrayOrTensor:
    """Move an image linearly about its center, (g f)(p) = f(M⁻¹ p), by linear interpolation; 0 comes in from outside.

    Args:
        img: (C, D, H, W).
        matrix: M, (3, 3), on (z, y, x) in voxels.

    Returns:
        float32 of the kind and shape of ``img``.

    Raises:
        InvalidInputError: not four axes, or a matrix that is not (3, 3), finite and invertible.
    """
    forward = np.asarray(matrix, dtype=np.float64)
    if forward.shape != (3, 3) or not np.isfinite(forward).all() or abs(np.linalg.det(forward)) < 1e-9:
        raise InvalidInputError(f"matrix={forward.tolist()!r}; expected (3, 3), finite and invertible")
    tensor = convert_to_tensor(img, dtype=torch.float32, track_meta=False)
    if tensor.dim() != 4:
        raise InvalidInputError(f"an image of shape {tuple(tensor.shape)} cannot be moved; expected (C, D, H, W)")
    sizes = np.array(tensor.shape[1:], dtype=np.float64)
    # torch's coordinates go from -1 to 1 along each axis, the last axis first
    backward = (np.linalg.inv(forward) * sizes / sizes[:, None])[::-1, ::-1]
    theta = torch.as_tensor(np.column_stack([backward, np.zeros(3)]), dtype=torch.float32, device=tensor.device)
    grid = torch.nn.functional.affine_grid(theta[None], [1, *tensor.shape], align_corners=False)
    moved = torch.nn.functional.grid_sample(tensor[None], grid, align_corners=False)[0]
    dtype: Any = torch.float32 if isinstance(img, torch.Tensor) else np.float32
    return convert_to_dst_type(moved, img, dtype=dtype)[0]


class RandPose(RandomizableTransform):
    """Turn a volume about its center by any rotation, each equally likely, and scale it alike along all axes.

    MONAI's ``RandAffine`` draws angles, which favors some rotations, and scales each axis on its own, which changes
    shapes.

    Args:
        rotate: whether to turn.
        reflections: with a rotation, mirror the volume in one half of the draws.
        scale_range: lowest and highest factor of the object's length; its logarithm is uniform.
        prob: probability of moving at all.

    Raises:
        InvalidInputError: a probability outside [0, 1], or a range that is not two ascending positive numbers.
    """

    def __init__(
        self,
        rotate: bool = True,
        reflections: bool = False,
        scale_range: Sequence[float] = (1.0, 1.0),
        prob: float = 1.0,
    ) -> None:
        super().__init__(check_probability("prob", prob))
        if len(scale_range) != 2 or not 0 < scale_range[0] <= scale_range[1] < math.inf:
            raise InvalidInputError(f"scale_range={scale_range!r}; expected two positive numbers, the smaller first")
        self.rotate = rotate
        self.reflections = reflections
        self.scale_range = (float(scale_range[0]), float(scale_range[1]))
        self.matrix: NDArray[np.float64] = np.eye(3)

    def randomize(self, data: Any = None) -> None:
        """Draw ``matrix``, (3, 3) on (z, y, x); the identity with probability 1 - ``prob``."""
        from scipy.spatial.transform import Rotation

        super().randomize(None)
        self.matrix = np.eye(3)
        if not self._do_transform:
            return
        if self.rotate:
            # the direction of four normal numbers is uniform, and so is the rotation of that quaternion
            self.matrix = Rotation.from_quat(self.R.normal(size=4)).as_matrix()
            if self.reflections and self.R.randint(2):
                self.matrix = -self.matrix
        self.matrix = self.matrix * math.exp(self.R.uniform(*np.log(self.scale_range)))

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Return the moved image (C, D, H, W), float32, see :func:`pose_volume`.

        Args:
            img: (C, D, H, W).
            randomize: False to move it as the last time.

        Raises:
            InvalidInputError: another number of axes.
        """
        if randomize:
            self.randomize()
        return pose_volume(img, self.matrix)


class RandPosed(RandomizableTransform, MapTransform):
    """Dictionary version of :class:`RandPose`: all keys are moved alike.

    Args:
        keys: items that are images (C, D, H, W).
        rotate: see :class:`RandPose`.
        reflections: see :class:`RandPose`.
        scale_range: see :class:`RandPose`.
        prob: see :class:`RandPose`.
        allow_missing_keys: do not complain about a key of ``keys`` that is not there.

    Raises:
        InvalidInputError: as :class:`RandPose`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        rotate: bool = True,
        reflections: bool = False,
        scale_range: Sequence[float] = (1.0, 1.0),
        prob: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, 1.0)
        self.pose = RandPose(rotate, reflections, scale_range, prob)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandPosed:
        """Draw from another seed from now on."""
        super().set_random_state(seed, state)
        self.pose.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the items at the keys moved.

        Raises:
            InvalidInputError: an item with another number of axes.
        """
        result = dict(data)
        self.pose.randomize()
        for key in self.key_iterator(result):
            result[key] = self.pose(result[key], randomize=False)
        return result


RandPoseD = RandPoseDict = RandPosed
