"""From a binary mask to instance ids."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_data_type, convert_to_dst_type

from voxel_ext.errors import InvalidInputError


def connected_components(mask: np.ndarray, connectivity: int = 1, minimum_size: int = 0) -> np.ndarray:
    """Number the connected components of a mask from 1 on.

    Args:
        mask: boolean, any number of axes.
        connectivity: how many axes two neighbors may differ in: 1 for faces, 2 for edges, 3 for corners as well.
        minimum_size: components of fewer voxels become background.

    Returns:
        int32 array of the mask's shape, ids consecutive in the order of each component's first voxel, 0 for background.
    """
    from skimage.measure import label

    ids = label(mask, connectivity=connectivity)
    sizes = np.bincount(ids.ravel())
    kept = sizes >= minimum_size
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0).astype(np.int32)[ids]


class ConnectedComponents(Transform):
    """Turn a binary mask (1, ...) into instance ids (1, ...), int32, 0 for background (scikit-image's ``label``).

    Type, device and metadata of the input are kept.

    Args:
        connectivity: how many axes two neighbors may differ in: 1 for faces, 2 for edges, 3 for corners as well.
        minimum_size: components of fewer voxels become background.

    Raises:
        InvalidInputError: an argument is negative or not an integer.
    """

    def __init__(self, connectivity: int = 1, minimum_size: int = 0) -> None:
        for name, value, least in (("connectivity", connectivity, 1), ("minimum_size", minimum_size, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidInputError(f"{name}={value!r} is not valid; expected an integer of at least {least}")
        self.connectivity = connectivity
        self.minimum_size = minimum_size

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return the instance ids of a mask.

        Args:
            img: (1, D, H, W) or (1, H, W), 0 or 1.

        Raises:
            InvalidInputError: there is more than one channel, or a value other than 0 and 1, or ``connectivity`` is
                larger than the number of spatial axes.
        """
        mask = convert_data_type(img, np.ndarray)[0]
        if mask.ndim < 2 or mask.shape[0] != 1:
            raise InvalidInputError(f"connected components of an array of shape {mask.shape}; expected (1, ...)")
        if self.connectivity > mask.ndim - 1:
            raise InvalidInputError(f"connectivity={self.connectivity} for {mask.ndim - 1} spatial axes; lower it")
        foreground = mask[0] != 0
        if not np.array_equal(foreground, mask[0]):
            raise InvalidInputError(
                f"connected components of values from {mask.min():g} to {mask.max():g}; expected 0 and 1 only. "
                "Threshold first, for example by MONAI's AsDiscreted"
            )
        ids = connected_components(foreground, self.connectivity, self.minimum_size)
        return convert_to_dst_type(ids[None], img, dtype=torch.int32 if isinstance(img, torch.Tensor) else np.int32)[0]


class ConnectedComponentsd(MapTransform):
    """Dictionary version of :class:`ConnectedComponents`.

    Args:
        keys: items that are binary masks (1, ...).
        connectivity: how many axes two neighbors may differ in: 1 for faces, 2 for edges, 3 for corners as well.
        minimum_size: components of fewer voxels become background.
        allow_missing_keys: do not complain about a key that is not there.

    Raises:
        InvalidInputError: an argument is negative or not an integer.
    """

    def __init__(
        self,
        keys: KeysCollection,
        connectivity: int = 1,
        minimum_size: int = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = ConnectedComponents(connectivity, minimum_size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the items at ``keys`` replaced by instance ids.

        Raises:
            InvalidInputError: as :class:`ConnectedComponents`.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key])
        return result
