"""Refuse images that cannot be trained on, with the name of the file they came from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_data_type, ensure_tuple

from voxel_ext.errors import InvalidInputError


def source_of(img: NdarrayOrTensor, name: str = "the image") -> str:
    """Describe an image for a message: its name, and the file it was read from if its metadata has it.

    Args:
        img: an array or a tensor; a ``MetaTensor`` may have ``meta["filename_or_obj"]``.
        name: what the image is called if nothing else is known.
    """
    filename = getattr(img, "meta", {}).get("filename_or_obj")
    return f"{name} from {filename}" if filename else name


def check_image(img: NdarrayOrTensor, name: str = "the image") -> None:
    """Refuse an image that is empty, has NaN or infinite values, or is constant.

    Args:
        img: any shape.
        name: what the message calls it.

    Raises:
        InvalidInputError: names the image, its file, and how many values are wrong, or the constant.
    """
    values = convert_data_type(img, np.ndarray)[0]
    if values.size == 0:
        raise InvalidInputError(f"{source_of(img, name)} is empty: its shape is {values.shape}")
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        nans, infinite = int(np.isnan(values).sum()), int(np.isinf(values).sum())
        raise InvalidInputError(
            f"{source_of(img, name)} has {nans} NaN and {infinite} infinite of {values.size} values; "
            "repair or leave out the file"
        )
    if low == high:
        raise InvalidInputError(
            f"{source_of(img, name)} is constant: every value is {low:g}, there is nothing to see in it; "
            "check the file, or leave it out"
        )


class ValidateImage(Transform):
    """Return an image unchanged, or refuse it: empty, NaN or infinite values, or constant. See :func:`check_image`."""

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return ``img`` (C, ...).

        Raises:
            InvalidInputError: as :func:`check_image`.
        """
        check_image(img)
        return img


class ValidateImaged(MapTransform):
    """Dictionary version of :class:`ValidateImage`, which also compares the spatial shapes of images and labels.

    Args:
        keys: items that are images (C, ...).
        label_keys: items that are labels (C, ...) of the images' spatial shape; None for none. A label may be constant.
        allow_missing_keys: do not complain about a key that is not there.
    """

    def __init__(
        self, keys: KeysCollection, label_keys: KeysCollection | None = None, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label_keys: tuple[Hashable, ...] = () if label_keys is None else ensure_tuple(label_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with every item unchanged.

        Raises:
            InvalidInputError: as :func:`check_image`, or a label is missing, or its spatial shape differs from the
                image's.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            check_image(image, f"{key!r}")
            for label_key in self.label_keys:
                if label_key in result:
                    _check_same_space(image, result[label_key], f"{key!r}", f"{label_key!r}")
                elif not self.allow_missing_keys:
                    raise InvalidInputError(
                        f"there is no label {label_key!r} among the keys {sorted(map(str, result))}"
                    )
        return result


def _check_same_space(image: NdarrayOrTensor, label: NdarrayOrTensor, image_name: str, label_name: str) -> None:
    """Refuse an image and a label (C, ...) of different spatial shapes."""
    expected, found = tuple(image.shape[1:]), tuple(label.shape[1:])
    if expected != found:
        raise InvalidInputError(
            f"{source_of(image, image_name)} has the spatial shape {expected}, but {source_of(label, label_name)} has "
            f"{found}; expected the same"
        )
