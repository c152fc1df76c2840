"""Volumes stored as a folder of slices, one image file per z."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.lazy_images import TIFF_SUFFIXES
from voxel_ext.data.lazy_sources import ArraySource, Index, explain_open_errors
from voxel_ext.data.tiff_headers import check_tiff
from voxel_ext.errors import InvalidInputError, MissingDataError

SLICE_SUFFIXES = (".png", *TIFF_SUFFIXES)

_CACHED_BYTES = 1 << 28
_LISTED = 10
_DIGITS = re.compile(r"(\d+)")
_PNG_TYPES = {"1": ("?", 0), "L": ("u1", 0), "P": ("u1", 0), "I;16": ("u2", 0), "I": ("i4", 0)}
_PNG_TYPES |= {"LA": ("u1", 2), "RGB": ("u1", 3), "RGBA": ("u1", 4)}


class SliceFolderSource(ArraySource):
    """A folder of PNG or TIFF files, one per slice, in the order of the number in their names.

    Slices are (Y, X), or (Y, X, C) with colors, all of one shape and data type. Pixels of PNG files with a palette are
    its indices. The last slices that were read are kept, up to 256 MiB.

    Args:
        path: the folder. Hidden files, and files that are neither PNG nor TIFF, are passed over.

    Raises:
        MissingDataError: it does not exist, has no slices, or numbers are missing between the first and the last one
            (names them).
        InvalidInputError: names without a number, with several numbers that vary, or of several kinds; two slices of
            one number; a slice of another shape or data type than the first, or damaged (names it).
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.slices = list_slices(path)
        self._read_headers()

    def open(self) -> Any:
        """Return the files with a cache of slices."""
        return _OpenSlices(self.slices)

    def _read_headers(self) -> None:
        shape, dtype = slice_type(self.slices[0])
        for path in self.slices[1:]:
            other = slice_type(path)
            if other != (shape, dtype):
                raise InvalidInputError(
                    f"{path} has shape {other[0]} and data type {other[1]}, but {self.slices[0].name} has {shape} and "
                    f"{dtype}; expected slices of one shape and data type"
                )
        self.shape, self.dtype = (len(self.slices), *shape), dtype
        self.axes = "zyx" if len(shape) == 2 else "zyxc"
        self.chunks = (1, *shape)

    def describe_content(self) -> dict[str, Any]:
        """Return number, total size and newest time of the slices, and a hash of their names."""
        status = [path.stat() for path in self.slices]
        names = hashlib.sha256("\n".join(path.name for path in self.slices).encode()).hexdigest()
        newest = max(one.st_mtime_ns for one in status)
        return {"slices": len(status), "names": names, "bytes": sum(s.st_size for s in status), "mtime_ns": newest}


