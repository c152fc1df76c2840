"""Exported networks without what the exporters note about the code: it holds paths of the machine that made them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from voxel_ext.errors import require
from voxel_ext.files import atomic_path

if TYPE_CHECKING:
    from google.protobuf.message import Message

_NOTES = ("metadata_props", "doc_string")
_SOURCE_LINES = ".debug_pkl"
"""Suffix of the parts of a TorchScript file that say which line of which file each operation is from."""


def clean_torchscript(file: Path) -> None:
    """Remove the places in source files from a TorchScript file; it computes the same.

    Args:
        file: as ``torch.jit.save`` writes it. In errors that the network raises, TorchScript then shows its own code
            in place of the lines it was made from.
    """
    with atomic_path(file) as temporary, zipfile.ZipFile(file) as old, zipfile.ZipFile(temporary, "w") as new:
        for info in old.infolist():
            if not info.filename.endswith(_SOURCE_LINES):
                part = zipfile.ZipInfo(info.filename, info.date_time)  # not compressed, as torch has it
                new.writestr(part, old.read(info))


def clean_onnx(file: Path) -> None:
    """Remove stack traces and other notes from the graph, its nodes and functions in an ONNX file.

    Args:
        file: with all weights in it.

    Raises:
        MissingDependencyError: onnx is not installed.
    """
    onnx = require("onnx", "export")
    model = onnx.load(file, load_external_data=False)
    _forget_notes(model)
    with atomic_path(file) as temporary:
        onnx.save(model, temporary)


def _forget_notes(message: Message) -> None:
    """Clear the notes of a part of a graph, and of all parts of it."""
    from google.protobuf.message import Message

    for name in _NOTES:
        if name in message.DESCRIPTOR.fields_by_name:
            message.ClearField(name)
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for part in [value] if isinstance(value, Message) else value:
                _forget_notes(part)
