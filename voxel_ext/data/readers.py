"""MONAI image readers for HDF5 files and zarr stores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.data import ImageReader
from monai.transforms.io.array import SUPPORTED_READERS
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from voxel_ext.data.address import HDF5_SUFFIXES, ZARR_SUFFIXES, VolumeAddress, parse_address
from voxel_ext.data.container import (
    MICROMETER,
    READ_ERRORS,
    UNIT_KEY,
    check_array,
    check_memory,
    find_array,
    open_container,
    voxel_size,
)
from voxel_ext.errors import InvalidInputError

Address = str | os.PathLike[str]


class ContainerReader(ImageReader):
    """What ``HDF5Reader`` and ``ZarrReader`` have in common.

    ``read`` takes addresses such as ``vols.h5/data[3]`` (see ``parse_address``) and touches no file; ``get_data`` opens
    the file and reads the selected part only. So the errors about files reach the user of ``LoadImage`` as they are,
    whether it was given a reader or chose one by the suffix.

    Args:
        key: path of the dataset, or several to try in this order, for addresses that name only a file or a group.
            Without it, level 0 of an OME-Zarr image is used, or else the file must have one suitable dataset.
        channel_dim: the axis of the (selected) array that holds channels; None if there is none.
    """

    suffixes: tuple[str, ...]

    def __init__(self, key: str | Sequence[str] | None = None, channel_dim: int | None = None) -> None:
        self.keys = tuple(ensure_tuple(key)) if key is not None else ()
        self.channel_dim = channel_dim

    def verify_suffix(self, filename: Sequence[Address] | Address) -> bool:
        """Whether all of the given addresses are of this reader's format, by the suffix of their file."""
        return all(parse_address(name).file.lower().endswith(self.suffixes) for name in ensure_tuple(filename))

    def read(self, data: Sequence[Address] | Address, **kwargs: Any) -> list[VolumeAddress]:
        """Take one address, or several whose volumes become the channels of one image.

        Args:
            data: the addresses.
            kwargs: none is known; MONAI's interface asks for them.

        Returns:
            the parsed addresses, for ``get_data``.

        Raises:
            InvalidInputError: a file of another format (judged by its suffix), or an invalid selection.
        """
        if kwargs:
            raise InvalidInputError(f"{type(self).__name__}.read takes no options, got {sorted(kwargs)}")
        for name in ensure_tuple(data):
            if not self.verify_suffix(name):
                raise InvalidInputError(
                    f"{name}: {type(self).__name__} reads files that end with {', '.join(self.suffixes)}"
                )
        return [parse_address(name) for name in ensure_tuple(data)]

    def get_data(self, img: Sequence[VolumeAddress] | VolumeAddress) -> tuple[np.ndarray, dict]:
        """Read the volumes.

        Args:
            img: what ``read`` returned.

        Returns:
            the array with axes as stored, (D, H, W) or (H, W), with a channel axis if ``channel_dim`` says so, or first
            if several volumes were asked for; and the metadata ``affine`` (from the voxel size in micrometers, and the
            start of a range), ``original_affine``, ``spatial_shape``, ``original_channel_dim``, ``space``, and
            ``unit``: "micrometer" if the file gives a voxel size, else "".

        Raises:
            MissingDataError: no such file, or no such dataset in it (lists those there are).
            InvalidInputError: truncated or foreign file; several datasets could be meant; text or objects; empty;
                selection outside; rank not 2 or 3 without channels; volumes of different shape or voxel size; a voxel
                size with another number of axes, or malformed metadata.
        """
        addresses = [img] if isinstance(img, VolumeAddress) else list(img)
        loaded = [self._load(address) for address in addresses]
        array, meta = loaded[0]
        if len(loaded) == 1:
            return array, meta
        for address, (other, other_meta) in zip(addresses[1:], loaded[1:], strict=True):
            if other.shape != array.shape or not np.allclose(other_meta[MetaKeys.AFFINE], meta[MetaKeys.AFFINE]):
                raise InvalidInputError(
                    f"{addresses[0]} with shape {array.shape} and {address} with shape {other.shape} cannot be the "
                    "channels of one image: their shapes or voxel sizes or positions differ"
                )
        parts = [part for part, _ in loaded]
        if self.channel_dim is not None:
            return np.concatenate(parts, axis=self.channel_dim), meta
        return np.stack(parts), {**meta, MetaKeys.ORIGINAL_CHANNEL_DIM: 0}

    def _load(self, address: VolumeAddress) -> tuple[np.ndarray, dict]:
        with open_container(address.file) as root:
            array = find_array(root, address, self.keys, self.channel_dim is not None)
            check_array(array, address)
            rank = len(array.shape) - isinstance(address.selection, int)
            self._check_rank(address, rank, array.shape)
            size = voxel_size(root, array, address)
            if size is not None:
                size = self._spatial(size, address, len(array.shape), rank)
            check_memory(_selected(array.shape, address), array.dtype, address)
            try:
                data = np.asarray(array[address.index])
            except READ_ERRORS as error:
                raise InvalidInputError(f"{address} cannot be read, the file is damaged ({error})") from error
        data = data.astype(data.dtype.newbyteorder("="), copy=False)
        return data, self._metadata(data.shape, address, size)

    def _spatial(self, sizes: list[float], address: VolumeAddress, stored_rank: int, rank: int) -> list[float]:
        """Leave out the numbers of the axis that the selection takes away and of the channels, if there are any."""
        spatial_rank = rank - (self.channel_dim is not None)
        if len(sizes) == stored_rank:
            sizes = sizes[stored_rank - rank :]
            if self.channel_dim is not None:
                del sizes[self.channel_dim]
        if len(sizes) != spatial_rank:
            raise InvalidInputError(
                f"{address} has {stored_rank} axes, {spatial_rank} of them spatial, but the voxel size {sizes}; "
                "expected one number per axis or per spatial axis"
            )
        return sizes

    def _check_rank(self, address: VolumeAddress, rank: int, shape: tuple[int, ...]) -> None:
        channels = self.channel_dim is not None
        if rank - channels not in (2, 3):
            raise InvalidInputError(
                f"{address} has shape {tuple(shape)}; expected 2 or 3 spatial axes{' and one of channels' * channels}. "
                "Select one item of the first axis with [index], or tell the reader the channel_dim"
            )
        if self.channel_dim is not None and not -rank <= self.channel_dim < rank:
            raise InvalidInputError(f"channel_dim={self.channel_dim} is not an axis of {address} of rank {rank}")

    def _metadata(self, shape: tuple[int, ...], address: VolumeAddress, size: list[float] | None) -> dict:
        spatial = list(range(len(shape)))
        if self.channel_dim is not None:
            del spatial[self.channel_dim]
        affine = np.eye(len(spatial) + 1)
        spacing = size or [1.0] * len(spatial)
        affine[range(len(spatial)), range(len(spatial))] = spacing
        if isinstance(address.selection, tuple) and spatial[0] == 0:
            affine[0, -1] = address.selection[0] * spacing[0]
        return {
            MetaKeys.AFFINE: affine,
            MetaKeys.ORIGINAL_AFFINE: affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.asarray([shape[axis] for axis in spatial]),
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan") if self.channel_dim is None else self.channel_dim,
            MetaKeys.SPACE: SpaceKeys.RAS,
            UNIT_KEY: MICROMETER if size else "",
        }


def _selected(shape: Sequence[int], address: VolumeAddress) -> Sequence[int]:
    """Shape of the part of an array that an address means."""
    if isinstance(address.selection, tuple):
        return (address.selection[1] - address.selection[0], *shape[1:])
    return shape if address.selection is None else shape[1:]


class HDF5Reader(ContainerReader):
    """Read volumes from HDF5 files (.h5, .hdf5, .hdf); see ``ContainerReader``.

    The voxel size is the dataset's attribute ``element_size_um``, as ilastik and PlantSeg write it.
    """

    suffixes = HDF5_SUFFIXES


class ZarrReader(ContainerReader):
    """Read volumes from zarr stores (folders .zarr, format 2 or 3); see ``ContainerReader``.

    The voxel size is an attribute ``element_size_um``, or the scale that OME-Zarr 0.4 or 0.5 metadata give for the
    array. An address that names only the group of an OME-Zarr image means its level 0.
    """

    suffixes = ZARR_SUFFIXES


def register_readers() -> None:
    """Let ``monai.transforms.LoadImage`` know the readers, by name and by suffix."""
    SUPPORTED_READERS["hdf5reader"] = HDF5Reader
    SUPPORTED_READERS["zarrreader"] = ZarrReader
