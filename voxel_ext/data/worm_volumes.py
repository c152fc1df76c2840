"""Finding a worm's image, label volume and coordinate file, and loading one channel as (Z, Y, X)."""

from __future__ import annotations

import logging
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ITKReader, NibabelReader
from numpy.typing import NDArray

from voxel_ext.data.address import CONTAINER_SUFFIXES, VolumeAddress
from voxel_ext.data.container import READ_ERRORS, check_array, find_array, open_container
from voxel_ext.data.itk_headers import check_itk_header
from voxel_ext.data.lazy_images import nifti_errors
from voxel_ext.data.naming import files_by_stem
from voxel_ext.data.tiff_headers import check_tiff
from voxel_ext.data.vaa3d import SUFFIXES as VAA3D_SUFFIXES
from voxel_ext.data.vaa3d import open_vaa3d
from voxel_ext.data.worm_cubes import channel_index, select_channel
from voxel_ext.errors import InvalidInputError, MissingDataError

logger = logging.getLogger(__name__)

NIFTI_SUFFIXES = (".nii", ".nii.gz")
ITK_SUFFIXES = (".nrrd", ".tif", ".tiff")
VOLUME_SUFFIXES = VAA3D_SUFFIXES + NIFTI_SUFFIXES + ITK_SUFFIXES + CONTAINER_SUFFIXES
"""The formats of images and label volumes."""


@dataclass(frozen=True)
class WormSource:
    """The files of one worm.

    Args:
        name: the worm's, which is that of its files without their suffixes.
        image: the intensity volume.
        label: the label volume; None if none is wanted.
        table: the coordinate file.
    """

    name: str
    image: Path
    label: Path | None
    table: Path

    def describe(self) -> dict[str, Any]:
        """Names of the files, with the volumes' sizes and the coordinates' CRC-32, to notice that they changed."""
        volumes = {"image": self.image, "label": self.label}
        return {
            **{kind: [path.name, _size(path)] if path else None for kind, path in volumes.items()},
            "coordinates": [self.table.name, zlib.crc32(self.table.read_bytes())],
        }


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def list_worms(
    image_dir: str | os.PathLike[str],
    label_dir: str | os.PathLike[str] | None,
    coordinate_dir: str | os.PathLike[str],
) -> tuple[list[WormSource], list[str]]:
    """Match images, label volumes and coordinate files by their names without suffixes.

    Args:
        image_dir: folder of the images, ``<worm>`` with one of :data:`VOLUME_SUFFIXES`.
        label_dir: folder of the label volumes; None for none.
        coordinate_dir: folder of the coordinate files, ``<worm>.txt``.

    Returns:
        the worms that have both an image and a coordinate file, sorted by name, and the names of those that have only
        one of them, which are passed over with a warning.

    Raises:
        MissingDataError: a folder does not exist, or no worm has both files, or a worm has no label volume.
        InvalidInputError: two files of a folder belong to the same worm.
    """
    images, tables = files_by_stem(image_dir, VOLUME_SUFFIXES, "worm"), files_by_stem(coordinate_dir, (".txt",), "worm")
    labels = {} if label_dir is None else files_by_stem(label_dir, VOLUME_SUFFIXES, "worm")
    names = sorted(images.keys() & tables.keys())
    if not names:
        raise MissingDataError(
            f"no worm has both an image in {image_dir} ({len(images)} volumes: {_some(images)}) and a coordinate file "
            f"of the same name in {coordinate_dir} ({len(tables)} files .txt: {_some(tables)})"
        )
    without = [name for name in names if label_dir is not None and name not in labels]
    if without:
        raise MissingDataError(
            f"{len(without)} worms have no label volume in {label_dir}: {_some(without)}; expected files of the same "
            f"names as the images, ending with one of {', '.join(VOLUME_SUFFIXES)}"
        )
    alone = sorted(images.keys() ^ tables.keys())
    if alone:
        logger.warning("%d worms lack an image or a coordinate file and are passed over: %s", len(alone), _some(alone))
    return [WormSource(name, images[name], labels.get(name), tables[name]) for name in names], alone


def _some(names: Any) -> str:
    listed = sorted(names)
    return (", ".join(listed[:5]) or "none") + (" …" if len(listed) > 5 else "")


