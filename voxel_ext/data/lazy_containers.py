"""Arrays in zarr stores and HDF5 files that are read piece by piece."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from voxel_ext.data.address import VolumeAddress, parse_address
from voxel_ext.data.container import (
    arrays,
    check_array,
    check_memory,
    describe,
    find_array,
    get_array,
    get_node,
    is_array,
    open_container,
    voxel_size,
)
from voxel_ext.data.lazy_sources import ArraySource, Index, describe_file, hash_values
from voxel_ext.data.zarr_io import multiscale
from voxel_ext.errors import InvalidInputError, MissingDataError

METADATA_FILES = ("zarr.json", ".zarray", ".zattrs", ".zgroup")


class ContainerSource(ArraySource):
    """An array in a zarr store or an HDF5 file.

    Args:
        address: of the array, or of an OME-Zarr image or another group that holds one array.
        level: of the OME-Zarr image, or of a group with arrays called 0, 1, ...

    Raises:
        MissingDataError: no such file, array or level; lists those there are.
        InvalidInputError: damaged, empty, not numeric, several arrays that could be meant, malformed metadata.
    """

    def __init__(self, address: VolumeAddress, level: int = 0) -> None:
        super().__init__(str(address))
        self.location = address
        with open_container(address.file) as root:
            array = _find_level(root, address, level)
            check_array(array, address)
            _, _, self.key = (part.strip("/") for part in (array.name or "").partition("/"))
            self._take(root, array)
        self.handle  # noqa: B018 opens it, so that this process keeps one handle

    def _take(self, root: Any, array: Any) -> None:
        drop = int(isinstance(self.location.selection, int))
        shape = list(array.shape)
        if isinstance(self.location.selection, tuple):
            shape[0] = self.location.selection[1] - self.location.selection[0]
        self.shape, self.dtype = tuple(shape[drop:]), array.dtype.newbyteorder("=")
        axes = _axes(root, array)
        self.axes = axes[drop:] if axes else None
        self.chunks = tuple(array.chunks)[drop:] if array.chunks else None
        check_memory(array.chunks or (), array.dtype, f"a chunk of {self.address}")
        sizes = voxel_size(root, array, self.location)
        if sizes is not None:
            self.voxel_size = _spatial_sizes(sizes, axes, len(array.shape), self.address)

    def open(self) -> Any:
        """Open the file; it is closed when nothing refers to the array any more."""
        return _Opened(self.location, self.key)

    def describe_content(self) -> dict[str, Any]:
        """Return size and time of a file, or a hash of a store's metadata and count, sizes and time of its chunks."""
        if self.location.is_hdf5:
            return describe_file(self.location.file)
        return describe_store(Path(self.location.file), self.key)


class _Opened:
    """An open container, the array in it, and the selection of its first axis."""

    def __init__(self, address: VolumeAddress, key: str) -> None:
        self._stack = contextlib.ExitStack()
        root = self._stack.enter_context(open_container(address.file))
        array = get_array(root, key)
        if array is None:
            raise MissingDataError(f"{address} is no longer there; the file has: {describe(root)}")
        self._array: Any = array
        self._selection = address.selection

    def __getitem__(self, index: Index) -> NDArray:
        if isinstance(self._selection, int):
            return self._array[(self._selection, *index)]
        if isinstance(self._selection, tuple):
            first, offset = index[0], self._selection[0]
            return self._array[(slice(first.start + offset, first.stop + offset), *index[1:])]
        return self._array[index]


class ZarrObjectSource(ArraySource):
    """An open zarr array whose store has no address, such as one in memory; pickled with its store.

    Args:
        array: the ``zarr.Array``.
        address: what it is called.
    """

    def __init__(self, array: Any, address: str) -> None:
        super().__init__(address)
        self.array = array
        self.shape, self.dtype, self.chunks = array.shape, array.dtype.newbyteorder("="), tuple(array.chunks)

    def open(self) -> Any:
        """Return the array."""
        return self.array

    def describe_content(self) -> dict[str, Any]:
        """Return a hash of the values, or for a folder what :func:`describe_store` says."""
        folder = getattr(self.array.store, "root", None)
        return describe_store(folder, self.array.path) if isinstance(folder, Path) else {"values": hash_values(self)}


