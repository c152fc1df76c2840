"""The optic lobe generator: determined by its seed, exact ground truth, statistics, bad settings."""

import json
import os
import pickle

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from voxel_ext.errors import InvalidInputError
from voxel_ext.synthetic import OpticLobe, _checks

SMALL = {"min_points": 20, "subdivisions": (5, 6)}
ARRAYS = ("image", "label", "seeds", "points", "radial", "types")


def small(seed=0, size=(32, 28, 36), **settings):
    return OpticLobe(seed, size, **{**SMALL, "threads": 1, **settings}).generate()


def assert_same(first, second):
    for name in ARRAYS:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    assert first["parameters"] == second["parameters"]


def test_shapes_types_and_serializable_parameters():
    sample = small()
    count = sample["label"].max()
    assert sample["image"].shape == sample["label"].shape == (32, 28, 36)
    assert (sample["image"].dtype, sample["label"].dtype, sample["seeds"].dtype) == (np.float32, np.uint16, np.float32)
    assert sample["seeds"].shape == sample["points"].shape == sample["radial"].shape == (count, 3)
    assert sample["types"].shape == (count,)
    assert np.isfinite(sample["image"]).all()
    assert sample["image"].min() >= 0
    assert sample["image"].flags.c_contiguous
    assert json.loads(json.dumps(sample["parameters"])) == sample["parameters"]
    assert sample["parameters"]["n_labels"] == count


def test_the_same_seed_gives_the_same_volume_and_another_seed_another():
    lobe = OpticLobe(0, 32, threads=1, **SMALL)
    assert_same(lobe.generate(), lobe.generate())
    assert_same(lobe.generate(), pickle.loads(pickle.dumps(lobe)).generate())
    assert not np.array_equal(lobe.generate()["image"], OpticLobe(1, 32, threads=1, **SMALL).generate()["image"])


@pytest.mark.parametrize("seed", [0, 3])
def test_the_number_of_threads_does_not_matter(seed):
    first = small(seed, threads=1)
    for threads in (2, 5):
        assert_same(first, small(seed, threads=threads))


