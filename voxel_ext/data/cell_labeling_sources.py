"""Finding an animal's image, ROI volume and tables, and loading the volumes as (C, D, H, W) and (D, H, W)."""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.address import CONTAINER_SUFFIXES, VolumeAddress
from voxel_ext.data.cell_labeling_file import DEFAULT_CHANNELS
from voxel_ext.data.container import READ_ERRORS, check_array, find_array, get_array, open_container
from voxel_ext.data.itk_headers import check_itk_header
from voxel_ext.data.naming import files_by_stem
from voxel_ext.data.tiff_headers import check_tiff
from voxel_ext.data.worm_volumes import load_plain
from voxel_ext.errors import InvalidInputError, MissingDataError

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".nrrd", ".nii", ".nii.gz", ".tif", ".tiff", *CONTAINER_SUFFIXES)
TABLE_SUFFIXES = (".csv", ".tsv")
IMAGE_KEYS = ("raw", "data", "image")
ROI_KEYS = ("roi", "rois", "label", "labels")


@dataclass(frozen=True)
class CellSource:
    """The files of one animal.

    Args:
        name: that of its files without their suffixes.
        image: the image.
        roi: the ROI volume; the image's own file if that has both.
        labels: the annotator's table; None for an animal to be labeled.
        truth: the table of true names, if they are known.
    """

    name: str
    image: Path
    roi: Path
    labels: Path | None = None
    truth: Path | None = None

    def describe(self) -> dict[str, Any]:
        """Names of the files with the volumes' sizes and the tables' CRC-32, to notice that they changed."""
        volumes = {"image": self.image, "roi": self.roi}
        tables = {"labels": self.labels, "truth": self.truth}
        return {
            **{kind: [path.name, path.stat().st_size if path.is_file() else None] for kind, path in volumes.items()},
            **{kind: [path.name, zlib.crc32(path.read_bytes())] for kind, path in tables.items() if path},
        }


def list_cell_sources(folder: str | os.PathLike[str]) -> list[CellSource]:
    """Match the files in ``images/``, ``rois/``, ``labels/`` and ``truth/`` by their names without suffixes.

    Args:
        folder: with ``images/<animal>.<nrrd, nii, nii.gz, tif, h5, zarr>``; ``rois/`` of the same formats, where an
            image file does not hold its ROIs itself (HDF5 or zarr with ``roi`` beside ``raw``); ``labels/<animal>.csv``
            or ``.tsv``, unless the animals are to be labeled; and ``truth/<animal>.csv`` where the truth is known.

    Returns:
        the animals, sorted by name.

    Raises:
        MissingDataError: a folder or file is not there (names the files).
        InvalidInputError: two files of a folder belong to the same animal.
    """
    root = Path(folder)
    images = files_by_stem(root / "images", IMAGE_SUFFIXES, "animal")
    if not images:
        raise MissingDataError(f"{root / 'images'} has no images; expected files {', '.join(IMAGE_SUFFIXES)}")
    rois = files_by_stem(root / "rois", IMAGE_SUFFIXES, "animal", optional=True)
    labels = files_by_stem(root / "labels", TABLE_SUFFIXES, "animal", optional=True)
    truth = files_by_stem(root / "truth", TABLE_SUFFIXES, "animal", optional=True)
    problems = []
    if labels or (root / "labels").is_dir():
        unlabeled = sorted(images.keys() - labels.keys())
        problems = [f"{images[name]}: no table {root / 'labels' / name}.csv" for name in unlabeled]
    for name, path in images.items():
        if name not in rois and _holds_rois(path):
            rois[name] = path
        elif name not in rois:
            problems.append(f"{path}: no ROI volume {root / 'rois' / name}.*, and no dataset 'roi' in the image's file")
    if problems:
        raise MissingDataError(f"{len(problems)} files are missing in {root}:\n" + "\n".join(sorted(problems)))
    for kind, files in (("rois", rois), ("labels", labels), ("truth", truth)):
        alone = sorted(str(files[name]) for name in files.keys() - images.keys())
        if alone:
            logger.warning("%d files of %s have no image and are passed over: %s", len(alone), kind, ", ".join(alone))
    return [
        CellSource(name, path, rois[name], labels.get(name), truth.get(name)) for name, path in sorted(images.items())
    ]


def _holds_rois(path: Path) -> bool:
    if not path.name.lower().endswith(CONTAINER_SUFFIXES):
        return False
    with open_container(str(path)) as root:
        return any(get_array(root, key) is not None for key in ROI_KEYS)


