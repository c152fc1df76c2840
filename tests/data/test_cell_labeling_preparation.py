import json
import logging

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
import zarr

from voxel_ext.data.cell_labeling_crop import crop_or_pad, turn_about_x, window_start
from voxel_ext.data.cell_labeling_dataset import cell_labeling_lists
from voxel_ext.data.cell_labeling_file import read_cell_header, read_cell_volume
from voxel_ext.data.cell_labeling_preparation import prepare_cell_labeling
from voxel_ext.data.cell_labeling_sources import load_cell_image, load_roi_volume
from voxel_ext.data.cell_labeling_targets import (
    LabelRules,
    RoiClasses,
    balance_factors,
    count_labels,
    label_weights,
    resolve_labels,
)
from voxel_ext.data.roi_table import RoiLabel, RoiTable
from voxel_ext.errors import InvalidInputError, MissingDataError

CLASSES = ("background", "AVAL", "AVAR", "RMDL", "RMDR", "granule")
SHAPE = (6, 8, 12)
CHANNELS = ("blue", "red")
TABLE = "Neuron Class,Coordinates,ROI ID,Confidence\n"


def make_roi(ids=(3, 5, 9, 20)):
    roi = np.zeros(SHAPE, np.uint16)
    for number, roi_id in enumerate(ids):
        roi[1:3, 2 + number % 2 : 5, 1 + 2 * number : 3 + 2 * number] = roi_id
    return roi


def make_image(seed=0, channels=2):
    return np.random.default_rng(seed).integers(0, 60000, (channels, *SHAPE)).astype(np.uint16)


def write_animal(folder, name, rows, seed=0, ids=(3, 5, 9, 20), truth=None, image=None):
    for part in ("images", "labels", "truth"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "images" / f"{name}.h5", "w") as file:
        file["raw"] = make_image(seed) if image is None else image
        file["roi"] = make_roi(ids)
    if rows is not None:
        (folder / "labels" / f"{name}.csv").write_text(TABLE + rows)
    if truth is not None:
        (folder / "truth" / f"{name}.csv").write_text("ROI ID,Neuron Class\n" + truth)
    return folder


ROWS = {
    "a": "AVAL,,3,5\nAVAR,,5,3\ngranule,,9,2\nRMD?,,20,4\n",
    "b": "AVAL,,3,2\nAVAL,,5,1\nRMDL,,9/20,4\n",
    "c": "AVAL,,3,4\nRMDR,,5,5\nglia,,9,5\n",
}


@pytest.fixture
def raw(tmp_path):
    root = tmp_path / "raw"
    write_animal(root / "train", "a", ROWS["a"], truth="3,AVAL\n5,AVAR\n20,RMDL\n")
    write_animal(root / "train", "b", ROWS["b"], seed=1)
    write_animal(root / "val", "c", ROWS["c"], seed=2)
    (root / "neuron_names.txt").write_text("\n".join(CLASSES[1:]))
    return root


def prepare(raw, output, **options):
    return prepare_cell_labeling(raw, output, **{"size": SHAPE, "channels": CHANNELS, "progress": False, **options})


# the tables


def table(*rows):
    return RoiTable("t.csv", tuple(RoiLabel(*row, line=line) for line, row in enumerate(rows, 2)))


def test_resolved_labels():
    rows = table(("AVAL", 1, 5), ("AVAR", 2, 1), ("RMD?", 3, 5), ("AVA?-alt", 4, 5), ("glia", 5, 5), ("granule", 6, 2))
    labels = resolve_labels(rows, CLASSES)
    assert labels.classes == {1: 1, 6: 5}
    assert labels.confidences == {1: 5, 6: 2}
    assert labels.skipped == {"low confidence": [2], "uncertain": [3, 4], "no class": [5]}
    assert resolve_labels(rows, CLASSES, LabelRules(min_confidence=1)).classes == {1: 1, 2: 2, 6: 5}


def test_uncertain_names_expand_if_one_class_fits():
    rows = table(("AVA?", 1, 5), ("RMD?", 2, 5), ("R?DL", 3, 5))
    classes = ("background", "AVAL", "RMDL", "RMDR", "RVDL")
    assert resolve_labels(rows, classes).classes == {}
    expanded = resolve_labels(rows, classes, LabelRules(uncertain="expand"))
    assert expanded.classes == {1: 1, 3: 4}
    assert expanded.skipped == {"uncertain": [2]}


