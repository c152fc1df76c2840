"""Finding an array inside an HDF5 file or a zarr store, whichever it is."""

from __future__ import annotations

import logging
import math
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from voxel_ext.data.address import CONTAINER_SUFFIXES, VolumeAddress
from voxel_ext.data.zarr_io import multiscale, multiscale_voxel_size, read_zarr
from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.hdf5 import read_hdf5

logger = logging.getLogger(__name__)

VOXEL_SIZE_ATTRIBUTE = "element_size_um"
"""Attribute of an HDF5 dataset with its voxel size in micrometers, as ilastik and PlantSeg write it."""

UNIT_KEY, MICROMETER = "unit", "micrometer"
"""Key and value of the metadata of images whose affine is in micrometers."""

READ_ERRORS = (
    *(OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, zlib.error),
    *(IndexError, AttributeError, AssertionError, ArithmeticError, MemoryError, struct.error),
)
"""What h5py, zarr, readers of images and their codecs raise when they read damaged data."""


@contextmanager
def open_container(file: str) -> Iterator[Any]:
    """Open an HDF5 file or a zarr store for reading, by its suffix.

    Yields:
        an ``h5py.File``, ``zarr.Group`` or ``zarr.Array``; their groups and arrays are used in the same way.

    Raises:
        MissingDataError: it does not exist.
        InvalidInputError: it is damaged or of another format.
    """
    address = VolumeAddress(file)
    if not address.is_container:
        raise InvalidInputError(f"{file}: expected a file that ends with one of {', '.join(CONTAINER_SUFFIXES)}")
    with read_hdf5(file) if address.is_hdf5 else read_zarr(file) as root:
        yield root


def is_array(node: Any) -> bool:
    """Whether a node of a container is an array with a shape."""
    return getattr(node, "shape", None) is not None


def is_numeric(array: Any) -> bool:
    """Whether an array holds booleans, integers or real numbers (not text, objects, records or complex numbers)."""
    return array.dtype.kind in "biuf"


def arrays(group: Any) -> dict[str, Any]:
    """All arrays in a group and its subgroups by their path relative to it, sorted; an array itself has the path ""."""
    if is_array(group):
        return {"": group}
    found: dict[str, Any] = {}
    if hasattr(group, "visititems"):
        group.visititems(lambda path, node: found.update({path: node}) if is_array(node) else None)
    else:
        found = {path: node for path, node in group.members(max_depth=None) if is_array(node)}
    return dict(sorted(found.items()))


def describe(group: Any) -> str:
    """List the arrays of a group with shape and data type, for messages."""
    found = [f"{path or '(the store itself)'} {tuple(a.shape)} {a.dtype}" for path, a in arrays(group).items()]
    return "; ".join(found) or "no arrays at all"


def get_node(group: Any, key: str) -> Any | None:
    """The array or group at a path inside a group, or None."""
    if not key:
        return group
    if is_array(group):
        return None
    try:
        return group.get(key)
    except (KeyError, ValueError):  # a part of the path is an array
        return None


def get_array(group: Any, key: str) -> Any | None:
    """The array at a path inside a group, or None."""
    node = get_node(group, key)
    return node if node is not None and is_array(node) else None


def find_array(root: Any, address: VolumeAddress, candidates: Sequence[str], channel: bool) -> Any:
    """The array that an address means.

    If the address names no array but a file or group: the first of ``candidates`` that is there, else, without
    candidates, level 0 of an OME-Zarr image, else the only numeric array of suitable rank.

    Args:
        root: the open container.
        address: what is asked for.
        candidates: paths relative to the file or group to try.
        channel: whether the volume has a channel axis; it then may have rank 3 or 4, otherwise 2 or 3.

    Raises:
        MissingDataError: nothing at the key, or none of the candidates; lists what there is.
        InvalidInputError: not exactly one suitable array (lists what there is), or malformed metadata.
    """
    node = get_node(root, address.key)
    if node is None:
        raise MissingDataError(f"{address.file} has no dataset {address.key!r}; it has: {describe(root)}")
    if is_array(node):
        return node
    for candidate in candidates:
        array = get_array(node, candidate)
        if array is not None:
            return array
    if candidates:
        raise MissingDataError(f"{address} has none of the datasets {list(candidates)}; it has: {describe(node)}")
    base = multiscale_array(node, address)
    if base is not None:
        return base
    axes = channel + isinstance(address.selection, int)
    found = [a for a in arrays(node).values() if is_numeric(a) and len(a.shape) - axes in (2, 3)]
    if len(found) != 1:
        raise InvalidInputError(
            f"{address}: {len(found)} datasets could be meant; name one as {address.file}/name or by the reader's "
            f"option key. There are: {describe(node)}"
        )
    return found[0]