def load_cell_image(path: Path, channels: Sequence[str] | None) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Load an image and the names of its channels.

    HDF5 and zarr are taken as stored, (C, D, H, W) or (D, H, W), from the dataset ``raw``, ``data``, ``image`` or the
    only one; so is TIFF, unless its metadata tell the order of the axes. NIfTI and NRRD, (W, H, D, C) or (W, H, D) by
    their convention, are transposed.

    Args:
        path: the file.
        channels: names; if None, the attribute ``channels`` (JSON) of an HDF5 file, else the four of NeuroPAL.

    Returns:
        (C, D, H, W), uint16 if the values are whole numbers from 0 to 65535 of an integer type, else float32; names.

    Raises:
        MissingDataError: no such file, or no such dataset in it.
        InvalidInputError: damaged; not of numbers; another rank; NaN or infinite; another number of channels.
    """
    image, stored = _load(path, IMAGE_KEYS)
    image = image[None] if image.ndim == 3 else image
    names = tuple(channels) if channels is not None else stored or DEFAULT_CHANNELS
    if len(names) != len(image):
        raise InvalidInputError(
            f"{path} has {len(image)} channels (shape {image.shape}), expected {len(names)}: {', '.join(names)}; name "
            "those that it has by the option channels"
        )
    if image.dtype.kind in "bu" and image.dtype.itemsize <= 2:
        return image.astype(np.uint16, copy=False), names
    if image.dtype.kind in "iu" and image.min() >= 0 and image.max() <= np.iinfo(np.uint16).max:
        return image.astype(np.uint16), names
    image = image.astype(np.float32, copy=False)
    if not np.isfinite(image).all():
        raise InvalidInputError(f"{path} has NaN or infinite values; replace them")
    return image, names


def load_roi_volume(path: Path) -> NDArray[Any]:
    """Load a volume of ROI ids; see :func:`load_cell_image`, the dataset is ``roi``, ``rois`` or ``label``.

    Returns:
        (D, H, W) uint16, or int32 where an id is above 65535.

    Raises:
        MissingDataError: no such file, or no such dataset in it.
        InvalidInputError: damaged; another rank; values that are negative or not whole; no ROI.
    """
    roi, _ = _load(path, ROI_KEYS)
    if roi.ndim == 4 and len(roi) == 1:
        roi = roi[0]
    if roi.ndim != 3:
        raise InvalidInputError(f"{path} has shape {roi.shape}; expected ROI ids of shape (D, H, W)")
    low, high = float(roi.min()), float(roi.max())
    whole = roi.dtype.kind in "biu" or np.array_equal(roi, np.rint(roi))
    if not (whole and low >= 0 and high <= np.iinfo(np.int32).max):
        raise InvalidInputError(f"{path} has values from {low:g} to {high:g}, {roi.dtype}; expected whole ids >= 0")
    if high == 0:
        raise InvalidInputError(f"{path} is empty: all voxels are 0; expected the ids of ROIs")
    return roi.astype(np.uint16 if high <= np.iinfo(np.uint16).max else np.int32, copy=False)


def _load(path: Path, keys: Sequence[str]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """A volume of rank 3 or 4, and the names of its channels if the file has them."""
    name = path.name.lower()
    names: tuple[str, ...] = ()
    if name.endswith(CONTAINER_SUFFIXES):
        volume, names = _load_container(path, keys)
    elif name.endswith((".tif", ".tiff")):
        volume = _load_tiff(path)
    else:
        check_itk_header(path)
        components = _components(path) if name.endswith(".nrrd") else 1
        volume = load_plain(path) if components == 1 else _load_vectors(path, components)
    if volume.ndim not in (3, 4) or volume.dtype.kind not in "biuf" or not volume.size:
        raise InvalidInputError(f"{path} has shape {volume.shape}, dtype {volume.dtype}; expected numbers (C, D, H, W)")
    return volume.astype(volume.dtype.newbyteorder("="), copy=False), names


def _load_container(path: Path, keys: Sequence[str]) -> tuple[NDArray[Any], tuple[str, ...]]:
    address = VolumeAddress(str(path))
    with open_container(str(path)) as root:
        key = next((key for key in keys if get_array(root, key) is not None), None)
        array = find_array(root, address, () if key is None else (key,), True)
        check_array(array, address)
        try:
            stored = root.attrs.get("channels", array.attrs.get("channels"))
            names = json.loads(stored) if isinstance(stored, str) else stored
            return np.asarray(array[:]), tuple(map(str, names)) if names is not None else ()
        except READ_ERRORS as error:
            raise InvalidInputError(f"{path} cannot be read, the file is damaged ({error})") from error


def _load_tiff(path: Path) -> NDArray[Any]:
    import tifffile  # scikit-image needs it, so it is there

    check_tiff(path)
    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            volume, axes = series.asarray(), series.axes
    except (tifffile.TiffFileError, IndexError, *READ_ERRORS) as error:
        if isinstance(error, PermissionError):
            raise
        raise InvalidInputError(f"{path} cannot be read: damaged, or not a TIFF file ({error})") from error
    if set(axes) <= set("CZYX") and "C" in axes:
        volume = np.moveaxis(volume, axes.index("C"), 0)
    return volume


def _components(path: Path) -> int:
    """How many numbers a voxel of an NRRD file has by the kinds of its axes; 1 if the file cannot be read."""
    import itk

    reader = itk.ImageIOFactory.CreateImageIO(str(path), itk.CommonEnums.IOFileMode_ReadMode)
    if reader is None:
        return 1
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return 1
    return int(reader.GetNumberOfComponents())


def _load_vectors(path: Path, components: int) -> NDArray[Any]:
    """An NRRD file whose axis of channels is of the kind list, vector or color."""
    import itk

    if components > 4:
        raise InvalidInputError(f"{path} has {components} channels; NRRD files are read with up to 4, use HDF5 or zarr")
    try:
        pixels = itk.array_from_image(itk.imread(str(path), pixel_type=itk.Vector[itk.F, components]))
    except RuntimeError as error:
        raise InvalidInputError(f"{path} cannot be read, the file is damaged ({error})") from error
    volume = np.moveaxis(pixels, -1, 0)
    whole = volume.min() >= 0 and volume.max() <= np.iinfo(np.uint16).max and np.array_equal(volume, np.rint(volume))
    return volume.astype(np.int32) if whole else volume
