"""The generator of artificial NeuroPAL heads."""

import json

import numpy as np
import pytest
from scipy import ndimage

from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.synthetic.neuropal import CHANNELS, NeuroPAL, color_code, head_cells
from voxel_ext.synthetic.neuropal.cells import bend_axis, keep_apart
from voxel_ext.synthetic.neuropal.colors import LEVELS, PAN_NEURONAL, draw_colors, homolog
from voxel_ext.synthetic.worm import WormShapeModel

SMALL = {"size": (24, 48, 112), "cells": 60, "threads": 1}


@pytest.fixture(scope="module")
def model():
    return WormShapeModel.load()


@pytest.fixture(scope="module")
def small(model):
    return NeuroPAL(3, shape_model=model, **SMALL).generate()


def means(animal):
    """Mean counts (n, 4) of every ROI."""
    return np.stack([ndimage.mean(channel, animal["label"], animal["roi_ids"]) for channel in animal["image"]], axis=1)


def test_head_cells_are_neurons_and_not_their_neighbors(model):
    names = head_cells(model.names)
    assert len(names) == len(set(names)) == 184
    assert {"AVAL", "AVAR", "RIR", "AVL", "IL1VL", "OLQDR", "MCL", "I1L", "SABD", "M4", "RMED"} <= set(names)
    others = ("PM1L", "MC1V", "HYP1L", "DL1", "VR10", "ILSHL", "CEPSOVL", "OLLSOR", "ARCADL", "E1D", "G1L", "PVCL")
    assert head_cells(others) == []


def test_class_names_are_those_nearest_to_the_nose_for_every_seed(model):
    first, other = (NeuroPAL(seed, shape_model=model, **SMALL).class_names for seed in (0, 1))
    assert first == other
    assert first[0] == "background"
    assert first[1:] == sorted(first[1:])
    x = dict(zip(model.names, model.mean[:, 2], strict=True))
    left_out = set(head_cells(model.names)) - set(first)
    assert min(x[name] for name in first[1:]) >= max(x[name] for name in left_out)
    assert set(first) <= set(NeuroPAL(shape_model=model).class_names)


def test_result_has_the_types_and_shapes_that_are_promised(small):
    size = (24, 48, 112)
    assert (small["image"].shape, small["image"].dtype) == ((len(CHANNELS), *size), np.float32)
    assert (small["label"].shape, small["label"].dtype) == (size, np.uint16)
    assert (small["positions"].shape, small["positions"].dtype) == ((60, 3), np.float32)
    assert (small["colors"].shape, small["colors"].dtype) == ((60, 4), np.float32)
    np.testing.assert_array_equal(small["roi_ids"], np.arange(1, 61))
    assert sorted(small["names"]) == small["class_names"][1:]
    assert small["names"] != small["class_names"][1:]
    np.testing.assert_array_equal(small["image"], np.rint(small["image"]))
    assert small["image"].min() >= 0
    assert json.loads(json.dumps(small["parameters"])) == small["parameters"]


@pytest.mark.parametrize(
    "settings",
    [
        SMALL,
        {**SMALL, "cells": 184},
        {**SMALL, "shape_noise": 2.0, "pose_noise": 3.0, "bend": 0.6, "roll": None},
        {"size": (12, 24, 40), "cells": 6},
    ],
)
def test_every_roi_holds_its_position_and_is_one_piece(model, settings):
    for seed in range(3):
        animal = NeuroPAL(seed, shape_model=model, **settings).generate()
        z, y, x = np.rint(animal["positions"]).astype(int).T
        np.testing.assert_array_equal(animal["label"][z, y, x], animal["roi_ids"])
        sizes = np.bincount(animal["label"].ravel())[1:]
        assert len(sizes) == len(animal["names"])
        assert sizes.min() >= 7
        assert np.median(sizes) >= 25
        for roi_id, box in zip(animal["roi_ids"], ndimage.find_objects(animal["label"]), strict=True):
            assert ndimage.label(animal["label"][box] == roi_id, np.ones((3, 3, 3)))[1] == 1


def test_nuclei_of_a_whole_head_have_their_size_and_room(model):
    animal = NeuroPAL(1, shape_model=model, threads=1).generate()
    assert animal["image"].shape == (4, 64, 120, 284)
    assert len(animal["class_names"]) == 185
    sizes = np.bincount(animal["label"].ravel())[1:]
    assert 3.0 < np.cbrt(np.median(sizes) * 3 / (4 * np.pi)) < 4.0
    nearest = np.linalg.norm(animal["positions"][:, None] - animal["positions"], axis=2) + 99 * np.eye(184)
    assert nearest.min() > 5


