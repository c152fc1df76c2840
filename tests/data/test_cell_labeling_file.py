import h5py
import numpy as np
import pytest

from voxel_ext.data.cell_labeling_file import (
    CellVolume,
    channel_indices,
    list_cell_volumes,
    read_cell_channels,
    read_cell_header,
    read_cell_volume,
    write_cell_volume,
)
from voxel_ext.errors import InvalidInputError, MissingDataError

SHAPE = (3, 5, 6, 7)


def volume(**changes):
    rng = np.random.default_rng(0)
    roi = np.zeros(SHAPE[1:], np.uint16)
    roi[1:3, 1:3, 1:3], roi[3:5, 3:5, 3:6] = 4, 90
    fields = {
        "raw": rng.integers(0, 65535, SHAPE).astype(np.uint16),
        "roi": roi,
        "roi_ids": [4, 90],
        "roi_class": [2, 0],
        "roi_weight": [600.0, 1.0],
        "roi_other_weight": [180.0, 1.0],
        "roi_confidence": [3, 0],
        "class_names": ("background", "AVAL", "RMDγ"),
        "channels": ("a", "b", "c"),
        "settings": {"size": [5, 6, 7]},
    }
    return CellVolume(**fields | changes)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("truth", [None, [2, 1]])
def test_round_trip(tmp_path, dtype, truth):
    original = volume(raw=volume().raw.astype(dtype), true_class=truth)
    file = write_cell_volume(tmp_path / "deep" / "a.h5", original)
    read = read_cell_volume(file)
    for name, value in vars(original).items():
        if isinstance(value, np.ndarray):
            assert getattr(read, name).dtype == value.dtype, name
            np.testing.assert_array_equal(getattr(read, name), value)
        else:
            assert getattr(read, name) == value, name
    header = read_cell_header(file)
    assert header.shape == SHAPE
    assert len(header) == 2
    assert header.class_names == original.class_names
    assert not hasattr(header, "raw")


def test_contract_of_the_file(tmp_path):
    file = write_cell_volume(tmp_path / "a.h5", volume(true_class=[2, 1]))
    with h5py.File(file) as opened:
        dtypes = {name: opened[name].dtype for name in opened if name != "class_names"}
        assert dtypes == {
            "raw": np.uint16,
            "roi": np.uint16,
            "roi_ids": np.int64,
            "roi_class": np.int64,
            "roi_weight": np.float32,
            "roi_other_weight": np.float32,
            "roi_confidence": np.int64,
            "true_class": np.int64,
        }
        assert opened["class_names"].asstr()[0] == "background"
        assert opened.attrs["channels"] == '["a", "b", "c"]'
        assert opened.attrs["settings"] == '{"size": [5, 6, 7]}'


@pytest.mark.parametrize(
    ("channels", "expected"), [(None, [0, 1, 2]), ("b", [1]), (["c", "a"], [2, 0]), (2, [2]), ([1, "a"], [1, 0])]
)
def test_channels(tmp_path, channels, expected):
    file = write_cell_volume(tmp_path / "a.h5", volume())
    header, raw, roi = read_cell_channels(file, channels)
    np.testing.assert_array_equal(raw, volume().raw[expected])
    np.testing.assert_array_equal(roi, volume().roi)
    assert header.shape == SHAPE


@pytest.mark.parametrize("channels", ["TagRFP", ["a", "TagRFP"], 3, -1, []])
def test_channels_that_are_not_there(tmp_path, channels):
    file = write_cell_volume(tmp_path / "a.h5", volume())
    with pytest.raises(InvalidInputError, match=r"a\.h5 has 3 channels \(a, b, c\), but the channels"):
        read_cell_channels(file, channels)
    with pytest.raises(InvalidInputError, match="the image has"):
        channel_indices(["a"], channels)