class DefaultThreads(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return _checks.check_threads(None), _checks.check_threads(3)


def test_worker_processes_use_one_thread_each():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert DefaultThreads()[0] == (cores, 3)
    assert [batch.item() for batch in next(iter(DataLoader(DefaultThreads(), num_workers=1)))] == [1, 3]


def test_numpy_global_state_is_neither_used_nor_changed():
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = small()
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    assert_same(first, small())


class Volumes(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        sample = small(index)
        return {"image": sample["image"], "label": sample["label"].astype(np.int32)}


def test_the_number_of_worker_processes_does_not_matter():
    alone, shared = (list(DataLoader(Volumes(), batch_size=2, num_workers=workers)) for workers in (0, 2))
    assert len(alone) == len(shared) == 2
    for first, second in zip(alone, shared, strict=True):
        assert first["image"].equal(second["image"])
        assert first["label"].equal(second["label"])


@pytest.mark.parametrize("seed", [0, 1])
def test_labels_are_the_voxel_centers_inside_the_columns(seed):
    sample = small(seed, (36, 30, 33))
    drawn, size = sample["parameters"], sample["label"].shape
    axes = [(np.arange(length) + 0.5) / length for length in size]
    voxels = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    best, ids = np.full(size, np.inf), np.zeros(size, dtype=int)
    for number, (point, axis) in enumerate(zip(sample["points"], sample["radial"], strict=True), start=1):
        t = (voxels - point) @ axis
        across = np.linalg.norm(voxels - point - t[..., None] * axis, axis=-1)
        local = drawn["radius"] + (drawn["end_radius"] - drawn["radius"]) * t / drawn["depth"]
        wins = (t >= 0) & (t <= drawn["depth"]) & (across / local <= np.minimum(best, 1))
        best[wins], ids[wins] = (across / local)[wins], number
    np.testing.assert_array_equal(sample["label"], ids)
    assert ids.max() > 20


def test_every_seed_lies_in_its_column_and_every_id_is_used():
    sample = small(2, 64)
    np.testing.assert_array_equal(np.unique(sample["label"]), np.arange(len(sample["seeds"]) + 1))
    inside = ((sample["seeds"] >= 0) & (sample["seeds"] < 64)).all(axis=1)
    assert inside.sum() > 20
    hit = sample["label"][tuple(np.floor(sample["seeds"][inside]).astype(int).T)]
    assert (hit == np.flatnonzero(inside) + 1).mean() > 0.9


def test_measures_follow_from_the_spacing():
    drawn = small(1, relative_diameter=0.6, relative_depth=2.0)["parameters"]
    assert drawn["radius"] == pytest.approx(drawn["spacing"] * 0.3)
    assert drawn["depth"] == pytest.approx(drawn["spacing"] * 2.0)
    assert drawn["end_radius"] / drawn["radius"] == pytest.approx(drawn["end_spacing"] / drawn["spacing"])
    assert drawn["n_empty"] + drawn["n_dense"] + drawn["n_clustered"] + drawn["n_ring"] == drawn["n_columns"]
    assert drawn["n_neurites"] == drawn["n_columns"] - int(0.3 * drawn["n_columns"])


def test_statistics_are_those_of_the_original_within_its_spread():
    """Mean over 6 seeds within the range that single volumes of the original span over 50 seeds."""
    samples = [OpticLobe(seed, 128, threads=1).generate() for seed in range(6)]
    mean = {
        "mask": np.mean([(sample["label"] > 0).mean() for sample in samples]),
        "columns": np.mean([sample["parameters"]["n_columns"] for sample in samples]),
        "mean": np.mean([sample["image"].mean() for sample in samples]),
        "std": np.mean([sample["image"].std() for sample in samples]),
        "p99": np.mean([np.percentile(sample["image"], 99) for sample in samples]),
    }
    limits = {"mask": (0.025, 0.226), "columns": (190, 500), "mean": (1.5, 7.4), "std": (1.3, 9.1), "p99": (6.5, 39.4)}
    assert {name: low < mean[name] < high for name, (low, high) in limits.items()} == dict.fromkeys(limits, True), mean


def test_filled_columns_are_brighter_than_empty_ones_and_than_the_background():
    sample = small(4, 64)
    label, image = sample["label"], np.log(sample["image"] + 1e-3)
    kinds = np.concatenate([[-1], sample["types"].astype(int)])[label]
    empty, background = image[kinds == 0].mean(), image[kinds == -1].mean()
    for kind in (1, 2, 3):
        assert image[kinds == kind].mean() > empty
        assert image[kinds == kind].mean() > background + 0.5


def test_size_may_be_one_number_and_lists_are_ranges():
    lobe = OpticLobe(0, 16, subdivisions=[5, 6], scale_range=[0.7, 1.5], min_points=20, threads=1)
    assert lobe.shape == (16, 16, 16)
    assert lobe.scale_range == (0.7, 1.5)
    assert OpticLobe().shape == (256, 256, 256)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": -1}, r"seed=-1: expected an integer of at least 0"),
        ({"seed": 1.5}, r"seed=1\.5"),
        ({"seed": True}, r"seed=True"),
        ({"seed": None}, r"seed=None"),
        ({"size": 4}, r"size=4: axis 0=4: expected an integer of at least 8"),
        ({"size": (64, 64)}, r"size=\(64, 64\): expected a sequence of 3"),
        ({"size": (64, 64, 2)}, r"axis 2=2"),
        ({"size": "64"}, r"size='64'"),
        ({"min_points": 1}, r"min_points=1: .* at least 2"),
        ({"subdivisions": (15, 8)}, r"subdivisions=\(15, 8\): expected \(lowest, highest\), but 15 > 8"),
        ({"subdivisions": (8.5, 9)}, r"subdivisions\[0\]=8\.5"),
        ({"subdivisions": ()}, r"subdivisions=\(\): expected a sequence of 2"),
        ({"subdivisions": (8, 1000)}, r"subdivisions\[1\]=1000: expected an integer from 0 to 200"),
        ({"scale_range": (0, 1)}, r"scale_range\[0\]=0"),
        ({"shift_range": (0.5, -0.5)}, r"shift_range=\(0\.5, -0\.5\)"),
        ({"shift_range": (float("nan"), 1)}, r"shift_range\[0\]=nan"),
        ({"relative_diameter": 0}, r"relative_diameter=0"),
        ({"relative_depth": -1}, r"relative_depth=-1"),
        ({"type_ratios": (1, 2, 3)}, r"type_ratios=\(1, 2, 3\): expected a sequence of 4"),
        ({"type_ratios": (0, 0, 0, 0)}, r"at least one ratio above 0"),
        ({"type_ratios": (1, -1, 1, 1)}, r"type_ratios\[1\]=-1"),
        ({"simplify_factor": "x"}, r"simplify_factor='x'"),
        ({"baseline_intensity": float("inf")}, r"baseline_intensity=inf"),
        ({"intensity_sigma_range": (-0.1, 1)}, r"intensity_sigma_range\[0\]=-0\.1"),
        ({"box_size": 0}, r"box_size=0"),
        ({"box_size": 300}, r"box_size=300: expected an integer from 1 to 256"),
        ({"background_sigma": -1}, r"background_sigma=-1"),
        ({"background_factor_range": 0.1}, r"background_factor_range=0\.1"),
        ({"gain_range": (0, 10)}, r"gain_range\[0\]=0"),
        ({"contrast_range": (1, 0.5)}, r"contrast_range"),
        ({"threads": 0}, r"threads=0"),
    ],
)
def test_bad_settings_are_named_with_their_value(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        OpticLobe(**settings)


@pytest.mark.parametrize("ratios", [(1, 0, 0, 0), (0, 0, 0, 1)])
def test_only_one_type_of_column(ratios):
    sample = small(0, 24, type_ratios=ratios)
    assert set(sample["types"].tolist()) == {int(np.argmax(ratios))}
    assert np.isfinite(sample["image"]).all()