def test_the_seed_determines_the_animal(small):
    np.random.seed(0)  # noqa: NPY002
    again = NeuroPAL(3, **{**SMALL, "threads": 2}).generate()
    for name in ("image", "label", "positions", "colors", "names"):
        np.testing.assert_array_equal(again[name], small[name])
    other = NeuroPAL(4, **SMALL).generate()
    assert not np.array_equal(other["positions"], small["positions"])
    assert other["names"] != small["names"]


def test_pairs_share_a_code_of_known_levels(model):
    names = head_cells(model.names)
    code = dict(zip(names, color_code(names).tolist(), strict=True))
    pairs = [(name, f"{name[:-1]}R") for name in names if name.endswith("L") and f"{name[:-1]}R" in code]
    assert len(pairs) > 70
    assert all(code[left] == code[right] for left, right in pairs)
    assert {level for color in code.values() for level in color[:3]} == set(LEVELS)
    assert all(max(color[:3]) > 0 and color[3] == PAN_NEURONAL for color in code.values())
    assert len({tuple(color) for color in code.values()}) > 30
    assert color_code(["AVAL"]).tolist() == [code["AVAL"]]
    assert (homolog("AVAL"), homolog("RMDVR"), homolog("M4"), homolog("ALA")) == ("AVA", "RMDV", "M4", "ALA")


def test_drawn_colors_of_a_pair_are_equal_in_expectation():
    names = ["AVAL", "AVAR"] * 4000
    drawn = np.log(draw_colors(np.random.default_rng(0), names, np.ones(8000), 0.5, 0.3))
    left, right = drawn[::2].mean(axis=0), drawn[1::2].mean(axis=0)
    np.testing.assert_allclose(left, np.log(color_code(["AVAL"], 0.5)[0]), atol=5 * 0.3 / np.sqrt(4000))
    np.testing.assert_allclose(left, right, atol=5 * 0.3 / np.sqrt(2000))


def test_strength_zero_gives_all_cells_the_same_mean_color(model):
    code = color_code(head_cells(model.names), 0.0)
    assert (np.ptp(code, axis=0) == 0).all()
    half = color_code(["AVAL", "M4"], 0.5)
    np.testing.assert_allclose(half, (color_code(["AVAL", "M4"], 0.0) + color_code(["AVAL", "M4"], 1.0)) / 2)


def test_colors_are_seen_in_the_image(small):
    counts = means(small)
    for channel in range(4):
        assert np.corrcoef(counts[:, channel], small["colors"][:, channel])[0, 1] > 0.8
    background = small["label"] == 0
    assert counts[:, 3].min() > small["image"][3][background].mean()


def test_colors_are_those_of_the_cell_in_another_animal_only_with_strength(model):
    def share(strength):
        """Correlation of the relative colors of the same cells in two animals."""
        colors = []
        for seed in (0, 1):
            animal = NeuroPAL(seed, appearance_strength=strength, shape_model=model, **SMALL).generate()
            color = animal["colors"][np.argsort(animal["names"])]
            colors.append((color[:, :3] / color[:, 3:]).ravel())
        return np.corrcoef(*colors)[0, 1]

    assert share(1.0) > 0.85
    assert abs(share(0.0)) < 0.3


def test_missing_cells_have_no_roi_but_are_seen(model, small):
    animal = NeuroPAL(3, shape_model=model, missing=0.25, **SMALL).generate()
    assert len(animal["names"]) == 45
    np.testing.assert_array_equal(np.unique(animal["label"]), np.arange(46))
    np.testing.assert_array_equal(animal["image"], small["image"])
    where = dict(zip(small["names"], small["positions"].tolist(), strict=True))
    assert [where[name] for name in animal["names"]] == animal["positions"].tolist()
    assert animal["class_names"] == small["class_names"]
    assert len(NeuroPAL(0, missing=0.99, shape_model=model, **SMALL).generate()["names"]) == 1


def test_without_noise_all_animals_have_the_same_positions(model):
    still = {"shape_noise": 0.0, "pose_noise": 0.0, "bend": 0.0, "size": (32, 60, 142), "cells": 30, "threads": 1}
    animals = [NeuroPAL(seed, shape_model=model, **still).generate() for seed in (0, 1)]
    places = [animal["positions"][np.argsort(animal["names"])] for animal in animals]
    np.testing.assert_allclose(*places, atol=1e-3)


