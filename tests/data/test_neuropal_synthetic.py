"""A raw data set of artificial NeuroPAL animals."""

import csv
import json
import pickle

import h5py
import numpy as np
import pytest

from voxel_ext.data.neuropal_annotation import Annotator, annotate, split_rois
from voxel_ext.data.neuropal_synthetic import LABEL_COLUMNS, TRUTH_COLUMNS, SyntheticAnimal, prepare_synthetic_neuropal
from voxel_ext.errors import InvalidInputError
from voxel_ext.synthetic.neuropal import NeuroPAL

SET = {"volumes": 2, "validation_volumes": 1, "size": (16, 32, 72), "cells": 20, "progress": False}


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def volume(path, key):
    with h5py.File(path) as file:
        return file[key][:]


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*.csv"))}


@pytest.fixture(scope="module")
def animal():
    return NeuroPAL(0, size=(24, 48, 112), cells=60, threads=1).generate()


def table(animal, seed=0, parts=None, **shares):
    return annotate(np.random.default_rng(seed), animal, Annotator(**shares), parts or {})


def test_files_belong_to_the_generated_animals(tmp_path):
    root = prepare_synthetic_neuropal(tmp_path / "set", **SET, seed=2, split_share=0.2)
    seeds = {"train/train_0001": 2_000_000, "train/train_0002": 2_000_001, "val/val_0001": 2_500_000}
    for name, seed in seeds.items():
        part, stem = name.split("/")
        animal = NeuroPAL(seed, size=SET["size"], cells=20).generate()
        image = root / part / "images" / f"{stem}.h5"
        np.testing.assert_array_equal(volume(image, "raw"), animal["image"])
        with h5py.File(image) as file:
            assert file["raw"].dtype == np.uint16
            assert json.loads(file.attrs["channels"]) == ["mTagBFP2", "CyOFP1", "mNeptune2.5", "TagRFP"]
            assert json.loads(file.attrs["settings"])["seed"] == seed
        roi = volume(root / part / "rois" / f"{stem}.h5", "roi")
        np.testing.assert_array_equal(roi > 0, animal["label"] > 0)
        truth = {int(row["ROI ID"]): row["Neuron Class"] for row in rows(root / part / "truth" / f"{stem}.csv")}
        assert sorted(truth) == np.unique(roi)[1:].tolist()
        for roi_id, true_name in truth.items():
            old = np.unique(animal["label"][roi == roi_id])
            assert [animal["names"][i - 1] for i in old] == [true_name]
        assert (root / "neuron_names.txt").read_text().split() == animal["class_names"][1:]
    assert list(rows(root / "train/labels/train_0001.csv")[0]) == list(LABEL_COLUMNS)
    assert list(rows(root / "train/truth/train_0001.csv")[0]) == list(TRUTH_COLUMNS)


def test_table_tells_of_split_rois(tmp_path):
    root = prepare_synthetic_neuropal(
        tmp_path, **SET, split_share=1.0, labeled_share=1.0, wrong_share=0, question_share=0
    )
    truth = {row["ROI ID"]: row["Neuron Class"] for row in rows(root / "val/truth/val_0001.csv")}
    lines = rows(root / "val/labels/val_0001.csv")
    assert len(lines) == 20
    for line in lines:
        ids = line["ROI ID"].split("/")
        assert len(ids) == 2
        assert {truth[roi_id] for roi_id in ids} == {line["Neuron Class"]}
        assert 1 <= int(line["Confidence"]) <= 5


def test_split_rois_halves_boxes():
    label = np.zeros((3, 4, 10), dtype=np.uint16)
    label[:, :, 1:5], label[1, 1, 7] = 1, 2
    cut, parts = split_rois(np.random.default_rng(0), label, 1.0)
    assert parts == {1: (1, 3)}
    assert ((cut == 1).sum(), (cut == 3).sum(), (cut == 2).sum()) == (24, 24, 1)
    np.testing.assert_array_equal(split_rois(np.random.default_rng(0), label, 0.0)[0], label)


def test_shares_of_the_annotation_are_kept(animal):
    lines = table(animal, labeled_share=0.5, question_share=0, wrong_share=0)
    assert len(lines) == 30
    assert all(line.name == animal["names"][line.roi_ids[0] - 1] for line in lines)
    assert [line.roi_ids for line in lines] == sorted(line.roi_ids for line in lines)
    assert np.bincount([line.confidence for line in lines], minlength=6)[1:].tolist() == pytest.approx(
        [1.5, 3, 4.5, 7.5, 13.5], abs=1.01
    )
    asked = table(animal, labeled_share=1, question_share=1, wrong_share=0)
    for line in asked:
        true_name = animal["names"][line.roi_ids[0] - 1]
        mirror = true_name[:-1] + {"L": "R", "R": "L"}.get(true_name[-1], "")
        assert line.name == (
            f"{true_name[:-1]}?" if mirror in animal["class_names"] and mirror != true_name[:-1] else true_name
        )
    assert sum("?" in line.name for line in asked) > 30


