import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from monai.transforms import LoadImaged

from voxel_ext.data import list_volumes
from voxel_ext.errors import InvalidInputError, MissingDataError

NUCLEI = Path(__file__).parents[2].parent / "shared" / "data" / "nuclei"
VOLUME = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)


def hdf5(path, **datasets):
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as root:
        for name, array in datasets.items():
            root[name] = array
    return path


def test_volumes_and_stacks_in_order(tmp_path):
    hdf5(tmp_path / "b.h5", data=np.stack([VOLUME] * 3), labels=np.stack([VOLUME] * 3))
    hdf5(tmp_path / "c.hdf5", raw=VOLUME, data=np.stack([VOLUME] * 2), label=VOLUME)
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    root.create_array("raw", data=VOLUME)
    root.create_array("label", data=VOLUME)
    hdf5(tmp_path / ".hidden.h5", other=VOLUME)
    hdf5(tmp_path / "sub" / "d.h5", raw=VOLUME, label=VOLUME)
    shutil.copy(tmp_path / "b.h5", tmp_path / "b.h5.partial")
    assert list_volumes(tmp_path) == [
        {"image": f"{tmp_path}/a.zarr/raw", "label": f"{tmp_path}/a.zarr/label"},
        {"image": f"{tmp_path}/b.h5/data[0]", "label": f"{tmp_path}/b.h5/labels[0]"},
        {"image": f"{tmp_path}/b.h5/data[1]", "label": f"{tmp_path}/b.h5/labels[1]"},
        {"image": f"{tmp_path}/b.h5/data[2]", "label": f"{tmp_path}/b.h5/labels[2]"},
        {"image": f"{tmp_path}/c.hdf5/raw", "label": f"{tmp_path}/c.hdf5/label"},
    ]


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
def test_one_file(tmp_path, name):
    if name.endswith("h5"):
        hdf5(tmp_path / name, raw=VOLUME)
    else:
        zarr.open_group(tmp_path / name, mode="w").create_array("raw", data=VOLUME)
    expected = [{"image": f"{tmp_path / name}/raw"}]
    assert list_volumes(tmp_path / name, require_label=False) == expected


def test_two_dimensions(tmp_path):
    hdf5(tmp_path / "a.h5", raw=VOLUME, label=VOLUME)
    hdf5(tmp_path / "b.h5", raw=VOLUME[0], label=VOLUME[0])
    images = [entry["image"] for entry in list_volumes(tmp_path, spatial_dims=2)]
    assert images == [f"{tmp_path}/{name}" for name in ("a.h5/raw[0]", "a.h5/raw[1]", "a.h5/raw[2]", "b.h5/raw")]


