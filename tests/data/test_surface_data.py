"""Volumes of a data set, their division into training and validation, and their patches."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from voxel_ext.data import PatchIndex, prepare_synthetic_sheets, surface_volume_dataset, surface_volumes
from voxel_ext.data.surface_data import SurfacePatches
from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.targets import read_targets

TARGETS = {"sheet": {"channels": 1, "activation": "sigmoid"}, "normals": {"channels": 3, "activation": "unit_norm"}}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sheets")
    prepare_synthetic_sheets(folder, volumes=2, validation_volumes=1, size=32, progress=False)
    return folder


def index(**options):
    return PatchIndex(8, min_labeled_ratio=0.05, min_bbox_percent=0.5, progress=False, **options)


def test_train_and_val_folders(root):
    data = surface_volumes(root, TARGETS)
    assert [volume.name for volume in data.training] == ["sheets_000", "sheets_001"]
    assert [volume.name for volume in data.all] == ["sheets_000", "sheets_001", "sheets_000"]
    patches = data.patches(index())
    assert {number for number, _ in patches.training} == {0, 1}
    assert {number for number, _ in patches.validation} == {2}
    assert len(data.normalizations("zscore")) == 3


def test_without_validation_volumes_blocks_are_kept(root):
    data = surface_volumes(root / "train", TARGETS)
    assert data.validation == []
    patches = data.patches(index(), validation_fraction=0.3)
    assert patches.training
    assert patches.validation
    for number, start in patches.validation:
        for other, place in patches.training:
            assert number != other or max(abs(a - b) for a, b in zip(start, place, strict=True)) >= 8


def test_lists_and_files_of_volumes(root, tmp_path):
    entries = [
        {"input": str(root / f"train/{name}.zarr/image"), **{t: str(root / f"train/{name}.zarr/{t}") for t in TARGETS}}
        for name in ("sheets_000", "sheets_001")
    ]
    data = surface_volumes("", TARGETS, volumes=entries[:1], validation_volumes=entries[1:])
    assert [volume.name for volume in data.all] == ["sheets_000", "sheets_001"]
    file = tmp_path / "volumes.json"
    file.write_text(json.dumps(entries))
    assert len(surface_volumes("", TARGETS, volumes=str(file)).training) == 2
    with pytest.raises(InvalidInputError, match="both for training and for validation"):
        surface_volumes("", TARGETS, volumes=entries, validation_volumes=entries[:1])
    with pytest.raises(InvalidInputError, match="validation_volumes is given without volumes"):
        surface_volumes(root, TARGETS, validation_volumes=entries)
    with pytest.raises(MissingDataError, match="no 'normals'"):
        surface_volumes("", TARGETS, volumes=[{key: entries[0][key] for key in ("input", "sheet")}])


def test_positions_are_cached_by_part_and_volume(root, tmp_path, caplog):
    data = surface_volumes(root, TARGETS)
    first = data.patches(index(), cache_dir=tmp_path)
    names = ["train_sheets_000.json", "train_sheets_001.json", "val_sheets_000.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    with caplog.at_level(logging.INFO):
        assert data.patches(index(), cache_dir=tmp_path) == first
    assert caplog.text.count("taken from the cache") == 3


def test_some_validation_patches_are_always_the_same():
    patches = SurfacePatches([], [(0, (i, 0, 0)) for i in range(100)])
    some = patches.some_validation(10, seed=3)
    assert some == patches.some_validation(10, seed=3) == sorted(some)
    assert len(set(some)) == 10
    assert some != patches.some_validation(10, seed=4)
    assert patches.some_validation(1000) == patches.validation


def test_whole_volumes_as_items(root):
    data = surface_volumes(root, TARGETS)
    dataset = surface_volume_dataset(data.validation, read_targets(TARGETS), data.normalizations("none")[2:])
    assert len(dataset) == 1
    assert dataset[0]["normals"].shape == (3, 32, 32, 32)
    stored = data.validation[0].input.read((slice(None),) * 3)
    np.testing.assert_array_equal(dataset[0]["image"], stored.astype(np.float32))
