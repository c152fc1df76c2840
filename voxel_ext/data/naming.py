"""Names of output files after the volumes they were made from, and files that belong together by their names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.data.folder_layout import default_name_formatter

from voxel_ext.data.address import CONTAINER_SUFFIXES, VolumeAddress, parse_address
from voxel_ext.errors import InvalidInputError, MissingDataError

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


def files_by_stem(
    folder: str | os.PathLike[str], suffixes: Sequence[str], what: str, optional: bool = False
) -> dict[str, Path]:
    """List the files of a folder by their names without suffix; hidden files are passed over.

    Args:
        folder: where to look, not in its subfolders.
        suffixes: of the names, in lower case; of several that fit, the longest is taken off.
        what: a file belongs to, for messages, e.g. "worm".
        optional: the folder may be missing; nothing is listed then.

    Raises:
        MissingDataError: the folder does not exist.
        InvalidInputError: two files of one name.
    """
    root = Path(folder)
    if not root.is_dir():
        if optional:
            return {}
        raise MissingDataError(f"the folder {str(root)!r} does not exist (current folder: {os.getcwd()})")
    found: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        endings = [suffix for suffix in suffixes if path.name.lower().endswith(suffix)]
        if path.name.startswith(".") or not endings:
            continue
        stem = path.name[: -max(map(len, endings))]
        if stem in found:
            raise InvalidInputError(f"{found[stem]} and {path} both belong to {what} {stem!r}; leave one of them")
        found[stem] = path
    return found
