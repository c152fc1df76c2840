"""Archives of bundles: written the same for the same files, read with suspicion."""

from __future__ import annotations

import errno
import hashlib
import logging
import lzma
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tqdm import tqdm

from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.files import atomic_path
from voxel_ext.sharing.entries import check_entries
from voxel_ext.sharing.manifest import MANIFEST, Manifest, PackedFile

logger = logging.getLogger(__name__)

TOTAL_LIMIT = 32 * 2**30
"""Bytes that the files of an archive may have together, unless another limit is given."""

_MANIFEST_LIMIT = 16 * 2**20
_CHUNK = 2**20
_DATE = (1980, 1, 1, 0, 0, 0)
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
    OverflowError,
)
"""What ``zipfile`` raises on truncated and foreign files."""


def write_zip(
    target: str | os.PathLike[str],
    entries: Mapping[str, Path | bytes],
    last: Callable[[list[PackedFile]], tuple[str, bytes]],
) -> None:
    """Write a zip file that is the same for the same entries: sorted, without times, owners and permissions.

    Args:
        target: the file; not written atomically.
        entries: path or content by name in the archive.
        last: called with what was written, gives the name and content of the last entry.

    Raises:
        InvalidInputError: a file was changed meanwhile.
        OSError: a file cannot be read, or ``target`` not be written.
    """
    sizes = {name: len(entry) if isinstance(entry, bytes) else entry.stat().st_size for name, entry in entries.items()}
    written = []
    with (
        zipfile.ZipFile(target, "w") as archive,
        tqdm(total=sum(sizes.values()), unit="B", unit_scale=True, desc=Path(target).name) as bar,
    ):
        for name in sorted(entries):
            entry = entries[name]
            with _new_entry(archive, name, sizes[name]) as sink:
                if isinstance(entry, bytes):
                    size, digest = _copy(iter([entry]), sink, bar)
                else:
                    with open(entry, "rb") as stream:
                        size, digest = _copy(_at_most(stream, sizes[name]), sink, bar)
            if size != sizes[name]:
                raise InvalidInputError(f"{name} was changed while it was packed; pack again")
            written.append(PackedFile(name, size, digest))
        name, content = last(written)
        with _new_entry(archive, name, len(content)) as sink:
            sink.write(content)


def unpack_bundle(
    archive: str | os.PathLike[str], folder: str | os.PathLike[str], *, total_limit: int = TOTAL_LIMIT
) -> Path:
    """Unpack a bundle that ``python -m voxel_ext pack`` wrote; nothing of it is executed.

    Everything is checked before it takes its place: names (no absolute paths, ``..``, drive letters or backslashes, no
    two that differ in case only), kinds (files only: no links), sizes, and that the files are those of the manifest,
    with their checksums. After an error ``folder`` is what it was.

    Args:
        archive: the zip file.
        folder: where to put the bundle's folder; made if missing.
        total_limit: bytes that the files may have together.

    Returns:
        the bundle's folder, ``folder/<name>``.

    Raises:
        MissingDataError: there is no such archive.
        InvalidInputError: it is truncated, foreign or not safe, a file is not what the manifest says, or there is
            a folder of the bundle's name already.
        OSError: ``folder`` cannot be written to.
    """
    archive, folder = Path(archive), Path(folder)
    if not archive.is_file():
        raise MissingDataError(f"no archive at {archive}")
    with _readable(archive), zipfile.ZipFile(archive) as opened:
        files = check_entries(opened.infolist(), str(archive), archive.stat().st_size, total_limit)
        manifest = _read_manifest(opened, files, archive)
        target = folder / manifest.name
        if os.path.lexists(target):
            raise InvalidInputError(f"{target} exists; remove it, or unpack into another folder")
        check_free_space(folder, sum(info.file_size for info in files.values()))
        with _kept_as_it_was(folder), atomic_path(target, directory=True) as temporary:
            _extract(opened, files, manifest, temporary, archive)
    found = manifest.name, manifest.version, len(manifest.files)
    logger.info("%s: bundle %s %s, the checksums of its %d files are right", archive, *found)
    return target