BAD = [
    ({"roi_ids": [4, 91]}, r"\[90, 91\] are in one of them only"),
    ({"roi_ids": [90, 4]}, "ascending"),
    ({"roi_ids": [0, 4]}, "ascending"),
    ({"roi_ids": [4], "roi_class": [0]}, "roi_weight has shape"),
    ({"roi_class": [3, 0]}, "roi_class has values from 0 to 3; expected 0 to 2"),
    ({"roi_class": [-1, 0]}, "roi_class has values from -1"),
    ({"true_class": [1, 7]}, "true_class has values"),
    ({"true_class": [1]}, "true_class has shape"),
    ({"roi_confidence": [6, 0]}, "roi_confidence has values"),
    ({"roi_weight": [-1.0, 1.0]}, "roi_weight: 1 weights are negative, the least is -1"),
    ({"roi_weight": [0.0, 0.0]}, "all 2 weights are zero"),
    ({"roi_other_weight": [np.nan, 1.0]}, "roi_other_weight: 1 weights are NaN"),
    ({"class_names": ("AVAL", "background", "x")}, "'background' first"),
    ({"class_names": ("background", "AVAL", "AVAL")}, "different names"),
    ({"channels": ("a", "b")}, "3 channels but the names a, b"),
    ({"channels": ("a", "b", "a")}, "a different name"),
    ({"raw": np.zeros(SHAPE)}, "float64; expected float32 or uint16"),
    ({"raw": np.zeros(SHAPE[1:], np.float32)}, r"expected \(C, D, H, W\)"),
    ({"roi": np.zeros((5, 6, 8), np.uint16)}, "roi has shape"),
    ({"roi": np.zeros(SHAPE[1:], np.int64)}, "roi has shape .* int64"),
    (
        {"roi": np.zeros(SHAPE[1:], np.uint16)}
        | {key: [] for key in ("roi_ids", "roi_class", "roi_weight", "roi_other_weight", "roi_confidence")},
        "there are no ROIs",
    ),
]


@pytest.mark.parametrize(("changes", "match"), BAD)
def test_wrong_content(changes, match):
    with pytest.raises(InvalidInputError, match=match):
        volume(**changes)


def replace(file, name, data):
    with h5py.File(file, "r+") as opened:
        if name in opened.attrs:
            del opened.attrs[name]
        elif name in opened:
            del opened[name]
            if data is not None:
                opened[name] = data


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("roi", None, "no roi"),
        ("channels", None, "no attribute channels"),
        ("roi_weight", np.full(2, -3, np.float32), "negative"),
        ("roi_class", np.array([9, 0]), "roi_class has values"),
        ("raw", np.zeros((5, 6, 7), np.float32), "raw has shape"),
        ("roi", np.zeros((5, 6, 9), np.uint16), "but roi"),
        ("class_names", np.arange(3), "cannot be read"),
    ],
)
def test_foreign_files(tmp_path, name, data, match):
    file = write_cell_volume(tmp_path / "a.h5", volume())
    replace(file, name, data)
    for read in (read_cell_header, read_cell_volume):
        with pytest.raises(InvalidInputError, match=match) as error:
            read(file)
        assert str(file) in str(error.value)


def test_ids_that_differ_from_the_volume(tmp_path):
    file = write_cell_volume(tmp_path / "a.h5", volume())
    replace(file, "roi_ids", np.array([4, 5]))
    with pytest.raises(InvalidInputError, match=r"a\.h5.*in one of them only"):
        read_cell_volume(file)


def test_list(tmp_path):
    for name in ("b.h5", "a.h5", ".hidden.h5", "sub/c.h5"):
        write_cell_volume(tmp_path / name, volume())
    assert [path.name for path in list_cell_volumes(tmp_path)] == ["a.h5", "b.h5"]
    assert list_cell_volumes(tmp_path / "a.h5") == [tmp_path / "a.h5"]
    with pytest.raises(MissingDataError, match="does not exist"):
        list_cell_volumes(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingDataError, match="no prepared animals"):
        list_cell_volumes(tmp_path / "empty")
