"""Consecutive instance ids."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_data_type, convert_to_dst_type
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError


def label_array(img: NdarrayOrTensor, what: str) -> NDArray[Any]:
    """Return a label volume (1, ...) as an integer array (...).

    Args:
        img: (1, D, H, W) or (1, H, W), integers, of whatever type.
        what: what is done with it, for the message.

    Raises:
        InvalidInputError: not one channel, or values that are not integers.
    """
    values = convert_data_type(img, np.ndarray)[0]
    if values.ndim < 2 or values.shape[0] != 1:
        raise InvalidInputError(f"{what} of a label of shape {values.shape}; expected one channel, (1, ...)")
    if values.dtype == np.bool_:
        return values[0].astype(np.uint8)
    if np.issubdtype(values.dtype, np.integer):
        return values[0]
    whole = values[0].astype(np.int64)
    if not np.array_equal(whole, values[0]):
        raise InvalidInputError(f"{what} of a label of {values.dtype} values that are not integers; expected ids")
    return whole


def relabel_consecutive(label: NDArray[Any], ignore_index: int | None = None) -> NDArray[np.int32]:
    """Number the ids of a label volume 1, 2, 3 ... in their order (scikit-image's ``relabel_sequential``); 0 stays 0.

    Args:
        label: integers of any shape, not negative but for ``ignore_index``.
        ignore_index: a value that stays as it is.

    Returns:
        int32 of the label's shape.

    Raises:
        InvalidInputError: a negative id, or as many ids as ``ignore_index``, so that one of them would become it.
    """
    from skimage.segmentation import relabel_sequential

    ignored = np.zeros(label.shape, dtype=bool) if ignore_index is None else label == ignore_index
    ids = np.where(ignored, 0, label)
    if ids.size and ids.min() < 0:
        raise InvalidInputError(f"the label has the negative id {ids.min()}; name it as ignore_index, or remove it")
    result = np.asarray(relabel_sequential(ids)[0]).astype(np.int32)
    if ignore_index is not None:
        if 0 < ignore_index <= result.max(initial=0):
            raise InvalidInputError(
                f"ignore_index={ignore_index} is among the new ids, 1 to {result.max()}; choose another"
            )
        result[ignored] = ignore_index
    return result


class RelabelConsecutive(Transform):
    """Number the ids of a label volume (1, ...) from 1 on; see :func:`relabel_consecutive`.

    Args:
        ignore_index: a value that stays as it is; None for none.
    """

    def __init__(self, ignore_index: int | None = None) -> None:
        self.ignore_index = ignore_index

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return int32 ids of the shape and type of ``img``.

        Args:
            img: (1, D, H, W) or (1, H, W), integers.

        Raises:
            InvalidInputError: as :func:`label_array` and :func:`relabel_consecutive`.
        """
        ids = relabel_consecutive(label_array(img, "consecutive ids"), self.ignore_index)
        return convert_to_dst_type(ids[None], img, dtype=torch.int32 if isinstance(img, torch.Tensor) else np.int32)[0]


class RelabelConsecutived(MapTransform):
    """Dictionary version of :class:`RelabelConsecutive`.

    Args:
        keys: items that are label volumes (1, ...).
        ignore_index: see :class:`RelabelConsecutive`.
        allow_missing_keys: do not complain about a key that is not there.
    """

    def __init__(self, keys: KeysCollection, ignore_index: int | None = None, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = RelabelConsecutive(ignore_index)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the items at ``keys`` renumbered.

        Raises:
            InvalidInputError: as :class:`RelabelConsecutive`.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key])
        return result


RelabelConsecutiveD = RelabelConsecutiveDict = RelabelConsecutived
