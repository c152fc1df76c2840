"""MONAI image writers for HDF5 files and zarr stores."""

from __future__ import annotations

import itertools
import os
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from monai.config import DtypeLike, NdarrayOrTensor
from monai.data import ImageWriter, MetaTensor, register_writer
from monai.data.utils import affine_to_spacing
from monai.transforms import SpatialResample
from monai.utils import convert_data_type, get_equivalent_dtype

from voxel_ext.data.address import HDF5_SUFFIXES, ZARR_SUFFIXES
from voxel_ext.data.container import MICROMETER, UNIT_KEY, VOXEL_SIZE_ATTRIBUTE
from voxel_ext.data.zarr_io import multiscale_attributes
from voxel_ext.errors import InvalidInputError
from voxel_ext.files import atomic_path
from voxel_ext.hdf5 import write_hdf5

CHUNK = 64
"""Edge of a chunk in voxels."""


class ContainerWriter(ImageWriter):
    """What ``HDF5Writer`` and ``ZarrWriter`` have in common.

    Used by MONAI's ``SaveImage(d)``: by the suffix (``output_ext=".h5"``) or by name
    (``writer="voxel_ext.data.HDF5Writer"``); with another dataset name,
    ``writer="$functools.partial(voxel_ext.data.HDF5Writer, key='probabilities')"``. Axes are written as they are, never
    transposed; a channel axis of length one is dropped, others stay first. An existing file is replaced, at the end.

    Args:
        output_dtype: data type to write; None for that of the data. ``SaveImage`` passes float32 unless told otherwise.
        scale: 255 or 65535 to clip to [0, 1] and scale to uint8 or uint16; None for no scaling.
        key: name of the dataset.

    Raises:
        InvalidInputError: another ``scale``, or an empty ``key``.
    """

    def __init__(
        self, output_dtype: DtypeLike | torch.dtype = None, scale: int | None = None, key: str = "segmentation"
    ) -> None:
        super().__init__()
        if scale not in (None, 255, 65535):
            raise InvalidInputError(f"scale={scale!r}; expected None, 255 or 65535")
        if not key.strip("/"):
            raise InvalidInputError("key is empty; expected the name of a dataset such as 'segmentation'")
        self.output_dtype, self.scale, self.key = output_dtype, scale, key.strip("/")
        self.data: np.ndarray = np.empty(0)
        self.has_channels = False
        self.voxel_size: list[float] | None = None

    def set_data_array(
        self,
        data_array: NdarrayOrTensor,
        channel_dim: int | None = 0,
        squeeze_end_dims: bool = True,
        **kwargs: Any,
    ) -> None:
        """Take the data.

        Args:
            data_array: e.g. (1, D, H, W).
            channel_dim: its channel axis; None if there is none.
            squeeze_end_dims: drop a channel axis of length one. Spatial axes stay, also those of length one.
            kwargs: none is known; MONAI's interface asks for them.

        Raises:
            InvalidInputError: no voxels, or not 2 or 3 spatial axes.
        """
        if kwargs:
            raise InvalidInputError(f"unknown options {sorted(kwargs)} of set_data_array")
        data = convert_data_type(data_array, np.ndarray)[0]
        if channel_dim is not None:
            data = np.moveaxis(data, channel_dim, 0)
        self.has_channels = channel_dim is not None and not (squeeze_end_dims and data.shape[0] == 1)
        if channel_dim is not None and not self.has_channels:
            data = data[0]
        if data.ndim - self.has_channels not in (2, 3) or data.size == 0:
            raise InvalidInputError(
                f"data of shape {tuple(data_array.shape)} with channel_dim={channel_dim} is not a volume; "
                "expected (C, D, H, W) or (C, H, W), not empty"
            )
        self.data = data

    def set_metadata(self, meta_dict: Mapping | None, resample: bool = False, **options: Any) -> None:
        """Take the voxel size from an affine in micrometers, and resample to the original grid if asked to.

        Args:
            meta_dict: ``affine``, ``original_affine``, ``spatial_shape`` and ``unit`` are used.
            resample: bring the data to ``original_affine`` and ``spatial_shape`` if they are elsewhere.
            options: ``mode`` (default "nearest"), ``padding_mode`` and ``dtype`` of MONAI's ``SpatialResample``.
        """
        original, affine, shape = self.get_meta_info(meta_dict)
        if resample and original is not None and affine is not None:
            self._resample(torch.as_tensor(affine), torch.as_tensor(original), shape, {"mode": "nearest", **options})
            affine = original
        if affine is not None and (meta_dict or {}).get(UNIT_KEY) == MICROMETER:
            rank = self.data.ndim - self.has_channels
            self.voxel_size = [float(size) for size in affine_to_spacing(torch.as_tensor(affine), r=rank)]

    def _resample(self, affine: torch.Tensor, original: torch.Tensor, shape: Any, options: dict[str, Any]) -> None:
        data = self.data if self.has_channels else self.data[None]
        if np.allclose(original, affine) and (shape is None or tuple(shape) == data.shape[1:]):
            return
        image = MetaTensor(torch.as_tensor(data.astype(np.float64)), affine=affine)
        moved = SpatialResample(**options)(image, dst_affine=original, spatial_size=shape).numpy().astype(data.dtype)
        self.data = moved if self.has_channels else moved[0]

    def write(self, filename: str | os.PathLike[str], verbose: bool = False, **kwargs: Any) -> None:
        """Write the file; it appears under its name when it is complete, and replaces an older one then.

        Args:
            filename: with a suffix of the format.
            verbose: log the name.
            kwargs: none is known; MONAI's interface asks for them.

        Raises:
            InvalidInputError: another suffix, or values that the data type cannot hold.
            OSError: the folder is not writable, the disk is full; the file of before, if any, is kept.
        """
        if kwargs:
            raise InvalidInputError(f"unknown options {sorted(kwargs)} of write")
        super().write(filename, verbose=verbose)
        if not os.fspath(filename).lower().endswith(self.suffixes):
            raise InvalidInputError(f"{filename}: {type(self).__name__} writes {', '.join(self.suffixes)}")
        array = self._converted()
        with atomic_path(filename, directory=self.is_folder) as temporary:
            self._store(temporary, array)

    suffixes: tuple[str, ...]
    is_folder: bool

    @abstractmethod
    def _store(self, path: Path, array: np.ndarray) -> None:
        """Write a new file with one dataset."""

    def _converted(self) -> np.ndarray:
        data = self.data
        if self.scale is not None:
            data = np.rint(np.clip(data, 0, 1) * float(self.scale)).astype(np.uint8 if self.scale == 255 else np.uint16)
        if self.output_dtype is None:
            return data
        dtype: np.dtype = np.dtype(cast(Any, get_equivalent_dtype(cast(Any, self.output_dtype), np.ndarray)))
        if dtype.kind in "iu":
            lowest, highest = data.min(), data.max()
            limits = np.iinfo(dtype)
            if not (limits.min <= lowest and highest <= limits.max):  # also where they are NaN
                raise InvalidInputError(f"values from {lowest} to {highest} do not fit into output_dtype {dtype}")
        return data.astype(dtype, copy=False)

    def _chunks(self, array: np.ndarray) -> tuple[int, ...]:
        chunks = tuple(min(CHUNK, length) for length in array.shape)
        return (1, *chunks[1:]) if self.has_channels else chunks


