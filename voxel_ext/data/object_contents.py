"""What a network of objects needs to know of the contents of their cubes."""

from __future__ import annotations

from voxel_ext.data.object_crops import CONTENTS
from voxel_ext.data.object_dataset import ObjectDataset
from voxel_ext.errors import InvalidInputError, check_option

_FEATURES = {"mask": "shapef", "masked_image": "texturef", "both": "shape_texturef"}


def object_channels(contents: str) -> tuple[str, ...]:
    """Return the names of the channels of cubes with these contents.

    Args:
        contents: "mask", "masked_image" or "both".

    Raises:
        InvalidInputError: other contents.
    """
    return CONTENTS[check_option("contents", contents, CONTENTS)]


def object_feature_name(contents: str) -> str:
    """Return what the features are called that an autoencoder learns from these contents, as in EManalysis.

    Args:
        contents: "mask" (``shapef``), "masked_image" (``texturef``) or "both" (``shape_texturef``).

    Raises:
        InvalidInputError: other contents.
    """
    return _FEATURES[check_option("contents", contents, _FEATURES)]


def check_prepared_objects(dataset: ObjectDataset, contents: str, size: int) -> None:
    """Refuse objects that were prepared for another network, before any long work.

    Args:
        dataset: the objects.
        contents: those that the network takes.
        size: voxels along each edge of the cubes that it takes.

    Raises:
        InvalidInputError: contents or size are others.
    """
    object_channels(contents)
    found = {"contents": dataset.settings.get("contents"), "size": dataset.item_shape[-1]}
    wanted = {"contents": contents, "size": size}
    for name, value in wanted.items():
        if found[name] != value:
            raise InvalidInputError(
                f"{name}={value!r}, but the objects of {dataset.path} were prepared with {name}={found[name]!r}; set "
                f"{name} to that, or prepare the objects with {name}={value!r} (run prepare)"
            )
