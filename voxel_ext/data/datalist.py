"""Lists of the volumes in a folder, for MONAI's datasets."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple

from voxel_ext.data.address import CONTAINER_SUFFIXES, VolumeAddress
from voxel_ext.data.container import check_array, describe, get_node, is_array, multiscale_array, open_container
from voxel_ext.errors import InvalidInputError, MissingDataError

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mhd", ".tif", ".tiff")
"""Plain image files that are listed; MONAI's own readers load them."""

Entry = dict[str, str]


def list_volumes(
    dataset_dir: str | os.PathLike[str],
    image_key: str | Sequence[str] = ("raw", "data"),
    label_key: str | Sequence[str] = ("label", "labels"),
    spatial_dims: int = 3,
    require_label: bool = True,
    weight_key: str | Sequence[str] | None = None,
    extra_keys: Mapping[str, str | Sequence[str]] | None = None,
    channels: bool = False,
    optional_keys: Mapping[str, str | Sequence[str]] | None = None,
) -> list[Entry]:
    """List the volumes in a folder (not in its subfolders) or in one file.

    In HDF5 files and zarr stores, an array with one axis more than ``spatial_dims`` is a stack of volumes along its
    first axis, unless ``channels`` says that it is one volume. Plain image files have their label in
    ``<name>_label.<suffix>`` beside them; or the folder has subfolders ``images`` and ``labels`` with files of the same
    names. Hidden files are passed over; HDF5 files and zarr
    stores without an image dataset are, too, with a warning, as long as others have one.

    Args:
        dataset_dir: the folder or file.
        image_key: name of the image dataset, or several to try in this order; the name of an OME-Zarr image in a store
            means its level 0. Level 0 of a store that is an OME-Zarr image is found without a name.
        label_key: likewise for the label.
        spatial_dims: 2 or 3.
        require_label: False to list volumes without a label as well.
        weight_key: likewise for a weight per voxel; None for none. Every volume must have it then. Of plain image files
            it is ``<name>_weight.<suffix>``, or is in the subfolder ``weights``.
        extra_keys: further items that every volume must have, and the name(s) of their datasets, e.g.
            ``{"instances": "instances"}``; HDF5 and zarr only. One without the image's number of axes (or one less, for
            images with channels) is not compared in shape, such as a table; of a stack, it cannot be listed.
        channels: images are (C, D, H, W): an axis more than ``spatial_dims`` holds channels; the labels may have
            one or not. Load them with ``HDF5Reader(channel_dim=0)`` or ``ZarrReader(channel_dim=0)``.
        optional_keys: like ``extra_keys``, of items that a volume may have. Of plain image files they are
            ``<name>_<item>.<suffix>``, or in the subfolder ``<item>s`` (``instances`` for instances).

    Returns:
        one dictionary per volume, sorted by file name and position: ``image`` and, where there are such, ``label``,
        ``weight`` and the extra items (addresses for ``LoadImaged``).

    Raises:
        MissingDataError: the folder does not exist or has no such files; no file has the image dataset, or one has no
            label, weight or extra item (lists the datasets that there are).
        InvalidInputError: image and label differ in shape or number; an array of another rank, empty or not of numbers;
            a damaged file.
    """
    root = Path(dataset_dir)
    images = ensure_tuple(image_key)
    wanted: dict[str, tuple[str, ...]] = {"label": ensure_tuple(label_key)}
    wanted |= {} if weight_key is None else {"weight": ensure_tuple(weight_key)}
    extra = {name: ensure_tuple(key) for name, key in (extra_keys or {}).items()}
    optional = {name: ensure_tuple(key) for name, key in (optional_keys or {}).items()}
    containers, plain = _files(root, (*wanted, *optional))
    if plain and extra:
        raise InvalidInputError(f"extra_keys={sorted(extra)} are for HDF5 files and zarr stores; {root} has {plain[0]}")
    entries: list[Entry] = []
    without: list[str] = []
    for file in containers:
        with open_container(str(file)) as opened:
            image = _find(opened, str(file), images, multiscale_array(opened, VolumeAddress(str(file))))
            if image is None:
                without.append(f"{file} has: {describe(opened)}")
                continue
            items = {}
            for item, keys in {**wanted, **extra, **optional}.items():
                found = _find(opened, str(file), keys, None)
                if found is not None:
                    items[item] = found
                elif item not in optional and (require_label or item != "label"):
                    raise MissingDataError(f"{file} has no {item} dataset {list(keys)}; it has: {describe(opened)}")
            entries += _container_entries(image, items, spatial_dims, channels)
    if without and not entries and not plain:
        raise MissingDataError(f"no file in {root} has an image dataset {list(images)}. " + ". ".join(without))
    for text in without:
        logger.warning("left out, no image dataset %s: %s", list(images), text)
    needed = {item: (require_label or item != "label") and item not in optional for item in (*wanted, *optional)}
    return entries + [_plain_entry(file, root, needed) for file in plain]


