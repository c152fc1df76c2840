"""Seconds of measuring all objects of a label volume beside scikit-image, and memory of a large zarr label."""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from skimage.measure import regionprops_table

from benchmarks.harness import Row, compare, seconds
from voxel_ext.data.object_table import object_statistics
from voxel_ext.morphology.statistics import measure_objects

SIZE, OBJECTS, CHUNK = 256, 500, 128
PROPERTIES = ("label", "area", "centroid", "bbox", "intensity_mean")


def run(arguments: argparse.Namespace) -> list[Row]:
    labels = draw_ellipsoids(SIZE, OBJECTS)
    image = np.random.default_rng(1).random(labels.shape, dtype=np.float32)
    _check(labels, image)
    what = f"{OBJECTS} objects in {SIZE}³ int32, {(labels > 0).mean():.0%} labeled"
    rows = [
        compare(
            "object_statistics",
            f"{what}: count, centroid, box, second moments, intensity / regionprops_table: count, centroid, box, mean",
            lambda: measure_objects(labels, image, euler=False),
            lambda: regionprops_table(labels, image, properties=PROPERTIES),
            arguments.repeats,
            goal="ratio <= 1",
        ),
        compare(
            "object_statistics",
            f"{what}: the same and Euler numbers",
            lambda: measure_objects(labels, image),
            lambda: regionprops_table(labels, image, properties=(*PROPERTIES, "euler_number")),
            arguments.repeats,
        ),
    ]
    return rows + (_zarr_rows(arguments.statistics_zarr) if arguments.statistics_zarr else [])


def draw_ellipsoids(size: int, count: int, seed: int = 0, radius: tuple[float, float] = (4, 14)) -> np.ndarray:
    """Draw ellipsoids of random place and radii, later ones over earlier ones, into a cube; int32."""
    generator = np.random.default_rng(seed)
    labels = np.zeros((size,) * 3, np.int32)
    for number in range(1, count + 1):
        center, radii = generator.uniform(0, size, 3), generator.uniform(*radius, 3)
        low = np.maximum(np.floor(center - radii), 0).astype(int)
        box = tuple(slice(a, b) for a, b in zip(low, np.ceil(center + radii).astype(int) + 1, strict=True))
        shape = labels[box].shape
        distance = sum(
            ((np.arange(n) + a - c) / r).reshape([-1 if i == axis else 1 for i in range(3)]) ** 2
            for axis, (n, a, c, r) in enumerate(zip(shape, low, center, radii, strict=True))
        )
        labels[box][distance <= 1] = number
    return labels


def _check(labels: np.ndarray, image: np.ndarray) -> None:
    found = measure_objects(labels, image)
    expected = regionprops_table(labels, image, properties=PROPERTIES)
    assert found.intensity is not None
    if not (
        np.array_equal(found.voxels, expected["area"])
        and np.allclose(found.geometry.centroid[:, 2], expected["centroid-2"])
        and np.array_equal(found.geometry.upper[:, 0], expected["bbox-3"])
        and np.allclose(found.intensity.mean, expected["intensity_mean"])
    ):
        raise RuntimeError("object_statistics: other results than regionprops_table")


def _zarr_rows(size: int) -> list[Row]:
    """Seconds and memory of a zarr label of ``size``³ int64 and an image of uint8."""
    with tempfile.TemporaryDirectory(prefix="object_statistics-") as folder:
        count = _write(Path(folder), size)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            time, peak, before, found = pool.submit(_measure_zarr, folder).result()
    if found != count:
        raise RuntimeError(f"object_statistics: {found} objects of {count}")
    what = f"{count} objects in a zarr of {size}³, int64, chunks of {CHUNK}³, with an image and Euler numbers"
    return [
        Row("object_statistics", f"{what}; one process", time),
        Row("object_statistics", "peak memory of the same / after importing", peak, before, None, "GiB", "< 4"),
    ]


def _write(folder: Path, size: int) -> int:
    """Write tiles of the same ellipsoids with ids of their own, and an image; return the number of objects."""
    tile = draw_ellipsoids(SIZE, OBJECTS).astype(np.int64)
    options: dict[str, Any] = {"shape": (size,) * 3, "chunks": (CHUNK,) * 3}
    labels = zarr.create_array(folder / "labels.zarr", dtype="int64", **options)
    image = zarr.create_array(folder / "image.zarr", dtype="uint8", **options)
    texture = np.random.default_rng(2).integers(0, 256, (SIZE,) * 3, dtype=np.uint8)
    total = 0
    for index, corner in enumerate(itertools.product(range(0, size, SIZE), repeat=3)):
        box = tuple(slice(c, min(c + SIZE, size)) for c in corner)
        part = tuple(slice(0, s.stop - s.start) for s in box)
        values = np.where(tile[part] > 0, tile[part] + index * OBJECTS, 0)
        labels[box], image[box] = values, texture[part]
        total += len(np.unique(values)) - 1
    return total


def _measure_zarr(folder: str) -> tuple[float, float, float, int]:
    before = _peak_gib()
    found: list[int] = []

    def measure() -> None:
        result = object_statistics(
            f"{folder}/labels.zarr", f"{folder}/image.zarr", voxel_size=(30, 8, 8), progress=False
        )
        found.append(len(result))

    time = seconds(measure)
    return time, _peak_gib(), before, found[0]


def _peak_gib() -> float:
    """Largest memory of this process so far; unlike ``ru_maxrss`` without that of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20