class _OpenSlices:
    """The slices as one array; those read last are kept in memory."""

    def __init__(self, slices: Sequence[Path]) -> None:
        self._slices = slices
        self._cache: OrderedDict[int, NDArray] = OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, index: Index) -> NDArray:
        first, rest = index[0], index[1:]
        return np.stack([self._slice(number)[rest] for number in range(first.start, first.stop)])

    def _slice(self, number: int) -> NDArray:
        with self._lock:
            if number in self._cache:
                self._cache.move_to_end(number)
                return self._cache[number]
        values = read_slice(self._slices[number])
        with self._lock:
            self._cache[number] = values
            while len(self._cache) > max(_CACHED_BYTES // max(values.nbytes, 1), 1):
                self._cache.popitem(last=False)
        return values


def list_slices(folder: str | os.PathLike[str]) -> list[Path]:
    """List the slices of a folder in the order of the number in their names.

    Args:
        folder: where to look, not in its subfolders.

    Returns:
        the files; their numbers follow each other without a gap, so ``s9.png`` comes before ``s10.png``.

    Raises:
        MissingDataError: as :class:`SliceFolderSource`.
        InvalidInputError: as :class:`SliceFolderSource`, except for what is in the files.
    """
    root = Path(folder)
    if not root.is_dir():
        raise MissingDataError(f"the folder {str(root)!r} does not exist (current folder: {os.getcwd()})")
    shown = [path for path in root.iterdir() if not path.name.startswith(".") and path.is_file()]
    files = sorted(path for path in shown if path.name.lower().endswith(SLICE_SUFFIXES))
    if not files:
        raise MissingDataError(f"{root} has no slices; expected files that end with {', '.join(SLICE_SUFFIXES)}")
    numbers: dict[int, Path] = {}
    for number, path in zip(_numbers(files), files, strict=True):
        if number in numbers:
            raise InvalidInputError(f"{numbers[number]} and {path.name} are both slice {number}; leave one of them")
        numbers[number] = path
    _check_gaps(root, numbers)
    return [numbers[number] for number in sorted(numbers)]


def _numbers(files: Sequence[Path]) -> list[int]:
    """The number of each file: the only one in its name that is not the same in all."""
    parts = [_DIGITS.split(path.name[: -len(path.suffix)]) for path in files]
    for path, part in zip(files, parts, strict=True):
        if len(part) == 1:
            raise InvalidInputError(f"{path} has no number in its name; expected the number of the slice")
        if part[::2] != parts[0][::2] or path.suffix.lower() != files[0].suffix.lower():
            raise InvalidInputError(
                f"{files[0].parent} has files of two kinds, such as {files[0].name} and {path.name}; expected names "
                "that differ only in the number of the slice"
            )
    columns = list(zip(*([int(text) for text in part[1::2]] for part in parts), strict=True))
    varying = [column for column in columns if len(set(column)) > 1]
    if len(varying) > 1:
        raise InvalidInputError(
            f"{files[0].parent} has names in which {len(varying)} numbers vary, such as {files[0].name} and "
            f"{files[-1].name}; expected names that differ only in the number of the slice"
        )
    return list(varying[0] if varying else columns[-1])


def _check_gaps(root: Path, numbers: dict[int, Path]) -> None:
    first, last = min(numbers), max(numbers)
    missing = last - first + 1 - len(numbers)
    if missing:
        some = [str(number) for number, _ in zip(_gaps(sorted(numbers)), range(_LISTED), strict=False)]
        raise MissingDataError(
            f"{root} has slices {first} to {last}, but {missing} of them are missing: {', '.join(some)}"
            f"{' …' if missing > _LISTED else ''}. Expected a file for each number, like {numbers[first].name}"
        )


def _gaps(numbers: Sequence[int]) -> Iterator[int]:
    for before, after in itertools.pairwise(numbers):
        yield from range(before + 1, after)


def slice_type(path: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Read shape and data type of a slice from the header of its file.

    Args:
        path: a PNG or TIFF file.

    Returns:
        (Y, X) or (Y, X, C), and the data type of the values.

    Raises:
        InvalidInputError: it is damaged, has several pages, or is of a kind that is not known.
    """
    if path.name.lower().endswith(TIFF_SUFFIXES):
        import tifffile

        check_tiff(path)
        with explain_open_errors(str(path), "TIFF", IndexError), tifffile.TiffFile(path) as file:
            series = file.series[0]
            axes, shape, dtype = series.axes, tuple(series.shape), np.dtype(series.dtype).newbyteorder("=")
        if axes not in ("YX", "YXS"):
            raise InvalidInputError(f"{path} has shape {shape} with axes {axes}; expected one slice, YX or YXS")
        return shape, dtype
    from PIL import Image

    with explain_open_errors(str(path), "PNG"), Image.open(path, formats=["PNG"]) as image:
        if image.mode not in _PNG_TYPES:
            raise InvalidInputError(f"{path} is of the mode {image.mode}; expected one of {', '.join(_PNG_TYPES)}")
        code, colors = _PNG_TYPES[image.mode]
        return (image.height, image.width, *([colors] if colors else [])), np.dtype(code)


def read_slice(path: Path) -> NDArray:
    """Read a slice.

    Args:
        path: a PNG or TIFF file.

    Returns:
        (Y, X) or (Y, X, C), as :func:`slice_type` says.

    Raises:
        MissingDataError: it does not exist any more.
        InvalidInputError: it is damaged, or has changed.
    """
    shape, dtype = slice_type(path)
    with explain_open_errors(str(path), "a slice", IndexError):
        if path.name.lower().endswith(TIFF_SUFFIXES):
            import tifffile

            values = tifffile.imread(path)
        else:
            from PIL import Image

            with Image.open(path, formats=["PNG"]) as image:
                values = np.asarray(image)
    if values.shape != shape:
        raise InvalidInputError(f"{path} has shape {values.shape}; expected {shape}")
    return values.astype(dtype, copy=False)