def _files(root: Path, items: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """The containers and the plain images in a folder, or the one file."""
    if not root.exists():
        raise MissingDataError(f"dataset_dir {str(root)!r} does not exist (current folder: {os.getcwd()})")
    if root.is_file() or root.name.lower().endswith(CONTAINER_SUFFIXES):
        found = [root]
    else:
        found = sorted(path for path in root.iterdir() if not path.name.startswith("."))
        if (root / "images").is_dir():
            found += sorted(path for path in (root / "images").iterdir() if not path.name.startswith("."))
    containers = [path for path in found if path.name.lower().endswith(CONTAINER_SUFFIXES)]
    plain = [path for path in found if path.is_file() and _plain_stem(path) is not None]
    if root.is_dir():
        plain = [path for path in plain if not str(_plain_stem(path)).endswith(tuple(f"_{item}" for item in items))]
    if not containers and not plain:
        there = ", ".join(path.name for path in found[:10]) or "nothing"
        raise MissingDataError(
            f"dataset_dir {str(root)!r} has no volumes: expected files ending with "
            f"{', '.join(CONTAINER_SUFFIXES + IMAGE_SUFFIXES)}; there is: {there}"
        )
    return containers, plain


def _find(root: Any, file: str, keys: Sequence[str], default: Any | None) -> tuple[VolumeAddress, Any] | None:
    """The first of some datasets, or OME-Zarr images, that is there, as address and array."""
    for key in keys:
        address = VolumeAddress(file, key.strip("/"))
        node = get_node(root, key)
        array = node if node is None or is_array(node) else multiscale_array(node, address)
        if array is not None:
            return address, array
    return None if default is None else (VolumeAddress(file, default.name.strip("/")), default)


def _container_entries(
    image: tuple[VolumeAddress, Any], items: Mapping[str, tuple[VolumeAddress, Any]], spatial_dims: int, channels: bool
) -> list[Entry]:
    address, array = image
    check_array(array, address)
    if len(array.shape) - spatial_dims not in (0, 1):
        raise InvalidInputError(
            f"{address} has shape {tuple(array.shape)}; expected {spatial_dims} axes, or {spatial_dims + 1} "
            f"for {'an image with channels' if channels else 'a stack of volumes'} (spatial_dims={spatial_dims})"
        )
    for name, (other, values) in items.items():
        if name in ("label", "weight") or len(values.shape) in (spatial_dims, spatial_dims + 1):
            _check_item(address, array, other, values, spatial_dims, channels)
    stacked = len(array.shape) > spatial_dims and not channels
    addresses = {"image": address, **{name: other for name, (other, _) in items.items()}}
    for name, (other, values) in items.items():
        if stacked and tuple(values.shape[:1]) != tuple(array.shape[:1]):
            raise InvalidInputError(f"{other} ({name}) has shape {tuple(values.shape)}, for {array.shape[0]} volumes")
    return [
        {name: str(VolumeAddress(part.file, part.key, index)) for name, part in addresses.items()}
        for index in (range(array.shape[0]) if stacked else [None])
    ]


def _check_item(
    image: VolumeAddress, array: Any, other: VolumeAddress, values: Any, spatial_dims: int, channels: bool
) -> None:
    """Refuse a label or the like that does not fit the image."""
    check_array(values, other)
    shape, other_shape = tuple(array.shape), tuple(values.shape)
    if shape == other_shape or (channels and shape[-spatial_dims:] == other_shape[-spatial_dims:]):
        return
    if len(shape) == len(other_shape) == spatial_dims + 1 and shape[1:] == other_shape[1:]:
        raise InvalidInputError(
            f"{image} is a stack of {shape[0]} volumes but {other} of {other_shape[0]} (shapes {shape}, {other_shape})"
        )
    raise InvalidInputError(f"{image} has shape {shape} but {other} has shape {other_shape}; they must be equal")


def _plain_stem(file: Path) -> str | None:
    """File name without the suffix of a plain image, or None if it is none."""
    for suffix in sorted(IMAGE_SUFFIXES, key=len, reverse=True):
        if file.name.lower().endswith(suffix):
            return file.name[: -len(suffix)]
    return None


def _plain_entry(image: Path, root: Path, needed: Mapping[str, bool]) -> Entry:
    """The entry of an image file with the files of its items; those that are needed must be there."""
    stem = _plain_stem(image) or ""
    entry = {"image": str(image)}
    for item, must in needed.items():
        if image.parent != root and image.parent.parent == root:
            file = root / f"{item.removesuffix('s')}s" / image.name
        else:
            file = image.with_name(f"{stem}_{item}{image.name[len(stem) :]}")
        if file.is_file():
            entry[item] = str(file)
        elif must:
            raise MissingDataError(f"{image} has no {item}: {file} does not exist")
    return entry
