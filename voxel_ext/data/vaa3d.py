"""Vaa3D raw volumes (.raw, .v3draw): reading, memory-mapped, and writing."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ImageReader
from monai.transforms.io.array import SUPPORTED_READERS
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError, MissingDataError, check_option
from voxel_ext.files import atomic_path

Address = str | os.PathLike[str]

MAGIC = b"raw_image_stack_by_hpeng"
SUFFIXES = (".raw", ".v3draw")
_ORDERS = {b"L": "<", b"B": ">"}
_TYPES = {1: "u1", 2: "u2", 4: "f4"}
_SIZE_FORMATS = ("4i", "4h")
_START = len(MAGIC) + 3


@dataclass(frozen=True)
class Vaa3DHeader:
    """What the first bytes of a Vaa3D raw file say.

    Args:
        shape: (C, Z, Y, X).
        dtype: of the voxels, in the file's byte order.
        offset: length of the header in bytes, 43 with sizes of four bytes, 35 with sizes of two.
    """

    shape: tuple[int, int, int, int]
    dtype: np.dtype
    offset: int

    @property
    def file_size(self) -> int:
        """Bytes of the whole file."""
        channels, depth, height, width = self.shape
        return self.offset + channels * depth * height * width * self.dtype.itemsize

    def __str__(self) -> str:
        sizes = "sizes of four bytes" if self.offset == _START + 16 else "sizes of two bytes"
        return f"a header of {self.offset} bytes ({sizes}) gives (C, Z, Y, X) = {self.shape} of {self.dtype.name}"


def read_vaa3d_header(path: Address) -> Vaa3DHeader:
    """Read and check the header of a Vaa3D raw file.

    It is ``raw_image_stack_by_hpeng``, then ``L`` or ``B`` for the byte order, then a two-byte data type (1 for uint8,
    2 for uint16, 4 for float32), then the sizes X, Y, Z, C of four bytes each, or of two in older files. Which of the
    two it is follows from the file's length.

    Args:
        path: the file.

    Raises:
        MissingDataError: there is no such file.
        InvalidInputError: not a Vaa3D raw file, an unsupported data type, a size that is not positive, or a length that
            does not fit the sizes, as that of a truncated file (names both).
    """
    file = Path(path)
    if not file.exists():
        raise MissingDataError(f"{file} does not exist (current folder: {os.getcwd()})")
    if not file.is_file():
        raise InvalidInputError(f"{file} is a folder; expected a Vaa3D raw file")
    with open(file, "rb") as opened:
        start = opened.read(_START + 16)
        length = opened.seek(0, os.SEEK_END)
    if not start or not MAGIC.startswith(start[: len(MAGIC)]):
        raise InvalidInputError(
            f"{file} is not a Vaa3D raw file: it begins with {start[: len(MAGIC)]!r}, expected {MAGIC.decode()!r}"
        )
    if len(start) < _START + 8:
        raise InvalidInputError(f"{file} is truncated: {length} bytes, less than a header of {_START + 8}")
    return _fitting(file, length, _candidates(file, start))


def _candidates(file: Path, start: bytes) -> list[Vaa3DHeader]:
    """The headers that the first bytes may be: with sizes of four and of two bytes."""
    order = _ORDERS.get(start[len(MAGIC) : len(MAGIC) + 1])
    if order is None:
        raise InvalidInputError(
            f"{file}: the byte order is {start[len(MAGIC) : len(MAGIC) + 1]!r}; expected 'L' or 'B'"
        )
    code = struct.unpack_from(f"{order}h", start, len(MAGIC) + 1)[0]
    if code not in _TYPES:
        raise InvalidInputError(
            f"{file}: the data type is {code}; expected 1 (uint8), 2 (uint16) or 4 (float32). "
            "Convert the file with Vaa3D or another program"
        )
    dtype = np.dtype(order + _TYPES[code])
    headers = []
    for sizes in _SIZE_FORMATS:
        offset = _START + struct.calcsize(f"{order}{sizes}")
        if len(start) >= offset:
            width, height, depth, channels = struct.unpack_from(f"{order}{sizes}", start, _START)
            headers.append(Vaa3DHeader((channels, depth, height, width), dtype, offset))
    return headers


def _fitting(file: Path, length: int, headers: list[Vaa3DHeader]) -> Vaa3DHeader:
    """The one header that agrees with the file's length."""
    positive = [header for header in headers if min(header.shape) > 0]
    for header in positive:
        if header.file_size == length:
            return header
    if not positive:
        raise InvalidInputError(f"{file}: {headers[0]}; expected sizes above 0")
    # sizes below 65536 in four bytes always have zeros where sizes of two bytes are looked for
    likely = positive[-1]
    state = "is truncated" if length < likely.file_size else "is too long"
    raise InvalidInputError(f"{file} {state}: {likely}, so {likely.file_size} bytes, but the file has {length} bytes")


