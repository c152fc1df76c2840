"""Writing files and folders so that a crash, a kill or a full disk never damages what was there before."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from voxel_ext.errors import InvalidInputError, MissingDataError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EFBIG: "the file became larger than the system allows",
    errno.EACCES: "no permission to write there; choose another folder",
    errno.EPERM: "no permission to write there; choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another folder",
    errno.EEXIST: "a part of the path is a file, not a folder; choose another folder",
    errno.EISDIR: "there is a folder of this name; remove it or choose another name",
}


@contextlib.contextmanager
def explain_write_errors(target: str | os.PathLike[str]) -> Iterator[None]:
    """Name ``target`` and the remedy in the operating system's errors about writing it.

    Args:
        target: the file or folder that the block writes.

    Raises:
        OSError: with the ``errno`` (and so the subclass, e.g. ``PermissionError``) of the original when that says that
            writing failed: disk full, quota, no permission, read-only, not a folder. Any other error passes unchanged,
            also one that names a file elsewhere.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _ADVICE or str(error.strerror).startswith("cannot write ") or _elsewhere(error, target):
            raise
        raise OSError(error.errno, f"cannot write {target}: {_ADVICE[error.errno]} ({error})") from error


def read_json(path: str | os.PathLike[str], kind: type[T], what: str) -> T:
    """Read a JSON file.

    Args:
        path: the file.
        kind: ``dict`` or ``list``.
        what: it should be, e.g. "a settings file", for the message.

    Raises:
        MissingDataError: there is no such file.
        InvalidInputError: it is damaged, or holds another kind of value.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"{path} does not exist or is no file; expected {what}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{path} is not {what}: damaged, not JSON ({error})") from error
    if not isinstance(content, kind):
        raise InvalidInputError(f"{path} is not {what}: it holds a {type(content).__name__}, not a {kind.__name__}")
    return content


def _elsewhere(error: OSError, target: str | os.PathLike[str]) -> bool:
    """Whether an error names a file that is neither in the folder of ``target`` nor a folder above it."""
    if not isinstance(error.filename, str | os.PathLike):
        return False
    named, folder = Path(os.path.abspath(error.filename)), Path(os.path.abspath(target)).parent
    return not (named.is_relative_to(folder) or folder.is_relative_to(named))


@contextlib.contextmanager
def locked_folder(folder: str | os.PathLike[str], lock: str) -> Iterator[None]:
    """Make a folder and let one process at a time work in it; the others wait.

    Args:
        folder: the folder. Missing parent folders are made.
        lock: name of the lock file in it.

    Raises:
        OSError: the folder is not writable; the message names it and what to do.
    """
    from filelock import FileLock, Timeout

    folder = Path(folder)
    held = FileLock(folder / lock)
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire(timeout=0)
        except Timeout:
            logger.warning("waiting for another process that is making %s", folder)
            held.acquire()
    try:
        yield
    finally:
        held.release()


@contextlib.contextmanager
def atomic_path(target: str | os.PathLike[str], directory: bool = False) -> Iterator[Path]:
    """Give a temporary path beside ``target`` that takes its place when the block ends without an error.

    A file is flushed to disk and renamed; a folder replaces an existing one by two renames. After an error the
    temporary is removed and ``target`` is what it was. A process that is killed leaves a hidden folder
    ``.<name>.….partial`` beside an untouched ``target`` (in the instant between the two renames of a folder, the
    previous one is inside it).

    Args:
        target: the file or folder to write. Missing parent folders are made.
        directory: True to write a folder (for example a zarr store), False for a file.

    Yields:
        the path to write to; for a folder it exists and is empty, for a file it does not exist. It has the name of
        ``target``, since many writers choose the format by its suffix.

    Raises:
        OSError: as the operating system says, e.g. the folder is not writable or the disk is full; the message names
            ``target`` and what to do.
        FileNotFoundError: the block wrote nothing.
    """
    target = Path(target)
    with explain_write_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        workspace = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}.", suffix=".partial", dir=target.parent))
        try:
            temporary = workspace / target.name
            if directory:
                temporary.mkdir()
            yield temporary
            if not temporary.exists():
                raise FileNotFoundError(f"nothing was written for {target}")
            if directory:
                _replace_folder(temporary, target, workspace / "previous")
            else:
                _flush(temporary)
                os.replace(temporary, target)
                _flush(target.parent)
        finally:
            shutil.rmtree(workspace, ignore_errors=True)


def _replace_folder(new: Path, target: Path, aside: Path) -> None:
    """Put the folder ``new`` in the place of ``target``; put ``target`` back if that fails."""
    existed = target.exists()
    if existed:
        os.replace(target, aside)
    try:
        os.replace(new, target)
    except OSError:
        if existed:
            os.replace(aside, target)
        raise


def _flush(path: Path) -> None:
    """Ask the operating system to put a file or a folder entry on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        # some file systems refuse fsync of a folder; the rename is still atomic
        if path.is_file():
            raise
    finally:
        os.close(descriptor)
