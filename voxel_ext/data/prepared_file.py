"""Prepared HDF5 files: writing them, and telling whether one is there that was made with the same settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from voxel_ext.data.container import VOXEL_SIZE_ATTRIBUTE
from voxel_ext.data.hdf5 import read_hdf5, write_hdf5
from voxel_ext.data.preparation import MARKER
from voxel_ext.data.preparation_plan import differing_settings
from voxel_ext.errors import InvalidInputError
from voxel_ext.files import atomic_path


def write_prepared(
    path: Path, datasets: Mapping[str, NDArray], record: dict[str, Any], size: Sequence[float] | None = None
) -> None:
    """Write a prepared file, replacing what is there.

    Args:
        path: the file.
        datasets: (D, H, W) arrays by name.
        record: what the file depends on; stored as JSON in the attribute ``settings``.
        size: voxel size (z, y, x) in micrometers, or None.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_path(path) as temporary, write_hdf5(temporary) as (file, _):
        file.attrs["settings"] = json.dumps(record)
        for name, array in datasets.items():
            chunks = tuple(min(length, 32) for length in array.shape)
            dataset = file.create_dataset(name, data=array, chunks=chunks, compression="gzip", compression_opts=1)
            if size is not None:
                dataset.attrs[VOXEL_SIZE_ATTRIBUTE] = size


def is_missing(path: Path, record: dict[str, Any], overwrite: bool) -> bool:
    """Whether a prepared file is still to be made.

    Args:
        path: the file.
        record: what it depends on.
        overwrite: make it again if it was made with other settings or is damaged.

    Raises:
        InvalidInputError: without ``overwrite``, it was made with other settings (says which), or is damaged.
    """
    if not path.exists():
        return True
    try:
        with read_hdf5(path) as file:
            there = json.loads(file.attrs["settings"])
        differences = "; ".join(differing_settings(there, json.loads(json.dumps(record))))
        reason = f"{path} was made with other settings: {differences}" if differences else ""
    except (InvalidInputError, KeyError, ValueError) as error:
        reason = f"{path} was not made by prepare, or is damaged ({error})"
    if reason and not overwrite:
        raise InvalidInputError(f"{reason}. Choose another output_dir, or set overwrite=True to replace it")
    return bool(reason)


def write_marker(root: Path, names: Sequence[str]) -> None:
    """Write the file that tells that a folder of prepared files is complete.

    Args:
        root: the folder.
        names: its files, relative to it.
    """
    text = json.dumps({"complete": True, "files": list(names)}, indent=2) + "\n"
    if not (root / MARKER).exists() or (root / MARKER).read_text() != text:
        with atomic_path(root / MARKER) as temporary:
            temporary.write_text(text)
