"""Measures taken slice by slice, for comparison with tables made that way; three-dimensional ones are better."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from voxel_ext.morphology.crops import UM_PER_NM, check_mask, tight_crop
from voxel_ext.morphology.object_columns import check_voxel_size


def slice_features(mask: ArrayLike, voxel_size: Sequence[float] = (1, 1, 1)) -> dict[str, float]:
    """Measure an object in the slices across z that it appears in.

    With area a and perimeter p (``skimage.measure.perimeter``, 4-neighborhood, in voxels) of a slice:

    - ``slice_circularity``: the mean of 4 pi a / p^2, 0 for slices with p = 0, such as single voxels. Not a measure of
      three-dimensional roundness, and not bounded by 1 for few voxels.
    - ``slice_path_nm``: length of the path through the slices' centroids; slices without the object are bridged, and 0
      for a single slice. Depends on how the object is turned: it measures the extent along z.
    - ``slice_surface_to_volume_per_um``: sum of p over sum of a, times 1 / y: without the caps.

    Perimeters and areas count voxels, so that circularity supposes that y and x have the same voxel size; the surface
    to volume ratio takes the mean of the two.

    Args:
        mask: (D, H, W), not 0 inside the object.
        voxel_size: (z, y, x) in nm.

    Returns:
        the three values by these names; all are finite.

    Raises:
        InvalidInputError: an empty mask, or one of another shape or type; a voxel size that is not valid.
    """
    from skimage.measure import perimeter

    crop, _ = tight_crop(check_mask(mask))
    size = np.array(check_voxel_size(voxel_size))
    slices = np.flatnonzero(crop.any(axis=(1, 2)))
    areas = np.count_nonzero(crop[slices], axis=(1, 2)).astype(np.float64)
    perimeters = np.array([perimeter(np.pad(crop[z], 1), neighborhood=4) for z in slices])
    round_ones = np.divide(4 * math.pi * areas, perimeters**2, out=np.zeros_like(areas), where=perimeters > 0)
    centroids = np.array([np.argwhere(crop[z]).mean(axis=0) for z in slices])
    path = np.column_stack([slices, centroids]) * size
    return {
        "slice_circularity": float(round_ones.mean()),
        "slice_path_nm": float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum()),
        "slice_surface_to_volume_per_um": float(perimeters.sum() / areas.sum() / (size[1:].mean() * UM_PER_NM)),
    }
