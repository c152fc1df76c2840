"""Reading small datasets of HDF5 files whole, after a look at what they declare."""

from __future__ import annotations

import os
import re
import struct
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError

_COMPRESSION = 1100
"""Bytes that a stored byte can stand for: deflate has at most 1032."""
_SMALL = 2**26
_WINDOW = 2**22
_HEAP = re.compile(rb"GCOL\x01\0\0\0")


def read_whole(dataset: Any) -> NDArray:
    """Read all values of a dataset that is stored without gaps.

    Args:
        dataset: an ``h5py.Dataset``.

    Raises:
        InvalidInputError: it declares far more values than are stored.
    """
    check_stored(dataset)
    return np.asarray(dataset[()])


def check_stored(dataset: Any) -> None:
    """Refuse a dataset that declares far more values than can be stored in what it has of the file.

    Args:
        dataset: an ``h5py.Dataset``.

    Raises:
        InvalidInputError: it does.
    """
    needed, stored = int(dataset.nbytes), int(dataset.id.get_storage_size())
    if needed > _COMPRESSION * stored + _SMALL:
        raise InvalidInputError(
            f"{dataset.file.filename}{dataset.name} is damaged: it has the shape {dataset.shape}, but {stored} bytes"
        )


def read_text(dataset: Any) -> tuple[str, ...]:
    """Read a dataset of texts (N,).

    Args:
        dataset: an ``h5py.Dataset``.

    Raises:
        InvalidInputError: the place where its texts are stored is damaged.
        TypeError: it has no texts.
    """
    check_stored(dataset)
    check_heaps(dataset)
    return tuple(dataset.asstr()[:])


def check_heaps(dataset: Any) -> None:
    """Walk through the heaps that hold the values of a dataset of texts or of rows of different lengths.

    The HDF5 library does not come back from a heap with an object that is longer than the heap. Only datasets that are
    stored in one piece are looked at.

    Args:
        dataset: an ``h5py.Dataset``.

    Raises:
        InvalidInputError: a heap is not where the dataset says, or damaged.
    """
    offset = dataset.id.get_offset()
    if offset is None or dataset.dtype.kind != "O":
        return
    name = os.fsdecode(dataset.file.filename)
    with open(name, "rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(offset)
        # each value is a length (4 bytes), the address of a heap (8) and a number in it (4)
        stored = np.frombuffer(file.read(16 * dataset.size), np.dtype([("n", "<u4"), ("at", "<u8"), ("i", "<u4")]))
        for address in np.unique(stored["at"][stored["n"] > 0]).tolist():
            if not _is_heap(file, address, length):
                raise InvalidInputError(f"{name}{dataset.name} is damaged: its texts are not where it says")


def check_file(file: Any) -> None:
    """Look at the heaps near both ends of a file, where those of the texts in its attributes are.

    Args:
        file: an ``h5py.File`` that was written once, not changed again and again.

    Raises:
        InvalidInputError: one is damaged, so that HDF5 might not come back from reading an attribute.
    """
    name = os.fsdecode(file.filename)
    with open(name, "rb") as stream:
        length = stream.seek(0, os.SEEK_END)
        for start in sorted({0, max(length - _WINDOW, 0)}):
            stream.seek(start)
            part = stream.read(_WINDOW)
            for place in (found.start() for found in _HEAP.finditer(part)):
                if not _is_heap(stream, start + place, length):
                    raise InvalidInputError(
                        f"{name} is damaged: the heap of its texts at byte {start + place} is not whole"
                    )


def _is_heap(file: IO[bytes], address: int, length: int) -> bool:
    if address + 16 > length:
        return False
    file.seek(address)
    signature, size = struct.unpack("<8sQ", file.read(16))
    if signature[:4] != b"GCOL" or not 16 <= size <= length - address:
        return False
    content, place = file.read(size - 16), 0
    while place + 16 <= len(content):
        number, _, _, count = struct.unpack_from("<HHIQ", content, place)
        step = count if number == 0 else 16 + -(-count // 8) * 8
        if step < 16 or place + step > len(content):
            return False
        place += step
    return True
