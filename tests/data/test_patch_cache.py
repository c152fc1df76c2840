"""The cache of patch positions: used only for the same label and settings."""

import json
import logging
import os
import re

import numpy as np
import pytest
import zarr

from voxel_ext.data.lazy_volume import LazyVolume
from voxel_ext.data.patch_cache import read_cached_positions, write_cached_positions
from voxel_ext.data.patch_index import PatchIndex
from voxel_ext.errors import InvalidInputError

SETTINGS = {"patch_size": 8, "stride": 4, "min_bbox_percent": 0.5, "min_labeled_ratio": 0.1, "progress": False}


@pytest.fixture
def label(tmp_path):
    values = (np.random.default_rng(0).random((16, 20, 24)) < 0.2).astype(np.uint8)
    array = zarr.create_array(tmp_path / "label.zarr", shape=values.shape, dtype="uint8", chunks=(8, 8, 8))
    array[:] = values
    return tmp_path / "label.zarr"


@pytest.fixture
def reads(monkeypatch):
    """Number of blocks that were read."""
    boxes = []
    read = LazyVolume.read
    monkeypatch.setattr(LazyVolume, "read", lambda self, box: boxes.append(box) or read(self, box))
    return boxes


def test_second_time_nothing_is_read(label, tmp_path, reads, caplog):
    cache = tmp_path / "new" / "patches.json"
    first = PatchIndex(**SETTINGS).find(label, cache)
    assert reads
    reads.clear()
    second = PatchIndex(**SETTINGS).find(label, cache)
    assert not reads
    assert second.dtype == np.int64
    np.testing.assert_array_equal(first, second)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    "change",
    [
        {"patch_size": 7},
        {"stride": 3},
        {"min_bbox_percent": 0.4},
        {"min_labeled_ratio": 0.15},
        {"ratio_of": "bounding_box"},
        {"ignore_label": 7},
    ],
)
def test_other_settings_make_it_stale(label, tmp_path, reads, caplog, change):
    cache = tmp_path / "patches.json"
    PatchIndex(**SETTINGS).find(label, cache)
    reads.clear()
    index = PatchIndex(**{**SETTINGS, **change})
    np.testing.assert_array_equal(index.find(label, cache), index.find(label))
    assert reads
    assert "stale" in caplog.text
    assert f"{next(iter(change))} is" in caplog.text
    reads.clear()
    index.find(label, cache)
    assert not reads  # it was replaced


def test_other_labels_make_it_stale(label, tmp_path, caplog):
    cache = tmp_path / "patches.json"
    PatchIndex(**SETTINGS).find(label, cache)
    array = zarr.open_array(label, mode="r+")
    array[:, :8] = 1
    for chunk in (label / "c").rglob("*"):  # a clock may be coarse
        os.utime(chunk, (2e9, 2e9))
    found = PatchIndex(**SETTINGS).find(label, cache)
    assert "stale: label." in caplog.text
    np.testing.assert_array_equal(found, PatchIndex(**SETTINGS).find(label))
    caplog.clear()
    PatchIndex(**SETTINGS).find(np.ones((16, 20, 24)), cache)
    assert "label.address is" in caplog.text


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda text: "", "not JSON"),
        (lambda text: text[: len(text) // 2], "not JSON"),
        (lambda text: "[1, 2]", "fingerprint and positions missing"),
        (lambda text: _changed(text, positions=None), "positions missing"),
        (lambda text: _changed(text, fingerprint=5), "stale: the whole is 5 there"),
        (lambda text: _changed(text, positions=[[0, 0, 17]]), r"\[0, 0, 17\] is not between 0 and \[8, 12, 16\]"),
        (lambda text: _changed(text, positions=[[0, -1, 0]]), r"\[0, -1, 0\] is not between"),
        (lambda text: _changed(text, positions=[[0, 0.5, 0]]), "not rows of three integers"),
        (lambda text: _changed(text, positions=[[0, 0], [1]]), "not rows of three"),
        (lambda text: _changed(text, positions=[]), "not rows of three"),
        (lambda text: _changed(text, positions=[["a", "b", "c"]]), "not rows of three"),
        (lambda text: _changed(text, positions=[[10**30, 0, 0]]), "not rows of three"),
    ],
)
def test_damaged_caches_are_not_used(label, tmp_path, caplog, damage, match):
    cache = tmp_path / "patches.json"
    expected = PatchIndex(**SETTINGS).find(label, cache)
    cache.write_text(damage(cache.read_text()))
    np.testing.assert_array_equal(PatchIndex(**SETTINGS).find(label, cache), expected)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert re.search(match, warnings[0])
    assert json.loads(cache.read_text())["positions"] == expected.tolist()


def _changed(text, **change):
    content = {**json.loads(text), **change}
    return json.dumps({key: value for key, value in content.items() if value is not None})


def test_older_format_is_stale(tmp_path, caplog):
    cache = tmp_path / "patches.json"
    write_cached_positions(cache, {"a": 1}, np.array([[1, 2, 3]]))
    assert read_cached_positions(cache, {"a": 1}, (5, 5, 5)).tolist() == [[1, 2, 3]]
    cache.write_text(cache.read_text().replace('"format": 1', '"format": 0'))
    assert read_cached_positions(cache, {"a": 1}, (5, 5, 5)) is None
    assert "format is 0 there, 1 now" in caplog.text


def test_new_and_dropped_entries_are_named(tmp_path, caplog):
    cache = tmp_path / "patches.json"
    write_cached_positions(cache, {"old": 1}, np.array([[1, 2, 3]]))
    assert read_cached_positions(cache, {"new": 1}, (5, 5, 5)) is None
    assert "new is None there, 1 now" in caplog.text
    assert "old is 1 there, None now" in caplog.text


def test_failure_leaves_no_cache_and_folder_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="no labeled voxel"):
        PatchIndex(**SETTINGS).find(np.zeros((9, 9, 9)), tmp_path / "patches.json")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidInputError, match="is a folder"):
        PatchIndex(**SETTINGS).find(np.ones((9, 9, 9)), tmp_path)
