"""From instance ids to boundaries, and to masks with boundaries."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_dst_type
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.transforms.label.relabel import label_array

BOUNDARIES = ("thick", "inner", "outer")


def label_boundaries(label: NDArray[Any], mode: str = "thick", connectivity: int = 2) -> NDArray[np.uint8]:
    """Mark the voxels at the boundaries of objects (scikit-image's ``find_boundaries``).

    Args:
        label: integers (D, H, W) or (H, W), 0 for background.
        mode: "thick", voxels with a neighbor of another id; "inner", only those in objects; "outer", those in the
            background around objects, and both sides where objects touch.
        connectivity: how many axes two neighbors may differ in; 2 is that of pytorch-3dunet.

    Returns:
        uint8 of the label's shape, 1 at boundaries.

    Raises:
        InvalidInputError: unknown mode, or ``connectivity`` is not 1 to the number of axes.
    """
    from skimage.segmentation import find_boundaries

    check_option("mode", mode, BOUNDARIES)
    if not 1 <= connectivity <= label.ndim:
        raise InvalidInputError(f"connectivity={connectivity!r} for {label.ndim} axes; expected 1 to {label.ndim}")
    return find_boundaries(label, connectivity=connectivity, mode=mode).astype(np.uint8)


class LabelToBoundary(Transform):
    """Turn instance ids (1, ...) into a map of their boundaries (1, ...); see :func:`label_boundaries`.

    Args:
        mode: "thick", "inner" or "outer".
        connectivity: how many axes two neighbors may differ in.
        ignore_index: voxels of this label keep it in the boundary map; None for none.
        append_label: add the label itself as the last channel.

    Raises:
        InvalidInputError: unknown mode.
    """

    def __init__(
        self,
        mode: str = "thick",
        connectivity: int = 2,
        ignore_index: int | None = None,
        append_label: bool = False,
    ) -> None:
        self.mode = check_option("mode", mode, BOUNDARIES)
        self.connectivity, self.ignore_index, self.append_label = connectivity, ignore_index, append_label

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return (1, ...), or (2, ...) with the label, uint8 or, with ``ignore_index`` or the label, the label's type.

        Args:
            img: (1, D, H, W) or (1, H, W), integers.

        Raises:
            InvalidInputError: as :func:`label_boundaries`, not one channel, or values that are not integers.
        """
        label = label_array(img, "boundaries")
        boundary: NDArray[Any] = label_boundaries(label, self.mode, self.connectivity)
        return _stack([boundary], label, self.ignore_index, self.append_label, img)


class LabelToBoundaryd(MapTransform):
    """Dictionary version of :class:`LabelToBoundary`.

    Args:
        keys: items that are label volumes (1, ...).
        mode: see :class:`LabelToBoundary`.
        connectivity: see :class:`LabelToBoundary`.
        ignore_index: see :class:`LabelToBoundary`.
        append_label: see :class:`LabelToBoundary`.
        allow_missing_keys: do not complain about a key that is not there.

    Raises:
        InvalidInputError: unknown mode.
    """

    def __init__(
        self,
        keys: KeysCollection,
        mode: str = "thick",
        connectivity: int = 2,
        ignore_index: int | None = None,
        append_label: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = LabelToBoundary(mode, connectivity, ignore_index, append_label)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the items at ``keys`` replaced by boundary maps.

        Raises:
            InvalidInputError: as :class:`LabelToBoundary`.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key])
        return result


class BlobsToMask(Transform):
    """Turn instance ids (1, ...) into a mask, 1 where the id is above 0, optionally with boundaries.

    Args:
        boundary: "thick", "inner" or "outer" (pytorch-3dunet's) for boundaries between and around objects; None for
            the mask alone.
        as_classes: False for the boundary as a channel of its own after the mask; True for one channel of classes for a
            cross entropy: 0 background, 1 object, 2 boundary.
        connectivity: of the boundaries; see :func:`label_boundaries`.
        ignore_index: voxels of this label keep it in every channel; None for none.
        append_label: add the label itself as the last channel.

    Raises:
        InvalidInputError: unknown boundary, or classes without one.
    """

    def __init__(
        self,
        boundary: str | None = None,
        as_classes: bool = False,
        connectivity: int = 2,
        ignore_index: int | None = None,
        append_label: bool = False,
    ) -> None:
        self.boundary = None if boundary is None else check_option("boundary", boundary, BOUNDARIES)
        if as_classes and boundary is None:
            raise InvalidInputError(
                "as_classes=True needs a boundary, which is class 2; expected boundary='outer', say"
            )
        self.as_classes, self.connectivity = as_classes, connectivity
        self.ignore_index, self.append_label = ignore_index, append_label

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return (1, ...) or more channels, uint8 or, with ``ignore_index`` or the label, the label's type.

        Args:
            img: (1, D, H, W) or (1, H, W), integers.

        Raises:
            InvalidInputError: as :func:`label_boundaries`, not one channel, or values that are not integers.
        """
        label = label_array(img, "a mask")
        channels: list[NDArray[Any]] = [(label > 0).astype(np.uint8)]
        if self.boundary is not None:
            edges = label_boundaries(label, self.boundary, self.connectivity)
            if self.as_classes:
                channels[0][edges > 0] = 2
            else:
                channels.append(edges)
        return _stack(channels, label, self.ignore_index, self.append_label, img)


class BlobsToMaskd(MapTransform):
    """Dictionary version of :class:`BlobsToMask`.

    Args:
        keys: items that are label volumes (1, ...).
        boundary: see :class:`BlobsToMask`.
        as_classes: see :class:`BlobsToMask`.
        connectivity: see :class:`BlobsToMask`.
        ignore_index: see :class:`BlobsToMask`.
        append_label: see :class:`BlobsToMask`.
        allow_missing_keys: do not complain about a key that is not there.

    Raises:
        InvalidInputError: as :class:`BlobsToMask`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        boundary: str | None = None,
        as_classes: bool = False,
        connectivity: int = 2,
        ignore_index: int | None = None,
        append_label: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = BlobsToMask(boundary, as_classes, connectivity, ignore_index, append_label)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the items at ``keys`` replaced by masks.

        Raises:
            InvalidInputError: as :class:`BlobsToMask`.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key])
        return result


def _stack(
    channels: list[NDArray[Any]],
    label: NDArray[Any],
    ignore_index: int | None,
    append_label: bool,
    img: NdarrayOrTensor,
) -> NdarrayOrTensor:
    """Put back the ignored voxels, append the label if asked, and return one array of the type of ``img``."""
    if ignore_index is not None:
        ignored = label == ignore_index
        channels = [np.where(ignored, label, channel) for channel in channels]
    stacked = np.stack([*channels, label] if append_label else channels)
    return convert_to_dst_type(stacked, img, dtype=stacked.dtype)[0]


LabelToBoundaryD = LabelToBoundaryDict = LabelToBoundaryd
BlobsToMaskD = BlobsToMaskDict = BlobsToMaskd
