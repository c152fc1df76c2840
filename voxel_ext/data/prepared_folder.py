"""A folder of prepared files: the marker that it is complete, files that do not belong, files made otherwise."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from voxel_ext.errors import InvalidInputError
from voxel_ext.files import atomic_path

MARKER = "dataset.json"
"""File in a data folder that tells that it is complete."""


def write_marker(root: Path, files: Collection[Path] | Mapping[Path, Any], **more: Any) -> None:
    """Write the file that tells that a folder of prepared files is complete, unless it is there.

    Args:
        root: the folder.
        files: its files; with what is to be said of each if that is a mapping.
        more: whatever else is to be said.

    Raises:
        OSError: it cannot be written.
    """
    names = [path.relative_to(root).as_posix() for path in files]
    listed = dict(zip(names, files.values(), strict=True)) if isinstance(files, Mapping) else names
    write_text_if_changed(root / MARKER, json.dumps({"complete": True, "files": listed, **more}, indent=2) + "\n")


def write_text_if_changed(path: Path, text: str) -> None:
    """Write a text file, unless it is there with the same text.

    Args:
        path: the file.
        text: its content.

    Raises:
        OSError: it cannot be written.
    """
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def foreign_files(planned: Collection[Path], suffixes: tuple[str, ...] = (".h5",)) -> list[Path]:
    """List what lies beside the files of a set, and would be read with it, but does not belong to it.

    Args:
        planned: the set's files, whether or not they are there.
        suffixes: of the names to look at, in lower case; "" for all. Hidden files are passed over.

    Returns:
        the files and folders that are not planned, sorted.
    """
    folders = {path.parent for path in planned}
    there = {path for folder in folders if folder.is_dir() for path in folder.iterdir()}
    named = [path for path in there if path.name.lower().endswith(suffixes) and not path.name.startswith(".")]
    return sorted(set(named).difference(planned))


def check_foreign(root: Path, planned: Collection[Path], what: str, suffixes: tuple[str, ...] = (".h5",)) -> None:
    """Refuse a folder with files that do not belong to the set asked for; see :func:`foreign_files`.

    Args:
        root: the folder.
        planned: the set's files.
        what: they are, e.g. "animals".
        suffixes: of the names to look at.

    Raises:
        InvalidInputError: there are such files; names some.
    """
    foreign = foreign_files(planned, suffixes)
    if foreign:
        listed = ", ".join(map(str, foreign[:5])) + (" …" if len(foreign) > 5 else "")
        raise InvalidInputError(
            f"{len(foreign)} {what} in {root} do not belong to the set asked for: {listed}. Move them away, or choose "
            "another output_dir"
        )


def differing_settings(there: Any, asked: Any, name: str = "") -> list[str]:
    """Say in words which settings of a file differ from those asked for; nothing if they are the same."""
    if isinstance(there, dict) and isinstance(asked, dict):
        keys = sorted({*there, *asked})
        return [text for key in keys for text in differing_settings(there.get(key), asked.get(key), f"{name}.{key}")]
    return [] if there == asked else [f"{name[1:] or 'the whole'} is {there} there, {asked} now"]


def describe_difference(path: Path, there: Any, asked: Mapping[str, Any], *more: str) -> str:
    """Say in a sentence in what a file was made otherwise than asked for; "" if in nothing.

    Args:
        path: the file.
        there: the settings that it tells.
        asked: those asked for, not yet as they are when read back.
        more: other differences, in words.
    """
    differences = [*differing_settings(there, json.loads(json.dumps(asked))), *more]
    return f"{path} was made with other settings: {'; '.join(differences)}" if differences else ""
