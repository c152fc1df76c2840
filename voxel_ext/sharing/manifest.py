"""What a packed bundle holds: its files with checksums, versions, exported networks, commands."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from voxel_ext.errors import InvalidInputError

MANIFEST = "manifest.json"
"""Name of the manifest's file in a packed bundle."""

_FORMAT = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class PackedFile:
    """A file of a packed bundle.

    Attributes:
        path: below the bundle's folder, with ``/`` between its parts.
        size: in bytes.
        sha256: checksum of the content, 64 hexadecimal digits.
    """

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class PackedExport:
    """The network in another format, or why it is not there.

    Attributes:
        format: ``torchscript`` or ``onnx``.
        path: the file below the bundle's folder; None if there is none.
        difference: largest difference from the network's output, as :class:`~voxel_ext.sharing.export.Export` has it;
            None where nothing was computed.
        reason: how it was exported, or why there is no file.
    """

    format: str
    path: str | None
    difference: float | None
    reason: str


@dataclass(frozen=True)
class Manifest:
    """What is in a packed bundle. It holds no times and no paths of a machine: the same content gives the same text.

    Attributes:
        name: of the bundle and of the only folder in the archive.
        version: of the bundle.
        made_with: versions of ``voxel_ext``, ``python``, ``monai``, ``torch`` and ``numpy``.
        install: command that installs what the bundle needs, to be run in its folder.
        run: command that runs it, on the sample if there is one, to be run in its folder.
        exports: the network in other formats.
        files: all files but the manifest, sorted by path.
    """

    name: str
    version: str
    made_with: Mapping[str, str]
    install: str
    run: str
    exports: tuple[PackedExport, ...]
    files: tuple[PackedFile, ...]

    def to_json(self) -> str:
        """Return the manifest as JSON text."""
        return json.dumps({"format": _FORMAT} | asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, source: str) -> Manifest:
        """Read a manifest.

        Args:
            text: as :meth:`to_json` gives it.
            source: where it is from, for messages.

        Raises:
            InvalidInputError: it is none, or one of a later format.
        """
        try:
            content = json.loads(text)
            if content["format"] != _FORMAT:
                raise InvalidInputError(
                    f"{source}: {MANIFEST} has the format {content['format']!r}; this voxel_ext reads {_FORMAT}, "
                    "update it to read others"
                )
            exports = tuple(PackedExport(**item) for item in content["exports"])
            files = tuple(_packed_file(item) for item in content["files"])
            texts = {name: _text(content[name]) for name in ("name", "version", "install", "run")}
            made_with = {_text(name): _text(version) for name, version in content["made_with"].items()}
        except InvalidInputError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InvalidInputError(
                f"{source}: {MANIFEST} is not one that `python -m voxel_ext pack` wrote ({error!r})"
            ) from error
        return cls(**texts, made_with=made_with, exports=exports, files=files)


def _packed_file(item: Mapping[str, Any]) -> PackedFile:
    """Read one file's entry."""
    file = PackedFile(**item)
    if type(file.size) is not int or file.size < 0 or not _SHA256.fullmatch(_text(file.sha256)):
        raise ValueError(f"size or checksum of {file.path!r}")
    _text(file.path)
    return file


def _text(value: object) -> str:
    """Return ``value`` if it is a text."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value
