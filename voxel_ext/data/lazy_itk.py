"""Arrays in files that only ITK reads, as a whole: NRRD and MetaImage."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from voxel_ext.data.itk_headers import check_itk_header
from voxel_ext.data.lazy_sources import FileSource, explain_open_errors
from voxel_ext.errors import InvalidInputError

ITK_SUFFIXES = (".nrrd", ".mha", ".mhd")


class ItkSource(FileSource):
    """An image (z, y, x) in a NRRD or MetaImage file; it is read into memory as a whole when it is opened.

    The spacing is passed over, since these formats do not tell its unit.
    """

    def open(self) -> NDArray:
        """Read the file."""
        import itk

        check_itk_header(self.address)
        with explain_open_errors(self.address, "NRRD or MetaImage"):
            image: Any = itk.imread(self.address)
            return itk.array_from_image(image)

    def read_header(self, opened: NDArray) -> None:
        """Set shape and data type."""
        if opened.ndim != 3:
            raise InvalidInputError(f"{self.address} has shape {opened.shape}; expected (Z, Y, X) without channels")
        self.shape, self.dtype, self.axes = opened.shape, opened.dtype.newbyteorder("="), "zyx"
