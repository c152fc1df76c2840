"""Finding images and their label volumes, and loading them as (Z, Y, X) with the voxel size."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ITKReader
from numpy.typing import NDArray

from voxel_ext.data.address import CONTAINER_SUFFIXES, VolumeAddress
from voxel_ext.data.container import READ_ERRORS, check_array, describe, get_array, open_container, voxel_size
from voxel_ext.data.itk_headers import check_itk_header
from voxel_ext.data.lazy_images import nifti_errors
from voxel_ext.data.lazy_sources import explain_open_errors
from voxel_ext.data.tiff_headers import check_tiff
from voxel_ext.errors import InvalidInputError, MissingDataError

PLAIN_SUFFIXES = (".mhd", ".mha", ".nrrd", ".nii", ".nii.gz", ".tif", ".tiff")
"""Formats that ITK reads."""

NIFTI_SUFFIXES = (".nii", ".nii.gz")

Size = tuple[float, float, float]
"""Of a voxel, (z, y, x), in micrometers."""

IMAGE_ENDING, LABEL_ENDING = "_img", "_label"


@dataclass(frozen=True)
class VolumePair:
    """An image and its label volume.

    Args:
        name: of both.
        image: file of the image.
        label: file of the labels; the same for an HDF5 file or zarr store that holds both.
    """

    name: str
    image: Path
    label: Path

    def describe(self) -> dict[str, Any]:
        """Names and sizes of the files, to notice that they changed (a store that is a folder: its name)."""
        return {
            kind: [path.name, path.stat().st_size if path.is_file() else None]
            for kind, path in (("image", self.image), ("label", self.label))
        }


@dataclass(frozen=True)
class Volume:
    """A volume in memory.

    Args:
        array: (Z, Y, X).
        voxel_size: (z, y, x) in micrometers as the file says; None if it does not.
        source: the file, with the dataset in it.
    """

    array: NDArray
    voxel_size: Size | None
    source: str


def list_pairs(folder: str | os.PathLike[str]) -> list[VolumePair]:
    """Match images and label volumes in a folder.

    Either the folder has subfolders ``images`` and ``labels`` with files of equal names, whatever their suffixes. Or
    the label volume of ``<name>_img.<suffix>`` or ``<name>.<suffix>`` is ``<name>_label.<suffix>``, again with any
    suffixes; an HDF5 file or a zarr store without such a file beside it holds its own labels.

    Args:
        folder: has the files; hidden ones are passed over.

    Returns:
        the pairs sorted by name.

    Raises:
        MissingDataError: no such folder, no volumes, or a volume without its partner (lists them).
        InvalidInputError: two files of one name.
    """
    root = Path(folder)
    if not root.is_dir():
        raise MissingDataError(f"the folder {str(root)!r} does not exist (current folder: {os.getcwd()})")
    if (root / "images").is_dir():
        images, labels = _by_name(_volumes(root / "images")), _by_name(_volumes(root / "labels"))
        alone = images.keys() ^ labels.keys()
    else:
        files = _volumes(root)
        labels = _by_name((stem, path) for stem, path in files if stem.endswith(LABEL_ENDING))
        images = _by_name((stem, path) for stem, path in files if not stem.endswith(LABEL_ENDING))
        own = {name: path for name, path in images.items() if path.name.lower().endswith(CONTAINER_SUFFIXES)}
        labels = {**own, **labels}
        alone = images.keys() ^ labels.keys()
    if alone:
        listed = ", ".join(str(images.get(name) or labels.get(name)) for name in sorted(alone)[:10])
        raise MissingDataError(
            f"{len(alone)} volumes in {root} have no partner: {listed}; expected images/<name> and labels/<name>, or "
            "<name>_img and <name>_label, or HDF5 files and zarr stores with image and labels"
        )
    if not images:
        expected = ", ".join(PLAIN_SUFFIXES + CONTAINER_SUFFIXES)
        raise MissingDataError(f"{root} has no volumes; expected files that end with {expected}")
    return [VolumePair(name, images[name], labels[name]) for name in sorted(images)]


def _volumes(folder: Path) -> list[tuple[str, Path]]:
    """The volumes of a folder, which may be missing, with their names without suffix."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        endings = [s for s in PLAIN_SUFFIXES + CONTAINER_SUFFIXES if path.name.lower().endswith(s)]
        if endings and not path.name.startswith("."):
            found.append((path.name[: -max(map(len, endings))], path))
    return found


