"""Seconds and chunk reads of choosing the patches of a sparse zarr label, beside reading every candidate patch."""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import zarr

from benchmarks.harness import Row, seconds, table
from voxel_ext.data.lazy_volume import LazyVolume
from voxel_ext.data.patch_index import PatchIndex

PATCH, STRIDE = 128, 64
MIN_BBOX, MIN_RATIO = 0.95, 0.07
SIZES = (512, 1024)
# 128 as volumes of scrolls have it, 64 as the default of OME-Zarr writers
CHUNKS = (128, 64)


def run(arguments: argparse.Namespace) -> list[Row]:
    rows = []
    for size, chunk in itertools.product(getattr(arguments, "label_sizes", None) or SIZES, CHUNKS):
        with tempfile.TemporaryDirectory(prefix="patch_index-") as folder:
            path = Path(folder) / "label.zarr"
            bounds = draw_sheets(path, size, chunk)
            # reading every patch of large labels takes long
            rows += _rows(path, size, chunk, bounds, arguments.repeats if size <= 512 else 1)
    return rows


def _rows(path: Path, size: int, chunk: int, bounds: list[range], repeats: int) -> list[Row]:
    index = PatchIndex(PATCH, STRIDE, MIN_BBOX, MIN_RATIO, progress=False)
    # once before the clock runs, which also tells what is read
    found, ours = _with_boxes(lambda: index.find(path))
    expected: list[np.ndarray] = []
    pairs = [
        (seconds(lambda: index.find(path)), seconds(lambda: expected.append(read_every_patch(path, bounds))))
        for _ in range(repeats)
    ]
    if not np.array_equal(found, expected[0]):
        raise RuntimeError("patch_index: other patches than by reading each of them")
    patches = [tuple(slice(s, s + PATCH) for s in start) for start in itertools.product(*bounds)]
    stored = _stored_chunks(path)
    label = f"{size}³ sheets, chunks of {chunk}³, {len(stored)} of {(size // chunk) ** 3} stored"
    once, often = chunk_reads(ours, stored, chunk), chunk_reads(patches, stored, chunk)
    times = [statistics.median(column) for column in zip(*pairs, strict=True)]
    ratio = statistics.median(a / b for a, b in pairs)
    chosen = f"{len(found)} of {len(patches)} patches"
    goal = "ratio < 0.2" if size >= 1024 else ""
    return [
        Row("patch_index", f"{label}, {chosen} / reading every candidate", times[0], times[1], ratio, goal=goal),
        Row("patch_index", f"chunk reads of the same {size}³", once, often, once / often, "", f"= {len(stored)}"),
    ]


def draw_sheets(path: Path, size: int, chunk: int) -> list[range]:
    """Write curved sheets in a part of a volume, block by block; return the starts of the candidates."""
    array = zarr.create_array(
        path, shape=(size,) * 3, chunks=(chunk,) * 3, dtype="uint8", fill_value=0, config={"write_empty_chunks": False}
    )
    low, high = np.full(3, size), np.zeros(3, int)
    for corner in itertools.product(range(0, size, PATCH), repeat=3):
        z, y, x = np.ogrid[tuple(slice(c, c + PATCH) for c in corner)]
        height = z + 24 * np.sin(x / 60) + 16 * np.cos(y / 45)
        inside = (np.abs(height - size / 2) < size / 4) & (np.hypot(y - size / 2, x - size / 2) < 0.45 * size)
        sheets = inside & (height % 64 < 7)
        if np.any(sheets):
            array[tuple(slice(c, c + PATCH) for c in corner)] = sheets.astype(np.uint8)
            places = np.argwhere(sheets)
            low = np.minimum(low, places.min(0) + corner)
            high = np.maximum(high, places.max(0) + 1 + corner)
    ends = np.minimum(high, size - PATCH + 1)
    return [range(int(a), int(b), STRIDE) for a, b in zip(low, ends, strict=True)]


def read_every_patch(path: Path, bounds: list[range]) -> np.ndarray:
    """The straightforward way, which is even told the label's bounding box."""
    array = zarr.open_array(path, mode="r")
    valid = []
    for start in itertools.product(*bounds):
        labeled = np.not_equal(array[tuple(slice(s, s + PATCH) for s in start)], 0)
        count = np.count_nonzero(labeled)
        if count < MIN_RATIO * PATCH**3:
            continue
        box = 1
        for axes in ((1, 2), (0, 2), (0, 1)):
            found = np.flatnonzero(labeled.any(axis=axes))
            box *= int(found[-1] - found[0]) + 1
        if box >= MIN_BBOX * PATCH**3:
            valid.append(start)
    return np.array(valid)


def _stored_chunks(path: Path) -> set[tuple[int, ...]]:
    files = (file for file in (path / "c").rglob("*") if file.is_file())
    return {tuple(map(int, file.relative_to(path / "c").parts)) for file in files}


def _with_boxes(function: Callable[[], np.ndarray]) -> tuple[np.ndarray, list[Sequence[slice]]]:
    """What a function returns, and the boxes of volumes that it reads."""
    boxes = []
    read = LazyVolume.read

    def note(volume: LazyVolume, box: Sequence[slice]) -> np.ndarray:
        boxes.append(box)
        return read(volume, box)

    with mock.patch.object(LazyVolume, "read", note):
        return function(), boxes


def chunk_reads(boxes: Sequence[Sequence[slice]], stored: set[tuple[int, ...]], chunk: int) -> int:
    """How many times a stored chunk is read for these boxes."""
    return sum(
        place in stored
        for box in boxes
        for place in itertools.product(*(range(part.start // chunk, math.ceil(part.stop / chunk)) for part in box))
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.patch_index", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="counted runs of labels up to 512³ (default 5)")
    parser.add_argument("--label-sizes", type=int, nargs="+", default=SIZES, help="edges of the labels in voxels")
    print(table(run(parser.parse_args())))


if __name__ == "__main__":
    main()
