"""The generator of synthetic worms."""

import json

import numpy as np
import pytest
from scipy import ndimage

from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.synthetic.worm import Worm, WormShapeModel
from voxel_ext.synthetic.worm.alignment import turn_about_x

CELLS = 12


@pytest.fixture(scope="module")
def tiny():
    return Worm(3, cells=CELLS, threads=1).generate()


def voxels(worm):
    """Rounded positions of the cells that are there, as an index."""
    return tuple(np.rint(worm["positions"][worm["valid"]]).astype(int).T)


def measure(worm):
    """Mean counts of every nucleus, in the order of the cells."""
    means = ndimage.mean(worm["image"], worm["label"], worm["label_numbers"])
    return np.asarray(means)


def test_result_has_the_types_and_shapes_that_are_promised(tiny):
    shape = tiny["image"].shape
    assert tiny["image"].dtype == np.float32
    assert (tiny["label"].dtype, tiny["label"].shape) == (np.uint16, shape)
    assert (tiny["positions"].dtype, tiny["positions"].shape) == (np.float32, (CELLS, 3))
    assert tiny["valid"].all()
    assert tiny["names"] == list(WormShapeModel.load().names[:CELLS])
    assert tiny["image"].min() >= 0
    assert tiny["image"].max() <= 255
    np.testing.assert_array_equal(tiny["image"], np.rint(tiny["image"]))
    assert json.loads(json.dumps(tiny["parameters"])) == tiny["parameters"]
    assert len(tiny["parameters"]["radii"]) == CELLS


def test_label_numbers_are_a_permutation_that_is_not_the_identity(tiny):
    assert sorted(tiny["label_numbers"]) == list(range(1, CELLS + 1))
    assert list(tiny["label_numbers"]) != sorted(tiny["label_numbers"])
    assert set(np.unique(tiny["label"])) == set(range(CELLS + 1))


def test_each_label_is_one_piece_at_its_position(tiny):
    np.testing.assert_array_equal(tiny["label"][voxels(tiny)], tiny["label_numbers"])
    assert ndimage.label(tiny["label"] > 0)[1] <= CELLS
    for number, position in zip(tiny["label_numbers"], tiny["positions"], strict=True):
        mask = tiny["label"] == number
        assert ndimage.label(mask)[1] == 1
        assert np.linalg.norm(np.argwhere(mask).mean(axis=0) - position) < 0.6


def test_nuclei_are_brighter_than_what_is_around_them(tiny):
    around = ndimage.binary_dilation(tiny["label"] > 0, iterations=6) & (tiny["label"] == 0)
    assert measure(tiny).min() > 1.5 * tiny["image"][around].mean()


def test_the_seed_determines_the_worm(tiny):
    np.random.seed(0)  # noqa: NPY002
    again = Worm(3, cells=CELLS, threads=2).generate()
    for name in ("image", "label", "positions", "label_numbers"):
        np.testing.assert_array_equal(again[name], tiny[name])
    assert again["parameters"] == tiny["parameters"]
    other = Worm(4, cells=CELLS, threads=1).generate()
    assert not np.array_equal(other["positions"], tiny["positions"])


def test_margins_are_wide_enough_for_cubes(tiny):
    for border, worm in ((20, tiny), (30, Worm(3, cells=3, cube_border=(30, 31, 32)).generate())):
        assert worm["positions"].min() >= border
        assert (np.array(worm["image"].shape) - 1 - worm["positions"].max(axis=0)).min() >= border


def test_given_positions_are_rendered_at_their_place():
    positions = np.array([[10.25, 3.5, 100.75], [11.0, 16.0, 110.0], [30.5, 9.0, 104.25]])
    worm = Worm(0, positions=positions, names=["a", "b", "c"], cube_border=20).generate()
    offset = np.array(worm["parameters"]["offset"])
    np.testing.assert_array_equal(offset, np.rint(offset))
    np.testing.assert_array_equal(worm["positions"] - offset.astype(np.float32), positions.astype(np.float32))
    np.testing.assert_array_equal(worm["label"][voxels(worm)], worm["label_numbers"])
    centroids = ndimage.center_of_mass(worm["label"] > 0, worm["label"], worm["label_numbers"])
    assert np.linalg.norm(centroids - worm["positions"], axis=1).max() < 0.6


def test_roll_turns_the_worm_about_x_and_not_the_microscope():
    positions = WormShapeModel.load().draw(np.random.default_rng(0))[:6]
    names = list("abcdef")
    upright, turned = (Worm(1, positions=positions, names=names, roll=roll).generate() for roll in (0, 180))
    assert (upright["parameters"]["roll"], turned["parameters"]["roll"]) == (0, 180)
    about = upright["positions"] - upright["positions"].mean(axis=0)
    np.testing.assert_allclose(
        turned["positions"] - turned["positions"].mean(axis=0), about * [-1, -1, 1], rtol=0, atol=1e-3
    )
    np.testing.assert_allclose(
        turned["positions"] - turned["parameters"]["offset"], turn_about_x(positions), rtol=0, atol=1e-3
    )
    assert Worm(1, positions=positions, names=names).generate()["parameters"]["roll"] == 0


