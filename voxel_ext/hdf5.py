"""Opening HDF5 files to read, with clear errors, and to write, safe on a full disk."""

from __future__ import annotations

import contextlib
import io
import os
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from voxel_ext.errors import InvalidInputError, MissingDataError, VoxelExtError

if TYPE_CHECKING:
    import h5py


@contextlib.contextmanager
def explain_damage(file: str | os.PathLike[str], library: str) -> Iterator[None]:
    """Turn what a library raises on damaged data into an error that names the file; other errors pass unchanged.

    Args:
        file: what is read.
        library: name of the package, e.g. "h5py".

    Raises:
        InvalidInputError: an error arose inside of the library.
    """
    try:
        yield
    except (VoxelExtError, PermissionError):
        raise
    except Exception as error:  # on damaged data the libraries raise almost anything
        if not _arose_in(error, library):
            raise
        if isinstance(error, MemoryError):
            reason = "damaged, or it holds more than fits into memory"
        else:
            reason = "it is damaged, or lacks what is looked for"
        raise InvalidInputError(f"{file} cannot be read: {reason} ({type(error).__name__}: {error})") from error


def _arose_in(error: BaseException, library: str) -> bool:
    """Whether a function of a package was called when the error arose."""
    modules = (str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(module.partition(".")[0] == library for module in modules)


@contextlib.contextmanager
def read_hdf5(file: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Args:
        file: its path.

    Yields:
        the open file; closed when the block ends.

    Raises:
        MissingDataError: it does not exist.
        InvalidInputError: it is a folder, truncated, or not HDF5; or what is read of it in the block is damaged or
            not there.
    """
    import h5py

    if not os.path.exists(file):
        raise MissingDataError(f"{file} does not exist (current folder: {os.getcwd()})")
    if not os.path.isfile(file):
        raise InvalidInputError(f"{file} is a folder; expected an HDF5 file")
    try:
        opened = h5py.File(file, "r")
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        if isinstance(error, PermissionError):
            raise
        raise InvalidInputError(f"{file} cannot be opened: truncated, or not an HDF5 file ({error})") from error
    with opened, explain_damage(file, "h5py"):
        yield opened


@contextlib.contextmanager
def write_hdf5(file: str | os.PathLike[str], mode: str = "w") -> Iterator[tuple[h5py.File, GuardedFile]]:
    """Open an HDF5 file for writing; a full disk is an ``OSError``, not a crash of the interpreter.

    Args:
        file: its path.
        mode: "w" to make a new file, "r+" to go on with an existing one.

    Yields:
        the open HDF5 file, and the guard below it, whose ``check()`` tells of a failed write at once.

    Raises:
        OSError: the file cannot be written, e.g. the disk is full; at the latest when the block ends.
    """
    import h5py

    with open(file, "w+b" if mode == "w" else "r+b", buffering=0) as raw:
        guard = GuardedFile(raw)
        try:
            with h5py.File(guard, mode) as opened:
                yield opened, guard
        finally:
            # also when HDF5 stumbled over its own unwritten data: the first failed write is the cause
            guard.check()


class GuardedFile(io.RawIOBase):
    """A file that remembers the first failed write instead of raising it.

    The HDF5 library cannot close a file whose last blocks cannot be written, and brings the interpreter down. So
    failures are hidden from it and raised by ``check``.

    Args:
        file: the unbuffered file, which its owner closes.
    """

    def __init__(self, file: io.FileIO) -> None:
        self.error: OSError | None = None
        self._file = file

    def check(self) -> None:
        """Raise the first failed write, if there was one."""
        if self.error is not None:
            raise self.error

    def readable(self) -> bool:
        """The file can be read."""
        return True

    def writable(self) -> bool:
        """The file can be written."""
        return True

    def seekable(self) -> bool:
        """The file has a position."""
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to a position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer from the file; zeros stand for what could not be written."""
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view) and (count := self._file.readinto(view[done:])):
            done += count
        view[done:] = bytes(len(view) - done)
        return len(view)

    def write(self, data: Any, /) -> int:
        """Write all bytes, or remember why not."""
        view = memoryview(data).cast("B")
        done = 0
        try:
            while self.error is None and done < len(view):
                done += self._file.write(view[done:])
        except OSError as error:
            self.error = error
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        """Set the file's length, or remember why not."""
        try:
            return self._file.truncate(size)
        except OSError as error:
            self.error = self.error or error
            return self.tell() if size is None else size
