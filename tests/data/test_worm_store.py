"""Prepared worms in memory: split, statistics, normalization, cache."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from voxel_ext.data import WormCubes, WormStore, intensity_statistics, read_worm, worm_lists, write_worm
from voxel_ext.data import worm_store as module
from voxel_ext.errors import InvalidInputError, MissingDataError

CELLS = np.array([5, 0, 11, 3])
ALL = np.ones(4, bool)


@pytest.mark.parametrize(("number", "fraction", "validated"), [(2, 0.2, 1), (3, 0.9, 2), (4, 0.2, 2), (6, 0.5, 3)])
def test_worms_are_split_by_worm(make_worms, number, fraction, validated):
    files = make_worms(number, size=2)
    lists = worm_lists(files[0].parent, fraction, seed=3)
    assert len(lists["val"]) == validated
    assert sorted(lists["train"] + lists["val"]) == sorted(files)
    assert worm_lists(files[0].parent, fraction, seed=3) == lists


def test_the_split_depends_on_the_seed(make_worms):
    folder = make_worms(6, size=2)[0].parent
    assert len({tuple(worm_lists(folder, 0.3, seed)["val"]) for seed in range(8)}) > 1


def test_folders_train_and_val_are_taken_as_they_are(make_worms):
    train, val = make_worms(3, size=2, folder="all/train"), make_worms(1, size=2, folder="all/val")
    assert worm_lists(train[0].parent.parent) == {"train": train, "val": val}


def test_a_split_of_too_little_is_refused(make_worms, tmp_path):
    folder = make_worms(1, size=2)[0].parent
    with pytest.raises(InvalidInputError, match="at least two"):
        worm_lists(folder)
    with pytest.raises(InvalidInputError, match=r"validation_fraction=1\.0"):
        worm_lists(folder, 1.0)
    with pytest.raises(MissingDataError, match="nowhere"):
        worm_lists(tmp_path / "nowhere")


def test_statistics_come_from_the_file_or_the_arguments(tmp_path):
    with pytest.raises(MissingDataError, match="intensity_mean"):
        intensity_statistics(tmp_path, mean=1.0)
    assert intensity_statistics(tmp_path, 1, 2) == {"mean": 1.0, "std": 2.0}
    file = tmp_path / "statistics.json"
    file.write_text(json.dumps({"mean": 38.9, "std": 45.2}))
    assert intensity_statistics(tmp_path) == {"mean": 38.9, "std": 45.2}
    assert intensity_statistics(tmp_path, std=3.0) == {"mean": 38.9, "std": 3.0}
    assert intensity_statistics(tmp_path, mean=0.0) == {"mean": 0.0, "std": 45.2}
    assert intensity_statistics(tmp_path / "val") == {"mean": 38.9, "std": 45.2}  # of the folder above
    settings = tmp_path / "settings.json"
    assert intensity_statistics(tmp_path, settings=settings) == {"mean": 38.9, "std": 45.2}
    settings.write_text(json.dumps({"intensity_mean": 30.0, "intensity_std": 40.0}))
    assert intensity_statistics(tmp_path, settings=settings) == {"mean": 30.0, "std": 40.0}


@pytest.mark.parametrize("text", ["{", "[]", '{"mean": 1}', '{"mean": null, "std": 1}'])
def test_damaged_statistics_are_named(tmp_path, text):
    (tmp_path / "statistics.json").write_text(text)
    with pytest.raises(InvalidInputError, match=r"statistics\.json has no mean and std"):
        intensity_statistics(tmp_path)


def test_cubes_come_in_the_order_of_the_cells(make_worms):
    files = make_worms(2)
    store = WormStore(files, "none")
    np.testing.assert_array_equal(store.cubes(1, CELLS, ALL), read_worm(files[1]).cubes[CELLS])


def test_global_normalization(make_worms):
    files = make_worms(1)
    found = WormStore(files, "global", mean=50.0, std=20.0).cubes(0, CELLS, ALL)
    np.testing.assert_allclose(found, (read_worm(files[0]).cubes[CELLS] - 50) / 20, rtol=1e-6)
    assert found.dtype == np.float32


def test_global_normalization_leaves_a_mask_as_it_is(make_worms):
    files = make_worms(1, channels="raw+mask+soft")
    found = WormStore(files, "global", mean=50.0, std=20.0).cubes(0, CELLS, ALL)
    cubes = read_worm(files[0]).cubes[CELLS]
    np.testing.assert_array_equal(found[:, 1], cubes[:, 1])
    np.testing.assert_allclose(found[:, ::2], (cubes[:, ::2] - 50) / 20, rtol=1e-6)


def test_normalization_of_each_cube_and_channel(make_worms):
    files = make_worms(1, channels="raw+mask+soft")
    found = WormStore(files, "cube").cubes(0, CELLS, ALL)
    np.testing.assert_allclose(found.mean((2, 3, 4)), 0, atol=1e-5)
    np.testing.assert_allclose(found.std((2, 3, 4)), 1, rtol=1e-5)


def test_a_constant_cube_is_not_blown_up(tmp_path):
    cubes = np.full((2, 1, 5, 5, 5), 0.1, np.float32)
    worm = WormCubes("w", np.ones(2, bool), np.zeros((2, 3), np.float32), ("A", "B"), (9, 9, 9), "raw", 5, cubes=cubes)
    found = WormStore([write_worm(tmp_path / "w.h5", worm)], "cube").cubes(0, np.arange(2), np.ones(2, bool))
    np.testing.assert_allclose(found, 0, atol=1e-6)


@pytest.mark.parametrize("normalization", ["global", "cube", "none"])
def test_cubes_that_are_not_valid_are_zero(make_worms, normalization):
    store = WormStore(make_worms(1), normalization, mean=50.0, std=20.0)
    found = store.cubes(0, CELLS, np.array([True, False, True, False]))
    assert (found[[1, 3]] == 0).all()
    assert (found[[0, 2]] != 0).any((1, 2, 3, 4)).all()


def test_turned_cubes_are_turned_about_x(make_worms):
    store = WormStore(make_worms(1))
    upright, turned = (store.cubes(0, CELLS, ALL, turn) for turn in (False, True))
    np.testing.assert_array_equal(turned, np.rot90(upright, 2, (2, 3)))


def test_the_cache_holds_the_worms_used_last(make_worms, monkeypatch):
    files = make_worms(3)
    read: list[str] = []
    monkeypatch.setattr(module, "read_worm", lambda file: read.append(file.stem) or read_worm(file))
    store = WormStore(files, cache_num=2)
    first = store.cubes(0, CELLS, ALL)
    kept = first.copy()
    first[:] = 7  # what is handed out is no part of the cache
    for number in (1, 0, 2, 0, 1):
        found = store.cubes(number, CELLS, ALL)
        if number == 0:
            np.testing.assert_array_equal(found, kept)
    assert read == ["worm0", "worm1", "worm2", "worm1"]


def test_without_a_cache_worms_are_read_each_time(make_worms, monkeypatch):
    files = make_worms(1)
    read: list[str] = []
    monkeypatch.setattr(module, "read_worm", lambda file: read.append(file.stem) or read_worm(file))
    store = WormStore(files, cache_num=0)
    store.cubes(0, CELLS, ALL)
    store.cubes(0, CELLS, ALL)
    assert len(read) == 2


def test_known_cells_have_a_cube_and_a_position(make_worms, tmp_path):
    worm = read_worm(make_worms(1, missing={0: [2]})[0])
    worm.positions[[2, 4]] = [[1, 2, 3], [np.nan, 1, 1]]
    store = WormStore([write_worm(tmp_path / "w.h5", worm)])
    assert np.flatnonzero(~store.known(0)).tolist() == [2, 4]


def test_names_are_gathered_from_all_worms(make_worms):
    some = make_worms(1, cells=3, names=["A", "", ""], folder="a")
    others = make_worms(1, cells=3, names=["A", "B", ""], folder="b")
    store = WormStore(some + others)
    assert (store.names, store.num_cells, len(store)) == (["A", "B", ""], 3, 2)


def test_worms_that_differ_are_refused(make_worms):
    files = make_worms(2)
    with pytest.raises(InvalidInputError, match=r"b/worm0\.h5 has cubes of shape \(11, "):
        WormStore(files + make_worms(1, cells=11, folder="b"))
    with pytest.raises(InvalidInputError, match="the same settings"):
        WormStore(files + make_worms(1, size=6, folder="c"))
    with pytest.raises(InvalidInputError, match="soft"):
        WormStore(files + make_worms(1, channels="soft", folder="d"))


def test_names_that_differ_are_refused_wherever_they_are(make_worms):
    nameless = make_worms(1, cells=3, names=["", "", ""], folder="a")
    first, second = (make_worms(1, cells=3, names=["A", x, "C"], folder=x) for x in ("X", "Y"))
    with pytest.raises(InvalidInputError, match=r"Y/worm0\.h5 and .*X/worm0\.h5 .* Aligned_No, 2: 'Y' and 'X'"):
        WormStore(nameless + first + second)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"normalization": "globl"}, "Did you mean 'global'"),
        ({"std": 0.0}, r"std=0\.0"),
        ({"std": float("nan")}, "std=nan"),
        ({"cache_num": -1}, "cache_num=-1"),
    ],
)
def test_settings_out_of_range_are_refused(make_worms, settings, match):
    with pytest.raises(InvalidInputError, match=match):
        WormStore(make_worms(1), **settings)


def test_no_worms_and_damaged_worms_are_refused(make_worms, tmp_path):
    with pytest.raises(InvalidInputError, match="no worms"):
        WormStore([])
    damaged = shutil.copy(make_worms(1)[0], tmp_path / "damaged.h5")
    with open(damaged, "r+b") as stream:
        stream.truncate(100)
    with pytest.raises(InvalidInputError, match=r"damaged\.h5"):
        WormStore([damaged])
