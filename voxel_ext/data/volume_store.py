"""Files of synthetic volumes that are written one volume at a time and can be continued after a kill."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from voxel_ext import __version__
from voxel_ext.data.container import READ_ERRORS, arrays
from voxel_ext.data.volume_record import VolumeRecord
from voxel_ext.data.zarr_io import read_zarr
from voxel_ext.errors import InvalidInputError
from voxel_ext.files import atomic_path
from voxel_ext.hdf5 import GuardedFile, read_hdf5, write_hdf5
from voxel_ext.hdf5_checks import check_file, check_heaps

logger = logging.getLogger(__name__)

CHUNK = 64
"""Edge of a chunk in voxels; a chunk never holds more than one volume."""

_SETTINGS, _FINISHED, _CHECKSUM, _PARAMETERS = "settings", "finished", "checksum", "parameters"
_DENSE, _TABLES = "dense", "tables"


class VolumeStore(ABC):
    """A file under construction: ``count`` volumes, of which ``finished`` are there.

    Everything that makes a volume is on disk before it counts, so the count is right also after a kill.

    Args:
        root: the open file.
        count: how many volumes it is to hold.
    """

    def __init__(self, root: Any, count: int) -> None:
        self.root, self.count = root, count

    @property
    def finished(self) -> int:
        """How many volumes are there."""
        return int(self.root.attrs[_FINISHED])

    def begin(self, settings: dict[str, Any]) -> None:
        """Make a new file's attributes."""
        self.root.attrs[_SETTINGS] = json.dumps(settings)
        self.root.attrs[_FINISHED] = 0
        self.root.attrs["voxel_ext_version"] = __version__  # for the curious

    def append(self, record: VolumeRecord) -> None:
        """Write the next volume; it counts once it is complete.

        Raises:
            InvalidInputError: its arrays are not named or shaped like those of the first one.
            OSError: the disk is full.
        """
        index = self.finished
        if index == 0:
            self._create(record)
        for name, array in record.dense.items():
            stored = tuple(self.root[name].shape[1:]) if name in self.root else None
            if stored != array.shape:
                raise InvalidInputError(f"{name!r} of volume {index} has shape {array.shape}, but {stored} before")
        if sorted(record.tables) != sorted(json.loads(self.root.attrs[_TABLES])):
            raise InvalidInputError(f"volume {index} has the tables {sorted(record.tables)}, unlike the first one")
        for name, array in record.dense.items():
            self.root[name][index] = array
        for name, array in record.tables.items():
            self._write_table(name, index, array)
        self.root[_PARAMETERS][index] = record.parameters
        self.root[_CHECKSUM][index] = record.checksum()
        self.flush()
        self.root.attrs[_FINISHED] = index + 1
        self.flush()

    def read(self, index: int) -> VolumeRecord:
        """Read a volume back."""
        dense = {name: np.asarray(self.root[name][index]) for name in json.loads(self.root.attrs[_DENSE])}
        tables = {name: self._read_table(name, index) for name in json.loads(self.root.attrs[_TABLES])}
        text = self.root[_PARAMETERS][index]
        return VolumeRecord(dense, tables, text.decode() if isinstance(text, bytes) else str(text))

    def is_whole(self, index: int, record: VolumeRecord) -> bool:
        """Whether a volume that was read back is the one that was written."""
        return record.checksum() == int(self.root[_CHECKSUM][index])

    def _create(self, record: VolumeRecord) -> None:
        for name in list(self.root):  # of a first volume that was interrupted
            del self.root[name]
        self.root.attrs[_DENSE] = json.dumps(list(record.dense))
        self.root.attrs[_TABLES] = json.dumps(list(record.tables))
        for name, array in record.dense.items():
            chunks = (1, *(min(CHUNK, length) for length in array.shape))
            self._create_dense(name, (self.count, *array.shape), array.dtype, chunks)
        for name, array in record.tables.items():
            self._create_table(name, array)
        self._create_scalars()

    @abstractmethod
    def flush(self) -> None:
        """Hand everything to the operating system."""

    @abstractmethod
    def _create_dense(self, name: str, shape: tuple[int, ...], dtype: np.dtype, chunks: tuple[int, ...]) -> None: ...

    @abstractmethod
    def _create_table(self, name: str, first: np.ndarray) -> None: ...

    @abstractmethod
    def _create_scalars(self) -> None: ...

    @abstractmethod
    def _write_table(self, name: str, index: int, rows: np.ndarray) -> None: ...

    @abstractmethod
    def _read_table(self, name: str, index: int) -> np.ndarray: ...


class HDF5Store(VolumeStore):
    """Volumes in an HDF5 file; a table is stored flat, and its attribute ``row_shape`` tells the shape of a row."""

    def __init__(self, root: Any, count: int, guard: GuardedFile | None = None) -> None:
        super().__init__(root, count)
        self._guard = guard

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self.root.flush()
        if self._guard is not None:
            self._guard.check()

    def check(self) -> None:
        """Refuse a file whose texts and tables are stored where HDF5 would not come back from.

        Raises:
            InvalidInputError: it is such a file.
        """
        check_file(self.root)
        for array in arrays(self.root).values():
            check_heaps(array)

    def _create_dense(self, name: str, shape: tuple[int, ...], dtype: np.dtype, chunks: tuple[int, ...]) -> None:
        self.root.create_dataset(name, shape, dtype, chunks=chunks, compression="gzip", compression_opts=1)

    def _create_table(self, name: str, first: np.ndarray) -> None:
        import h5py

        table = self.root.create_dataset(name, (self.count,), h5py.vlen_dtype(first.dtype))
        table.attrs["row_shape"] = np.asarray(first.shape[1:], dtype=np.int64)

    def _create_scalars(self) -> None:
        import h5py

        self.root.create_dataset(_PARAMETERS, (self.count,), h5py.string_dtype())
        self.root.create_dataset(_CHECKSUM, (self.count,), np.uint32)

    def _write_table(self, name: str, index: int, rows: np.ndarray) -> None:
        self.root[name][index] = rows.ravel()

    def _read_table(self, name: str, index: int) -> np.ndarray:
        table = self.root[name]
        return np.asarray(table[index]).reshape(-1, *table.attrs["row_shape"].tolist())


