"""Artificial mitochondria as files: an image, exact ids and the classes of shape."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from voxel_ext.data.label_scan import scan_blocks
from voxel_ext.data.object_classes import read_class_table
from voxel_ext.data.prepared_file import read_record
from voxel_ext.data.prepared_folder import describe_difference
from voxel_ext.data.sheet_synthetic import encode_image
from voxel_ext.data.zarr_io import create_image
from voxel_ext.errors import InvalidInputError
from voxel_ext.files import atomic_path, explain_write_errors, locked_folder
from voxel_ext.synthetic.mitochondria import Mitochondria

CHUNK = 64
"""Edge of a chunk in voxels."""

_NM_PER_UM = 1000.0


class MitochondriaFiles(NamedTuple):
    """The files of an artificial volume.

    Attributes:
        image: OME-Zarr (Z, Y, X) uint8.
        labels: OME-Zarr (Z, Y, X) uint32, ids from 1 on, 0 is background.
        classes: CSV file with the columns ``id`` and ``class``.
    """

    image: Path
    labels: Path
    classes: Path


def prepare_synthetic_mitochondria(
    output_dir: str | os.PathLike[str],
    *,
    size: int | Sequence[int] = (256, 256, 256),
    objects: int | Mapping[str, int] = 600,
    volume: Sequence[float] = (0.02, 0.06),
    voxel_size: Sequence[float] = (30, 16, 16),
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> MitochondriaFiles:
    """Write ``image.zarr``, ``labels.zarr`` and ``classes.csv`` of an artificial volume of mitochondria.

    Image and labels are OME-Zarr 0.5 images with their voxel size and the attribute ``settings``. The result depends on
    the settings alone. Files that are there are kept if they were made with the same settings; what is missing, because
    a run was interrupted, is made. See :class:`~voxel_ext.synthetic.mitochondria.Mitochondria` for the objects.

    Args:
        output_dir: the folder. Other files in it are left alone.
        size: (Z, Y, X) in voxels, or one number.
        objects: their number, divided equally among the six classes, or the numbers by class.
        volume: (lowest, highest) of an object in um^3.
        voxel_size: (z, y, x) in nm.
        seed: of the volume, at least 0.
        overwrite: replace files of other settings, or damaged ones.
        progress: show a bar.

    Returns:
        the paths of the files.

    Raises:
        InvalidInputError: a setting is out of range; there is no room for all objects; or files of other settings are
            there, and ``overwrite`` is False.
        OSError: the folder is not writable, or the disk is full.
    """
    generator = Mitochondria(seed, size=size, objects=objects, volume=volume, voxel_size=voxel_size)
    root = Path(output_dir)
    files = MitochondriaFiles(root / "image.zarr", root / "labels.zarr", root / "classes.csv")
    record = {"generator": "Mitochondria", **generator.settings()}
    with locked_folder(root, ".prepare.lock"), explain_write_errors(root):
        difference = _difference(files, record)
        if difference and not overwrite:
            raise InvalidInputError(f"{difference}. Choose another output_dir, or set overwrite=True to replace it")
        if difference or not all(path.exists() for path in files):
            _make(files, generator, record, progress)
    return files


def _difference(files: MitochondriaFiles, record: Mapping[str, Any]) -> str:
    """In what the files there were made otherwise; "" if in nothing."""
    for path in (file for file in files if file.exists()):
        try:
            if path == files.classes:
                read_class_table(path)
            elif text := describe_difference(path, read_record(path), record):
                return text
        except InvalidInputError as error:
            return f"{path} was not made by prepare, or is damaged ({error})"
    return ""


def _make(files: MitochondriaFiles, generator: Mitochondria, record: Mapping[str, Any], progress: bool) -> None:
    """Make the volume and write its files, the labels last: files of two settings are then told by their records."""
    with tqdm(total=4, desc="synthetic mitochondria", unit="step", disable=not progress) as bar:
        volume = generator.generate()
        bar.update()
        size = [length / _NM_PER_UM for length in record["voxel_size"]]
        _write_image(files.image, encode_image(volume["image"], "uint8"), size, record)
        bar.update()
        with atomic_path(files.classes) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("id", "class"), *sorted(volume["classes"].items())])
        bar.update()
        _write_image(files.labels, volume["label"].astype(np.uint32), size, record)
        bar.update()


def _write_image(path: Path, values: NDArray, voxel_size: Sequence[float], record: Mapping[str, Any]) -> None:
    """Write an OME-Zarr image of one level, with what it depends on; the voxel size is in micrometers."""
    with atomic_path(path, directory=True) as temporary:
        stored = create_image(
            temporary, values.shape, values.dtype, (CHUNK,) * 3, voxel_size, {"settings": json.dumps(record)}
        )
        # block by block: of several chunks at once, zarr goes on writing the others after one has failed
        for box in scan_blocks(values.shape, stored.chunks):
            stored[box] = values[box]
