"""Reading a label volume once, block by block, and keeping which voxels are labeled, compressed."""

from __future__ import annotations

import math
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm

from voxel_ext.data.lazy_volume import LazyVolume
from voxel_ext.data.scheduling import BlockScheduler, block_scheduler
from voxel_ext.files import explain_write_errors

Box = tuple[slice, slice, slice]

# voxels that are read at a time, where chunks are not larger than that: an array of 2 to 8 MB
BLOCK_VOXELS = 128**3
# the compressed bits are kept in memory up to this many bytes, and in a temporary file from there on
SPOOL_BYTES = 64 * 2**20


@dataclass(frozen=True)
class _Piece:
    """Where a block's labeled part lies in the volume, and its bits in the spool."""

    start: tuple[int, ...]
    shape: tuple[int, ...]
    offset: int
    length: int


class LabelBits:
    """Which voxels of a volume are labeled: one bit each, blocks without any left out, compressed.

    Held in memory up to 64 MiB, in a temporary file from there on (at most 1/8 byte a voxel, mostly far less).
    To be used in a ``with`` block, which removes that file.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115 (closed by __exit__)
        self._pieces: list[_Piece] = []

    def __enter__(self) -> LabelBits:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, start: tuple[int, ...], shape: tuple[int, ...], packed: bytes) -> None:
        """Keep what :func:`pack_bits` made of a block.

        Args:
            start: of the labeled part in the volume (z, y, x).
            shape: of the labeled part.
            packed: its bits.

        Raises:
            OSError: the temporary folder is full; names it.
        """
        with explain_write_errors(f"{tempfile.gettempdir()} (temporary files, set TMPDIR to move them)"):
            offset = self._file.seek(0, 2)
            self._file.write(packed)
        self._pieces.append(_Piece(start, shape, offset, len(packed)))

    def bounding_box(self) -> tuple[np.ndarray, np.ndarray] | None:
        """First voxel and the one after the last (z, y, x) of what is labeled; None if nothing is."""
        if not self._pieces:
            return None
        starts = np.array([piece.start for piece in self._pieces])
        return starts.min(0), (starts + [piece.shape for piece in self._pieces]).max(0)

    def blocks(self, first: int, last: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The labeled parts of the planes ``first <= z < last``.

        Args:
            first: plane in the volume.
            last: the plane after the last.

        Yields:
            start (z, y, x) in the volume, and the bits (d, h, w) as 0 and 1, uint8.
        """
        for piece in self._pieces:
            depth, below = piece.shape[0], first - piece.start[0]
            low, high = max(below, 0), min(last - piece.start[0], depth)
            if low < high:
                self._file.seek(piece.offset)
                packed = np.frombuffer(zlib.decompress(self._file.read(piece.length)), np.uint8)
                bits = np.unpackbits(packed, count=math.prod(piece.shape)).reshape(piece.shape)
                yield np.array(piece.start) + np.array([low, 0, 0]), bits[low:high]


def scan_label(
    volume: LazyVolume,
    ignore_label: float | None = None,
    scheduler: BlockScheduler | None = None,
    progress: bool = True,
) -> LabelBits:
    """Read a label once, every stored chunk of it, and keep which voxels are labeled.

    Memory: one block for every worker (a chunk, or as many whole chunks as have about 2 million voxels) and 64 MiB.

    Args:
        volume: label of one channel; nonzero means labeled.
        ignore_label: a value that does not count as labeled.
        scheduler: where blocks are read; None for this process.
        progress: show a bar.

    Returns:
        the labeled voxels, to be closed by the caller (``with``).

    Raises:
        OSError: the temporary folder is full.
    """
    blocks = scan_blocks(volume.spatial_shape, volume.chunks)
    found = (scheduler or block_scheduler()).run(pack_bits, blocks, (volume, ignore_label))
    bits = LabelBits()
    try:
        for _, result in tqdm(found, "reading label", len(blocks), unit="block", disable=not progress):
            if result is not None:
                bits.add(*result)
    except BaseException:
        bits.__exit__()
        raise
    return bits


def scan_blocks(shape: Sequence[int], chunks: Sequence[int] | None) -> list[Box]:
    """Divide a volume into blocks of whole chunks.

    Args:
        shape: of the volume (D, H, W).
        chunks: of the stored array (z, y, x); None for no chunks, where whole planes are best.

    Returns:
        boxes that cover the volume, z slowest; each has at most about 2 million voxels, unless a chunk has more.
    """
    size = [min(chunk, length) for chunk, length in zip(chunks or (1, 1, 1), shape, strict=True)]
    while True:
        # whole chunks in blocks like cubes, so that many are empty; without chunks, whole rows, then whole planes
        open_axes = [axis for axis in range(3) if size[axis] < shape[axis]]
        axis = min(open_axes, key=lambda a: size[a] if chunks else -a, default=None)
        if axis is None or 2 * math.prod(size) > BLOCK_VOXELS:
            break
        size[axis] = min(2 * size[axis], shape[axis])
    ranges = [range(0, length, step) for length, step in zip(shape, size, strict=True)]
    corners = ((z, y, x) for z in ranges[0] for y in ranges[1] for x in ranges[2])
    return [_box(corner, size, shape) for corner in corners]


def _box(corner: Sequence[int], size: Sequence[int], shape: Sequence[int]) -> Box:
    z, y, x = (slice(c, min(c + s, n)) for c, s, n in zip(corner, size, shape, strict=True))
    return z, y, x


def pack_bits(
    box: Box, common: tuple[LazyVolume, float | None]
) -> tuple[tuple[int, ...], tuple[int, ...], bytes] | None:
    """Read a block and pack what is labeled in it, cropped to its bounding box.

    Args:
        box: the block (z, y, x).
        common: the volume and the value that does not count as labeled.

    Returns:
        start in the volume, shape and compressed bits of the labeled part; None if there is none.
    """
    volume, ignore_label = common
    values = volume.read(box)[0]
    labeled = values != 0
    if ignore_label is not None:
        labeled &= values != ignore_label
    if not labeled.any():
        return None
    inside = []
    for axis in range(3):
        found = np.flatnonzero(labeled.any(axis=tuple(a for a in range(3) if a != axis)))
        inside.append(slice(int(found[0]), int(found[-1]) + 1))
    cropped = labeled[tuple(inside)]
    start = tuple(block.start + part.start for block, part in zip(box, inside, strict=True))
    return start, cropped.shape, zlib.compress(np.packbits(cropped).tobytes(), 1)