def test_certain_name_goes_before_uncertain():
    rows = table(("AVA?", 1, 2), ("AVAL", 1, 5))
    assert resolve_labels(rows, CLASSES).classes == {1: 1}
    classes = ("background", "AVAL", "RMDL")
    expanded = resolve_labels(rows, classes, LabelRules(uncertain="expand"))
    assert (expanded.classes, expanded.confidences, expanded.skipped) == ({1: 1}, {1: 5}, {})


def test_conflicts(caplog):
    rows = table(("AVAL", 1, 5), ("AVAR", 1, 3), ("AVAL", 2, 5), ("RMDL", 2, 1))
    with caplog.at_level(logging.WARNING):
        labels = resolve_labels(rows, CLASSES)
    assert labels.classes == {2: 1}
    assert labels.skipped == {"conflict": [1]}
    assert "ROI 1: AVAL (line 2), AVAR (line 3)" in caplog.text
    with pytest.raises(InvalidInputError, match=r"different names to 1 ROIs.*\n.*AVAL \(line 2\), AVAR \(line 3\)"):
        resolve_labels(rows, CLASSES, LabelRules(on_conflict="error"))


def test_unknown_names_are_all_listed():
    rows = table(("AVLA", 1, 5), ("AVAL", 2, 5), ("rmdl", 3, 1), ("ZZZ", 4, 5), ("XY?", 5, 5))
    with pytest.raises(InvalidInputError, match=r"t\.csv has 3 names") as error:
        resolve_labels(rows, CLASSES)
    text = str(error.value)
    assert "line 2: unknown neuron 'AVLA' (near: AVA" in text
    assert "line 4: unknown neuron 'rmdl' (near: RMDL" in text
    assert "line 5: unknown neuron 'ZZZ' (no name" in text
    assert "XY?" not in text


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"weighting": "noweight"}, "weighting='noweight'"),
        ({"uncertain": "skp"}, "Did you mean 'skip'"),
        ({"on_conflict": "x"}, "on_conflict"),
        ({"min_confidence": 0}, "min_confidence=0"),
        ({"min_confidence": 6}, "min_confidence=6"),
        ({"confidence_weights": (1, 2, 3)}, "expected five"),
        ({"confidence_weights": (1, 2, 3, 4, -5)}, "expected five"),
        ({"other_weight": float("nan")}, "expected five"),
    ],
)
def test_wrong_rules(options, match):
    with pytest.raises(InvalidInputError, match=match):
        LabelRules(**options)


def test_weights_are_those_of_the_formula():
    rng = np.random.default_rng(0)
    animals = []
    for _ in range(5):
        classes = {int(roi): int(rng.choice([1, 1, 1, 2, 3, 5, 5, 5, 5, 5])) for roi in range(1, 30)}
        animals.append(RoiClasses(classes, {roi: int(rng.integers(1, 6)) for roi in classes}))
    counts = count_labels(animals, len(CLASSES))
    listed = [number for animal in animals for number in animal.classes.values()]
    assert counts.tolist() == [listed.count(number) for number in range(len(CLASSES))]
    factors = balance_factors(counts, CLASSES)
    largest = max(listed.count(number) for number in (1, 2, 3, 4))
    assert largest < listed.count(5)
    assert factors[4] == largest
    weights = label_weights(animals[0], factors)
    for roi, number in animals[0].classes.items():
        base = (10, 50, 600, 900, 1000)[animals[0].confidences[roi] - 1]
        own, others = weights[roi]
        assert own == max(round(base * largest / max(listed.count(number), 1)), 1)
        assert others == pytest.approx(0.3 * base)
    assert set(label_weights(animals[0], factors, LabelRules(weighting="equal")).values()) == {(1.0, 1.0)}


def test_weights_are_not_below_the_background():
    labels = RoiClasses({1: 5, 2: 1}, {1: 1, 2: 1})
    factors = balance_factors(np.array([0, 1, 0, 0, 0, 1000]), CLASSES)
    assert label_weights(labels, factors, LabelRules(other_weight=0.01)) == {1: (1.0, 1.0), 2: (10.0, 1.0)}
    assert balance_factors(np.zeros(6, int), CLASSES).tolist() == [1] * 6
    assert balance_factors(np.array([0, 3]), ("background", "granule")).tolist() == pytest.approx([1, 1 / 3])


