import os

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, MetaTensor
from monai.transforms import Compose

from voxel_ext.data.cell_labeling_dataset import LoadCellVolumed, cell_labeling_lists, check_same_classes
from voxel_ext.data.cell_labeling_file import CellVolume, read_cell_volume, write_cell_volume
from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.transforms.label.roi_targets import RoiTargetsd

CHANNELS = ("blue", "red")
CLASSES = ("background", "AVAL", "AVAR")


def write(path, rois=2, channels=CHANNELS, class_names=CLASSES, seed=0, truth=True):
    rng = np.random.default_rng(seed)
    roi = np.zeros((4, 5, 6), np.uint16)
    for i in range(rois):
        roi[i % 4, :2, i : i + 2] = 10 * (i + 1)
    ids = np.unique(roi)[1:]
    classes = np.arange(len(ids)) % 2
    weights = np.where(classes > 0, 50.0, 1.0)
    return write_cell_volume(
        path,
        CellVolume(
            raw=rng.integers(0, 60000, (len(channels), 4, 5, 6)).astype(np.uint16),
            roi=roi,
            roi_ids=ids,
            roi_class=classes,
            roi_weight=weights,
            roi_other_weight=np.where(classes > 0, 15.0, 1.0),
            roi_confidence=2 * classes,
            class_names=class_names,
            channels=channels,
            true_class=np.full(len(ids), 2) if truth else None,
        ),
    )


def paths(entries):
    return [os.path.basename(entry["path"]) for entry in entries]


def test_folders_for_training_and_validation(tmp_path):
    for name in ("train/b", "train/a", "val/c"):
        write(tmp_path / f"{name}.h5")
    lists = cell_labeling_lists(tmp_path)
    assert paths(lists["train"]) == ["a.h5", "b.h5"]
    assert paths(lists["val"]) == ["c.h5"]


def test_one_folder_is_split(tmp_path):
    for number in range(10):
        write(tmp_path / f"{number}.h5")
    chosen = set()
    for seed in range(3):
        lists = cell_labeling_lists(tmp_path, validation_fraction=0.3, seed=seed)
        assert len(lists["val"]) == 3
        assert sorted(paths(lists["train"] + lists["val"])) == [f"{number}.h5" for number in range(10)]
        assert lists == cell_labeling_lists(tmp_path, validation_fraction=0.3, seed=seed)
        chosen.add(tuple(paths(lists["val"])))
    assert len(chosen) > 1


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_file_in_both_parts(tmp_path, link):
    write(tmp_path / "train" / "a.h5")
    write(tmp_path / "val" / "b.h5")
    link(tmp_path / "train" / "a.h5", tmp_path / "val" / "c.h5")
    with pytest.raises(InvalidInputError, match=r"both for training and for validation: .*train/a\.h5 and .*val/c\.h5"):
        cell_labeling_lists(tmp_path)


def test_wrong_folders(tmp_path):
    with pytest.raises(MissingDataError, match="does not exist"):
        cell_labeling_lists(tmp_path / "none")
    write(tmp_path / "one" / "a.h5")
    with pytest.raises(InvalidInputError, match="needs at least two"):
        cell_labeling_lists(tmp_path / "one")
    write(tmp_path / "half" / "train" / "a.h5")
    with pytest.raises(MissingDataError, match="half/val does not exist"):
        cell_labeling_lists(tmp_path / "half")
    write(tmp_path / "one" / "b.h5")
    with pytest.raises(InvalidInputError, match="validation_fraction=2"):
        cell_labeling_lists(tmp_path / "one", validation_fraction=2)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"class_names": ("background", "AVAL", "RMDL")}, "class_names .3 and 3.: number 2 is 'AVAR' and 'RMDL'"),
        ({"class_names": (*CLASSES, "RMDL")}, "class_names .3 and 4.: number 3 is nothing and 'RMDL'"),
        ({"channels": ("red", "blue")}, "channels .2 and 2.: number 0 is 'blue' and 'red'"),
    ],
)
def test_files_that_differ(tmp_path, options, match):
    write(tmp_path / "train" / "a.h5")
    write(tmp_path / "val" / "b.h5", **options)
    with pytest.raises(InvalidInputError, match=match) as error:
        cell_labeling_lists(tmp_path)
    assert "train/a.h5" in str(error.value)
    assert "val/b.h5" in str(error.value)


def test_same_classes(tmp_path):
    assert check_same_classes([write(tmp_path / "a.h5"), write(tmp_path / "b.h5")]) == (CLASSES, CHANNELS)
    with pytest.raises(InvalidInputError, match="no prepared animals"):
        check_same_classes([])


@pytest.mark.parametrize(("channels", "chosen"), [(None, [0, 1]), ("red", [1]), (["red", "blue"], [1, 0]), ([0], [0])])
def test_load(tmp_path, channels, chosen):
    file = write(tmp_path / "worm.1.h5")
    stored = read_cell_volume(file)
    item = LoadCellVolumed(channels)({"path": str(file), "more": 1})
    assert isinstance(item["image"], MetaTensor)
    assert item["image"].dtype == torch.float32
    np.testing.assert_array_equal(item["image"], stored.raw[chosen].astype(np.float32))
    assert item["roi"].dtype == torch.int32
    np.testing.assert_array_equal(item["roi"], stored.roi[None])
    for key in ("roi_ids", "roi_class", "roi_weight", "roi_other_weight", "roi_confidence", "true_class"):
        np.testing.assert_array_equal(item[key], getattr(stored, key))
    assert item["image"].meta["filename_or_obj"] == str(file)
    assert (item["name"], item["more"], item["path"]) == ("worm.1", 1, str(file))


def test_unknown_truth_is_zero(tmp_path):
    item = LoadCellVolumed()({"path": write(tmp_path / "a.h5", truth=False)})
    assert item["true_class"].tolist() == [0, 0]


def test_channels_fewer_than_wanted(tmp_path):
    file = write(tmp_path / "a.h5", channels=("red",))
    with pytest.raises(InvalidInputError, match=r"a\.h5 has 1 channels \(red\), but the channels \['blue', 'red'\]"):
        LoadCellVolumed(["blue", "red"])({"path": str(file)})


def test_animals_with_different_numbers_of_rois_in_a_batch(tmp_path):
    for number in range(3):
        write(tmp_path / "train" / f"{number}.h5", rois=number + 2, seed=number)
    write(tmp_path / "val" / "v.h5")
    entries = cell_labeling_lists(tmp_path)["train"]
    for options, key in (({}, "weight"), ({"keep": True, "pad_rois": 6}, "roi_ids")):
        transform = Compose([LoadCellVolumed("red"), RoiTargetsd(**options)])
        data = CacheDataset(entries, transform, progress=False)
        (batch,) = DataLoader(data, batch_size=3)
        assert batch["image"].shape == (3, 1, 4, 5, 6)
        assert batch["label"].shape == (3, 1, 4, 5, 6)
        assert key in batch
        assert batch["name"] == ["0", "1", "2"]
        for row in range(3):
            classes = read_cell_volume(entries[row]["path"]).roi_class
            assert batch["label"][row].max() == classes.max()
