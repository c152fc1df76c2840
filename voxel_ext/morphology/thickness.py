"""How thick an object is: distances from its voxels to its surface."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import require
from voxel_ext.morphology.crops import check_mask, tight_crop
from voxel_ext.morphology.object_columns import check_voxel_size


def depth_map(
    mask: ArrayLike, voxel_size: Sequence[float] = (1, 1, 1), black_border: bool = True
) -> NDArray[np.float32]:
    """Compute the Euclidean distance from each voxel of an object to the center of the nearest voxel outside.

    Args:
        mask: (D, H, W), not 0 inside the object.
        voxel_size: (z, y, x) in nm.
        black_border: voxels beyond the array count as outside. With False they do not count at all, for objects cut by
            the volume's border, whose surface is not there; if then there is no voxel outside, distances are infinite.

    Returns:
        (D, H, W) in nm, float32; 0 outside. At the surface it is one voxel (not half a voxel), so that it exceeds the
        distance to a flat surface by up to half a voxel.

    Raises:
        InvalidInputError: an empty mask, or one of another shape or type; a voxel size that is not valid.
        MissingDependencyError: edt is not installed.
    """
    inside = np.ascontiguousarray(check_mask(mask))
    distances = require("edt", extra="em").edt
    return distances(inside, anisotropy=check_voxel_size(voxel_size), black_border=black_border, parallel=1)


def thickness_features(
    mask: ArrayLike, voxel_size: Sequence[float] = (1, 1, 1), black_border: bool = True
) -> dict[str, float]:
    """Measure how deep an object's voxels lie, by :func:`depth_map`.

    A ball of radius R has the largest depth R and the mean depth R/4; an infinite cylinder R and R/3; a slab of
    thickness T has T/2 and T/4. Depths of objects of n voxels across are up to half a voxel larger, those of a single
    voxel are one voxel along the shortest side.

    Args:
        mask: (D, H, W), not 0 inside the object.
        voxel_size: (z, y, x) in nm.
        black_border: see :func:`depth_map`.

    Returns:
        ``inscribed_radius_nm``, the largest depth: the radius of the largest ball inside; and ``mean_depth_nm``.

    Raises:
        InvalidInputError: as :func:`depth_map`.
        MissingDependencyError: edt is not installed.
    """
    inside = check_mask(mask)
    if black_border:
        inside, _ = tight_crop(inside)
    depths = depth_map(inside, voxel_size, black_border)[inside]
    return {"inscribed_radius_nm": float(depths.max()), "mean_depth_nm": float(depths.mean(dtype=np.float64))}