# cropping


@pytest.mark.parametrize("center", ["bounding_box", "mass"])
@pytest.mark.parametrize("size", [(3, 4, 5), (6, 8, 12), (9, 11, 15), (2, 20, 1), (6, 3, 13)])
def test_crop_is_a_window_of_the_padded_volume(size, center):
    rng = np.random.default_rng(sum(size))
    image = rng.normal(100, 5, (2, *SHAPE)).astype(np.float32)
    roi = rng.choice([0, 1, 7, 300], SHAPE, p=[0.9, 0.04, 0.03, 0.03]).astype(np.uint16)
    cropped, ids, report = crop_or_pad(image, roi, size, center)
    assert cropped.shape == (2, *size)
    assert (cropped.dtype, ids.dtype) == (image.dtype, roi.dtype)
    wide = np.stack([np.pad(channel, 20, constant_values=np.median(channel)) for channel in image])
    window = tuple(slice(20 + start, 20 + start + n) for start, n in zip(report.start, size, strict=True))
    np.testing.assert_array_equal(cropped, wide[(slice(None), *window)])
    np.testing.assert_array_equal(ids, np.pad(roi, 20)[window])
    for start, n, there in zip(report.start, size, SHAPE, strict=True):
        assert 0 <= start <= there - n if n <= there else start == -((n - there) // 2)
    before = {i: np.sum(roi == i) for i in (1, 7, 300)}
    after = {i: np.sum(ids == i) for i in (1, 7, 300)}
    assert report.lost == [i for i in before if after[i] == 0]
    assert report.cut == [i for i in before if 0 < after[i] < before[i]]


def test_nothing_is_lost_if_the_box_fits():
    rng = np.random.default_rng(3)
    for _ in range(200):
        low = rng.integers(0, SHAPE)
        high = np.array([rng.integers(a, n) for a, n in zip(low, SHAPE, strict=True)])
        roi = np.zeros(SHAPE, np.uint16)
        roi[tuple(low)] = 1
        roi[tuple(high)] = 2
        size = np.minimum(high - low + 1 + rng.integers(0, 4, 3), SHAPE)
        _, ids, report = crop_or_pad(np.zeros((1, *SHAPE), np.uint16), roi, size.tolist())
        assert (report.lost, report.cut) == ([], [])
        assert set(np.unique(ids)) - {0} == set(np.unique(roi)) - {0}


def test_center_of_mass():
    roi = np.zeros((1, 1, 101), np.uint16)
    roi[0, 0, :31] = 1
    roi[0, 0, 100] = 2
    assert window_start(roi, (1, 1, 21), "bounding_box") == (0, 0, 40)
    assert window_start(roi, (1, 1, 21), "mass") == (0, 0, 8)
    assert window_start(roi, (1, 1, 41), "mass") == (0, 0, 0)


def test_integers_are_padded_by_a_rounded_median():
    image = np.array([1, 2, 4, 5], np.uint16).reshape(1, 1, 1, 4)
    padded, _, _ = crop_or_pad(image, np.ones((1, 1, 4), np.uint16), (1, 1, 6))
    assert padded.ravel().tolist() == [3, 1, 2, 4, 5, 3]
    padded, _, _ = crop_or_pad(image.astype(np.float32) / 2, np.ones((1, 1, 4), np.uint16), (1, 1, 5))
    assert padded.ravel().tolist() == [0.5, 1, 2, 2.5, 1.5]


def test_turning_twice_changes_nothing():
    image = make_image()
    turned = turn_about_x(image)
    assert turned[0, 0, 0, 3] == image[0, -1, -1, 3]
    np.testing.assert_array_equal(turned, np.rot90(image, 2, (1, 2)))
    np.testing.assert_array_equal(turn_about_x(turned), image)


def test_wrong_crops():
    roi = make_roi()
    with pytest.raises(InvalidInputError, match="is empty"):
        crop_or_pad(make_image(), np.zeros_like(roi), (3, 3, 3))
    with pytest.raises(InvalidInputError, match="must be equal"):
        crop_or_pad(make_image(), roi[1:], (3, 3, 3))
    with pytest.raises(InvalidInputError, match="each at least 1"):
        crop_or_pad(make_image(), roi, (3, 0, 3))


# the files


def test_prepared_files(raw, tmp_path):
    report = prepare(raw, tmp_path / "out")
    a, b, c = (read_cell_volume(tmp_path / "out" / f"{name}.h5") for name in ("train/a", "train/b", "val/c"))
    np.testing.assert_array_equal(a.raw, make_image(0))
    np.testing.assert_array_equal(c.raw, make_image(2))
    assert a.raw.dtype == np.uint16
    np.testing.assert_array_equal(b.roi, make_roi())
    assert a.channels == CHANNELS
    assert a.class_names == CLASSES
    assert a.roi_ids.tolist() == [3, 5, 9, 20]
    # training labels: AVAL 2, AVAR 1, RMDL 2, granule 1; the largest count of a neuron is 2
    assert report.class_counts == {"AVAL": 2, "AVAR": 1, "RMDL": 2, "granule": 1}
    assert a.roi_class.tolist() == [1, 2, 5, 0]
    assert a.roi_confidence.tolist() == [5, 3, 2, 0]
    assert a.roi_weight.tolist() == [1000, 1200, 100, 1]
    assert a.roi_other_weight.tolist() == [300, 180, 15, 1]
    assert a.true_class is not None
    assert a.true_class.tolist() == [1, 2, 0, 3]
    assert b.roi_class.tolist() == [1, 0, 3, 3]
    assert b.roi_weight.tolist() == [50, 1, 900, 900]
    assert b.true_class is None
    # RMDR was not seen in training: as if once
    assert c.roi_class.tolist() == [1, 4, 0, 0]
    assert c.roi_weight.tolist() == [900, 2000, 1, 1]
    lists = cell_labeling_lists(tmp_path / "out")
    assert [len(lists["train"]), len(lists["val"])] == [2, 1]
    skipped = {path.stem: reasons for path, reasons in report.skipped.items()}
    assert skipped == {"a": {"uncertain": [20]}, "b": {"low confidence": [5]}, "c": {"no class": [9]}}
    assert (report.lost, report.cut) == ({}, {})
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["complete"] is True


def test_equal_weights(raw, tmp_path):
    prepare(raw, tmp_path / "out", weighting="equal")
    a = read_cell_header(tmp_path / "out" / "train" / "a.h5")
    assert set(a.roi_weight) | set(a.roi_other_weight) == {1.0}
    assert a.roi_class.tolist() == [1, 2, 5, 0]


def test_cropped_rois_are_reported(raw, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        report = prepare(raw, tmp_path / "out", size=(6, 8, 5))
    file = tmp_path / "out" / "train" / "a.h5"
    a = read_cell_volume(file)
    # the box around the ROIs is x = 1 to 8, the window 2 to 6 or 3 to 7
    assert a.settings["window_start"][2] == 3
    assert a.roi_ids.tolist() == [5, 9, 20]
    assert a.roi_class.tolist() == [2, 5, 0]
    assert (a.settings["rois_lost"], a.settings["rois_cut"]) == ([3], [20])
    assert (report.lost[file], report.cut[file]) == ([3], [20])
    assert "1 ROIs are wholly cropped away: 3" in caplog.text
    assert "1 ROIs are partly cropped away: 20" in caplog.text


def test_turned_animals(raw, tmp_path):
    prepare(raw, tmp_path / "out", turned=["b"])
    b = read_cell_volume(tmp_path / "out" / "train" / "b.h5")
    np.testing.assert_array_equal(b.raw, make_image(1)[:, ::-1, ::-1])
    np.testing.assert_array_equal(b.roi, make_roi()[::-1, ::-1])
    np.testing.assert_array_equal(read_cell_volume(tmp_path / "out" / "train" / "a.h5").roi, make_roi())


def test_a_second_run_keeps_what_is_there(raw, tmp_path):
    out = tmp_path / "out"
    assert len(prepare(raw, out).made) == 3
    (out / "train" / "b.h5").unlink()
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.h5")}
    report = prepare(raw, out)
    assert [path.name for path in report.made] == ["b.h5"]
    assert {path.name for path in report.kept} == {"a.h5", "c.h5"}
    assert {path.stat().st_mtime_ns for path in times} == set(times.values())
    assert len(report.skipped) == 3


def test_other_settings_need_overwrite(raw, tmp_path):
    out = tmp_path / "out"
    prepare(raw, out)
    with pytest.raises(InvalidInputError, match=r"a\.h5 was made with other settings: size is .*overwrite=True"):
        prepare(raw, out, size=(5, 8, 12))
    (raw / "train" / "labels" / "b.csv").write_text(TABLE + "AVAR,,3,2\n")
    with pytest.raises(InvalidInputError, match="class_counts"):
        prepare(raw, out)
    assert len(prepare(raw, out, overwrite=True).made) == 3
    (raw / "neuron_names.txt").write_text("\n".join((*CLASSES[1:], "AVBL")))
    with pytest.raises(InvalidInputError, match="6 class names there are not the 7 now"):
        prepare(raw, out)


def test_damaged_and_strange_files(raw, tmp_path):
    out = tmp_path / "out"
    prepare(raw, out)
    (out / "train" / "a.h5").write_bytes(b"nothing")
    with pytest.raises(InvalidInputError, match="cannot be opened"):
        prepare(raw, out)
    assert [path.name for path in prepare(raw, out, overwrite=True).made] == ["a.h5"]
    (out / "train" / "a.h5").rename(out / "train" / "z.h5")
    with pytest.raises(InvalidInputError, match=r"do not belong.*z\.h5"):
        prepare(raw, out, overwrite=True)


def test_animals_to_be_labeled_need_no_tables(tmp_path):
    root = tmp_path / "new"
    write_animal(root, "a", None)
    (root / "labels").rmdir()
    report = prepare(root, tmp_path / "out")
    assert report.made == [tmp_path / "out" / "a.h5"]
    header = read_cell_header(report.made[0])
    assert header.roi_class.tolist() == [0] * 4
    assert header.class_names == ("background",)
    assert header.roi_weight.tolist() == [1.0] * 4
    names = tmp_path / "names.txt"
    names.write_text("\n".join(CLASSES))
    prepare(root, tmp_path / "out2", class_names_file=names)
    assert read_cell_header(tmp_path / "out2" / "a.h5").class_names == CLASSES


# wrong input


def test_errors_of_all_tables_come_at_once(raw, tmp_path):
    (raw / "train" / "labels" / "a.csv").write_text(TABLE + "AVLA,,3,5\nAVAL,,5,5\n")
    (raw / "train" / "labels" / "b.csv").write_text(TABLE + "AVAL,,4,5\nAVAR,,3/77,5\n")
    (raw / "val" / "labels" / "c.csv").write_text(TABLE + "AVAL,,3,5\nAVAL,,3,4\n")
    with pytest.raises(InvalidInputError, match="3 animals cannot be prepared") as error:
        prepare(raw, tmp_path / "out")
    text = str(error.value)
    assert "line 2: unknown neuron 'AVLA' (near: AVA" in text
    assert "line 2: ROI 4 (AVAL)" in text
    assert "line 3: ROI 77 (AVAR)" in text
    assert "line 3: AVAL for ROI 3 is also in line 2" in text
    assert not list((tmp_path / "out").rglob("*.h5"))


def test_conflict_and_wrong_truth_are_errors(raw, tmp_path):
    (raw / "train" / "labels" / "a.csv").write_text(TABLE + "AVAL,,3,5\nAVAR,,3,4\n")
    with pytest.raises(InvalidInputError, match="different names to 1 ROIs"):
        prepare(raw, tmp_path / "out", on_conflict="error")
    assert prepare(raw, tmp_path / "out").skipped[tmp_path / "out" / "train" / "a.h5"] == {"conflict": [3]}
    (raw / "train" / "truth" / "a.csv").write_text("ROI ID,Neuron Class\n3,NOBODY\n")
    with pytest.raises(InvalidInputError, match="unknown neuron 'NOBODY'"):
        prepare(raw, tmp_path / "out")


def test_missing_files_are_named(raw, tmp_path):
    (raw / "train" / "labels" / "b.csv").unlink()
    with h5py.File(raw / "train" / "images" / "a.h5", "r+") as file:
        del file["roi"]
    with pytest.raises(MissingDataError, match="2 files are missing") as error:
        prepare(raw, tmp_path / "out")
    assert "images/b.h5: no table" in str(error.value)
    assert "images/a.h5: no ROI volume" in str(error.value)
    with pytest.raises(MissingDataError, match="input_dir"):
        prepare(tmp_path / "none", tmp_path / "out")
    (tmp_path / "bare" / "images").mkdir(parents=True)
    with pytest.raises(MissingDataError, match="has no images"):
        prepare(tmp_path / "bare", tmp_path / "out")


def test_missing_folder_of_images(raw, tmp_path):
    (raw / "val" / "images" / "c.h5").unlink()
    (raw / "val" / "images").rmdir()
    with pytest.raises(MissingDataError, match=r"val/images' does not exist"):
        prepare(raw, tmp_path / "out")


def test_missing_names(raw, tmp_path):
    (raw / "neuron_names.txt").unlink()
    with pytest.raises(MissingDataError, match=r"neuron_names\.txt does not exist"):
        prepare(raw, tmp_path / "out")


def test_the_same_image_twice(raw, tmp_path):
    (raw / "val" / "images" / "c.h5").unlink()
    (raw / "val" / "images" / "c.h5").symlink_to(raw / "train" / "images" / "a.h5")
    with pytest.raises(InvalidInputError, match=r"train/images/a\.h5 and .*val/images/c\.h5 are the same image"):
        prepare(raw, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"size": (5, 5)}, "expected .D, H, W."),
        ({"size": (5, 0, 5)}, r"size\[1\]=0"),
        ({"center": "middle"}, "center='middle'"),
        ({"turned": ["zz"]}, r"not there: \['zz'\]; there are: a, b, c"),
        ({"turned": "a"}, "expected a list"),
        ({"channels": "red"}, "expected a list"),
        ({"min_confidence": 9}, "min_confidence=9"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"channels": ["red"]}, r"a\.h5 has 2 channels .*expected 1: red"),
        ({"channels": None}, r"a\.h5 has 2 channels .*expected 4: mTagBFP2"),
        ({"channels": ["red", "red"]}, "a different name"),
    ],
)
def test_wrong_options(raw, tmp_path, options, match):
    with pytest.raises(InvalidInputError, match=match):
        prepare(raw, tmp_path / "out", **options)


