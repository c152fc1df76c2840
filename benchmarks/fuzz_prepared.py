"""Readers of prepared files for ``benchmarks.fuzz``: objects, point clouds, worms, animals, and their records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.fuzz_child import Reader
from voxel_ext.data import (
    ObjectDataset,
    PointCloudDataset,
    WormCubes,
    WormStore,
    read_worm,
    write_worm,
)
from voxel_ext.data.cell_labeling_file import CellVolume, read_cell_channels, read_cell_volume, write_cell_volume
from voxel_ext.data.object_batches import merge_batches
from voxel_ext.data.prepared_file import read_record, write_prepared
from voxel_ext.data.worm_file import read_worm_moments
from voxel_ext.hdf5 import write_hdf5

COUNT = 4


def write_objects(path: Path, name: str, shape: Sequence[int], ids: Sequence[int]) -> Path:
    """A file as ``prepare_objects`` writes it for a batch."""
    rng = np.random.default_rng(0)
    with write_hdf5(path) as (file, _):
        options = {"chunks": (1, *shape), "compression": "lzf", "shuffle": True}
        file.create_dataset(name, data=rng.random((len(ids), *shape)).astype(np.float16), **options)
        for column, values in (("id", ids), ("chunk", [0] * len(ids)), ("scale", [2.0] * len(ids)), ("class", ids)):
            file.create_dataset(column, data=np.asarray(values))
        file.attrs["class_names"], file.attrs["settings"] = json.dumps(["a", "b"]), json.dumps({"size": 4})
    return path


def make_objects(folder: Path) -> Sequence[Path]:
    """Objects as cubes."""
    return [write_objects(folder / "objects.h5", "volumes", (1, 4, 4, 4), range(1, COUNT + 1))]


def make_points(folder: Path) -> Sequence[Path]:
    """Objects as point clouds."""
    return [write_objects(folder / "points.h5", "points", (8, 3), range(1, COUNT + 1))]


def make_batches(folder: Path) -> Sequence[Path]:
    """Two batches of objects, to be merged."""
    (folder / "parts").mkdir()
    write_objects(folder / "parts" / "batch_000000.h5", "volumes", (1, 4, 4, 4), [1, 2])
    write_objects(folder / "parts" / "batch_000001.h5", "volumes", (1, 4, 4, 4), [3, 4])
    return [folder / "parts"]


def make_worms(folder: Path) -> Sequence[Path]:
    """A worm with one cell missing."""
    valid = np.array([True, True, False, True])
    positions = np.where(valid[:, None], np.random.default_rng(0).random((COUNT, 3)), np.nan).astype(np.float32)
    cubes = np.random.default_rng(0).random((COUNT, 1, 4, 4, 4)).astype(np.float32)
    names = tuple(f"CELL{i}" for i in range(COUNT))
    worm = WormCubes("worm", valid, positions, names, (9, 9, 90), "raw", 4, {"size": 4}, cubes=cubes)
    return [write_worm(folder / "worm.h5", worm)]


def make_animals(folder: Path) -> Sequence[Path]:
    """A prepared animal with two ROIs."""
    rng = np.random.default_rng(0)
    roi = np.zeros((4, 5, 6), np.uint16)
    roi[1, 1:3], roi[3, 2:] = 4, 90
    animal = CellVolume(
        raw=rng.random((2, 4, 5, 6)).astype(np.float32),
        roi=roi,
        roi_ids=np.array([4, 90]),
        roi_class=np.array([1, 0]),
        roi_weight=np.array([600, 1], np.float32),
        roi_other_weight=np.array([180, 1], np.float32),
        roi_confidence=np.array([3, 0]),
        class_names=("background", "AVAL"),
        true_class=np.array([1, 1]),
        channels=("a", "b"),
        settings={"size": [4, 5, 6]},
    )
    return [write_cell_volume(folder / "animal.h5", animal)]


def make_prepared(folder: Path) -> Sequence[Path]:
    """A prepared file and a store."""
    for name in ("a.h5", "b.zarr"):
        write_prepared(folder / name, {"raw": np.zeros((4, 5, 6), np.uint8)}, {"size": [4, 5, 6]}, (1.0, 1.0, 1.0))
    return [folder / "a.h5", folder / "b.zarr"]


def read_worms(path: Path) -> None:
    """Read everything of a worm."""
    read_worm_moments(path)
    read_worm(path, missing_too=True)
    store = WormStore([path], "cube")
    store.cubes(0, np.arange(store.num_cells), store.known(0))


def read_animal(path: Path) -> None:
    """Read all, and one channel."""
    read_cell_volume(path)
    read_cell_channels(path, ["b"])


def read_dataset(kind: type, path: Path) -> None:
    """Take every item."""
    data = kind(path, classes_only=True)
    for index in range(min(len(data), 2 * COUNT)):
        data[index]


def merge(path: Path) -> None:
    """Merge whatever batches there are."""
    if parts := sorted(path.glob("batch_*")):
        merge_batches(path.with_name("merged.h5"), parts, {"size": 4}, {"class_names": ["a", "b"]})


READERS = (
    Reader("objects", make_objects, lambda path: read_dataset(ObjectDataset, path)),
    Reader("points", make_points, lambda path: read_dataset(PointCloudDataset, path)),
    Reader("object_parts", make_batches, merge),
    Reader("worms", make_worms, read_worms),
    Reader("animals", make_animals, read_animal),
    Reader("records", make_prepared, read_record),
)
