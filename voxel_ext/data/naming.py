"""Names of output files after the volumes they were made from."""

from __future__ import annotations

import os
from typing import Any

from monai.data.folder_layout import default_name_formatter

from voxel_ext.data.address import CONTAINER_SUFFIXES, VolumeAddress, parse_address

USUAL_KEYS = ("", "raw", "data", "0")
"""Dataset names that say nothing about the volume ("0" is level 0 of an OME-Zarr image)."""


def subject_name(address: VolumeAddress) -> str:
    """A name for a volume: its file's name, with the dataset if that is an unusual one, and with the selection.

    ``vols/1135_mini.h5/raw`` gives ``1135_mini``, ``val.h5/data[3]`` ``val_0003``, ``a.h5/raw[0:80]`` ``a_0000-0080``,
    ``a.h5/t1/ch2`` ``a_t1_ch2``, ``a.nii.gz`` ``a``.
    """
    name, _ = _split_suffix(os.path.basename(address.file.rstrip("/")))
    if address.key not in USUAL_KEYS:
        name += "_" + address.key.replace("/", "_")
    if isinstance(address.selection, tuple):
        return f"{name}_{address.selection[0]:04d}-{address.selection[1]:04d}"
    return name if address.selection is None else f"{name}_{address.selection:04d}"


def volume_name(metadict: dict | None, saver: Any) -> dict[str, Any]:
    """Name an output file after the address of its input; an ``output_name_formatter`` for MONAI's ``SaveImage(d)``.

    The default of MONAI would name ``vols.h5/data[3]`` as ``data[3]``.

    Args:
        metadict: the image's metadata; ``filename_or_obj`` is the address.
        saver: the transform that saves, for the running number where there is no metadata.

    Returns:
        for ``FolderLayout.filename``: ``subject`` (see ``subject_name``; after the input's folder, which MONAI drops
        unless it has a ``data_root_dir``) and ``idx`` (the patch index).
    """
    names = default_name_formatter(metadict or {}, saver)
    address = parse_address(names["subject"])
    name = subject_name(address)
    if "." in name:  # FolderLayout cuts off what follows the last dot
        name += _split_suffix(address.file.rstrip("/"))[1] or ".volume"
    return {**names, "subject": os.path.join(os.path.dirname(address.file), name)}


def _split_suffix(file: str) -> tuple[str, str]:
    """Split a file name into stem and suffix; ``.nii.gz`` and the like are one suffix."""
    stem, suffix = os.path.splitext(file)
    if suffix == ".gz":
        stem, first = os.path.splitext(stem)
        suffix = first + suffix
    elif suffix and suffix.lower() not in CONTAINER_SUFFIXES and suffix[1:].isdigit():
        return file, ""  # the fraction of a number, as in sample_0.5
    return stem, suffix