def multiscale_array(group: Any, address: VolumeAddress) -> Any | None:
    """Level 0 of the OME-Zarr image that a zarr group describes, or None.

    Raises:
        InvalidInputError: the description is malformed.
    """
    if is_array(group) or hasattr(group, "visititems"):
        return None
    with _name_malformed(address):
        image = multiscale(group)
        return get_array(group, image["datasets"][0]["path"]) if image else None


@contextmanager
def _name_malformed(address: VolumeAddress) -> Iterator[None]:
    """Say in which volume the metadata, which may hold anything, are not as expected."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{address} has malformed metadata ({type(error).__name__}: {error}); expected {VOXEL_SIZE_ATTRIBUTE} with "
            "one number per axis, or OME-Zarr 0.4 or 0.5"
        ) from error


def check_array(array: Any, address: VolumeAddress) -> None:
    """Check that an array can be read as a volume.

    Raises:
        InvalidInputError: its data type is not numeric, it is empty, or the selection lies outside.
    """
    if not is_numeric(array):
        raise InvalidInputError(f"{address} has data type {array.dtype}; expected integers, real numbers or booleans")
    if math.prod(array.shape) == 0 or not array.shape:
        raise InvalidInputError(f"{address} is empty: its shape is {tuple(array.shape)}")
    last = address.selection[1] - 1 if isinstance(address.selection, tuple) else address.selection
    if last is not None and last >= array.shape[0]:
        raise InvalidInputError(
            f"{address}: the selection lies outside of the first axis, which has length {array.shape[0]} "
            f"(shape {tuple(array.shape)})"
        )


def check_memory(shape: Sequence[int], dtype: np.dtype, source: object) -> None:
    """Check that an array can be in memory, before space is taken for it: damaged files tell of sizes beyond reason.

    Args:
        shape: of the array.
        dtype: of its values.
        source: where it is, for the message.

    Raises:
        InvalidInputError: it is larger than the memory of the machine, or than this process may have.
    """
    needed, there = math.prod(map(int, shape)) * dtype.itemsize, _memory()
    if needed > there:
        raise InvalidInputError(
            f"{source}: an array of shape {str(tuple(shape))[:200]} and data type {dtype} does not fit into "
            f"{there / 2**30:.1f} GiB of memory; read a smaller part. If it should not be so large, the file is damaged"
        )


def _memory() -> float:
    """Bytes of memory of the machine, or that this process may have; infinite where the system does not tell."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ImportError, AttributeError, ValueError):
        return math.inf
    return whole if limit == resource.RLIM_INFINITY else min(limit, whole)


def voxel_size(root: Any, array: Any, address: VolumeAddress) -> list[float] | None:
    """Voxel size of an array in micrometers as its file gives it, for all axes or only the spatial ones, or None.

    Raises:
        InvalidInputError: it is not a list of numbers, or the metadata are malformed.
    """
    with _name_malformed(address):
        values = array.attrs.get(VOXEL_SIZE_ATTRIBUTE)
        if values is None and not hasattr(root, "visititems") and not is_array(root):
            parent, _, name = array.path.strip("/").rpartition("/")
            group = get_node(root, parent)
            image = multiscale(group) if group is not None else None
            values = multiscale_voxel_size(image, name) if image else None
        if values is None:
            return None
        sizes = [float(value) for value in np.atleast_1d(values)]
    if not all(math.isfinite(size) and size > 0 for size in sizes):
        logger.warning("ignoring the voxel size %s of %s: not positive numbers", sizes, array.name)
        return None
    return sizes