def open_object(array: Any, name: str) -> ArraySource | None:
    """Make a source of an open ``zarr.Array`` or ``h5py.Dataset``; None for anything else.

    Args:
        array: anything.
        name: what an array without a file is called.

    Raises:
        InvalidInputError: as :class:`ContainerSource`.
    """
    kind = type(array).__module__.split(".")[0]
    if kind == "h5py" and is_array(array):
        return ContainerSource(VolumeAddress(_hdf5_file(array.file.filename), array.name.strip("/")))
    if kind != "zarr" or not is_array(array):
        return None
    folder = getattr(array.store, "root", None)
    address = parse_address(folder / array.path) if isinstance(folder, Path) else VolumeAddress("")
    if address.is_zarr:
        return ContainerSource(address)
    return ZarrObjectSource(array, address.file or name)


def _hdf5_file(path: Any) -> str:
    name = os.fsdecode(path)
    if not VolumeAddress(name).is_hdf5:
        raise InvalidInputError(f"{name}: expected an HDF5 file that ends with .h5, .hdf5 or .hdf")
    return name


def _find_level(root: Any, address: VolumeAddress, level: int) -> Any:
    """The array of a resolution level; the array itself is level 0."""
    node = get_node(root, address.key)
    paths: dict[int, str] = {}
    if node is not None and not is_array(node):
        try:
            image = None if hasattr(node, "visititems") else multiscale(node)
            paths = {i: str(one["path"]) for i, one in enumerate(image["datasets"])} if image else {}
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(f"{address} has malformed OME-Zarr metadata ({error!r})") from error
        if not paths:
            paths = {int(path): path for path in arrays(node) if path.isdecimal()}
    if not paths:
        if level != 0 and node is not None:
            raise MissingDataError(f"{address} has no level {level}: it has no resolution levels, only level 0")
        return find_array(root, address, (), channel=True)
    array = get_array(node, paths[level]) if level in paths else None
    if array is None:
        listed = "; ".join(f"{i}: {path} {_shape_at(node, path)}" for i, path in sorted(paths.items()))
        raise MissingDataError(f"{address} has no level {level}; its levels are {listed}")
    return array


def _shape_at(node: Any, path: str) -> str:
    array = get_array(node, path)
    return "(missing)" if array is None else str(tuple(array.shape))


def _axes(root: Any, array: Any) -> str | None:
    """Letters of the axes by the OME-Zarr metadata of the group that holds the array, or None."""
    if hasattr(root, "visititems") or is_array(root):
        return None
    parent = get_node(root, array.path.strip("/").rpartition("/")[0])
    image = multiscale(parent) if parent is not None and not is_array(parent) else None
    if not image or array.path.rpartition("/")[2] not in [one.get("path") for one in image.get("datasets", [])]:
        return None
    names = [axis.get("name", "") if isinstance(axis, Mapping) else str(axis) for axis in image.get("axes", [])]
    letters = "".join(name.lower() for name in names)
    known = len(letters) == len(names) == len(array.shape) and len(set(letters)) == len(letters)
    return letters if known and set("zyx") <= set(letters) <= set("tczyx") else None


def _spatial_sizes(sizes: list[float], axes: str | None, rank: int, address: str) -> tuple[float, float, float] | None:
    if len(sizes) == rank and axes:
        sizes = [sizes[axes.index(letter)] for letter in "zyx"]
    elif len(sizes) == rank > 3:  # axes without names: lengths of space are those of the last three
        sizes = sizes[-3:]
    if len(sizes) != 3:
        raise InvalidInputError(
            f"{address} has {rank} axes but the voxel size {sizes}; expected a number per axis, or (z, y, x)"
        )
    return (sizes[0], sizes[1], sizes[2])


def describe_store(store: Path, key: str) -> dict[str, Any]:
    """Tell, for JSON, what changes whenever a zarr array is written to.

    Args:
        store: folder of the store.
        key: path of the array in it.

    Returns:
        ``metadata``, a hash of the metadata files of the array and of the group that holds it, and number, total size
        and newest time of the files with chunks.
    """
    folder = store / key
    digest = hashlib.sha256()
    for place in (folder, folder.parent) if key else (folder,):
        for name in METADATA_FILES:
            if (place / name).is_file():
                digest.update(name.encode() + b"\0" + (place / name).read_bytes())
    count = size = newest = 0
    for inside, _, names in os.walk(folder):
        for name in names:
            if name not in METADATA_FILES:
                status = os.stat(os.path.join(inside, name))
                count, size, newest = count + 1, size + status.st_size, max(newest, status.st_mtime_ns)
    return {"metadata": digest.hexdigest(), "chunk_files": count, "bytes": size, "mtime_ns": newest}