def test_wrong_names_are_exchanged_and_not_certain(animal):
    lines = table(animal, labeled_share=1, question_share=0, wrong_share=0.2)
    wrong = [line for line in lines if line.name != animal["names"][line.roi_ids[0] - 1]]
    assert 12 <= len(wrong) <= 13
    assert max(line.confidence for line in wrong) <= 3
    assert sorted(line.name for line in lines) == sorted(animal["names"])


def test_distinct_cells_are_named_with_more_confidence():
    """In a row of cells, equal in color, the far ones are the distinct ones."""
    count = 40
    x = np.cumsum(np.linspace(1, 40, count))
    animal = {
        "names": [f"N{i:02d}" for i in range(count)],
        "class_names": ["background"],
        "roi_ids": np.arange(1, count + 1),
        "positions": np.stack([0 * x, 0 * x, x], axis=1),
        "colors": np.ones((count, 4)),
        "parameters": {"radius": 2.0},
    }
    certain, guessed = [], []
    for seed in range(20):
        for line in table(animal, seed, labeled_share=0.9, question_share=0, wrong_share=0):
            (certain if line.confidence == 5 else guessed).append(line.roi_ids[0])
    assert np.mean(certain) > np.mean(guessed) + 10


def test_set_is_continued_and_others_are_refused(tmp_path):
    root = prepare_synthetic_neuropal(tmp_path, **SET)
    before, stamp = contents(root), (root / "train/images/train_0001.h5").stat().st_mtime_ns
    (root / "train/labels/train_0002.csv").unlink()
    prepare_synthetic_neuropal(tmp_path, **{**SET, "validation_volumes": 2})
    after = contents(root)
    assert {path: after[path] for path in before} == before
    assert len(after) == len(before) + 2
    assert (root / "train/images/train_0001.h5").stat().st_mtime_ns == stamp
    with pytest.raises(InvalidInputError, match=r"do not belong to the set.*val_0002"):
        prepare_synthetic_neuropal(tmp_path, **SET)
    more = {**SET, "validation_volumes": 2, "labeled_share": 0.5}
    with pytest.raises(InvalidInputError, match=r"train_0001.*labeled_share is 0\.7 there, 0\.5 now"):
        prepare_synthetic_neuropal(tmp_path, **more)
    prepare_synthetic_neuropal(tmp_path, **more, overwrite=True)
    assert len(rows(root / "train/labels/train_0001.csv")) == 10
    (root / "train/images/train_0001.h5").write_bytes(b"no image")
    with pytest.raises(InvalidInputError, match=r"train_0001\.h5 is damaged"):
        prepare_synthetic_neuropal(tmp_path, **more)


def test_a_job_makes_the_same_files_in_another_process(tmp_path):
    options = {"size": SET["size"], "cells": 20, "seed": 5}
    jobs = [SyntheticAnimal(tmp_path / name, "x", options, Annotator()) for name in "ab"]
    jobs[0].make()
    pickle.loads(pickle.dumps(jobs[1])).make()
    assert all(job.is_complete() and job.difference() == "" for job in jobs)
    assert contents(jobs[0].folder) == contents(jobs[1].folder)
    np.testing.assert_array_equal(*(volume(job.path, "raw") for job in jobs))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"volumes": 0}, "volumes=0"),
        ({"validation_volumes": 0}, "validation_volumes=0"),
        ({"seed": -1}, "seed=-1"),
        ({"cells": 999}, "cells=999"),
        ({"labeled_share": 0}, "labeled_share=0"),
        ({"question_share": 1.5}, r"question_share=1\.5"),
        ({"wrong_share": -0.1}, r"wrong_share=-0\.1"),
        ({"split_share": "a"}, "split_share='a'"),
        ({"generator": {"lights": 3}}, r"\['lights'\].*light"),
        ({"generator": {"light": -3}}, "light=-3"),
        ({"generator": {"seed": 3}}, r"\['seed'\]"),
    ],
)
def test_bad_options_are_named_before_anything_is_written(tmp_path, options, match):
    with pytest.raises(InvalidInputError, match=match):
        prepare_synthetic_neuropal(tmp_path / "set", **{**SET, **options})
    assert not (tmp_path / "set").exists()
