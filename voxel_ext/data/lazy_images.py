"""Arrays in NIfTI and TIFF files that are read piece by piece."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.lazy_sources import FileSource, Index, explain_open_errors
from voxel_ext.data.tiff_headers import check_tiff

NIFTI_SUFFIXES = (".nii", ".nii.gz")
TIFF_SUFFIXES = (".tif", ".tiff")

_NIFTI_UNITS = {"meter": 1e6, "mm": 1e3, "micron": 1.0, "unknown": 1.0}
_IMAGEJ_UNITS = {"micron": 1.0, "um": 1.0, "µm": 1.0, "\\u00B5m": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4}


class NiftiSource(FileSource):
    """An image (x, y, z), (x, y, z, c) or (x, y, z, t, c) in a NIfTI file; compressed ones (.nii.gz) are slow to read.

    Values are scaled as the header says, then they are float32 (float64 where stored so). Directions are not looked at.
    """

    def open(self) -> Any:
        """Open the file."""
        import nibabel

        with explain_open_errors(self.address, "NIfTI", *nifti_errors()):
            image: Any = nibabel.load(self.address)
            x, y, z = (
                float(step) * _NIFTI_UNITS[image.header.get_xyzt_units()[0]] for step in image.header.get_zooms()[:3]
            )
            self.voxel_size = (z, y, x)
            return image.dataobj

    def read_header(self, opened: Any) -> None:
        """Set shape, axes and the data type of scaled values."""
        self.shape = tuple(opened.shape)
        self.axes = {3: "xyz", 4: "xyzc", 5: "xyztc"}.get(len(self.shape))
        self.dtype = opened.dtype.newbyteorder("=")
        if opened.slope != 1 or opened.inter != 0:
            self.dtype = np.dtype(np.float64 if self.dtype == np.float64 else np.float32)

    def read(self, index: Index) -> NDArray:
        """Read a part; see ``ArraySource.read``."""
        return super().read(index).astype(self.dtype, copy=False)


def nifti_errors() -> tuple[type[Exception], ...]:
    """What nibabel raises on damaged files, besides Python's own errors."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError, HeaderTypeError, ImageDataError

    return (ImageFileError, HeaderDataError, HeaderTypeError, ImageDataError)


class TiffSource(FileSource):
    """The first series of a TIFF file: mapped into memory where it is stored in one piece, else read page by page.

    Axes called other than X, Y, Z, C, S (samples) and T are taken for z if there is no Z, as is T.
    """

    def open(self) -> Any:
        """Open the file."""
        with explain_open_errors(self.address, "TIFF", IndexError):
            return _OpenTiff(self.address)

    def read_header(self, opened: Any) -> None:
        """Set shape, data type, axes and voxel size."""
        self.shape, self.dtype = tuple(opened.shape), opened.dtype.newbyteorder("=")
        self.axes = _tiff_axes(opened.axes)
        self.voxel_size = opened.voxel_size

    def read(self, index: Index) -> NDArray:
        """Read a part; see ``ArraySource.read``."""
        with self._lock:  # pages are read from one file position
            return super().read(index)


class _OpenTiff:
    def __init__(self, path: str) -> None:
        import tifffile

        check_tiff(path)
        file = tifffile.TiffFile(path)
        series = file.series[0]
        self.shape, self.dtype, self.axes = series.shape, np.dtype(series.dtype), series.axes
        self.voxel_size = _imagej_voxel_size(file)
        self._pages = series.pages
        self._lead = series.shape[: len(series.shape) - len(series.keyframe.shape)]
        self._mapped: NDArray | None = None
        if series.dataoffset is not None:
            self._mapped = tifffile.memmap(path, mode="r")
        elif int(np.prod(self._lead)) != len(series.pages) or tuple(series.shape[len(self._lead) :]) != tuple(
            series.keyframe.shape
        ):
            raise ValueError(f"{len(series.pages)} pages of shape {series.keyframe.shape} make {series.shape}")

    def __getitem__(self, index: Index) -> NDArray:
        if self._mapped is not None:
            return self._mapped[index]
        lead, rest = index[: len(self._lead)], index[len(self._lead) :]
        ranges = [range(part.start, part.stop) for part in lead]
        result = [self._page(place)[rest] for place in itertools.product(*ranges)]
        return np.stack(result).reshape(*map(len, ranges), *result[0].shape)

    def _page(self, place: tuple[int, ...]) -> NDArray:
        number = int(np.ravel_multi_index(place, self._lead)) if place else 0
        page = self._pages[number]
        if page is None:
            raise ValueError(f"page {number} is missing")
        return page.asarray()


def _tiff_axes(names: str) -> str | None:
    """Letters of "tczyx" for tifffile's names of the axes; None if they do not tell."""
    letters = "".join({"X": "x", "Y": "y", "Z": "z", "C": "c", "S": "c", "T": "t"}.get(name, "?") for name in names)
    if "z" not in letters and letters.count("?") == 1:
        letters = letters.replace("?", "z")
    elif "z" not in letters and "?" not in letters:
        letters = letters.replace("t", "z")
    known = len(set(letters)) == len(letters) and set("zyx") <= set(letters) <= set("tczyx")
    return letters if known else None


def _imagej_voxel_size(file: Any) -> tuple[float, float, float] | None:
    """Voxel size of an ImageJ stack whose unit is a length, else None."""
    metadata = file.imagej_metadata or {}
    factor, spacing = _IMAGEJ_UNITS.get(str(metadata.get("unit", ""))), metadata.get("spacing")
    tags = file.pages[0].tags
    if factor is None or not spacing or "XResolution" not in tags or "YResolution" not in tags:
        return None
    (x_pixels, x_length), (y_pixels, y_length) = tags["XResolution"].value, tags["YResolution"].value
    if not x_pixels or not y_pixels:
        return None
    return (float(spacing) * factor, factor * y_length / y_pixels, factor * x_length / x_pixels)
