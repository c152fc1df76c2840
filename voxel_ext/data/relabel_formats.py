"""Label volumes in formats other than zarr, written from a zarr array part by part."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from voxel_ext.data.address import HDF5_SUFFIXES, ZARR_SUFFIXES, parse_address
from voxel_ext.data.container import VOXEL_SIZE_ATTRIBUTE
from voxel_ext.data.label_scan import scan_blocks
from voxel_ext.data.lazy_images import NIFTI_SUFFIXES, TIFF_SUFFIXES
from voxel_ext.data.slice_folder import SLICE_SUFFIXES
from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.hdf5 import write_hdf5

HDF5_KEY = "labels"
"""Name of the dataset of an HDF5 file."""

SLAB_BYTES = 2**29
"""Whole planes that are in memory at a time, but at least one plane."""

CLASSIC_TIFF_BYTES = 2**31
"""Stacks of up to this size are ImageJ files, others BigTIFF with OME metadata."""

DIGITS = 4
"""Of the numbers of slices, at least."""

_NIFTI1_EDGE = 2**15 - 1
_IMAGEJ_TYPES = ("uint8", "uint16")

VoxelSize = tuple[float, float, float] | None
Writer = Callable[[Any, Path, VoxelSize, bool], None]


class OutputFormat(NamedTuple):
    """How a label volume is stored.

    Attributes:
        is_folder: whether that is a folder, not a file.
        write: called as ``write(stored, path, voxel_size, progress)`` with the zarr array (D, H, W), where to write,
            the voxel size (z, y, x) in micrometers or None, and whether to show a bar; None for zarr itself.
    """

    is_folder: bool
    write: Writer | None


def choose_format(path: str | os.PathLike[str], dtype: np.dtype, slice_suffix: str = ".png") -> OutputFormat:
    """Choose a format by the name of what is to be written.

    Args:
        path: that ends with ``.zarr``, ``.h5``, ``.hdf5``, ``.hdf``, ``.tif``, ``.tiff``, ``.nii`` or ``.nii.gz``; or
            the name of a folder of slices, without a suffix.
        dtype: of the values, unsigned.
        slice_suffix: of slices: ``.png``, ``.tif`` or ``.tiff``.

    Raises:
        InvalidInputError: the name says no format, or names something inside a file; or PNG files for values above
            65535.
    """
    check_option("slice_suffix", slice_suffix, SLICE_SUFFIXES)
    name = Path(path).name.lower()
    if name.endswith(ZARR_SUFFIXES):
        return OutputFormat(True, None)
    address = parse_address(os.fspath(path))
    if address.key or address.selection is not None:
        raise InvalidInputError(f"path={os.fspath(path)!r} is inside of {address.file}; expected the name of a file")
    for suffixes, writer in (
        (HDF5_SUFFIXES, write_hdf5_labels),
        (TIFF_SUFFIXES, write_tiff_labels),
        (NIFTI_SUFFIXES, write_nifti_labels),
    ):
        if name.endswith(suffixes):
            return OutputFormat(False, writer)
    if Path(name).suffix or not name:
        known = ", ".join((*HDF5_SUFFIXES, *TIFF_SUFFIXES, *NIFTI_SUFFIXES))
        raise InvalidInputError(
            f"path={os.fspath(path)!r}; expected a zarr store ({', '.join(ZARR_SUFFIXES)}), a file ({known}), or a "
            "folder of slices, a name without a suffix"
        )
    if slice_suffix == ".png" and dtype.itemsize > 2:
        raise InvalidInputError("PNG holds values up to 65535, but there are more clusters; use slice_suffix='.tif'")
    return OutputFormat(True, partial(write_label_slices, suffix=slice_suffix))


def check_replaceable(path: Path, is_folder: bool) -> None:
    """Refuse to replace something of another kind than what is to be written: it was hardly meant.

    Args:
        path: what exists.
        is_folder: whether a folder is to be written.

    Raises:
        InvalidInputError: it is a file and not a folder, or the other way round; or it is to be a folder of slices, but
            holds anything else.
    """
    if path.is_dir() != is_folder:
        raise InvalidInputError(f"{path} is a {'folder' if path.is_dir() else 'file'}; choose another name")
    if is_folder and not path.name.lower().endswith(ZARR_SUFFIXES):
        others = [one.name for one in path.iterdir() if one.is_dir() or not one.name.lower().endswith(SLICE_SUFFIXES)]
        if others:
            raise InvalidInputError(
                f"{path} holds other things than slices, such as {sorted(others)[0]}; choose another folder"
            )


def write_hdf5_labels(stored: Any, path: Path, voxel_size: VoxelSize, progress: bool) -> None:
    """Write the dataset ``labels`` with the chunks of the zarr array, gzip-compressed; see :class:`OutputFormat`."""
    options: dict[str, Any] = {"chunks": stored.chunks, "compression": "gzip", "compression_opts": 1}
    with write_hdf5(path) as (file, guard):
        dataset = file.create_dataset(HDF5_KEY, stored.shape, stored.dtype, **options)
        if voxel_size is not None:
            dataset.attrs[VOXEL_SIZE_ATTRIBUTE] = voxel_size
        boxes = scan_blocks(stored.shape, stored.chunks)
        for box in tqdm(boxes, "writing", unit="block", disable=not progress, leave=False):
            dataset[box] = stored[box]
            guard.check()


def write_tiff_labels(stored: Any, path: Path, voxel_size: VoxelSize, progress: bool) -> None:
    """Write one compressed stack; see :class:`OutputFormat`.

    It is an ImageJ file where that holds it (values up to 65535, at most :data:`CLASSIC_TIFF_BYTES`), which
    ``open_volume`` reads with its voxel size; else a BigTIFF with OME metadata.
    """
    import tifffile

    size = int(np.prod(stored.shape)) * stored.dtype.itemsize
    imagej = size <= CLASSIC_TIFF_BYTES and str(stored.dtype) in _IMAGEJ_TYPES
    metadata: dict[str, Any] = {"axes": "ZYX"}
    options: dict[str, Any] = {}
    if voxel_size is not None and imagej:
        metadata |= {"spacing": voxel_size[0], "unit": "um"}
        options["resolution"] = (1 / voxel_size[2], 1 / voxel_size[1])
    elif voxel_size is not None:
        metadata |= {f"PhysicalSize{axis}": length for axis, length in zip("ZYX", voxel_size, strict=True)}
    with tifffile.TiffWriter(path, imagej=imagej, bigtiff=not imagej, ome=not imagej) as file:
        file.write(
            _planes(stored, progress), shape=stored.shape, dtype=stored.dtype, photometric="minisblack",
            compression="zlib", metadata=metadata, **options,
        )  # fmt: skip


def write_nifti_labels(stored: Any, path: Path, voxel_size: VoxelSize, progress: bool) -> None:
    """Write an image (x, y, z), NIfTI-2 where an axis is longer than 32767 voxels; see :class:`OutputFormat`."""
    import nibabel

    kind = nibabel.Nifti1Header if max(stored.shape) <= _NIFTI1_EDGE else nibabel.Nifti2Header
    header: Any = kind()
    header.set_data_dtype(stored.dtype)
    header.set_data_shape(stored.shape[::-1])
    lengths = (1.0, 1.0, 1.0) if voxel_size is None else voxel_size[::-1]
    header.set_qform(np.diag([*lengths, 1.0]), "scanner")
    header.set_sform(np.diag([*lengths, 1.0]), "scanner")
    if voxel_size is not None:
        header.set_xyzt_units("micron")
    compressed = path.name.lower().endswith(".gz")
    with open(path, "wb") as raw:
        # neither name nor time in the file, so that the same labels are the same bytes
        file: Any = gzip.GzipFile("", "wb", 1, raw, mtime=0) if compressed else raw
        header.write_to(file)
        for plane in _planes(stored, progress):  # x varies fastest, as in the format
            file.write(np.ascontiguousarray(plane, header.get_data_dtype()).data)
        if compressed:
            file.close()


def write_label_slices(stored: Any, path: Path, voxel_size: VoxelSize, progress: bool, suffix: str = ".png") -> None:
    """Write a file per z, ``slice_0000.png`` ..., which tell no voxel size; see :class:`OutputFormat`.

    Args:
        stored: see there.
        path: a folder that exists.
        voxel_size: not written.
        progress: see there.
        suffix: of the files.
    """
    import tifffile
    from PIL import Image

    digits = max(len(str(stored.shape[0] - 1)), DIGITS)
    for z, plane in enumerate(_planes(stored, progress)):
        file = path / f"slice_{z:0{digits}d}{suffix}"
        if suffix == ".png":
            Image.fromarray(plane).save(file, format="PNG")
        else:
            tifffile.imwrite(file, plane, photometric="minisblack", compression="zlib", metadata=None)


def _planes(stored: Any, progress: bool) -> Iterator[NDArray[Any]]:
    """The planes of an array, of which slabs are in memory."""
    with tqdm(total=stored.shape[0], desc="writing", unit="plane", disable=not progress, leave=False) as bar:
        for low, high in slab_ranges(stored.shape, stored.chunks[0], stored.dtype.itemsize):
            for plane in stored[low:high]:
                yield plane
                bar.update()


def slab_ranges(shape: Sequence[int], chunk: int, itemsize: int) -> list[tuple[int, int]]:
    """Divide the planes of a volume into slabs of at most :data:`SLAB_BYTES`.

    Args:
        shape: (D, H, W).
        chunk: planes in a chunk; a slab has whole chunks where there is room for one.
        itemsize: bytes per voxel.

    Returns:
        the first plane of each and the one after its last.
    """
    depth = max(SLAB_BYTES // (shape[1] * shape[2] * itemsize), 1)
    if depth > chunk:
        depth -= depth % chunk
    return [(low, min(low + depth, shape[0])) for low in range(0, shape[0], depth)]