def open_vaa3d(path: Address) -> NDArray:
    """Map a Vaa3D raw file into memory, so that only the parts that are used are read.

    Args:
        path: the file.

    Returns:
        (C, Z, Y, X) uint8, uint16 or float32 in the file's byte order, read-only.

    Raises:
        MissingDataError: there is no such file.
        InvalidInputError: as :func:`read_vaa3d_header`.
    """
    header = read_vaa3d_header(path)
    return np.memmap(path, header.dtype, "r", header.offset, header.shape)


def read_vaa3d(path: Address, channel: int | None = None) -> NDArray:
    """Read a Vaa3D raw file, or one channel of it.

    Args:
        path: the file.
        channel: the one to read, the others are left alone; all if None.

    Returns:
        (C, Z, Y, X) uint8, uint16 or float32 in the machine's byte order; C is 1 if ``channel`` is given.

    Raises:
        MissingDataError: there is no such file.
        InvalidInputError: as :func:`read_vaa3d_header`, or there is no such channel.
    """
    mapped = open_vaa3d(path)
    if channel is not None:
        if isinstance(channel, bool) or not isinstance(channel, int | np.integer) or not 0 <= channel < len(mapped):
            raise InvalidInputError(f"{path} has the channels 0 to {len(mapped) - 1}; asked for channel={channel!r}")
        mapped = mapped[channel : channel + 1]
    return np.array(mapped, mapped.dtype.newbyteorder("="), subok=False)


def write_vaa3d(path: Address, array: NDArray, byte_order: str = "little", size_bytes: int = 4) -> Path:
    """Write a Vaa3D raw file; an existing one is replaced at the end.

    Args:
        path: the file, ``….raw`` or ``….v3draw``.
        array: (C, Z, Y, X) or (Z, Y, X), uint8, uint16 or float32.
        byte_order: "little" or "big".
        size_bytes: 4, or 2 for the older header.

    Returns:
        the file.

    Raises:
        InvalidInputError: another number of axes, an empty axis, another dtype, or a side too long for ``size_bytes``.
        OSError: the file cannot be written.
    """
    order = "<" if check_option("byte_order", byte_order, ("little", "big")) == "little" else ">"
    if size_bytes not in (2, 4):
        raise InvalidInputError(f"size_bytes={size_bytes!r}; expected 4 or 2")
    values = np.asarray(array)
    stacked = values[None] if values.ndim == 3 else values
    codes = {kind: code for code, kind in _TYPES.items()}
    kind = values.dtype.str[1:]
    if stacked.ndim != 4 or 0 in stacked.shape or kind not in codes:
        raise InvalidInputError(
            f"{path}: cannot write shape {values.shape}, dtype {values.dtype} as a Vaa3D raw file; expected "
            "(C, Z, Y, X) or (Z, Y, X), no axis empty, of uint8, uint16 or float32"
        )
    if max(stacked.shape) >= 2 ** (8 * size_bytes - 1):
        raise InvalidInputError(f"{path}: a side of {max(stacked.shape)} does not fit in {size_bytes} bytes")
    sizes = _SIZE_FORMATS[0 if size_bytes == 4 else 1]
    letter = b"L" if order == "<" else b"B"
    header = MAGIC + letter + struct.pack(f"{order}h{sizes}", codes[kind], *reversed(stacked.shape))
    with atomic_path(path) as temporary, open(temporary, "wb") as opened:
        opened.write(header)
        for channel in stacked:
            opened.write(np.ascontiguousarray(channel, order + kind).data)
    return Path(path)


