"""MONAI's transforms that save images, with the errors of the writers as they are."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import ITKWriter, MetaTensor, NibabelWriter
from monai.transforms import SaveImage, SaveImaged
from monai.utils import MetaKeys, get_equivalent_dtype
from monai.utils.enums import PostFix

from voxel_ext.data.address import CONTAINER_SUFFIXES
from voxel_ext.data.container import MICROMETER, UNIT_KEY
from voxel_ext.data.zyx import as_image_file
from voxel_ext.errors import VoxelExtError


class SaveVolume(SaveImage):
    """MONAI's ``SaveImage``; but where that only says that it found no suitable writer, raise the writer's own error.

    Args:
        args: those of ``SaveImage``.
        zyx: images are (C, z, y, x), as ``LoadZyxd`` gives them. Into HDF5 files and zarr stores they are written so.
            Into other files (.nii, .nii.gz, .nrrd, .mhd, .tif, ...) they are written as (x, y, z): with the affine of
            their own file where that was such an image, so that the result lies over it in a viewer; a volume from an
            HDF5 file or a zarr store gets its voxel size as (x, y, z). NIfTI files keep the unit of their input, and
            TIFF files may have three axes.
        options: those of ``SaveImage``.
    """

    def __init__(self, *args: Any, zyx: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self._reverse = zyx and self.output_ext not in CONTAINER_SUFFIXES
        writers = self.writers
        if self._reverse and options.get("writer") is None:
            writers = _IMAGE_WRITERS.get(self.output_ext, writers)
        self._errors: list[VoxelExtError | OSError] = []
        self.writers = tuple(functools.partial(_Remembering, self._errors, writer) for writer in writers)

    def __call__(self, img: Any, meta_data: dict | None = None, filename: Any = None) -> Any:
        """Save an image.

        Args:
            img: (C, D, H, W) or (C, H, W).
            meta_data: of an image that is no MetaTensor.
            filename: as in ``SaveImage``.

        Returns:
            the image.

        Raises:
            VoxelExtError: the data cannot be written, e.g. they do not fit into ``output_dtype``, or have another
                number of axes.
            OSError: the folder is not writable, or the disk is full.
            RuntimeError: no writer can do it for another reason.
        """
        self._errors.clear()
        written = img
        if self._reverse:
            image = img if isinstance(img, MetaTensor) else MetaTensor(torch.as_tensor(img), meta=dict(meta_data or {}))
            written = as_image_file(image)
            # the writers drop a channel axis of length one; without this, MONAI then drops an axis of the affine, too
            written.meta[MetaKeys.ORIGINAL_CHANNEL_DIM] = float("nan")
        try:
            super().__call__(written, meta_data, filename)
            if written is not img and self.savepath_in_metadict:
                meta = img.meta if isinstance(img, MetaTensor) else meta_data
                if meta is not None:
                    meta[MetaKeys.SAVED_TO] = written.meta[MetaKeys.SAVED_TO]
            return img
        except RuntimeError:
            if not self._errors:
                raise
        raise self._errors[0]


class SaveVolumed(SaveImaged):
    """Dictionary version of ``SaveVolume``.

    Args:
        keys: of the images.
        meta_keys: as in ``SaveImaged``.
        meta_key_postfix: as in ``SaveImaged``.
        allow_missing_keys: do not raise if a key is missing.
        zyx: as in ``SaveVolume``.
        options: those of ``SaveImage``.
    """

    def __init__(
        self,
        keys: KeysCollection,
        meta_keys: KeysCollection | None = None,
        meta_key_postfix: str = PostFix.meta(),
        allow_missing_keys: bool = False,
        zyx: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(keys, meta_keys, meta_key_postfix, allow_missing_keys=allow_missing_keys, **options)
        self.saver = SaveVolume(zyx=zyx, **options)


class _NiftiWriter(NibabelWriter):
    """MONAI's writer of NIfTI files, which would leave out the unit of the voxel size."""

    def set_metadata(self, meta_dict: Mapping | None, resample: bool = True, **options: Any) -> None:
        super().set_metadata(meta_dict, resample, **options)
        meta = meta_dict or {}
        self.units = _MICRON if meta.get(UNIT_KEY) == MICROMETER else int(meta.get("xyzt_units", 0))

    def write(self, filename: Any, verbose: bool = False, **options: Any) -> None:
        import nibabel

        header = nibabel.Nifti1Header()
        header.set_data_dtype(get_equivalent_dtype(self.output_dtype, np.ndarray))
        header["xyzt_units"] = self.units
        super().write(filename, verbose, header=header, **options)


_MICRON = 3
"""NIfTI's code of the unit."""

_IMAGE_WRITERS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys((".nii", ".nii.gz"), (_NiftiWriter,)),
    **dict.fromkeys((".tif", ".tiff"), (ITKWriter,)),  # MONAI's choice, PIL, writes one plane only
}


class _Remembering:
    """A writer that adds its errors to a list."""

    def __init__(self, errors: list[VoxelExtError | OSError], writer: Any, **options: Any) -> None:
        self._errors = errors
        self._writer = self._call(writer, **options)

    def _call(self, function: Any, *args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except (VoxelExtError, OSError) as error:
            self._errors.append(error)
            raise

    def set_data_array(self, *args: Any, **options: Any) -> None:
        self._call(self._writer.set_data_array, *args, **options)

    def set_metadata(self, *args: Any, **options: Any) -> None:
        self._call(self._writer.set_metadata, *args, **options)

    def write(self, *args: Any, **options: Any) -> None:
        self._call(self._writer.write, *args, **options)