def _by_name(files: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for stem, path in files:
        name = stem.removesuffix(LABEL_ENDING).removesuffix(IMAGE_ENDING)
        if name in named:
            raise InvalidInputError(f"{named[name]} and {path} are both the volume {name!r}; leave one of them")
        named[name] = path
    return named


def load_zyx(path: str | os.PathLike[str], keys: Sequence[str], channel: int | None = None) -> Volume:
    """Load a volume with the axes (Z, Y, X), x running fastest in the file.

    HDF5 and zarr are taken as stored, (Z, Y, X) or (C, Z, Y, X). Of the other formats, which ITK reads, the image's
    first index is x; directions are not looked at. Their voxel size is taken to be in micrometers, but that of NIfTI is
    in the unit that its header names.

    Args:
        path: the file.
        keys: names of the dataset in an HDF5 file or zarr store, to try in this order.
        channel: which one of several; an HDF5 file or zarr store with one needs none.

    Raises:
        MissingDataError: there is no such file or dataset.
        InvalidInputError: damaged, empty, of another number of axes, several channels and none chosen.
    """
    name = os.fspath(path)
    if name.lower().endswith(CONTAINER_SUFFIXES):
        return _load_container(name, keys, channel)
    if not os.path.exists(name):
        raise MissingDataError(f"{name} does not exist (current folder: {os.getcwd()})")
    check_itk_header(name)
    check_tiff(name)
    try:
        reader = ITKReader(reverse_indexing=True)
        image = reader.read(name)
        array = np.array(reader.get_data(image)[0])  # a copy: the reader's array ends with the ITK image
    except READ_ERRORS as error:
        if isinstance(error, PermissionError):
            raise
        raise InvalidInputError(f"{name} cannot be read: damaged, or of another format ({error})") from error
    if array.ndim != 3 or array.size == 0 or array.dtype.kind not in "biuf":
        raise InvalidInputError(
            f"{name} has shape {array.shape} and data type {array.dtype}; expected (Z, Y, X) numbers"
        )
    unit = _nifti_unit(name) if name.lower().endswith(NIFTI_SUFFIXES) else 1.0
    spacing = [float(step) * unit for step in image.GetSpacing()]
    return Volume(array, (spacing[2], spacing[1], spacing[0]), name)


def _nifti_unit(path: str) -> float:
    """Micrometers in what ITK gives as the voxel size, which is millimeters if the header names a unit."""
    import nibabel

    with explain_open_errors(path, "NIfTI", *nifti_errors()):
        header: Any = nibabel.load(path).header
        return 1.0 if header.get_xyzt_units()[0] == "unknown" else 1000.0


def _load_container(file: str, keys: Sequence[str], channel: int | None) -> Volume:
    with open_container(file) as root:
        key = next((key for key in keys if get_array(root, key) is not None), None)
        if key is None:
            raise MissingDataError(f"{file} has none of the datasets {list(keys)}; it has: {describe(root)}")
        array, address = get_array(root, key), VolumeAddress(file, key.strip("/"))
        assert array is not None
        check_array(array, address)
        index = _channel_index(tuple(array.shape), channel, str(address))
        size = voxel_size(root, array, address)
        try:
            values = np.asarray(array[index])
        except READ_ERRORS as error:
            raise InvalidInputError(f"{address} cannot be read, the file is damaged ({error})") from error
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return Volume(values, None if size is None else (size[-3], size[-2], size[-1]), str(address))


def _channel_index(shape: tuple[int, ...], channel: int | None, address: str) -> Any:
    """What to read of an array (Z, Y, X) or (C, Z, Y, X)."""
    if len(shape) == 3:
        return ...
    if len(shape) != 4:
        raise InvalidInputError(f"{address} has shape {shape}; expected (Z, Y, X) or (C, Z, Y, X)")
    if channel is None and shape[0] > 1:
        raise InvalidInputError(f"{address} has {shape[0]} channels (shape {shape}); choose one by the option channel")
    if not 0 <= (channel or 0) < shape[0]:
        raise InvalidInputError(f"channel={channel} of {address} with shape {shape}; expected 0 to {shape[0] - 1}")
    return channel or 0