class Vaa3DRawReader(ImageReader):
    """Read Vaa3D raw volumes (.raw, .v3draw) with MONAI's ``LoadImage``, axes as stored: (C, Z, Y, X).

    ``read`` touches no file and ``get_data`` does, so that errors about files reach the user of ``LoadImage`` as they
    are. The format knows no voxel size, so the affine is the identity.

    Args:
        channel: the one to read; the array is then (Z, Y, X). All if None.
    """

    def __init__(self, channel: int | None = None) -> None:
        self.channel = channel

    def verify_suffix(self, filename: Sequence[Address] | Address) -> bool:
        """Whether all of the given files are of this format, by their suffix."""
        return all(os.fspath(name).lower().endswith(SUFFIXES) for name in ensure_tuple(filename))

    def read(self, data: Sequence[Address] | Address, **kwargs: Any) -> list[str]:
        """Take one file, or several whose channels become those of one image.

        Args:
            data: the files.
            kwargs: none is known; MONAI's interface asks for them.

        Returns:
            their paths, for ``get_data``.

        Raises:
            InvalidInputError: an unknown option, no file, or a file of another suffix, which MONAI then gives to
                another reader.
        """
        if kwargs or not ensure_tuple(data):
            raise InvalidInputError(f"Vaa3DRawReader.read takes one file or more and no options, got {sorted(kwargs)}")
        for name in ensure_tuple(data):
            if not self.verify_suffix(name):
                raise InvalidInputError(f"{name}: Vaa3DRawReader reads files that end with {', '.join(SUFFIXES)}")
        return [os.fspath(name) for name in ensure_tuple(data)]

    def get_data(self, img: Sequence[str] | str) -> tuple[NDArray, dict]:
        """Read the volumes.

        Args:
            img: what ``read`` returned.

        Returns:
            the array (C, Z, Y, X), or (Z, Y, X) of one file with ``channel`` given, in the machine's byte order; and
            the metadata ``affine``, ``original_affine``, ``spatial_shape``, ``original_channel_dim``, ``space``.

        Raises:
            MissingDataError: there is no such file.
            InvalidInputError: as :func:`read_vaa3d`, or several files differ in shape.
        """
        paths = [img] if isinstance(img, str) else list(img)
        parts = [read_vaa3d(path, self.channel) for path in paths]
        for path, part in zip(paths[1:], parts[1:], strict=True):
            if part.shape[1:] != parts[0].shape[1:]:
                raise InvalidInputError(
                    f"{paths[0]} with (Z, Y, X) = {parts[0].shape[1:]} and {path} with {part.shape[1:]} cannot be the "
                    "channels of one image; expected the same shape"
                )
        array = parts[0] if len(parts) == 1 else np.concatenate(parts)
        shape = np.asarray(array.shape[1:])
        single = self.channel is not None and len(parts) == 1
        return array[0] if single else array, {
            MetaKeys.AFFINE: np.eye(4),
            MetaKeys.ORIGINAL_AFFINE: np.eye(4),
            MetaKeys.SPATIAL_SHAPE: shape,
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan") if single else 0,
            MetaKeys.SPACE: SpaceKeys.RAS,
        }


def register_vaa3d_reader() -> None:
    """Let ``monai.transforms.LoadImage`` know the reader, by name and by suffix."""
    SUPPORTED_READERS["vaa3drawreader"] = Vaa3DRawReader
