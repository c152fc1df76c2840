"""Pairs of worms: true matches by brute force, rolls, augmentation, reproducibility."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.data.utils import set_rnd

from voxel_ext.data import WormDataset, WormPairDataset, WormStore, opposite_roll, read_worm
from voxel_ext.data.worm_pairs import _Shapes
from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.groups import rotation_group

MISSING = {0: [1, 2], 1: [2, 7], 3: [0]}


def dataset(files, num_cells=12, **settings):
    return WormPairDataset(files, num_cells, **settings)


def by_hand(item):
    """The target of an item, cell by cell."""
    (first, second), (valid, other) = item["cells"].tolist(), item["valid"]
    result = []
    for cell, there in zip(first, valid, strict=True):
        place = second.index(cell)
        result.append(place if there and other[place] else -1)
    return result


@pytest.mark.parametrize("num_cells", [2, 5, 12])
@pytest.mark.parametrize("missing", [0.0, 0.6])
def test_the_target_is_where_the_same_slot_is_in_the_second_worm(make_worms, num_cells, missing):
    data = dataset(make_worms(missing=MISSING), num_cells, length=8, missing=missing, augment=True)
    for item in data:
        assert item["target"].tolist() == by_hand(item)
        assert set(item["cells"][0]) == set(item["cells"][1])
        assert len(set(item["cells"][0])) == num_cells


def test_shapes_and_types(make_worms):
    item = dataset(make_worms(), 5)[0]
    shapes = {name: (item[name].shape, item[name].dtype) for name in ("cubes", "positions", "valid", "cells", "target")}
    assert shapes == {
        "cubes": ((2, 5, 1, 8, 8, 8), np.float32),
        "positions": ((2, 5, 3), np.float32),
        "valid": ((2, 5), bool),
        "cells": ((2, 5), np.int64),
        "target": ((5,), np.int64),
    }
    assert isinstance(item["opposite"], bool)


def test_cells_keep_their_cubes_and_positions(make_worms):
    files = make_worms(missing=MISSING)
    data = dataset(files, pairs="all", normalization="none")
    for item, pair in zip(data, itertools.combinations(range(4), 2), strict=True):
        assert item["worms"] == "\t".join(f"worm{i}" for i in pair)
        for side, worm in enumerate(read_worm(files[i]) for i in pair):
            cells, valid = item["cells"][side], item["valid"][side]
            np.testing.assert_array_equal(valid, worm.valid[cells])
            np.testing.assert_array_equal(item["cubes"][side], worm.cubes[cells])
            np.testing.assert_array_equal(item["positions"][side][valid], worm.positions[cells][valid])
            assert (item["positions"][side][~valid] == 0).all()


def test_without_augmentation_nothing_is_turned_or_shifted(make_worms):
    files = make_worms()
    plain = dataset(files, pairs="all", mixing=0.0, deformation=0.0, position_noise=0.0)
    strong = dataset(files, pairs="all", mixing=1.0, deformation=9.0, position_noise=99.0)
    for a, b in zip(plain, strong, strict=True):
        np.testing.assert_array_equal(a["positions"], b["positions"])
        np.testing.assert_array_equal(a["cubes"], b["cubes"])


def test_the_worms_of_a_pair_are_in_different_orders_that_change(make_worms):
    data = dataset(make_worms(), length=4)
    orders = [tuple(order) for item in data for order in item["cells"].tolist()]
    assert len(set(orders)) == len(orders)
    before = data[0]["cells"].tolist()
    data.set_random_state(7)
    assert data[0]["cells"].tolist() != before


def test_items_depend_on_seed_and_index_alone(make_worms):
    files = make_worms(missing=MISSING)
    settings = {"num_cells": 6, "length": 3, "augment": True, "missing": 0.3, "seed": 5}
    one, other = dataset(files, **settings), dataset(files, **settings, cache_num=0)
    forward, backward = [one[i] for i in range(3)], [other[i] for i in (2, 1, 0)][::-1]
    for a, b in zip(forward, backward, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_monai_draws_random_pairs_anew_and_keeps_fixed_ones(make_worms):
    files = make_worms()
    random, fixed = dataset(files), dataset(files, pairs="chain")
    before = random[0]["cells"].tolist(), fixed[0]["cells"].tolist()
    for data in (random, fixed):
        set_rnd(data, 123)
    assert random[0]["cells"].tolist() != before[0]
    assert fixed[0]["cells"].tolist() == before[1]
    assert random.seed == 123
    random.set_random_state(state=np.random.RandomState(1))
    assert random.seed == np.random.RandomState(1).randint(2**31)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ("all", [(0, 1), (0, 2), (1, 2)]),
        ("chain", [(0, 1), (1, 2)]),
        ([[2, 0], (1, 1)], [(2, 0), (1, 1)]),
    ],
)
def test_fixed_pairs(make_worms, pairs, expected):
    data = dataset(make_worms(3), pairs=pairs, num_cells=4)
    assert [item["worms"] for item in data] == [f"worm{i}\tworm{j}" for i, j in expected]


def test_random_pairs_are_of_different_worms_and_reach_all(make_worms):
    data = dataset(make_worms(3), length=60, num_cells=2, cubes=False)
    pairs = {item["worms"] for item in data}
    assert pairs == {f"worm{i}\tworm{j}" for i, j in itertools.permutations(range(3), 2)}
    assert len(dataset(make_worms(3))) == 3


def test_items_without_cubes_and_batches(make_worms):
    data = dataset(make_worms(), 5, cubes=False)
    assert "cubes" not in data[0]
    batch = next(iter(DataLoader(data, batch_size=2)))
    assert batch["positions"].shape == (2, 2, 5, 3)
    assert batch["valid"].dtype == torch.bool
    assert batch["opposite"].shape == (2,)


def test_roll_is_told_from_named_cells(make_worms):
    worms = [read_worm(file).positions for file in make_worms(4, turned=[1, 3], missing={0: [3], 1: [4]})]
    found = [[opposite_roll(a, b) for a in worms] for b in worms]
    assert found == [[(i + j) % 2 == 1 for i in range(4)] for j in range(4)]


def test_worms_without_a_common_cell_have_no_roll():
    a, b = np.zeros((2, 3)), np.zeros((2, 3))
    a[0], b[1] = np.nan, np.nan
    with np.errstate(all="raise"):
        assert opposite_roll(a, b) is False


def test_augmentation_turns_cubes_and_positions_together(make_worms):
    files = make_worms(2, turned=[1])
    exact = {"mixing": 0.0, "deformation": 0.0, "position_noise": 0.0}
    plain = [read_worm(file) for file in files]
    opposite = set()
    data = dataset(files, pairs=[[0, 1]] * 8, normalization="none", augment=True, **exact)
    for item in data:
        opposite.add(item["opposite"])
        turned = []
        for side, worm in enumerate(plain):
            cells, center = item["cells"][side], worm.positions.mean(0)
            found = item["positions"][side] - center
            expected = (worm.positions - center)[cells]
            turned.append(not np.allclose(found, expected, atol=1e-2))
            sign = [-1, -1, 1] if turned[-1] else [1, 1, 1]
            np.testing.assert_allclose(found, expected * sign, atol=1e-2)
            cubes = worm.cubes[cells]
            np.testing.assert_array_equal(item["cubes"][side], np.rot90(cubes, 2, (2, 3)) if turned[-1] else cubes)
        assert item["opposite"] == (turned[0] == turned[1])  # the worms lie oppositely
        back = [item["positions"][side][np.argsort(item["cells"][side])] for side in (0, 1)]
        assert item["opposite"] == opposite_roll(*back)
    assert opposite == {False, True}


@pytest.mark.parametrize("setting", ["deformation", "position_noise", "mixing"])
def test_each_augmentation_moves_valid_cells_only(make_worms, setting):
    off = {"mixing": 0.0, "deformation": 0.0, "position_noise": 0.0}
    files = make_worms(missing=MISSING)
    plain = dataset(files, pairs="all", augment=True, cubes=False, **off)
    moved = dataset(files, pairs="all", augment=True, cubes=False, **{**off, setting: 1.0})
    for a, b in zip(plain, moved, strict=True):
        for item in (a, b):
            assert (item["positions"][~item["valid"]] == 0).all()
            assert np.isfinite(item["positions"]).all()
        np.testing.assert_array_equal(a["cells"][0], b["cells"][0])
        assert not np.array_equal(a["positions"][0], b["positions"][0])


def test_position_noise_is_bounded_by_its_setting(make_worms):
    files = make_worms(2, cells=400, size=2)
    off = {"mixing": 0.0, "deformation": 0.0}
    data = dataset(files, 400, pairs=[[0, 1]] * 10, augment=True, cubes=False, position_noise=3.0, **off)
    worm = read_worm(files[0]).positions
    deviations = []
    for item in data:
        found = item["positions"][0][np.argsort(item["cells"][0])]
        along = found[:, 2] - worm[:, 2]  # the turn leaves x
        deviations.append(along.std())
    assert max(deviations) < 3.3
    assert min(deviations) < 0.7 * max(deviations)


def test_a_mixture_has_the_place_spread_and_roll_of_its_worm(make_worms):
    worms = [read_worm(file).positions for file in make_worms(5, turned=[2], missing={0: [1]})]
    shapes = _Shapes(worms)
    rng = np.random.default_rng(0)
    for number in range(5):
        found = shapes.mixture(number, rng)
        assert found.shape == (12, 3)
        assert not opposite_roll(found, worms[number])
        np.testing.assert_allclose(found.mean(0), np.nanmean(worms[number], 0), atol=8)
        np.testing.assert_allclose(found.std(0), np.nanstd(worms[number], 0), rtol=0.1)
        assert np.abs(found - worms[number])[2:].max() > 1e-3


def test_mixing_keeps_the_covariance_of_the_shapes(make_worms):
    worms = [read_worm(file).positions for file in make_worms(12)]
    shapes = _Shapes(worms)
    rng = np.random.default_rng(0)
    true = np.stack(shapes.deviations)
    drawn = []
    for i in range(2400):
        number = i % 12
        mixed = (shapes.mixture(number, rng) - shapes.centers[number]) / shapes.spreads[number]
        drawn.append(mixed - shapes.mean)
    variance, expected = np.square(drawn).mean(0), np.square(true).mean(0)
    # 12 worms: deviations of different worms correlate with -1/11, which takes a little
    np.testing.assert_allclose(variance.sum(), expected.sum(), rtol=0.12)


def test_a_mixture_has_every_worm_once(make_worms):
    """Of three worms the squares of the three weights sum to 1, which they would not if the worm itself came twice."""
    shapes = _Shapes([read_worm(file).positions for file in make_worms(3)])
    shapes.deviations = [np.eye(3)[i] * np.ones((12, 1)) for i in range(3)]
    shapes.mean, shapes.spreads, shapes.centers = np.zeros((12, 3)), [np.ones(3)] * 3, [np.zeros(3)] * 3
    rng = np.random.default_rng(0)
    found = np.stack([shapes.mixture(1, rng)[0] for _ in range(50)])
    np.testing.assert_allclose(np.square(found).sum(1), 1, rtol=1e-5)
    assert (found > 0).all()


def test_the_share_of_missing_cells_is_drawn_up_to_its_setting(make_worms):
    data = dataset(make_worms(2, cells=300, size=2), 300, length=20, cubes=False, missing=0.4)
    shares = np.array([1 - item["valid"].mean(1) for item in data])
    assert 0.3 < shares.max() < 0.5
    assert shares.min() < 0.1
    assert shares.mean() == pytest.approx(0.2, abs=0.05)


def test_a_worm_without_any_cell_is_no_obstacle(make_worms):
    files = make_worms(3, missing={1: range(12)})
    with np.errstate(all="raise"):
        items = list(dataset(files, pairs="all", augment=True, mixing=1.0))
    assert [(item["target"] >= 0).any() for item in items] == [False, True, False]
    assert all(np.isfinite(item["positions"]).all() for item in items)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"num_cells": 13}, r"num_cells=13: expected 2 to 12, the cells of .*worm0\.h5"),
        ({"num_cells": 1}, "num_cells=1"),
        ({"missing": 1.0}, r"missing=1\.0"),
        ({"mixing": 1.5}, r"mixing=1\.5"),
        ({"deformation": -0.1}, "deformation"),
        ({"position_noise": float("nan")}, "position_noise=nan"),
        ({"pairs": "al"}, "Did you mean 'all'"),
        ({"pairs": []}, "pairs is empty"),
        ({"pairs": [[0, 4]]}, r"\[0, 4\] is not a pair of numbers from 0 to 3"),
        ({"pairs": [[0, 1, 2]]}, "is not a pair"),
        ({"length": 0}, "length=0"),
    ],
)
def test_settings_out_of_range_are_refused(make_worms, settings, match):
    with pytest.raises(InvalidInputError, match=match):
        dataset(make_worms(), **settings)


def test_one_worm_makes_no_pair_and_there_are_no_further_items(make_worms):
    with pytest.raises(InvalidInputError, match="at least two worms"):
        dataset(make_worms(1), 4)
    with pytest.raises(IndexError):
        dataset(make_worms(2), 4)[2]
    with pytest.raises(IndexError):
        WormDataset(WormStore(make_worms(2)))[2]


def test_single_worms(make_worms):
    files = make_worms(3, missing=MISSING)
    data = WormDataset(WormStore(files, "none"), seed=4)
    assert len(data) == 3
    for index, file in enumerate(files):
        item, worm = data[index], read_worm(file)
        assert item["worm"] == index
        assert sorted(item["cells"].tolist()) == list(range(12))
        assert item["cells"].tolist() == data[index]["cells"].tolist()
        np.testing.assert_array_equal(item["valid"], worm.valid[item["cells"]])
        np.testing.assert_array_equal(item["cubes"].numpy(), worm.cubes[item["cells"]])
        np.testing.assert_array_equal(item["positions"], np.nan_to_num(worm.positions[item["cells"]]))
    assert len({tuple(item["cells"]) for item in data}) == 3
    assert "cubes" not in WormDataset(data.store, cubes=False)[0]


@pytest.mark.parametrize("element", [1, 23])
def test_single_worms_with_turned_cubes(make_worms, element):
    store = WormStore(make_worms(1))
    upright, turned = WormDataset(store)[0], WormDataset(store, element=element)[0]
    expected = rotation_group("S4").act(upright["cubes"], element)
    assert torch.equal(turned["cubes"], expected)
    assert not torch.equal(turned["cubes"], upright["cubes"])
    np.testing.assert_array_equal(turned["positions"], upright["positions"])