def test_roll_turns_the_head_about_x(model):
    options = {"shape_model": model, "size": (32, 60, 142), "cells": 20, "pose_noise": 0.0, "threads": 1}
    places = []
    for roll in (0, 180):
        animal = NeuroPAL(2, roll=roll, **options).generate()
        places.append(animal["positions"][np.argsort(animal["names"])] - (np.array([32, 60, 142]) - 1) / 2)
    # nuclei that were too near each other are moved apart alike
    np.testing.assert_allclose(places[1], places[0] * [-1, -1, 1], atol=0.05)
    rolls = [NeuroPAL(s, roll=None, **{**options, "size": (16, 24, 48)}).generate() for s in range(12)]
    assert {animal["parameters"]["drawn_roll"] for animal in rolls} == {0, 180}


def test_bending_keeps_lengths_along_the_axis_and_across_it():
    x = np.linspace(-90, 90, 2001)
    axis = np.stack([np.full_like(x, 3.0), np.zeros_like(x), x], axis=1)
    bent = bend_axis(axis, 100.0, 0.5, -0.3)
    steps = np.linalg.norm(np.diff(bent, axis=0), axis=1)
    np.testing.assert_allclose(steps, np.diff(x), rtol=2e-3)
    beside = bend_axis(axis + np.array([0, 10.0, 0]), 100.0, 0.5, -0.3)
    np.testing.assert_allclose(np.linalg.norm(beside - bent, axis=1), 10.0, rtol=1e-9)
    np.testing.assert_array_equal(bent[:, 0], 3.0)
    np.testing.assert_allclose(bend_axis(axis, 100.0, 0.0, 0.0), axis, atol=1e-9)
    # a circle: a constant curvature of 0.5 / 100
    circle = bend_axis(axis, 100.0, 0.5, 0.0)
    np.testing.assert_allclose(np.linalg.norm(circle[:, 1:] - [200.0, 0.0], axis=1), 200.0, rtol=1e-4)


def test_centers_are_kept_apart_inside_the_volume():
    centers = np.random.default_rng(0).normal([10, 20, 30], 8, (40, 3))
    kept = keep_apart(centers, 2.0, (24, 48, 64))
    assert (kept >= 2).all()
    assert (kept <= np.array([24, 48, 64]) - 3).all()
    distance = np.linalg.norm(kept[:, None] - kept, axis=2) + 99 * np.eye(40)
    assert distance.min() > 3.5


def test_settings_rebuild_the_animal(tmp_path, model):
    path = tmp_path / "model.npz"
    model.save(path)
    animal = NeuroPAL(7, size=(20, 30, 56), cells=10, missing=0.2, light=300, roll=None, shape_model=path)
    settings = json.loads(json.dumps(animal.settings()))
    assert settings["shape_model"] == str(path)
    np.testing.assert_array_equal(NeuroPAL(**settings).generate()["image"], animal.generate()["image"])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"seed": -1}, "seed=-1"),
        ({"cells": 0}, "cells=0"),
        ({"cells": 185}, r"cells=185.*184 cells of the head"),
        ({"size": (64, 120)}, "sequence of 3"),
        ({"size": (10, 20, 30)}, r"too small for 184 nuclei"),
        ({"size": 8, "cells": 1}, "too small for 1 nuclei"),
        ({"appearance_strength": 1.5}, r"appearance_strength=1\.5"),
        ({"missing": 1.0}, r"missing=1\.0"),
        ({"shape_noise": -1}, "shape_noise=-1"),
        ({"pose_noise": "a"}, "pose_noise='a'"),
        ({"bend": 2}, "bend=2"),
        ({"color_noise": float("nan")}, "color_noise=nan"),
        ({"light": 0}, "light=0"),
        ({"background": -1}, "background=-1"),
        ({"counts_per_photon": 0}, "counts_per_photon=0"),
        ({"roll": 90}, "roll=90"),
        ({"threads": 0}, "threads=0"),
    ],
)
def test_bad_settings_are_named(settings, match):
    with pytest.raises(InvalidInputError, match=match):
        NeuroPAL(**settings)


def test_a_shape_model_that_does_not_fit_is_named(tmp_path, model):
    with pytest.raises(MissingDataError, match=r"none\.npz"):
        NeuroPAL(shape_model=tmp_path / "none.npz")
    worms = np.random.default_rng(0).normal(0, 50, (4, 5, 3))
    with pytest.raises(InvalidInputError, match="has 2 cells of the head"):
        NeuroPAL(cells=3, shape_model=WormShapeModel.fit(worms, ["AVAL", "AVAR", "DL1", "VR1", "HYP1"], 2))
