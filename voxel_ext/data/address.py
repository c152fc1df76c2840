"""Names of volumes inside container files, such as ``vols.h5/data[3]``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from voxel_ext.errors import InvalidInputError

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
ZARR_SUFFIXES = (".zarr",)
CONTAINER_SUFFIXES = HDF5_SUFFIXES + ZARR_SUFFIXES

_SELECTION = re.compile(r"^(?P<path>.*)\[(?P<start>\d+)(?::(?P<stop>\d+))?\]$", re.DOTALL)


@dataclass(frozen=True)
class VolumeAddress:
    """Where a volume is: a file, the dataset inside it, and the part of the dataset's first axis.

    Args:
        file: path of the file (of the folder, for zarr).
        key: path of the dataset inside the file; ``""`` where the file holds one volume or the reader is told the key.
        selection: ``3`` for one item of the first axis (the axis goes), ``(0, 80)`` for the items 0 to 79 (the axis
            stays), None for all.

    Raises:
        InvalidInputError: negative index, empty range, or a key or selection for a file that is not HDF5 or zarr.
    """

    file: str
    key: str = ""
    selection: int | tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if (self.key or self.selection is not None) and not self.is_container:
            raise InvalidInputError(
                f"{self.file!r} has no datasets inside: only {', '.join(CONTAINER_SUFFIXES)} do "
                f"(key {self.key!r}, selection {self.selection})"
            )
        start, stop = self.selection if isinstance(self.selection, tuple) else (self.selection or 0, None)
        if start < 0 or (stop is not None and stop <= start):
            raise InvalidInputError(
                f"{self}: the selection must be [index] or [start:stop] with 0 <= start < stop on the first axis"
            )

    def __str__(self) -> str:
        path = f"{self.file}/{self.key}" if self.key else self.file
        if self.selection is None:
            return path
        if isinstance(self.selection, tuple):
            return f"{path}[{self.selection[0]}:{self.selection[1]}]"
        return f"{path}[{self.selection}]"

    @property
    def is_hdf5(self) -> bool:
        """Whether the file is an HDF5 file by its suffix."""
        return self.file.lower().endswith(HDF5_SUFFIXES)

    @property
    def is_zarr(self) -> bool:
        """Whether the file is a zarr store by its suffix."""
        return self.file.lower().endswith(ZARR_SUFFIXES)

    @property
    def is_container(self) -> bool:
        """Whether the file can hold several datasets (HDF5 or zarr)."""
        return self.is_hdf5 or self.is_zarr

    @property
    def index(self) -> int | slice:
        """The selection as NumPy, h5py and zarr take it."""
        if self.selection is None:
            return slice(None)
        return slice(*self.selection) if isinstance(self.selection, tuple) else self.selection


def parse_address(address: str | os.PathLike[str]) -> VolumeAddress:
    """Split the name of a volume into file, key and selection; ``str()`` of the result is the name again.

    The first part of the path with a suffix of HDF5 (.h5, .hdf5, .hdf) or zarr (.zarr) is the file, what follows it is
    the dataset, in the manner of ilastik: ``folder/vols.h5/data[3]``, ``a.h5/raw[0:80]``, ``store.zarr/0[2]``,
    ``a.h5[3]``. Any other path is a plain image file, taken as it is.

    Args:
        address: the name.

    Returns:
        the parts; ``key`` without leading, trailing and doubled slashes.

    Raises:
        InvalidInputError: the brackets do not hold an index or a range ``start:stop`` with start < stop.
    """
    text = os.fspath(address)
    match = _SELECTION.match(text)
    parts = (match["path"] if match else text).split("/")
    end = next((i + 1 for i, part in enumerate(parts) if part.lower().endswith(CONTAINER_SUFFIXES)), None)
    if end is None:
        return VolumeAddress(text)
    file, key = "/".join(parts[:end]), "/".join(part for part in parts[end:] if part)
    if match is None and key.endswith("]"):
        raise InvalidInputError(f"{text}: expected [index] or [start:stop] at the end, e.g. {file}/data[3]")
    if match is None:
        return VolumeAddress(file, key)
    start, stop = int(match["start"]), match["stop"]
    return VolumeAddress(file, key, start if stop is None else (start, int(stop)))