def test_own_and_nested_keys(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as root:
        root["volumes/fluorescence"] = VOLUME
        root["volumes/mask"] = VOLUME
    (entry,) = list_volumes(tmp_path, image_key="volumes/fluorescence", label_key=["label", "volumes/mask"])
    assert entry["image"] == f"{tmp_path}/a.h5/volumes/fluorescence"
    assert entry["label"] == f"{tmp_path}/a.h5/volumes/mask"


def test_ome_zarr(tmp_path):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    root.create_array("s0", data=VOLUME)
    root.attrs["ome"] = {"version": "0.5", "multiscales": [{"datasets": [{"path": "s0"}]}]}
    (entry,) = list_volumes(tmp_path, require_label=False)
    assert entry["image"] == f"{tmp_path}/a.zarr/s0"


@pytest.mark.parametrize(
    "images", ["text", [{"name": "x"}], [{"datasets": []}], [{"datasets": [{"path": 3}]}], {"datasets": []}]
)
def test_malformed_ome_zarr(tmp_path, images):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    root.create_array("s0", data=VOLUME)
    root.attrs["ome"] = {"version": "0.5", "multiscales": images}
    with pytest.raises(InvalidInputError, match=r"a\.zarr has malformed metadata .*OME-Zarr 0\.4 or 0\.5"):
        list_volumes(tmp_path)


def test_missing_or_empty_folder(tmp_path):
    with pytest.raises(MissingDataError, match=r"dataset_dir '.*nowhere' does not exist"):
        list_volumes(tmp_path / "nowhere")
    with pytest.raises(MissingDataError, match=r"no volumes: expected files ending with \.h5.*there is: nothing"):
        list_volumes(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(MissingDataError, match=r"there is: notes\.txt"):
        list_volumes(tmp_path)


def test_no_file_has_the_key(tmp_path):
    hdf5(tmp_path / "a.h5", volume=VOLUME)
    hdf5(tmp_path / "b.h5", other=VOLUME[0], text="hello")
    match = (
        r"dataset \['raw', 'data'\]\. .*a\.h5 has: volume \(3, 4, 5\) uint8\. .*b\.h5 has: other \(4, 5\) uint8; text"
    )
    with pytest.raises(MissingDataError, match=match):
        list_volumes(tmp_path)


def test_file_without_the_key_is_left_out_with_a_warning(tmp_path, caplog):
    hdf5(tmp_path / "a.h5", volume=VOLUME)
    hdf5(tmp_path / "b.h5", raw=VOLUME, label=VOLUME)
    assert [entry["image"] for entry in list_volumes(tmp_path)] == [f"{tmp_path}/b.h5/raw"]
    assert "a.h5 has: volume (3, 4, 5) uint8" in caplog.text


def test_no_label(tmp_path):
    hdf5(tmp_path / "a.h5", raw=VOLUME, lable=VOLUME)
    with pytest.raises(MissingDataError, match=r"a\.h5 has no label dataset \['label', 'labels'\]; it has: lable"):
        list_volumes(tmp_path)
    assert list_volumes(tmp_path, require_label=False) == [{"image": f"{tmp_path}/a.h5/raw"}]


@pytest.mark.parametrize(
    ("image", "label", "match"),
    [
        (VOLUME, VOLUME[:2], r"a\.h5/raw has shape \(3, 4, 5\) but .*label has shape \(2, 4, 5\)"),
        (VOLUME, VOLUME[None], r"raw has shape \(3, 4, 5\) but .* \(1, 3, 4, 5\)"),
        (VOLUME[None], VOLUME[None, :2], r"raw has shape \(1, 3, 4, 5\) but .* \(1, 2, 4, 5\)"),
        (np.stack([VOLUME] * 3), np.stack([VOLUME] * 2), r"a stack of 3 volumes but .*label of 2"),
        (VOLUME[0], VOLUME[0], r"raw has shape \(4, 5\); expected 3 axes, or 4 for a stack.*spatial_dims=3"),
        (VOLUME[:0], VOLUME[:0], r"raw is empty"),
    ],
)
def test_wrong_shapes(tmp_path, image, label, match):
    hdf5(tmp_path / "a.h5", raw=image, label=label)
    with pytest.raises(InvalidInputError, match=match):
        list_volumes(tmp_path)


def test_damaged_file_is_named(tmp_path):
    hdf5(tmp_path / "a.h5", raw=VOLUME, label=VOLUME)
    (tmp_path / "b.h5").write_text("not HDF5")
    with pytest.raises(InvalidInputError, match=r"b\.h5 cannot be opened"):
        list_volumes(tmp_path)


def test_plain_images_beside_their_labels(tmp_path):
    for name in ("a.nii.gz", "a_label.nii.gz", "b.tif", "b_label.tif"):
        (tmp_path / name).write_text("not opened here")
    assert list_volumes(tmp_path) == [
        {"image": f"{tmp_path}/a.nii.gz", "label": f"{tmp_path}/a_label.nii.gz"},
        {"image": f"{tmp_path}/b.tif", "label": f"{tmp_path}/b_label.tif"},
    ]
    (tmp_path / "b_label.tif").unlink()
    assert list_volumes(tmp_path, require_label=False)[1] == {"image": f"{tmp_path}/b.tif"}
    with pytest.raises(MissingDataError, match=r"b\.tif has no label: .*b_label\.tif does not exist"):
        list_volumes(tmp_path)


def test_plain_images_in_folders(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.nrrd").write_text("not opened here")
    assert list_volumes(tmp_path) == [{"image": f"{tmp_path}/images/a.nrrd", "label": f"{tmp_path}/labels/a.nrrd"}]


@pytest.mark.skipif(not NUCLEI.is_dir(), reason="the real data set is not beside this checkout")
def test_real_folder():
    (entry,) = list_volumes(NUCLEI)
    assert entry["image"].endswith("1135_mini.h5/raw")
    loaded = LoadImaged(["image", "label"], ensure_channel_first=True)(entry)
    assert loaded["image"].shape == loaded["label"].shape == (1, 100, 100, 100)
    assert len(loaded["label"].unique()) == 55


def test_weight_and_extra_items(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = file["label"] = file["w"] = np.ones((4, 5, 6), np.uint8)
        file["table"] = np.arange(3)
    (entry,) = list_volumes(tmp_path, weight_key=("weight", "w"), extra_keys={"rows": "table"})
    assert entry == {
        "image": f"{tmp_path}/a.h5/raw",
        "label": f"{tmp_path}/a.h5/label",
        "weight": f"{tmp_path}/a.h5/w",
        "rows": f"{tmp_path}/a.h5/table",
    }
    with pytest.raises(MissingDataError, match=r"no weight dataset \['weight'\]; it has: "):
        list_volumes(tmp_path, weight_key="weight")
    with pytest.raises(MissingDataError, match=r"no rows dataset \['tables'\]"):
        list_volumes(tmp_path, extra_keys={"rows": "tables"})
    with pytest.raises(InvalidInputError, match=r"table has shape \(3,\); they must be equal"):
        list_volumes(tmp_path, weight_key="table")


def test_stacks_with_weights(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = file["label"] = file["weight"] = np.ones((2, 4, 5, 6), np.uint8)
        file["table"] = np.arange(3)
    entries = list_volumes(tmp_path, weight_key="weight")
    assert [entry["weight"] for entry in entries] == [f"{tmp_path}/a.h5/weight[{i}]" for i in range(2)]
    with pytest.raises(InvalidInputError, match=r"table \(rows\) has shape \(3,\), for 2 volumes"):
        list_volumes(tmp_path, extra_keys={"rows": "table"})


def test_images_with_channels(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"], file["label"] = np.ones((2, 4, 5, 6), np.uint8), np.ones((4, 5, 6), np.uint8)
    (entry,) = list_volumes(tmp_path, channels=True)
    assert entry == {"image": f"{tmp_path}/a.h5/raw", "label": f"{tmp_path}/a.h5/label"}
    with pytest.raises(InvalidInputError, match="they must be equal"):
        list_volumes(tmp_path)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["weight"] = np.ones((4, 5, 5), np.uint8)
    with pytest.raises(InvalidInputError, match=r"weight has shape \(4, 5, 5\); they must be equal"):
        list_volumes(tmp_path, weight_key="weight", channels=True)


def test_plain_weights(tmp_path):
    for name in ("a.tif", "a_label.tif", "a_weight.tif"):
        (tmp_path / name).touch()
    (entry,) = list_volumes(tmp_path, weight_key="weight")
    assert entry["weight"] == f"{tmp_path}/a_weight.tif"
    (tmp_path / "a_weight.tif").unlink()
    with pytest.raises(MissingDataError, match=r"a\.tif has no weight: .*a_weight\.tif does not exist"):
        list_volumes(tmp_path, weight_key="weight")
    with pytest.raises(InvalidInputError, match=r"extra_keys=\['rows'\] are for HDF5"):
        list_volumes(tmp_path, extra_keys={"rows": "rows"})


def test_optional_items(tmp_path):
    hdf5(tmp_path / "a.h5", raw=VOLUME, label=VOLUME, ids=VOLUME)
    hdf5(tmp_path / "b.h5", raw=VOLUME, label=VOLUME)
    hdf5(tmp_path / "c.h5", raw=np.stack([VOLUME] * 2), label=np.stack([VOLUME] * 2), other=np.stack([VOLUME] * 2))
    entries = list_volumes(tmp_path, optional_keys={"instances": ("ids", "other")})
    assert [entry.get("instances") for entry in entries] == [
        f"{tmp_path}/a.h5/ids",
        None,
        f"{tmp_path}/c.h5/other[0]",
        f"{tmp_path}/c.h5/other[1]",
    ]
    assert set(entries[1]) == {"image", "label"}
    assert list_volumes(tmp_path, optional_keys={"instances": "nothing"}) == list_volumes(tmp_path)
    hdf5(tmp_path / "b.h5", raw=VOLUME, label=VOLUME, ids=VOLUME[:2])
    with pytest.raises(InvalidInputError, match=r"b\.h5/ids has shape \(2, 4, 5\); they must be equal"):
        list_volumes(tmp_path, optional_keys={"instances": "ids"})


def test_optional_items_of_plain_images(tmp_path):
    keys = {"weight": "weight", "instances": "instances"}
    for name in ("a.tif", "a_label.tif", "a_weight.tif", "b.tif", "b_label.tif"):
        (tmp_path / name).touch()
    assert list_volumes(tmp_path, optional_keys=keys) == [
        {name: f"{tmp_path}/a{end}.tif" for name, end in (("image", ""), ("label", "_label"), ("weight", "_weight"))},
        {"image": f"{tmp_path}/b.tif", "label": f"{tmp_path}/b_label.tif"},
    ]
    for folder in ("images", "labels", "instances"):
        (tmp_path / "c" / folder).mkdir(parents=True)
        (tmp_path / "c" / folder / "a.nii.gz").touch()
    (entry,) = list_volumes(tmp_path / "c", optional_keys=keys)
    assert entry == {
        name: f"{tmp_path}/c/{folder}/a.nii.gz"
        for name, folder in (("image", "images"), ("label", "labels"), ("instances", "instances"))
    }