def test_an_animal_that_fails_does_not_stop_the_others(raw, tmp_path):
    write_animal(raw / "train", "a", ROWS["a"], image=np.full((2, *SHAPE), np.nan, np.float32))
    with pytest.raises(InvalidInputError, match=r"1 of 3 animals.*\n.*a\.h5 has NaN"):
        prepare(raw, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").rglob("*.h5")} == {"b.h5", "c.h5"}
    assert not (tmp_path / "out" / "dataset.json").exists()
    write_animal(raw / "train", "a", ROWS["a"], image=np.zeros((2, 5, 5, 5), np.float32))
    with pytest.raises(InvalidInputError, match=r"\(2, 5, 5, 5\) \(C, D, H, W\), but .* \(6, 8, 12\)"):
        prepare(raw, tmp_path / "out")


# formats


def write_volume(path, array):
    name = path.name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".h5"):
        with h5py.File(path, "w") as file:
            file["raw" if array.ndim == 4 else "roi"] = array
    elif name.endswith(".zarr"):
        zarr.open_group(path, mode="w")["data" if array.ndim == 4 else "label"] = array
    elif name.endswith(".tif"):
        options = {"metadata": {"axes": "ZCYX"}, "imagej": True} if array.ndim == 4 else {}
        tifffile.imwrite(path, array.swapaxes(0, 1) if array.ndim == 4 else array, **options)
    else:
        turned = array.transpose(3, 2, 1, 0) if array.ndim == 4 else array.T
        if name.endswith(".nrrd"):
            write_nrrd(path, turned)
        else:
            nibabel.save(nibabel.Nifti1Image(turned, np.eye(4)), path)
    return path


