"""From instance ids to affinities: which pairs of voxels are of one object."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_dst_type
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.label.relabel import label_array

NEIGHBORS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))


def label_affinities(
    label: NDArray[Any], offsets: Sequence[Sequence[int]] = NEIGHBORS, ignore_index: int | None = None
) -> NDArray[Any]:
    """Say for every voxel p and offset o whether p and p + o are of one object.

    1 where both are inside the volume and have the same id, not 0; 0 at a boundary, in the background, and where p + o
    is outside the volume; ``ignore_index`` where the label of either is that. 1 minus the affinity is the boundary map
    of Lee et al. 2017 (arXiv:1706.00120), which counts the background as an object.

    Args:
        label: integers (D, H, W) or (H, W), 0 for background.
        offsets: one per channel, (z, y, x) or (y, x) in voxels.
        ignore_index: label of voxels about which nothing is known; None for none.

    Returns:
        (number of offsets, D, H, W), uint8, or int32 with ``ignore_index``.

    Raises:
        InvalidInputError: no offset, one that does not fit the axes, or one of zeros only.
    """
    steps = [tuple(int(step) for step in offset) for offset in offsets]
    if not steps or any(len(one) != label.ndim or not any(one) for one in steps):
        raise InvalidInputError(
            f"offsets={offsets!r} for a label of shape {label.shape}; expected at least one, each of {label.ndim} "
            "integers that are not all 0"
        )
    result = np.zeros((len(steps), *label.shape), dtype=np.uint8 if ignore_index is None else np.int32)
    for channel, offset in zip(result, steps, strict=True):
        pairs = list(zip(offset, label.shape, strict=True))
        if ignore_index is not None:
            channel[label == ignore_index] = ignore_index
        if any(abs(step) >= size for step, size in pairs):
            continue
        here = tuple(slice(max(0, -step), size - max(0, step)) for step, size in pairs)
        there = tuple(slice(max(0, step), size - max(0, -step)) for step, size in pairs)
        one, other = label[here], label[there]
        channel[here] = (one == other) & (one != 0)
        if ignore_index is not None:
            channel[here][(one == ignore_index) | (other == ignore_index)] = ignore_index
    return result


class LabelToAffinities(Transform):
    """Turn instance ids (1, ...) into affinities, one channel per offset; see :func:`label_affinities`.

    Args:
        offsets: one per channel, (z, y, x) or (y, x) in voxels; the three neighbors before by default.
        ignore_index: see :func:`label_affinities`.
        append_label: add the label itself as the last channel.
    """

    def __init__(
        self,
        offsets: Sequence[Sequence[int]] = NEIGHBORS,
        ignore_index: int | None = None,
        append_label: bool = False,
    ) -> None:
        self.offsets, self.ignore_index, self.append_label = offsets, ignore_index, append_label

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return affinities (number of offsets, ...), uint8, int32 with ``ignore_index``, or what fits the label too.

        Args:
            img: (1, D, H, W) or (1, H, W), integers.

        Raises:
            InvalidInputError: as :func:`label_affinities`, not one channel, or values that are not integers.
        """
        label = label_array(img, "affinities")
        channels = label_affinities(label, self.offsets, self.ignore_index)
        if self.append_label:
            channels = np.concatenate([channels, label[None]])
        return convert_to_dst_type(channels, img, dtype=channels.dtype)[0]


class LabelToAffinitiesd(MapTransform):
    """Dictionary version of :class:`LabelToAffinities`.

    Args:
        keys: items that are label volumes (1, ...).
        offsets: see :class:`LabelToAffinities`.
        ignore_index: see :class:`LabelToAffinities`.
        append_label: see :class:`LabelToAffinities`.
        allow_missing_keys: do not complain about a key that is not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        offsets: Sequence[Sequence[int]] = NEIGHBORS,
        ignore_index: int | None = None,
        append_label: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = LabelToAffinities(offsets, ignore_index, append_label)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the items at ``keys`` replaced by their affinities.

        Raises:
            InvalidInputError: as :class:`LabelToAffinities`.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key])
        return result


LabelToAffinitiesD = LabelToAffinitiesDict = LabelToAffinitiesd
