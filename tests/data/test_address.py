import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxel_ext.data import VolumeAddress, parse_address
from voxel_ext.errors import InvalidInputError

names = st.text("abcxyzäß019_- ()[].", min_size=1, max_size=8).filter(
    lambda text: not text.lower().endswith((".h5", ".hdf5", ".hdf", ".zarr")) and not text.endswith("]")
)
paths = st.lists(names, max_size=3).map("/".join)
suffixes = st.sampled_from([".h5", ".hdf5", ".hdf", ".zarr", ".H5"])
indices = st.integers(0, 10**6)
ranges = st.tuples(indices, st.integers(1, 1000)).map(lambda pair: (pair[0], sum(pair)))


@given(folder=paths, stem=names, suffix=suffixes, key=paths, selection=st.none() | indices | ranges)
def test_str_and_parse_are_inverse(folder, stem, suffix, key, selection):
    address = VolumeAddress("/".join(filter(None, (folder, stem + suffix))), key, selection)
    assert parse_address(str(address)) == address
    assert str(parse_address(str(address))) == str(address)


@given(path=st.text(max_size=30))
def test_any_other_text_is_a_plain_file(path):
    assert parse_address(path) == VolumeAddress(path)
    assert str(parse_address(path)) == path


@given(selection=st.none() | st.integers(0, 19) | st.tuples(st.integers(0, 9), st.integers(10, 20)))
def test_index_selects_like_the_text_does(selection):
    array = np.arange(20)
    text = str(VolumeAddress("a.h5", "x", selection)).removeprefix("a.h5/x")
    assert np.array_equal(array[parse_address(f"a.h5/x{text}").index], eval(f"array{text}"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vols.h5/data[3]", VolumeAddress("vols.h5", "data", 3)),
        ("/a b/1135_mini.h5/raw[0:80]", VolumeAddress("/a b/1135_mini.h5", "raw", (0, 80))),
        ("store.zarr/0[2]", VolumeAddress("store.zarr", "0", 2)),
        ("../store.zarr/volumes//raw/", VolumeAddress("../store.zarr", "volumes/raw")),
        ("vols.HDF5[3]", VolumeAddress("vols.HDF5", "", 3)),
        ("vols.h5", VolumeAddress("vols.h5")),
        ("x[1].h5/data", VolumeAddress("x[1].h5", "data")),
        ("scan[3].nii.gz", VolumeAddress("scan[3].nii.gz")),
        ("folder/scan.tif[3]", VolumeAddress("folder/scan.tif[3]")),
        ("a.h5x/b", VolumeAddress("a.h5x/b")),
        ("a.h5/part.zarr/x", VolumeAddress("a.h5", "part.zarr/x")),
    ],
)
def test_examples(text, expected):
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text", ["a.h5/x[-1]", "a.h5/x[:80]", "a.h5/x[0:80:2]", "a.zarr/x[]", "a.h5/x[a]", "a.h5/x[5:5]"]
)
def test_invalid_selections(text):
    with pytest.raises(InvalidInputError, match=r"a\.(h5|zarr).*(start:stop)"):
        parse_address(text)


def test_key_or_selection_of_a_plain_file():
    with pytest.raises(InvalidInputError, match=r"'a\.nii' has no datasets inside"):
        VolumeAddress("a.nii", "raw")
    with pytest.raises(InvalidInputError, match="0 <= start < stop"):
        VolumeAddress("a.h5", "raw", -1)
