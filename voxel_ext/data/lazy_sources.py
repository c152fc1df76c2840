"""Arrays that are read piece by piece: what all kinds have in common, and NumPy arrays in memory and on disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import tokenize
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.container import READ_ERRORS
from voxel_ext.errors import InvalidInputError, MissingDataError

Index = tuple[slice, ...]

_HASHED_AT_ONCE = 1 << 25  # voxels


class ArraySource(ABC):
    """An array that is read piece by piece; picklable, it opens its file anew in every process.

    Attributes:
        address: what it is called in messages.
        shape: of the array, its axes as stored.
        dtype: of what :meth:`read` returns, in the byte order of the machine.
        axes: a letter of "tczyx" per axis, if the file tells; else None.
        chunks: pieces that are stored apart, one length per axis; None if the whole is stored in one piece.
        voxel_size: (z, y, x) in micrometers, or None.
    """

    address: str
    shape: tuple[int, ...]
    dtype: np.dtype
    axes: str | None = None
    chunks: tuple[int, ...] | None = None
    voxel_size: tuple[float, float, float] | None = None

    def __init__(self, address: str) -> None:
        self.address = address
        self._handle: Any = None
        self._process = 0
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None, "_process": 0, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()

    @abstractmethod
    def open(self) -> Any:
        """Open the array in this process; what is returned takes a tuple of slices in brackets."""

    @abstractmethod
    def describe_content(self) -> dict[str, Any]:
        """Tell, for JSON, what changes whenever the stored values do."""

    @property
    def handle(self) -> Any:
        """The open array of this process."""
        if self._process != os.getpid():  # file handles of another process must not be used after a fork
            with self._lock:
                if self._process != os.getpid():
                    self._handle, self._process = self.open(), os.getpid()
        return self._handle

    def read(self, index: Index) -> NDArray:
        """Read a part; see ``LazyVolume.read`` for errors.

        Args:
            index: one slice per axis, with start and stop inside.
        """
        return np.asarray(self.handle[index])


class MemorySource(ArraySource):
    """An array in memory, which is pickled with its values.

    Args:
        array: the array.
        address: what it is called.
    """

    def __init__(self, array: NDArray, address: str) -> None:
        super().__init__(address)
        self.array = array
        self.shape, self.dtype = array.shape, array.dtype.newbyteorder("=")

    def open(self) -> NDArray:
        """Return the array."""
        return self.array

    def describe_content(self) -> dict[str, Any]:
        """Return a hash of the values."""
        return {"values": hash_values(self)}


class FileSource(ArraySource):
    """An array that has a file for itself; a subclass opens it, and takes from it in :meth:`read_header` what it tells.

    Args:
        path: the file.

    Raises:
        MissingDataError: it does not exist.
        InvalidInputError: it cannot be opened: damaged, or of another format.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        require_file(path)
        self.read_header(self.handle)

    @abstractmethod
    def read_header(self, opened: Any) -> None:
        """Set shape, data type and what else is known, from what :meth:`open` has returned."""

    def describe_content(self) -> dict[str, Any]:
        """Return size and time of the last change of the file."""
        return describe_file(self.address)


class NpySource(FileSource):
    """An array in a file .npy, mapped into memory; not one of Python objects."""

    def open(self) -> NDArray:
        """Map the file."""
        with explain_open_errors(self.address, "a .npy file", SyntaxError, tokenize.TokenError):
            return np.load(self.address, mmap_mode="r")

    def read_header(self, opened: NDArray) -> None:
        """Set shape and data type."""
        self.shape, self.dtype = opened.shape, opened.dtype.newbyteorder("=")


@contextlib.contextmanager
def explain_open_errors(path: str, what: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn the errors of opening a damaged file into one that names it; it does not touch ``PermissionError``.

    Args:
        path: the file.
        what: it should be, e.g. "NIfTI".
        errors: what the library raises besides ``READ_ERRORS``.

    Raises:
        InvalidInputError: one of these errors was raised.
    """
    known: tuple[type[Exception], ...] = (*READ_ERRORS, *errors)
    try:
        yield
    except known as error:
        if isinstance(error, PermissionError):
            raise
        raise InvalidInputError(f"{path} cannot be opened: damaged, or not {what} ({error})") from error


def hash_values(source: ArraySource) -> str:
    """Hash the values of an array, slab by slab along its first axis.

    Args:
        source: the array, not empty.
    """
    digest = hashlib.sha256()
    step = max(_HASHED_AT_ONCE // max(int(np.prod(source.shape[1:])), 1), 1)
    for start in range(0, source.shape[0], step):
        rest = tuple(slice(0, length) for length in source.shape[1:])
        part = source.read((slice(start, min(start + step, source.shape[0])), *rest))
        digest.update(np.ascontiguousarray(part, dtype=source.dtype).data)
    return digest.hexdigest()


def require_file(path: str | os.PathLike[str]) -> None:
    """Raise ``MissingDataError`` unless there is a file at the path, ``InvalidInputError`` if it is a folder."""
    if not os.path.exists(path):
        raise MissingDataError(f"{path} does not exist (current folder: {os.getcwd()})")
    if not os.path.isfile(path):
        raise InvalidInputError(f"{path} is a folder; expected a file")


def describe_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Tell, for JSON, the size and the time of the last change of a file."""
    status = Path(path).stat()
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
