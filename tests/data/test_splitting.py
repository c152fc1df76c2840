import os

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxel_ext.data import datalists, split_volumes
from voxel_ext.errors import InvalidInputError, MissingDataError


def hdf5(path, shape):
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as root:
        root["raw"] = root["label"] = np.ones(shape, np.uint8)


def entries_of(count):
    return [{"image": f"x.h5/raw[{i}]", "label": f"x.h5/label[{i}]"} for i in range(count)]


def images(entries):
    """Addresses without the folder and the name of the dataset."""
    return [os.path.basename(entry["image"].replace("/raw", "")) for entry in entries]


@given(count=st.integers(2, 50), fraction=st.floats(0.001, 0.999), seed=st.integers(0, 2**32))
def test_split_is_a_partition(count, fraction, seed):
    entries = entries_of(count)
    train, val = split_volumes(entries, fraction, seed)
    assert sorted(train + val, key=entries.index) == entries
    assert [e for e in entries if e in train] == train
    assert [e for e in entries if e in val] == val
    assert 1 <= len(val) <= count - 1
    assert abs(len(val) - fraction * count) <= 1
    assert split_volumes(entries, fraction, seed) == (train, val)


def test_split_depends_on_the_seed_and_not_on_global_state():
    np.random.seed(1)  # noqa: NPY002
    first = split_volumes(entries_of(30), 0.5, 0)
    state = np.random.get_state()[1].tolist()  # noqa: NPY002
    assert split_volumes(entries_of(30), 0.5, 1) != first
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002


@pytest.mark.parametrize("fraction", [0, 1, -0.2, 1.5])
def test_impossible_split(fraction):
    with pytest.raises(InvalidInputError, match="expected a number between 0 and 1"):
        split_volumes(entries_of(3), fraction)
    with pytest.raises(InvalidInputError, match="no volumes"):
        split_volumes([])


def test_single_volume_is_divided_along_the_first_axis(tmp_path, caplog):
    hdf5(tmp_path / "a.h5", (10, 4, 4))
    caplog.set_level("INFO")
    lists = datalists(tmp_path)
    assert lists == {
        "train": [{"image": f"{tmp_path}/a.h5/raw[0:8]", "label": f"{tmp_path}/a.h5/label[0:8]"}],
        "val": [{"image": f"{tmp_path}/a.h5/raw[8:10]", "label": f"{tmp_path}/a.h5/label[8:10]"}],
    }
    assert "[0:8] is for training, [8:10] for validation" in caplog.text
    train, val = split_volumes(lists["train"], 0.25)
    assert train[0]["image"].endswith("raw[0:6]")
    assert val[0]["label"].endswith("label[6:8]")


def test_single_volume_that_cannot_be_divided(tmp_path):
    hdf5(tmp_path / "a.h5", (1, 4, 4))
    with pytest.raises(InvalidInputError, match="only volume; none of its 1 slices would be left for training"):
        datalists(tmp_path)
    hdf5(tmp_path / "a.h5", (1, 10, 4, 4))
    with pytest.raises(InvalidInputError, match=r"raw\[0\] is the only volume and cannot be divided"):
        datalists(tmp_path)
    with pytest.raises(InvalidInputError, match=r"a\.nii is the only volume and cannot be divided"):
        split_volumes([{"image": "a.nii"}])


def test_folders_train_and_val(tmp_path):
    hdf5(tmp_path / "train" / "x.h5", (3, 4, 4, 4))
    hdf5(tmp_path / "val" / "y.h5", (4, 4, 4))
    hdf5(tmp_path / "z.h5", (4, 4, 4))
    lists = datalists(tmp_path)
    assert images(lists["train"]) == ["x.h5[0]", "x.h5[1]", "x.h5[2]"]
    assert images(lists["val"]) == ["y.h5"]


def test_only_one_of_the_folders(tmp_path):
    (tmp_path / "one").mkdir()
    hdf5(tmp_path / "one" / "train" / "x.h5", (4, 4, 4, 4))
    lists = datalists(tmp_path / "one")
    assert (len(lists["train"]), len(lists["val"])) == (3, 1)
    (tmp_path / "two").mkdir()
    hdf5(tmp_path / "two" / "val" / "x.h5", (4, 4, 4, 4))
    with pytest.raises(MissingDataError, match="folder 'val' but no folder 'train'"):
        datalists(tmp_path / "two")