def test_half_of_the_drawn_worms_are_turned():
    model = WormShapeModel.load()
    rolls = [Worm(seed, shape_model=model, cells=1, threads=1).generate()["parameters"]["roll"] for seed in range(24)]
    assert set(rolls) == {0, 180}
    assert 6 <= rolls.count(180) <= 18
    assert Worm(0, shape_model=model, cells=1, roll=180).generate()["parameters"]["roll"] == 180


def test_missing_cells_are_neither_labelled_nor_in_the_table_but_seen():
    whole, worm = (Worm(5, cells=10, missing=share, threads=1).generate() for share in (0.0, 0.3))
    valid = worm["valid"]
    assert valid.sum() == 7
    assert np.isnan(worm["positions"][~valid]).all()
    assert np.isfinite(worm["positions"][valid]).all()
    assert (worm["label_numbers"][~valid] == 0).all()
    assert sorted(worm["label_numbers"][valid]) == list(range(1, 8))
    assert set(np.unique(worm["label"])) == set(range(8))
    np.testing.assert_array_equal(worm["label"][voxels(worm)], worm["label_numbers"][valid])
    np.testing.assert_array_equal(worm["image"], whole["image"])


def test_position_noise_moves_the_annotation_only():
    exact, noisy = (Worm(6, cells=10, position_noise=noise, threads=1).generate() for noise in (0.0, 2.0))
    np.testing.assert_array_equal(exact["image"], noisy["image"])
    np.testing.assert_array_equal(exact["label"], noisy["label"])
    assert 1.2 < (noisy["positions"] - exact["positions"]).std() < 2.8


def brightness_correlation(strength):
    """Correlation of the nuclei's counts between two worms with equal, spread positions in one plane."""
    grid = np.stack(np.meshgrid([0.0], np.arange(6) * 24, np.arange(8) * 24, indexing="ij"), axis=-1).reshape(-1, 3)
    names = [f"n{i}" for i in range(len(grid))]
    worms = [
        Worm(seed, positions=grid, names=names, appearance_strength=strength, threads=1).generate() for seed in (0, 1)
    ]
    sizes = [np.bincount(worm["label"].ravel())[worm["label_numbers"]] for worm in worms]
    return np.corrcoef(*map(measure, worms))[0, 1], np.corrcoef(*sizes)[0, 1]


def test_look_in_the_image_belongs_to_the_identity_only_with_strength():
    bright, large = brightness_correlation(1.0)
    assert bright > 0.6
    assert large > 0.5
    assert np.abs(brightness_correlation(0.0)).max() < 0.5


def test_settings_rebuild_the_worm(tmp_path):
    path = tmp_path / "model.npz"
    WormShapeModel.load().save(path)
    worm = Worm(7, cells=4, cube_border=22, missing=0.25, roll=180, shape_model=path)
    settings = json.loads(json.dumps(worm.settings()))
    assert settings.pop("positions") == "drawn"
    assert settings["shape_model"] == str(path)
    np.testing.assert_array_equal(Worm(**settings).generate()["image"], worm.generate()["image"])
    assert Worm(0, positions=np.eye(3) * 30, names="abc").settings()["positions"] == "given"


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"seed": -1}, "seed=-1"),
        ({"cells": 0}, "cells=0"),
        ({"cells": 559}, "cells=559"),
        ({"cells": 2.5}, r"cells=2\.5"),
        ({"cube_border": 10}, "10"),
        ({"cube_border": (20, 20)}, "sequence of 3"),
        ({"appearance_strength": -1}, "appearance_strength=-1"),
        ({"missing": 1.0}, r"missing=1\.0"),
        ({"missing": -0.1}, r"missing=-0\.1"),
        ({"roll": 90}, "roll=90"),
        ({"position_noise": -1}, "position_noise=-1"),
        ({"threads": 0}, "threads=0"),
        ({"names": ["a", "b"]}, "names is given without positions"),
        ({"positions": np.zeros((3, 3))}, r"expected \(558, 3\)"),
        ({"positions": np.zeros((2, 2)), "names": "ab"}, r"shape \(2, 2\)"),
        ({"positions": [[1, 2, np.nan]], "names": "a"}, r"positions\[0\]="),
        ({"positions": np.eye(3)[:2], "names": "aa"}, "'a'"),
    ],
)
def test_bad_settings_are_named(settings, match):
    with pytest.raises(InvalidInputError, match=match):
        Worm(**settings)


def test_absent_shape_model_is_named(tmp_path):
    with pytest.raises(MissingDataError, match=r"none\.npz"):
        Worm(shape_model=tmp_path / "none.npz")
