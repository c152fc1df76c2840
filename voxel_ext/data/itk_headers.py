"""A look at the headers of NRRD and MetaImage files, since ITK crashes on some damaged ones."""

from __future__ import annotations

import os
import re

import numpy as np

from voxel_ext.data.container import check_memory
from voxel_ext.errors import InvalidInputError

LONGEST_LINE = 4096
_LONGEST_HEADER = 2**20
_LAST_KEY = {".nrrd": b"", ".mha": b"ElementDataFile", ".mhd": b"ElementDataFile"}
_MOST_AXES = 8
_AXES = re.compile(rb"^(?:dimension\s*:|NDims\s*=)\s*([-+]?\d{1,4000})", re.IGNORECASE)
_SIZES = re.compile(rb"^(?:sizes\s*:|DimSize\s*=)((?:\s+\d{1,18})+)\s*$", re.IGNORECASE)


def check_itk_header(path: str | os.PathLike[str]) -> None:
    """Refuse a NRRD or MetaImage file whose header has a line beyond reason, no end, or sizes beyond memory.

    Args:
        path: the file; one of another suffix is passed over.

    Raises:
        InvalidInputError: names what is wrong.
        OSError: it cannot be read.
    """
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix not in _LAST_KEY:
        return
    with open(path, "rb") as file:
        read = 0
        while line := file.readline(LONGEST_LINE + 1):
            read += len(line)
            if len(line) > LONGEST_LINE or read > _LONGEST_HEADER:
                raise InvalidInputError(
                    f"{path} cannot be opened: damaged, or not NRRD or MetaImage (its header has a line of more than "
                    f"{LONGEST_LINE} bytes, or no end)"
                )
            if found := _SIZES.match(line.rstrip(b"\r\n")):
                check_memory([int(size) for size in found[1].split()], np.dtype(np.uint8), path)
            if (found := _AXES.match(line)) and not 1 <= int(found[1]) <= _MOST_AXES:
                raise InvalidInputError(f"{path} is damaged: its header says {found[1][:20].decode()} axes")
            if _is_last(line, _LAST_KEY[suffix]):
                return


def _is_last(line: bytes, key: bytes) -> bool:
    return line.startswith(key) if key else not line.strip()
