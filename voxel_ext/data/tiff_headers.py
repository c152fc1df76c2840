"""A look at the directories of TIFF files, since tifffile and ITK do not come back from some damaged ones."""

from __future__ import annotations

import os
import struct

from voxel_ext.errors import InvalidInputError

MOST_TAGS = 1024
"""In a directory; files have some twenty."""

_FORMATS = {b"II*\0": "<HI", b"MM\0*": ">HI", b"II+\0": "<QQ", b"MM\0+": ">QQ"}
"""Number of tags and offset, by the first bytes."""


def check_tiff(path: str | os.PathLike[str]) -> None:
    """Refuse a TIFF file with a directory of tags beyond reason, or with directories in a circle.

    Args:
        path: the file.

    Raises:
        InvalidInputError: it is such a file.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        kind = _FORMATS.get(file.read(4))
        if kind is None:
            return
        order, tag_size = kind[0], 12 if kind[1] == "H" else 20
        count, offset = (struct.Struct(order + letter) for letter in kind[1:])
        file.seek(4 if tag_size == 12 else 8)
        place, seen = _number(file.read(offset.size), offset), set[int]()
        while place:
            if place in seen:
                raise InvalidInputError(f"{path} is damaged: its directories lead in a circle, to {place}")
            seen.add(place)
            file.seek(min(place, 2**62))
            tags = _number(file.read(count.size), count)
            if tags > MOST_TAGS:
                raise InvalidInputError(f"{path} is damaged: a directory of {tags} tags at {place}")
            file.seek(tags * tag_size, os.SEEK_CUR)
            place = _number(file.read(offset.size), offset)


def _number(data: bytes, form: struct.Struct) -> int:
    """A number, 0 where the file has ended."""
    return int(form.unpack(data)[0]) if len(data) == form.size else 0
