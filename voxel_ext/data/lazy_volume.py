"""Volumes that are read box by box, whatever holds them: zarr, HDF5, NumPy, NIfTI, TIFF, NRRD, folders of slices."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.address import CONTAINER_SUFFIXES, parse_address
from voxel_ext.data.container import READ_ERRORS, check_memory
from voxel_ext.data.lazy_containers import ContainerSource, open_object
from voxel_ext.data.lazy_images import NIFTI_SUFFIXES, TIFF_SUFFIXES, NiftiSource, TiffSource
from voxel_ext.data.lazy_itk import ITK_SUFFIXES, ItkSource
from voxel_ext.data.lazy_sources import ArraySource, FileSource, MemorySource, NpySource
from voxel_ext.data.slice_folder import SLICE_SUFFIXES, SliceFolderSource
from voxel_ext.errors import InvalidInputError, MissingDataError, check_option

CHANNEL_AXES = ("first", "last")

_KINDS: dict[tuple[str, ...], type[FileSource]] = {
    (".npy",): NpySource,
    NIFTI_SUFFIXES: NiftiSource,
    TIFF_SUFFIXES: TiffSource,
    ITK_SUFFIXES: ItkSource,
}

PARTIAL_SUFFIX = ".partial"
"""Of folders that are being written; see ``voxel_ext.files.atomic_path``."""


class LazyVolume:
    """A volume (C, D, H, W) that is read box by box; read-only, thread-safe, picklable (files are opened anew).

    Made by :func:`open_volume`.

    Attributes:
        address: what it is called in messages: the path, or a name for an array in memory.
        shape: (C, D, H, W); C is 1 where the array has no channel axis.
        spatial_shape: (D, H, W).
        dtype: of the values, as stored.
        chunks: (d, h, w) of the pieces that are stored apart, or None.
        voxel_size: (z, y, x) in micrometers, or None.

    Args:
        source: the array.
        axes: a letter of "tczyx" per axis of the array; t must have length 1.
    """

    def __init__(self, source: ArraySource, axes: str) -> None:
        self._source, self._axes = source, axes
        lengths = dict(zip(axes, source.shape, strict=True))
        self.address = source.address
        self.spatial_shape: tuple[int, int, int] = (lengths["z"], lengths["y"], lengths["x"])
        self.shape: tuple[int, int, int, int] = (lengths.get("c", 1), *self.spatial_shape)
        self.dtype: np.dtype = source.dtype
        chunks = dict(zip(axes, source.chunks, strict=True)) if source.chunks else None
        self.chunks: tuple[int, int, int] | None = (chunks["z"], chunks["y"], chunks["x"]) if chunks else None
        self.voxel_size = source.voxel_size

    def __repr__(self) -> str:
        return f"LazyVolume({self.address!r}, shape={self.shape}, dtype={self.dtype})"

    def read(self, box: Sequence[slice]) -> NDArray:
        """Read a box; of a chunked array only its chunks.

        Args:
            box: three slices (z, y, x) without step, inside the volume; open ends are those of the volume.

        Returns:
            (C, d, h, w), a new array of the data type as stored.

        Raises:
            InvalidInputError: the box is empty, reaches outside or does not fit into memory; or a part of the file is
                damaged or being written.
        """
        parts = dict(zip("zyx", self._check_box(box), strict=True))
        lengths = dict(zip(self._axes, self._source.shape, strict=True))
        index = tuple(parts.get(letter, slice(0, lengths[letter])) for letter in self._axes)
        check_memory([part.stop - part.start for part in index], self.dtype, self.address)
        try:
            values = self._source.read(index)
        except (*READ_ERRORS, IndexError) as error:
            if isinstance(error, InvalidInputError | MissingDataError | PermissionError):
                raise
            place = ", ".join(f"{letter} {part.start}:{part.stop}" for letter, part in parts.items())
            raise InvalidInputError(
                f"{self.address}: the box {place} cannot be read; the file is damaged, or being written "
                f"({type(error).__name__}: {error})"
            ) from error
        order = [self._axes.index(letter) for letter in "tczyx" if letter in self._axes]
        shape = (self.shape[0], *(part.stop - part.start for part in parts.values()))
        return np.array(values.transpose(order).reshape(shape), dtype=self.dtype, order="C")

    def _check_box(self, box: Sequence[slice]) -> list[slice]:
        if len(box) != 3 or any(not isinstance(part, slice) or part.step not in (None, 1) for part in box):
            raise InvalidInputError(f"box={box!r}; expected three slices (z, y, x) without steps")
        found = []
        for part, length in zip(box, self.spatial_shape, strict=True):
            start, stop = 0 if part.start is None else part.start, length if part.stop is None else part.stop
            if not 0 <= start < stop <= length:
                raise InvalidInputError(
                    f"{self.address}: the box {list(box)} is empty or not inside the volume {self.spatial_shape} "
                    "(z, y, x)"
                )
            found.append(slice(int(start), int(stop)))
        return found

    def fingerprint(self) -> dict[str, Any]:
        """Tell, for JSON, all that must be equal for the volume to be the same as before.

        Returns:
            address, shape, data type, order of the axes, and: for zarr a hash of the metadata and number, total size
            and newest time of the chunk files; for other files size and time of the last change; for arrays in memory a
            hash of the values.
        """
        return {
            "address": self.address,
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "axes": self._axes,
            **self._source.describe_content(),
        }


def open_volume(
    source: Any,
    *,
    channels: int | None = None,
    channel_axis: str | None = None,
    level: int = 0,
    name: str = "volume",
) -> LazyVolume:
    """Open a volume to read it box by box.

    The axes of a file are those that it tells (OME-Zarr, TIFF) or that its format fixes (NIfTI), else (z, y, x), or
    with channels (c, z, y, x) or (z, y, x, c): the channel axis is then the one that ``channel_axis`` says, else the
    first or last one if only one of these has the length ``channels``, else the first. A time axis of length 1 is left
    out.

    Args:
        source: path of a zarr store, an OME-Zarr image, an HDF5 file, or an array in one (``a.zarr/image``,
            ``x.h5/raw``, see ``parse_address``); of a .npy, NIfTI, TIFF, NRRD or MetaImage file; of a folder of PNG or
            TIFF slices, see ``SliceFolderSource``; or an array: ``zarr.Array``, ``h5py.Dataset``, NumPy or what can be
            turned into that. Folders called ``….partial`` are refused.
        channels: expected number of channels; None for any.
        channel_axis: "first", "last" or None.
        level: of an OME-Zarr image, 0 being the finest.
        name: what an array in memory is called in messages.

    Returns:
        the volume.

    Raises:
        MissingDataError: no such file, array or level; lists those there are.
        InvalidInputError: names the volume: damaged, being written, empty, of another format, data type or rank, or
            with other channels than expected.
    """
    if channel_axis is not None:
        check_option("channel_axis", channel_axis, CHANNEL_AXES)
    if not isinstance(level, Integral) or isinstance(level, bool) or level < 0:
        raise InvalidInputError(f"level={level!r}; expected a whole number of at least 0")
    array = _open_source(source, int(level), name)
    if array.dtype.kind not in "biuf":
        raise InvalidInputError(
            f"{array.address} has data type {array.dtype}; expected integers, real numbers or booleans"
        )
    if 0 in array.shape:
        raise InvalidInputError(f"{array.address} is empty: its shape is {tuple(array.shape)}")
    axes = array.axes or _guess_axes(array, channels, channel_axis)
    if len(axes) != len(array.shape) or ("t" in axes and array.shape[axes.index("t")] != 1):
        raise InvalidInputError(
            f"{array.address} has shape {tuple(array.shape)} with the axes {axes}; expected one point in time"
        )
    found = array.shape[axes.index("c")] if "c" in axes else 1
    if channels is not None and found != channels:
        raise InvalidInputError(_wrong_channels(array, channels, axes))
    return LazyVolume(array, axes)


def _open_source(source: Any, level: int, name: str) -> ArraySource:
    if isinstance(source, str | os.PathLike):
        return _open_path(os.fspath(source), level)
    if level:
        raise InvalidInputError(f"level={level}, but {name} is an array, which has no resolution levels")
    opened = open_object(source, name)
    if opened is not None:
        return opened
    return MemorySource(np.asarray(source), name)


def _open_path(path: str, level: int) -> ArraySource:
    if any(part.endswith(PARTIAL_SUFFIX) for part in Path(path).parts):
        raise InvalidInputError(
            f"{path} is in a folder that ends with {PARTIAL_SUFFIX}: it is being written by a running job, or was left "
            "by one that was killed; wait for the job, or run it again"
        )
    address = parse_address(path)
    if address.is_container:
        return ContainerSource(address, level)
    if level:
        raise InvalidInputError(f"level={level}, but {path} has no resolution levels; only OME-Zarr images have")
    if os.path.isdir(path):
        return SliceFolderSource(path)
    for suffixes, kind in _KINDS.items():
        if path.lower().endswith(suffixes):
            return kind(path)
    known = ", ".join((*CONTAINER_SUFFIXES, *itertools.chain.from_iterable(_KINDS)))
    raise InvalidInputError(
        f"{path} cannot be read box by box; expected a name that ends with one of {known}, or a folder of slices "
        f"({', '.join(SLICE_SUFFIXES)})"
    )


def _guess_axes(array: ArraySource, channels: int | None, channel_axis: str | None) -> str:
    """The axes of an array whose file does not tell them."""
    if len(array.shape) == 3:
        return "zyx"
    if len(array.shape) != 4:
        raise InvalidInputError(
            f"{array.address} has shape {tuple(array.shape)}; expected (Z, Y, X), (C, Z, Y, X) or (Z, Y, X, C)"
        )
    if channel_axis is not None or channels is None:
        return "zyxc" if channel_axis == "last" else "czyx"
    first, last = array.shape[0] == channels, array.shape[-1] == channels
    if first and last:
        raise InvalidInputError(
            f"{array.address} has shape {tuple(array.shape)}: its first and its last axis could both be the {channels} "
            "channels; give channel_axis='first' or 'last'"
        )
    return "zyxc" if last else "czyx"


def _wrong_channels(array: ArraySource, channels: int, axes: str) -> str:
    return (
        f"{array.address} has shape {tuple(array.shape)} with the axes {tuple(axes)}, which is "
        f"{array.shape[axes.index('c')] if 'c' in axes else 1} channel(s); expected channels={channels}"
    )
