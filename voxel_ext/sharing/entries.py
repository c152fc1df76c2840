"""Which entries of a zip file are safe to unpack on any system."""

from __future__ import annotations

import re
import stat
import unicodedata
import zipfile
from collections.abc import Iterable

from voxel_ext.errors import InvalidInputError

MAX_ENTRIES = 20_000
"""Entries that an archive may have."""

_MAX_NAME, _MAX_PART = 512, 200
_RATIO, _RATIO_FROM = 250, 256 * 2**20
_UNSAFE = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_DOS_REPARSE_POINT = 0x400
_ENCRYPTED = 0x1


def check_name(name: str, source: str) -> None:
    """Check that a name in an archive is a relative path that means the same on every system.

    Args:
        name: parts divided by ``/``; that of a folder ends with one.
        source: the archive, for messages.

    Raises:
        InvalidInputError: it is not; says why.
    """
    parts = name.removesuffix("/").split("/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        problem = "an absolute path"
    elif ".." in parts:
        problem = "a path that leads out of the folder"
    elif "\\" in name:
        problem = "a path with backslashes"
    elif _UNSAFE.search(name):
        problem = "a path with characters that not every system allows"
    elif any(part in ("", ".") or part[-1] in ". " or _RESERVED.fullmatch(part) for part in parts):
        problem = "a path with a part that not every system allows"
    elif len(name) > _MAX_NAME or any(len(part.encode("utf-8", "replace")) > _MAX_PART for part in parts):
        problem = f"too long (more than {_MAX_NAME} characters, or {_MAX_PART} in one part)"
    else:
        return
    shown = name if len(name) < 100 else name[:100] + "..."
    raise InvalidInputError(f"{source} is not safe to unpack: the name {shown!r} is {problem}")


def check_entries(
    entries: Iterable[zipfile.ZipInfo], source: str, archive_size: int, total_limit: int
) -> dict[str, zipfile.ZipInfo]:
    """Check names, kinds and sizes of all entries.

    Args:
        entries: of the archive.
        source: the archive, for messages.
        archive_size: its size in bytes.
        total_limit: bytes that the unpacked files may have together.

    Returns:
        the files by name, without entries of folders.

    Raises:
        InvalidInputError: an entry is not safe to unpack, two have one name, or they are too many or too large.
    """
    entries = list(entries)
    if len(entries) > MAX_ENTRIES:
        raise InvalidInputError(f"{source} is not safe to unpack: {len(entries)} entries, at most {MAX_ENTRIES}")
    for info in entries:
        check_name(info.orig_filename, source)
        check_name(info.filename, source)  # another where an extra field gives the name
        _check_kind(info, source)
    _check_collisions([info.filename for info in entries], source)
    _check_sizes(entries, source, archive_size, total_limit)
    return {info.filename: info for info in entries if not info.is_dir()}


def _check_kind(info: zipfile.ZipInfo, source: str) -> None:
    """Only plain files and folders, neither encrypted nor compressed in an unusual way."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    expected = stat.S_IFDIR if info.is_dir() else stat.S_IFREG
    if kind not in (0, expected) or info.external_attr & _DOS_REPARSE_POINT:
        problem = "a link or another special file"
    elif info.flag_bits & _ENCRYPTED:
        problem = "encrypted"
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        problem = f"compressed by the unusual method {info.compress_type}"
    elif info.is_dir() and info.file_size:
        problem = "a folder with content"
    else:
        return
    raise InvalidInputError(f"{source} is not safe to unpack: {info.filename!r} is {problem}")


def _check_collisions(names: list[str], source: str) -> None:
    """No two names that are one on a system without case, and no file that is a folder of another."""
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name in names:
        parts = name.removesuffix("/").split("/")
        for depth in range(1, len(parts) + (1 if name.endswith("/") else 0)):
            folder = "/".join(parts[:depth])
            _refuse_other(folders.setdefault(_folded(folder), folder), folder, source)
        if not name.endswith("/"):
            if _folded(name) in files:
                _refuse_other(files[_folded(name)], name, source, same=True)
            files[_folded(name)] = name
    for folded in files.keys() & folders.keys():
        _refuse_other(files[folded], folders[folded] + "/", source)


def _refuse_other(first: str, second: str, source: str, same: bool = False) -> None:
    """Refuse two names that take one place."""
    if same or first != second:
        raise InvalidInputError(f"{source} is not safe to unpack: {first!r} and {second!r} take the same place")


def _folded(name: str) -> str:
    """The name as a file system without case and with composed characters sees it."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _check_sizes(entries: list[zipfile.ZipInfo], source: str, archive_size: int, total_limit: int) -> None:
    """No archive that fills a disk, or whose entries share their content."""
    total = sum(info.file_size for info in entries)
    compressed = sum(info.compress_size for info in entries)
    if total > total_limit:
        problem = f"its files have {total} bytes together, the limit is {total_limit}"
    elif compressed > archive_size:
        problem = "its entries overlap"
    elif total > _RATIO_FROM and total > _RATIO * max(compressed, 1):
        problem = f"its {compressed} bytes become {total}, more than {_RATIO} times as many"
    else:
        return
    raise InvalidInputError(f"{source} is not safe to unpack: {problem}")