def load_volume(path: str | os.PathLike[str], channel: int | None = None) -> NDArray:
    """Load one channel of a volume with the axes (Z, Y, X), x running fastest in the file.

    Vaa3D, HDF5 and zarr hold (Z, Y, X) or (C, Z, Y, X) and are taken as stored; Vaa3D is memory-mapped, of HDF5 and
    zarr one channel is read. NIfTI, NRRD and TIFF come from MONAI's readers as (X, Y, Z) or (X, Y, Z, C), as is usual
    there, and are transposed. Affines are not looked at.

    Args:
        path: a file, with one of :data:`VOLUME_SUFFIXES`.
        channel: which one; by default the third if there are three or more, else the first.

    Returns:
        (Z, Y, X) in the file's data type, perhaps memory-mapped.

    Raises:
        MissingDataError: there is no such file, or no dataset in it.
        InvalidInputError: a damaged file, another number of axes, no such channel, several datasets in a file.
    """
    name = os.fspath(path).lower()
    if name.endswith(VAA3D_SUFFIXES):
        return select_channel(open_vaa3d(path), channel, os.fspath(path))
    if name.endswith(CONTAINER_SUFFIXES):
        return _load_container(os.fspath(path), channel)
    return select_channel(load_plain(Path(path)), channel, os.fspath(path))


def load_labels(path: str | os.PathLike[str]) -> NDArray:
    """Load a label volume (Z, Y, X) as integers; see :func:`load_volume`.

    Raises:
        MissingDataError: as :func:`load_volume`.
        InvalidInputError: as :func:`load_volume`; or values that are negative or not whole.
    """
    labels = load_volume(path, 0)
    if labels.dtype.kind in "bu":
        return labels
    low, high = float(labels.min()), float(labels.max())
    if not 0 <= low <= high < 2**32 or (labels.dtype.kind == "f" and not np.array_equal(labels, np.rint(labels))):
        raise InvalidInputError(
            f"{path} has values from {low:g} to {high:g}, {labels.dtype}; expected whole instance labels from 0 on"
        )
    return labels.astype(np.uint32) if labels.dtype.kind == "f" else labels


def _load_container(path: str, channel: int | None) -> NDArray:
    address = VolumeAddress(path)
    with open_container(path) as root:
        array = _single_array(root, address)
        check_array(array, address)
        if len(array.shape) not in (3, 4):
            raise InvalidInputError(f"{address} has shape {tuple(array.shape)}; expected (Z, Y, X) or (C, Z, Y, X)")
        counted = array.shape[0] if len(array.shape) == 4 else 1
        index = channel_index(counted, channel, f"{address} of shape {tuple(array.shape)}")
        try:
            return np.asarray(array[index] if len(array.shape) == 4 else array[:])
        except READ_ERRORS as error:
            raise InvalidInputError(f"{address} cannot be read, the file is damaged ({error})") from error


def _single_array(root: Any, address: VolumeAddress) -> Any:
    """The only array of the container, or ``raw``, ``data``, ``label`` or ``labels`` in it."""
    for key in ("raw", "data", "label", "labels"):
        try:
            return find_array(root, address, (key,), True)
        except MissingDataError:
            continue
    return find_array(root, address, (), True)


def load_plain(path: Path) -> NDArray:
    """Load a NIfTI, NRRD or TIFF volume with all its channels.

    Args:
        path: the file.

    Returns:
        (Z, Y, X) or (C, Z, Y, X) in the file's data type.

    Raises:
        MissingDataError: there is no such file.
        InvalidInputError: it is damaged, of another format, empty, or not of numbers.
    """
    if not path.exists():
        raise MissingDataError(f"{path} does not exist (current folder: {os.getcwd()})")
    check_itk_header(path)
    check_tiff(path)
    reader = NibabelReader() if path.name.lower().endswith(NIFTI_SUFFIXES) else ITKReader()
    damaged: tuple[type[Exception], ...] = (*nifti_errors(), *READ_ERRORS)
    try:
        array = np.asarray(reader.get_data(reader.read(str(path)))[0])
    except damaged as error:
        if isinstance(error, PermissionError):
            raise
        raise InvalidInputError(f"{path} cannot be read: damaged, or of another format ({error})") from error
    if array.dtype.kind not in "biuf" or math.prod(array.shape) == 0:
        raise InvalidInputError(f"{path} has shape {array.shape} and dtype {array.dtype}; expected numbers")
    return np.moveaxis(array, -1, 0).transpose(0, 3, 2, 1) if array.ndim == 4 else array.T
