"""Tables of labels and probabilities: written, read back, refused."""

from __future__ import annotations

import csv
import dataclasses
import math

import h5py
import numpy as np
import pytest

from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.labeling import (
    CellLabel,
    RoiProbabilities,
    label_greedy,
    read_labels,
    read_probabilities,
    write_labels,
    write_probabilities,
)

NAMES = ["background", "AVAL", "AVAR", "IL2DL", "glia"]


def rois():
    p = np.array(
        [
            [0.02, 0.93, 0.05, 0.0, 0.0],
            [0.1, 0.5, 0.4, 0.0, 0.0],
            [0.0, 0.2, 0.0, 0.7, 0.1],
            [0.9, 0.05, 0.0, 0.05, 0.0],
            [0.1, 0.7, 0.05, 0.05, 0.1],
        ]
    )
    counts = np.zeros(p.shape, np.int64)
    counts[2] = [0, 20, 0, 60, 0]
    centers = np.array([[1.4, 2.6, 3.5], [30, 31, 32], [10, 11, 12], [50, 51, 52], [70, 71, 72]], float)
    return RoiProbabilities(np.array([3, 5, 8, 9, 12]), p, np.array([50, 60, 80, 9, 30]), centers, counts)


def test_columns_and_rows_are_those_of_the_format(tmp_path):
    path = tmp_path / "sub" / "labels.csv"
    write_labels(path, label_greedy(rois(), NAMES))
    with open(path, newline="", encoding="utf-8") as file:
        table = list(csv.reader(file))
    assert table[0] == ["Neuron Class", "Coordinates", "ROI ID", "Confidence", "Alternatives", "Notes"]
    by_roi = {row[2]: row for row in table[1:]}
    # x, y, z from 1: 3.5 and 2.6 and 1.4 are rounded to 4, 3 and 1
    assert by_roi["3"] == ["AVAL", "5,4,2", "3", "3", "AVAL(0.93), AVAR(0.05), UNKNOWN(0.02)", ""]
    assert by_roi["9"][:4] == ["UNKNOWN", "53,52,51", "9", "0"]
    assert by_roi["8"][5] == "Possibly contaminated: IL2DL 60 voxels, AVAL 20 voxels."
    assert by_roi["12"][0] == "AVAL-alt"
    assert by_roi["5"][0] == "AVA?"


@pytest.mark.parametrize("first_voxel", [0, 1])
def test_read_gives_what_was_written(tmp_path, first_voxel):
    labels = label_greedy(rois(), NAMES)
    write_labels(tmp_path / "a.csv", labels, first_voxel)
    back = read_labels(tmp_path / "a.csv", NAMES, first_voxel)
    assert len(back) == len(labels) == 5
    for one, other in zip(labels, back, strict=True):
        assert other.center == tuple(float(round(c)) for c in one.center)
        assert other.probability == pytest.approx(one.probability, abs=0.0101)
        assert other.class_index == (-1 if one.is_ambiguous else one.class_index)
        changed = {"center": one.center, "probability": one.probability, "class_index": one.class_index}
        assert dataclasses.replace(other, **changed) == one
    plain = {x.roi_id: x.class_index for x in read_labels(tmp_path / "a.csv")}
    assert plain == {3: -1, 5: -1, 8: -1, 9: 0, 12: -1}
    write_labels(tmp_path / "b.csv", back)
    write_labels(tmp_path / "c.csv", labels)
    assert (tmp_path / "b.csv").read_text() == (tmp_path / "c.csv").read_text()


def test_merged_rois_and_unlisted_classes(tmp_path):
    merged = CellLabel("AVAL", 4, (0.0, 0.0, 0.0), 0, 0.005, 1, notes="Likely merged with ROI 7.", merged_with=(7,))
    write_labels(tmp_path / "a.csv", [merged])
    (back,) = read_labels(tmp_path / "a.csv", NAMES)
    assert back.merged_with == (7,)
    assert math.isnan(back.probability)
    write_labels(tmp_path / "none.csv", [])
    assert read_labels(tmp_path / "none.csv") == []


HEAD = "Neuron Class,Coordinates,ROI ID,Confidence,Alternatives,Notes\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,roi\nAVAL,3\n", "has the columns"),
        ("", "has the columns"),
        (HEAD + 'AVAL,"1,2,3",x,5,,\n', r"line 2 of .*a\.csv"),
        (HEAD + 'AVAL,"1,2",4,5,,\n', "line 2"),
        (HEAD + 'AVAL,"1,2,3",4\n', "line 2"),
        (HEAD + 'AVAL,"1,2,3",4,6,,\n', "confidence 6"),
        (HEAD + 'AVAX,"1,2,3",4,5,,\n', "'AVAX' is not one of the 5"),
        (HEAD + 'AVAL,"1,2,3",4,5,,\n' * 2, r"repeated ROI ids: \[4\]"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        read_labels(tmp_path / "a.csv", NAMES)


@pytest.mark.parametrize("suffix", ["npz", "h5", "hdf5"])
def test_probabilities_round_trip(tmp_path, suffix):
    path = tmp_path / f"p.{suffix}"
    write_probabilities(path, rois(), NAMES)
    back, names = read_probabilities(path)
    assert names == NAMES
    for field in dataclasses.fields(RoiProbabilities):
        np.testing.assert_array_equal(getattr(back, field.name), getattr(rois(), field.name))
    assert label_greedy(back, names) == label_greedy(rois(), NAMES)


def test_bad_files(tmp_path):
    with pytest.raises(MissingDataError, match="no table of labels"):
        read_labels(tmp_path / "none.csv")
    with pytest.raises(MissingDataError, match="no table of probabilities"):
        read_probabilities(tmp_path / "none.npz")
    with pytest.raises(InvalidInputError, match="first_voxel=2"):
        write_labels(tmp_path / "a.csv", [], first_voxel=2)
    with pytest.raises(InvalidInputError, match=r"'\.txt' is not known"):
        write_probabilities(tmp_path / "a.txt", rois(), NAMES)
    with pytest.raises(InvalidInputError, match="4 class names for 5"):
        write_probabilities(tmp_path / "a.npz", rois(), NAMES[1:])
    assert list(tmp_path.iterdir()) == []
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["class_names"] = ["a"]
    np.savez(tmp_path / "other.npz", a=[1])
    for name in ("other.h5", "other.npz"):
        with pytest.raises(MissingDataError, match=f"{name} is no table"):
            read_probabilities(tmp_path / name)