def check_free_space(folder: Path, needed: int) -> None:
    """Check that a folder's disk has room, also for a folder that does not exist yet.

    Raises:
        InvalidInputError: it has not; gives both numbers.
    """
    existing = next((path for path in (folder, *folder.absolute().parents) if path.is_dir()), Path("/"))
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise InvalidInputError(
            f"{folder} has {free / 2**20:.1f} MiB free and {needed / 2**20:.1f} MiB are needed; "
            "free some space or choose another folder"
        )


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    """Report what ``zipfile`` says about a file that is no zip, or a truncated one."""
    try:
        yield
    except InvalidInputError:
        raise
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise InvalidInputError(f"{archive} is no zip file, or damaged: it points to a place outside of it") from error
    except _UNREADABLE as error:
        raise InvalidInputError(f"{archive} cannot be read as a zip file: truncated or foreign ({error})") from error


@contextmanager
def _kept_as_it_was(folder: Path) -> Iterator[None]:
    """Remove a folder and those above it after an error, those that were not there before and are empty."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for path in new:
                path.rmdir()
        raise


def _new_entry(archive: zipfile.ZipFile, name: str, size: int) -> IO[bytes]:
    """Open an entry to write to."""
    info = zipfile.ZipInfo(name, _DATE)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3
    info.external_attr = 0o100644 << 16
    info.file_size = size
    return archive.open(info, "w")


def _copy(chunks: Iterator[bytes], sink: IO[bytes], bar: tqdm) -> tuple[int, str]:
    """Write chunks; return their size and checksum."""
    size, digest = 0, hashlib.sha256()
    for chunk in chunks:
        sink.write(chunk)
        digest.update(chunk)
        size += len(chunk)
        bar.update(len(chunk))
    return size, digest.hexdigest()


def _read_manifest(archive: zipfile.ZipFile, files: Mapping[str, zipfile.ZipInfo], source: Path) -> Manifest:
    """Read the manifest and compare the list of its files with the archive's."""
    roots = {name.split("/", 1)[0] for name in files}
    root = roots.pop() if len(roots) == 1 else ""
    info = files.get(f"{root}/{MANIFEST}")
    if info is None:
        raise InvalidInputError(f"{source} is no packed bundle: expected one folder with a {MANIFEST} in it")
    if info.file_size > _MANIFEST_LIMIT:
        raise InvalidInputError(f"{source}: {info.filename} has {info.file_size} bytes, more than {_MANIFEST_LIMIT}")
    manifest = Manifest.from_json(archive.read(info), str(source))
    if manifest.name != root:
        raise InvalidInputError(f"{source}: its folder is {root!r}, its manifest is of {manifest.name!r}")
    listed = [f"{root}/{file.path}" for file in manifest.files]
    unlisted = sorted(files.keys() - {*listed, info.filename})
    missing = sorted(set(listed) - files.keys())
    if unlisted or missing or len(set(listed)) != len(listed):
        raise InvalidInputError(
            f"{source}: the files are not those of its manifest (missing: {', '.join(missing[:4]) or 'none'}; "
            f"not in the manifest: {', '.join(unlisted[:4]) or 'none'}); get the archive anew"
        )
    return manifest


def _extract(
    archive: zipfile.ZipFile, files: Mapping[str, zipfile.ZipInfo], manifest: Manifest, folder: Path, source: Path
) -> None:
    """Write the files below ``folder``; stop at the first that is not what the manifest says."""
    total = sum(file.size for file in manifest.files)
    with tqdm(total=total, unit="B", unit_scale=True, desc=manifest.name) as bar:
        for file in manifest.files:
            info = files[f"{manifest.name}/{file.path}"]
            path = folder / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as stream, open(path, "xb") as sink:
                size, digest = _copy(_at_most(stream, file.size), sink, bar)
            if (size, digest) != (file.size, file.sha256):
                raise InvalidInputError(
                    f"{source}: {info.filename} is damaged or was changed: its size or checksum is not that of the "
                    "manifest; get the archive anew"
                )
    (folder / MANIFEST).write_bytes(archive.read(files[f"{manifest.name}/{MANIFEST}"]))


def _at_most(stream: IO[bytes], size: int) -> Iterator[bytes]:
    """The content of a stream in chunks, at most one byte more than ``size``, by which it is seen to be too long."""
    left = size + 1
    while left > 0 and (chunk := stream.read(min(_CHUNK, left))):
        left -= len(chunk)
        yield chunk