class ZarrStore(VolumeStore):
    """Volumes in a zarr store; a table is padded to the longest, and ``<name>_length`` tells the number of its rows."""

    def flush(self) -> None:
        """Nothing to do: zarr writes at once."""

    def _create_dense(self, name: str, shape: tuple[int, ...], dtype: np.dtype, chunks: tuple[int, ...]) -> None:
        self.root.create_array(name, shape=shape, dtype=dtype, chunks=chunks)

    def _create_table(self, name: str, first: np.ndarray) -> None:
        shape = (self.count, max(len(first), 1), *first.shape[1:])
        self.root.create_array(name, shape=shape, dtype=first.dtype, chunks=(1, 1024, *first.shape[1:]))
        self.root.create_array(f"{name}_length", shape=(self.count,), dtype=np.int64, chunks=(1,))

    def _create_scalars(self) -> None:
        self.root.create_array(_PARAMETERS, shape=(self.count,), dtype=str, chunks=(1,))
        self.root.create_array(_CHECKSUM, shape=(self.count,), dtype=np.uint32, chunks=(1,))

    def _write_table(self, name: str, index: int, rows: np.ndarray) -> None:
        table = self.root[name]
        if len(rows) > table.shape[1]:
            table.resize((table.shape[0], len(rows), *table.shape[2:]))
        if len(rows):
            self.root[name][index, : len(rows)] = rows
        self.root[f"{name}_length"][index] = len(rows)

    def _read_table(self, name: str, index: int) -> np.ndarray:
        return np.asarray(self.root[name][index, : int(self.root[f"{name}_length"][index])])


@contextlib.contextmanager
def open_store(path: Path, count: int, settings: dict[str, Any] | None) -> Iterator[VolumeStore]:
    """Open a file of volumes for writing.

    Args:
        path: the file; its name without ``.partial`` tells the format.
        count: how many volumes it is to hold.
        settings: of a new file, which replaces what is there; None to continue the one that is there, which must have
            been closed (see ``salvage``).

    Yields:
        the store; closed when the block ends.
    """
    if _is_zarr(path):
        import zarr

        store: VolumeStore = ZarrStore(zarr.open_group(str(path), mode="r+" if settings is None else "w"), count)
        if settings is not None:
            store.begin(settings)
        yield store
        return
    if settings is not None and path.is_dir():
        shutil.rmtree(path)
    with write_hdf5(path, "r+" if settings is None else "w") as (root, guard):
        store = HDF5Store(root, count, guard)
        if settings is not None:
            store.begin(settings)
        yield store


def salvage(path: Path, count: int, settings: dict[str, Any]) -> int:
    """Make an interrupted file fit to be continued, with the volumes that are whole in it.

    A zarr store only forgets the volumes from the first damaged one on, if there is one. An HDF5 file whose writer was
    killed must not be continued: what lies beyond its last whole volume may be damaged. It is written anew.

    Args:
        path: the interrupted file.
        count: how many volumes it is to hold.
        settings: those that it was made with.

    Returns:
        how many volumes it has now.
    """
    if _is_zarr(path):
        whole = sum(1 for _ in _whole_records(path, count))
        with open_store(path, count, None) as store:
            store.root.attrs[_FINISHED] = whole
        return whole
    with atomic_path(path) as fresh, open_store(fresh, count, settings) as store:
        for record in _whole_records(path, count):
            store.append(record)
        return store.finished


def _whole_records(path: Path, count: int) -> Iterator[VolumeRecord]:
    """The volumes of an interrupted file up to the first that is damaged."""
    try:
        with read_zarr(path) if _is_zarr(path) else read_hdf5(path) as root:
            store = ZarrStore(root, count) if _is_zarr(path) else HDF5Store(root, count)
            if isinstance(store, HDF5Store):
                store.check()
            for index in range(store.finished):
                record = store.read(index)
                if not store.is_whole(index, record):
                    raise InvalidInputError(f"volume {index} has another checksum than when it was written")
                yield record
    except READ_ERRORS as error:
        logger.warning("%s is damaged, not all of it can be used (%s)", path, error)


def _is_zarr(path: Path) -> bool:
    return path.name.removesuffix(".partial").endswith(".zarr")


def read_settings(path: Path) -> dict[str, Any]:
    """Settings with which a file of volumes, finished or partial, was made.

    Raises:
        InvalidInputError: it is damaged, or is no such file.
    """
    with read_zarr(path) if _is_zarr(path) else read_hdf5(path) as root:
        if not _is_zarr(path):
            check_file(root)
        try:
            settings = json.loads(root.attrs.get(_SETTINGS))
        except (*READ_ERRORS, RecursionError):
            settings = None
    if not isinstance(settings, dict) or "generator" not in settings:
        raise InvalidInputError(f"{path} does not tell how it was made: not a file of synthetic volumes")
    return settings