class HDF5Writer(ContainerWriter):
    """Write an HDF5 file with one chunked, gzip-compressed (level 1) dataset; see ``ContainerWriter``.

    A voxel size in micrometers (metadata ``unit``, as voxel_ext's readers give it where the file has a voxel size)
    becomes the dataset's attribute ``element_size_um``.
    """

    suffixes = HDF5_SUFFIXES
    is_folder = False

    def _store(self, path: Path, array: np.ndarray) -> None:
        options: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "chunks": self._chunks(array)}
        with write_hdf5(path) as (root, _):
            dataset = root.create_dataset(self.key, data=array, **options)
            if self.voxel_size is not None:
                dataset.attrs[VOXEL_SIZE_ATTRIBUTE] = self.voxel_size


class ZarrWriter(ContainerWriter):
    """Write a zarr store (format 3, default compression) with one dataset; see ``ContainerWriter``.

    With a voxel size in micrometers (metadata ``unit``, as voxel_ext's readers give it where the file has a voxel
    size), the store is an OME-Zarr 0.5 image of one level.
    """

    suffixes = ZARR_SUFFIXES
    is_folder = True

    def _store(self, path: Path, array: np.ndarray) -> None:
        import zarr

        group = zarr.open_group(str(path), mode="w")
        chunks = self._chunks(array)
        stored = group.create_array(self.key, shape=array.shape, dtype=array.dtype, chunks=chunks)
        # chunk by chunk: of several at once, zarr goes on writing the others after one has failed
        for corner in itertools.product(*map(range, [0] * array.ndim, array.shape, chunks)):
            region = tuple(slice(start, start + length) for start, length in zip(corner, chunks, strict=True))
            stored[region] = array[region]
        if self.voxel_size is not None:
            group.attrs.update(multiscale_attributes(self.key, self.voxel_size, self.has_channels))


def register_writers() -> None:
    """Let ``monai.transforms.SaveImage`` choose the writers by suffix."""
    import monai.data.image_writer as registry

    if not registry.SUPPORTED_WRITERS:  # MONAI fills an empty registry at first use; ours alone would prevent that
        registry.init()
    for suffix in HDF5_SUFFIXES:
        register_writer(suffix, HDF5Writer)
    for suffix in ZARR_SUFFIXES:
        register_writer(suffix, ZarrWriter)
