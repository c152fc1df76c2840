import os
from types import SimpleNamespace

import pytest
from monai.data import FolderLayout

from voxel_ext.data import volume_name

CASES = [
    ("1135_mini.h5/raw", "1135_mini"),
    ("/x/1135_mini.h5", "1135_mini"),
    ("val.h5/data[3]", "val_0003"),
    ("val.h5/data[12345]", "val_12345"),
    ("val.zarr[3]", "val_0003"),
    ("a.h5/raw[0:80]", "a_0000-0080"),
    ("a.h5/raw[80:100]", "a_0080-0100"),
    ("a.h5/t1", "a_t1"),
    ("a.h5/t2/channel[4]", "a_t2_channel_0004"),
    ("store.zarr/0", "store"),
    ("a.nii.gz", "a"),
    ("x/a.tif", "a"),
    ("cell.v2.h5/raw", "cell.v2"),
    ("size_0.5.h5/raw[1]", "size_0.5_0001"),
    ("size_0.5.nii.gz", "size_0.5"),
    ("size_0.5", "size_0.5"),
]


@pytest.mark.parametrize(("address", "name"), CASES)
@pytest.mark.parametrize("suffix", [".h5", ".nii.gz", ""])
def test_output_file(address, name, suffix):
    layout = FolderLayout("out", postfix="seg", extension=suffix, parent=True)
    kwargs = volume_name({"filename_or_obj": address}, SimpleNamespace(_data_index=0))
    assert layout.filename(**kwargs) == os.path.join("out", name, f"{name}_seg{suffix}")


@pytest.mark.parametrize(("address", "name"), [case for case in CASES if "." not in case[1]])
def test_subject(address, name):
    subject = volume_name({"filename_or_obj": address}, None)["subject"]
    assert os.path.basename(subject) == name


def test_different_volumes_of_a_file_have_different_names():
    addresses = ["a.h5/t1", "a.h5/t2", "a.h5/raw", "a.h5/raw[1]", "a.h5/raw[11]", "a.h5/raw[1:11]"]
    assert len({volume_name({"filename_or_obj": address}, None)["subject"] for address in addresses}) == len(addresses)


def test_data_root_dir_keeps_folders():
    layout = FolderLayout("out", extension=".h5", data_root_dir="/data")
    assert layout.filename(**volume_name({"filename_or_obj": "/data/fly/a.h5/raw"}, None)) == "out/fly/a.h5"


def test_without_metadata_and_with_patches():
    saver = SimpleNamespace(_data_index=7)
    assert volume_name(None, saver) == {"subject": "7", "idx": None}
    assert volume_name({}, saver) == {"subject": "7", "idx": None}
    assert volume_name({"filename_or_obj": "a.h5", "patch_index": 2}, saver) == {"subject": "a", "idx": 2}
