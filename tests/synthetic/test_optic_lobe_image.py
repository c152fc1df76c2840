"""The 2D optic lobe generator: lattice, labels, determined by its seed, statistics, bad settings."""

import json

import numpy as np
import pytest

from voxel_ext.errors import InvalidInputError
from voxel_ext.synthetic import OpticLobe2D
from voxel_ext.synthetic.optic_lobe import image as image_2d


def assert_same(first, second):
    for name in ("image", "label", "seeds", "rings"):
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    assert first["parameters"] == second["parameters"]


def test_shapes_types_and_serializable_parameters():
    sample = OpticLobe2D(0, (96, 80)).generate()
    count = sample["label"].max()
    assert sample["image"].shape == sample["label"].shape == (96, 80)
    assert (sample["image"].dtype, sample["label"].dtype, sample["seeds"].dtype) == (np.float32, np.uint16, np.float32)
    assert sample["seeds"].shape == (count, 2)
    assert sample["rings"].shape == (count,)
    assert json.loads(json.dumps(sample["parameters"])) == sample["parameters"]


def test_determined_by_the_seed_alone():
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = OpticLobe2D(5).generate()
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    assert_same(first, OpticLobe2D(5).generate())
    assert not np.array_equal(first["image"], OpticLobe2D(6).generate()["image"])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_labels_are_the_pixel_centers_near_a_spot(seed):
    sample = OpticLobe2D(seed, (70, 64)).generate()
    pixels = np.stack(np.meshgrid(np.arange(70) + 0.5, np.arange(64) + 0.5, indexing="ij"), axis=-1)
    distances = np.linalg.norm(pixels[:, :, None] - sample["seeds"], axis=-1)
    near = distances.min(axis=2) < 3.5 * sample["parameters"]["scale"]
    np.testing.assert_array_equal(sample["label"], np.where(near, distances.argmin(axis=2) + 1, 0))


@pytest.mark.parametrize("angle", [50, 60, 90, 120])
def test_lattice_is_complete_within_reach(angle):
    points = image_2d.lattice(10.0, np.radians(angle), 55.0)
    basis = 10 * np.array([[0, 1], [np.sin(np.radians(angle)), np.cos(np.radians(angle))]])
    steps = np.stack(np.meshgrid(np.arange(-30, 31), np.arange(-30, 31)), axis=-1).reshape(-1, 2)
    expected = steps @ basis
    expected = expected[np.linalg.norm(expected, axis=1) <= 55]
    distances = np.linalg.norm(expected[:, None] - points[None], axis=-1).min(axis=1)
    assert distances.max() < 1e-9


def test_without_cut_the_lattice_fills_a_large_image():
    sample = OpticLobe2D(0, 400, random_cut=False, ring_fraction=1.0).generate()
    drawn = sample["parameters"]
    cell = (10 * drawn["scale"]) ** 2 * np.sin(np.radians(drawn["lattice_angle"]))
    assert len(sample["seeds"]) == pytest.approx(400**2 / cell, rel=0.05)
    assert sample["rings"].all()
    for corner in sample["label"][:50, :50], sample["label"][-50:, -50:], sample["label"][:50, -50:]:
        assert corner.any()


def test_without_rotation_the_rows_of_the_lattice_follow_the_second_axis():
    sample = OpticLobe2D(1, random_cut=False, random_rotation=False).generate()
    rows = np.unique(np.round(sample["seeds"][:, 0], 3))
    drawn = sample["parameters"]
    step = 10 * drawn["scale"] * np.sin(np.radians(drawn["lattice_angle"]))
    np.testing.assert_allclose(np.diff(rows), step, rtol=1e-3)


def test_the_cut_leaves_one_side_and_enough_spots():
    counts = [len(OpticLobe2D(seed, min_spots=20).generate()["seeds"]) for seed in range(8)]
    assert min(counts) >= 20
    assert len(set(counts)) > 4


def test_spots_are_brighter_than_the_background():
    for seed in range(4):
        sample = OpticLobe2D(seed).generate()
        mask = sample["label"] > 0
        assert sample["image"][mask].mean() > 1.5 * sample["image"][~mask].mean()


def test_statistics_are_those_of_the_original_within_its_spread():
    """Means over 12 seeds within a standard deviation of the original's mean over 60 seeds."""
    samples = [OpticLobe2D(seed).generate() for seed in range(12)]
    assert np.mean([(sample["label"] > 0).mean() for sample in samples]) == pytest.approx(0.202, abs=0.127)
    assert np.mean([sample["image"].mean() for sample in samples]) == pytest.approx(14.3, abs=9.4)
    assert np.mean([sample["image"].std() for sample in samples]) == pytest.approx(13.6, abs=4.2)
    assert np.mean([np.percentile(sample["image"], 99) for sample in samples]) == pytest.approx(67, abs=22)


@pytest.mark.parametrize(("value", "expected"), [(5.8, 5), (7, 7), (7.2, 7), (9.6, 9), (1, 1), (0.4, 1), (21, 21)])
def test_previous_odd(value, expected):
    assert image_2d.previous_odd(value) == expected


def test_discs_of_no_spots_are_empty():
    assert not image_2d.disc_labels(np.zeros((0, 2)), 3.0, (8, 9)).any()
    sample = OpticLobe2D(0, 8, min_spots=0, spacing=1000).generate()
    assert sample["label"].max() == len(sample["seeds"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": -3}, r"seed=-3"),
        ({"size": 7}, r"size=7: axis 0=7: expected an integer of at least 8"),
        ({"size": (64, 64, 64)}, r"expected a sequence of 2"),
        ({"scale_range": (2, 1)}, r"scale_range=\(2, 1\)"),
        ({"spacing": 0}, r"spacing=0"),
        ({"radius": -1}, r"radius=-1"),
        ({"angle": 0}, r"angle=0"),
        ({"angle_range": (-70, 0)}, r"angle_range\[0\]=-70"),
        ({"ring_fraction": 1.5}, r"ring_fraction=1\.5: expected a number from 0 to 1"),
        ({"points": 0}, r"points=0"),
        ({"blur_size": 2.5}, r"blur_size=2\.5"),
        ({"intensity_sigma": float("nan")}, r"intensity_sigma=nan"),
        ({"min_spots": -1}, r"min_spots=-1"),
    ],
)
def test_bad_settings_are_named_with_their_value(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        OpticLobe2D(**settings)


def test_too_many_spots_asked_for():
    with pytest.raises(InvalidInputError, match=r"min_spots=10000: .*1000 draws"):
        OpticLobe2D(0, 16, min_spots=10_000).generate()
