"""Lists of the volumes in a folder, for MONAI's datasets."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple

from voxel_ext.data.address import CONTAINER_SUFFIXES, VolumeAddress
from voxel_ext.data.container import check_array, describe, get_array, multiscale_array, open_container
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
) -> list[Entry]:
    """List the volumes in a folder (not in its subfolders) or in one file.

    In HDF5 files and zarr stores, an array with one axis more than ``spatial_dims`` is a stack of volumes along its
    first axis. Plain image files have their label in ``<name>_label.<suffix>`` beside them; or the folder has
    subfolders ``images`` and ``labels`` with files of the same names. Hidden files are passed over; HDF5 files and zarr
    stores without an image dataset are, too, with a warning, as long as others have one.

    Args:
        dataset_dir: the folder or file.
        image_key: name of the image dataset, or several to try in this order. Level 0 of an OME-Zarr image is found
            without a name.
        label_key: likewise for the label.
        spatial_dims: 2 or 3.
        require_label: False to list volumes without a label as well.

    Returns:
        one dictionary per volume, sorted by file name and position: ``image`` and, where there is one, ``label``
        (addresses for ``LoadImaged``).

    Raises:
        MissingDataError: the folder does not exist or has no such files; no file has the image dataset, or one has no
            label (lists the datasets that there are).
        InvalidInputError: image and label differ in shape or number; an array of another rank, empty or not of numbers;
            a damaged file.
    """
    root = Path(dataset_dir)
    images, labels = ensure_tuple(image_key), ensure_tuple(label_key)
    containers, plain = _files(root)
    entries: list[Entry] = []
    without: list[str] = []
    for file in containers:
        with open_container(str(file)) as opened:
            image = _find(opened, str(file), images, multiscale_array(opened, VolumeAddress(str(file))))
            if image is None:
                without.append(f"{file} has: {describe(opened)}")
                continue
            label = _find(opened, str(file), labels, None)
            if label is None and require_label:
                raise MissingDataError(f"{file} has no label dataset {list(labels)}; it has: {describe(opened)}")
            entries += _container_entries(image, label, spatial_dims)
    if without and not entries and not plain:
        raise MissingDataError(f"no file in {root} has an image dataset {list(images)}. " + ". ".join(without))
    for text in without:
        logger.warning("left out, no image dataset %s: %s", list(images), text)
    return entries + [_plain_entry(file, root, require_label) for file in plain]


def _files(root: Path) -> tuple[list[Path], list[Path]]:
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
        plain = [path for path in plain if not str(_plain_stem(path)).endswith("_label")]
    if not containers and not plain:
        there = ", ".join(path.name for path in found[:10]) or "nothing"
        raise MissingDataError(
            f"dataset_dir {str(root)!r} has no volumes: expected files ending with "
            f"{', '.join(CONTAINER_SUFFIXES + IMAGE_SUFFIXES)}; there is: {there}"
        )
    return containers, plain


def _find(root: Any, file: str, keys: Sequence[str], default: Any | None) -> tuple[VolumeAddress, Any] | None:
    """The first of some datasets that is there, as address and array."""
    for key in keys:
        array = get_array(root, key)
        if array is not None:
            return VolumeAddress(file, key.strip("/")), array
    return None if default is None else (VolumeAddress(file, default.name.strip("/")), default)


def _container_entries(
    image: tuple[VolumeAddress, Any], label: tuple[VolumeAddress, Any] | None, spatial_dims: int
) -> list[Entry]:
    address, array = image
    check_array(array, address)
    if len(array.shape) - spatial_dims not in (0, 1):
        raise InvalidInputError(
            f"{address} has shape {tuple(array.shape)}; expected {spatial_dims} axes, or {spatial_dims + 1} "
            f"for a stack of volumes (spatial_dims={spatial_dims})"
        )
    if label is not None:
        _check_label(address, array, label[0], label[1], spatial_dims)
    stacked = len(array.shape) > spatial_dims
    entries = []
    for index in range(array.shape[0]) if stacked else [None]:
        entry = {"image": str(VolumeAddress(address.file, address.key, index))}
        if label is not None:
            entry["label"] = str(VolumeAddress(label[0].file, label[0].key, index))
        entries.append(entry)
    return entries


def _check_label(image: VolumeAddress, array: Any, label: VolumeAddress, labels: Any, spatial_dims: int) -> None:
    check_array(labels, label)
    shape, label_shape = tuple(array.shape), tuple(labels.shape)
    if shape == label_shape:
        return
    if len(shape) == len(label_shape) == spatial_dims + 1 and shape[1:] == label_shape[1:]:
        raise InvalidInputError(
            f"{image} is a stack of {shape[0]} volumes but {label} of {label_shape[0]} (shapes {shape}, {label_shape})"
        )
    raise InvalidInputError(f"{image} has shape {shape} but {label} has shape {label_shape}; they must be equal")


def _plain_stem(file: Path) -> str | None:
    """File name without the suffix of a plain image, or None if it is none."""
    for suffix in sorted(IMAGE_SUFFIXES, key=len, reverse=True):
        if file.name.lower().endswith(suffix):
            return file.name[: -len(suffix)]
    return None


def _plain_entry(image: Path, root: Path, require_label: bool) -> Entry:
    stem = _plain_stem(image) or ""
    if image.parent != root and image.parent.parent == root:
        label = root / "labels" / image.name
    else:
        label = image.with_name(f"{stem}_label{image.name[len(stem) :]}")
    if not label.is_file():
        if require_label:
            raise MissingDataError(f"{image} has no label: {label} does not exist")
        return {"image": str(image)}
    return {"image": str(image), "label": str(label)}