def write_nrrd(path, array, kinds=""):
    """Write an array (X, Y, Z) or (X, Y, Z, C), the first axis fastest."""
    header = (
        f"NRRD0004\ntype: uint16\ndimension: {array.ndim}\nsizes: {' '.join(map(str, array.shape))}\n"
        f"{kinds}encoding: raw\nendian: little\n\n"
    )
    path.write_bytes(header.encode() + array.astype("<u2").tobytes(order="F"))
    return path


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("kind", ["list", "vector"])
@pytest.mark.parametrize("first", [True, False])
def test_nrrd_with_kinds_of_axes(tmp_path, count, kind, first):
    image = make_image(channels=count)
    kinds = f"kinds: {kind} domain domain domain\n" if first else f"kinds: domain domain domain {kind}\n"
    array = image.transpose(0, 3, 2, 1) if first else image.transpose(3, 2, 1, 0)
    loaded, _ = load_cell_image(write_nrrd(tmp_path / "a.nrrd", array, kinds), list("abcd"[:count]))
    assert loaded.dtype == np.uint16
    np.testing.assert_array_equal(loaded, image)


def test_nrrd_with_too_many_components(tmp_path):
    file = write_nrrd(tmp_path / "a.nrrd", make_image(channels=5).T, "kinds: domain domain domain list\n")
    with pytest.raises(InvalidInputError, match="has 5 channels; NRRD files are read with up to 4"):
        load_cell_image(file, list("abcde"))