def test_file_names(tmp_path, caplog):
    for name in ("train_1", "train_2", "val", "valley", "other"):
        hdf5(tmp_path / f"{name}.h5", (4, 4, 4))
    lists = datalists(tmp_path)
    assert images(lists["train"]) == ["train_1.h5", "train_2.h5"]
    assert images(lists["val"]) == ["val.h5"]
    assert "valley.h5" in caplog.text
    assert "other.h5" in caplog.text


def test_names_of_one_kind_are_split(tmp_path):
    for i in range(5):
        hdf5(tmp_path / f"train_{i}.h5", (4, 4, 4))
    lists = datalists(tmp_path)
    assert (len(lists["train"]), len(lists["val"])) == (4, 1)


def test_same_volume_in_both(tmp_path):
    hdf5(tmp_path / "train" / "x.h5", (4, 4, 4))
    hdf5(tmp_path / "val" / "y.h5", (4, 4, 4))
    os.symlink(tmp_path / "train" / "x.h5", tmp_path / "val" / "z.h5")
    with pytest.raises(InvalidInputError, match=r"same volume is in training \(.*x\.h5/raw\) and in .*z\.h5/raw"):
        datalists(tmp_path)


def test_options_reach_the_list(tmp_path):
    for part in ("train", "val"):
        hdf5(tmp_path / part / "x.h5", (4, 4, 4))
    lists = datalists(tmp_path, "label", "raw", spatial_dims=2)
    assert len(lists["train"]) == len(lists["val"]) == 4
    assert lists["val"][3]["image"] == f"{tmp_path}/val/x.h5/label[3]"
    with pytest.raises(MissingDataError, match="no label dataset"):
        datalists(tmp_path, label_key="mask")
    assert "label" not in datalists(tmp_path, label_key="mask", require_label=False)["train"][0]


def test_weights_are_divided_with_the_only_volume(tmp_path):
    hdf5(tmp_path / "a.h5", (10, 4, 4))
    lists = datalists(tmp_path, weight_key="label", extra_keys={"instances": "raw"})
    assert lists["val"][0]["weight"] == f"{tmp_path}/a.h5/label[8:10]"
    assert lists["train"][0]["instances"] == f"{tmp_path}/a.h5/raw[0:8]"


def test_only_volume_with_channels_cannot_be_divided(tmp_path):
    hdf5(tmp_path / "a.h5", (10, 4, 4, 4))
    with pytest.raises(InvalidInputError, match="only volume and cannot be divided"):
        datalists(tmp_path, channels=True)
    hdf5(tmp_path / "b.h5", (10, 4, 4, 4))
    assert images(datalists(tmp_path, channels=True)["train"] + datalists(tmp_path, channels=True)["val"]) != []


def test_optional_items_are_divided_with_the_only_volume(tmp_path):
    hdf5(tmp_path / "a.h5", (10, 4, 4))
    lists = datalists(tmp_path, optional_keys={"instances": "label", "missing": "nothing"})
    assert lists["train"][0]["instances"] == f"{tmp_path}/a.h5/label[0:8]"
    assert lists["val"][0]["instances"] == f"{tmp_path}/a.h5/label[8:10]"
    assert set(lists["train"][0]) == set(lists["val"][0]) == {"image", "label", "instances"}


def test_optional_items_of_some_volumes(tmp_path):
    hdf5(tmp_path / "train" / "x.h5", (4, 4, 4))
    hdf5(tmp_path / "val" / "y.h5", (4, 4, 4))
    with h5py.File(tmp_path / "val" / "y.h5", "a") as root:
        root["ids"] = np.ones((4, 4, 4), np.uint8)
    lists = datalists(tmp_path, optional_keys={"instances": "ids"})
    assert "instances" not in lists["train"][0]
    assert lists["val"][0]["instances"] == f"{tmp_path}/val/y.h5/ids"