@pytest.mark.parametrize("suffix", [".h5", ".zarr", ".tif", ".nii", ".nii.gz", ".nrrd"])
def test_formats_hold_the_same(tmp_path, suffix):
    image = write_volume(tmp_path / "images" / f"a.b{suffix}", make_image())
    roi = write_volume(tmp_path / "rois" / f"a.b{suffix}", make_roi())
    loaded, names = load_cell_image(image, CHANNELS)
    np.testing.assert_array_equal(loaded, make_image())
    assert (loaded.dtype, names) == (np.uint16, CHANNELS)
    np.testing.assert_array_equal(load_roi_volume(roi), make_roi())
    report = prepare(tmp_path, tmp_path / "out")
    assert report.made == [tmp_path / "out" / "a.b.h5"]
    np.testing.assert_array_equal(read_cell_volume(report.made[0]).raw, make_image())


def test_plain_tiff_is_taken_as_stored(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", make_image(channels=5))
    np.testing.assert_array_equal(load_cell_image(tmp_path / "a.tif", list("abcde"))[0], make_image(channels=5))


def test_names_of_channels_in_the_file(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = make_image()
        file.attrs["channels"] = '["x", "y"]'
    assert load_cell_image(tmp_path / "a.h5", None)[1] == ("x", "y")
    assert load_cell_image(tmp_path / "a.h5", CHANNELS)[1] == CHANNELS


@pytest.mark.parametrize(
    ("dtype", "expected"), [(np.uint8, np.uint16), (np.int32, np.uint16), (np.int16, np.float32), (float, np.float32)]
)
def test_types_of_images(tmp_path, dtype, expected):
    values = np.arange(2 * np.prod(SHAPE)).reshape(2, *SHAPE) % 100
    array = (values - 5 * (dtype == np.int16)).astype(dtype)
    loaded, _ = load_cell_image(write_volume(tmp_path / "a.h5", array), CHANNELS)
    assert loaded.dtype == expected
    np.testing.assert_array_equal(loaded, array)


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.zeros(SHAPE, np.uint16), "is empty"),
        (np.full(SHAPE, 0.5, np.float32), "expected whole ids"),
        (np.full(SHAPE, -1, np.int16), "expected whole ids"),
        (np.full(SHAPE, 2**40), "expected whole ids"),
        (np.full(SHAPE, np.nan), "expected whole ids"),
        (np.ones((3, 4), np.uint16), r"shape \(3, 4\)"),
    ],
)
def test_wrong_roi_volumes(tmp_path, array, match):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["roi"] = array
    with pytest.raises(InvalidInputError, match=match) as error:
        load_roi_volume(tmp_path / "a.h5")
    assert "a.h5" in str(error.value)


def test_large_ids_and_float_ids(tmp_path):
    roi = make_roi().astype(np.float32)
    roi[0, 0, 0] = 70000
    loaded = load_roi_volume(write_volume(tmp_path / "a.h5", roi))
    assert loaded.dtype == np.int32
    np.testing.assert_array_equal(loaded, roi)


@pytest.mark.parametrize("suffix", [".h5", ".tif", ".nii", ".nrrd"])
def test_damaged_volumes(tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_bytes(b"no volume")
    with pytest.raises(InvalidInputError, match=f"a{suffix}"):
        load_cell_image(tmp_path / f"a{suffix}", CHANNELS)
