"""Feature tables on disk: what is written is read, and what is refused."""

from __future__ import annotations

import h5py
import numpy as np
import pandas as pd
import pytest

from voxel_ext.data.feature_files import compare_feature_ids, read_feature_folder, read_features, write_features
from voxel_ext.errors import InvalidInputError, MissingDataError

SUFFIXES = (".parquet", ".h5", ".hdf5")


def table():
    return pd.DataFrame(
        {
            "volume_um3": np.array([0.1, 0.2, np.nan, 1e300]),
            "voxels": np.array([5, 2**53, 7, 8]),
            "touches_border": [True, False, True, True],
            "id": np.array([2**63 - 1, 3, 2**53 + 1, 2**53], dtype=np.int64),
        }
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip(tmp_path, suffix):
    path = tmp_path / "new" / f"sizef{suffix}"
    write_features(table(), path)
    found = read_features(path)
    assert found["id"].tolist() == [3, 2**53, 2**53 + 1, 2**63 - 1]
    expected = table().sort_values("id", ignore_index=True)[["id", "volume_um3", "voxels", "touches_border"]]
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_parquet_keeps_text(tmp_path):
    write_features(pd.DataFrame({"id": [1, 2], "class": ["rod", "sheet"]}), tmp_path / "a.parquet")
    assert read_features(tmp_path / "a.parquet")["class"].tolist() == ["rod", "sheet"]


def test_layout_of_hdf5(tmp_path):
    latent = np.random.default_rng(0).random((3, 4), np.float32)
    frame = pd.DataFrame(latent).assign(id=[1, 2, 3])
    write_features(frame, tmp_path / "shapef.h5")
    with h5py.File(tmp_path / "shapef.h5") as file:
        assert sorted(file) == ["id", "values"]
        assert (file["id"].dtype, file["values"].dtype) == (np.int64, np.float32)
        assert np.array_equal(file["values"], latent)
        assert file["values"].attrs["columns"] == '["0", "1", "2", "3"]'


@pytest.mark.parametrize("kind", [np.uint8, np.uint64, np.int32])
@pytest.mark.parametrize("suffix", SUFFIXES[:2])
def test_ids_become_int64(tmp_path, kind, suffix):
    write_features(pd.DataFrame({"id": np.array([9, 4], kind), "v": [1.0, 2.0]}), tmp_path / f"a{suffix}")
    found = read_features(tmp_path / f"a{suffix}")
    assert found["id"].dtype == np.int64
    assert found.to_numpy().tolist() == [[4, 2], [9, 1]]


@pytest.mark.parametrize("key", ["values", "shapef"])
@pytest.mark.parametrize("shape", [(3,), (3, 2)])
def test_hdf5_of_other_programs(tmp_path, key, shape):
    values = np.arange(np.prod(shape), dtype=float).reshape(shape)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["id"], file[key] = np.array([7, 5, 6], np.uint16), values
    found = read_features(tmp_path / "a.h5")
    assert found["id"].tolist() == [5, 6, 7]
    assert np.array_equal(found.drop(columns="id"), values.reshape(3, -1)[[1, 2, 0]])


def test_a_failed_write_leaves_what_was_there(tmp_path):
    for suffix in SUFFIXES:
        write_features(table(), tmp_path / f"a{suffix}")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    bad = pd.DataFrame({"id": [1, 2], "v": ["x", {"y": 1}]})
    with pytest.raises(InvalidInputError, match="use Parquet"):
        write_features(bad, tmp_path / "a.h5")
    with pytest.raises((TypeError, ValueError)):
        write_features(bad, tmp_path / "a.parquet")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_files_that_differ_are_listed(tmp_path):
    for name, ids in (("a.h5", [1, 2, 2**60]), ("b.parquet", [2, 1, 2**60]), ("c.h5", [2, 5])):
        write_features(pd.DataFrame({"id": ids, "v": 0.0}), tmp_path / name)
    found = compare_feature_ids([tmp_path / name for name in ("a.h5", "b.parquet", "c.h5")])
    assert {path.rsplit("/")[-1]: ids.tolist() for path, ids in found.items()} == {
        "a.h5": [5],
        "b.parquet": [5],
        "c.h5": [1, 2**60],
    }
    assert compare_feature_ids([tmp_path / "a.h5", tmp_path / "b.parquet"]) == {}


def test_folder(tmp_path):
    write_features(pd.DataFrame({"id": [1], "v": [1.0]}), tmp_path / "sizef.h5")
    write_features(pd.DataFrame({"id": [1], "v": [2.0]}), tmp_path / "shapef.h5")
    write_features(pd.DataFrame({"id": [1], "v": [3.0]}), tmp_path / "shapef.parquet")
    found = read_feature_folder(tmp_path, ["shapef", "sizef"])
    assert [(name, frame["v"].item()) for name, frame in found.items()] == [("shapef", 3), ("sizef", 1)]
    with pytest.raises(MissingDataError, match="has no features texturef, clf; it has: shapef, sizef"):
        read_feature_folder(tmp_path, ["sizef", "texturef", "clf"])
    with pytest.raises(MissingDataError, match="is not a folder"):
        read_feature_folder(tmp_path / "none", ["sizef"])


@pytest.mark.parametrize("suffix", SUFFIXES[:2])
def test_missing_damaged_and_foreign_files(tmp_path, suffix):
    with pytest.raises(MissingDataError, match=r"a\S+ does not exist"):
        read_features(tmp_path / f"a{suffix}")
    write_features(table(), tmp_path / f"a{suffix}")
    content = (tmp_path / f"a{suffix}").read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"id,v\n1,2\n"):
        (tmp_path / f"b{suffix}").write_bytes(damaged)
        with pytest.raises(InvalidInputError, match=r"b\S+ cannot be .*truncated, or not a"):
            read_features(tmp_path / f"b{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES[:2])
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"v": [1.0]}, "has the columns v; expected one 'id'"),
        ({"id": [1.0, 2.0]}, "the ids are float64"),
        ({"id": [3, 3]}, "more than one row has the id 3"),
    ],
)
def test_bad_ids_are_not_written(tmp_path, suffix, columns, message):
    with pytest.raises(InvalidInputError, match=message):
        write_features(pd.DataFrame(columns), tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_bad_ids_are_not_read(tmp_path):
    pd.DataFrame({"id": [1.0, 2.0], "v": [1.0, 2.0]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InvalidInputError, match=r"a\.parquet: the ids are float64"):
        read_features(tmp_path / "a.parquet")
    pd.DataFrame({"key": [1, 2]}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(InvalidInputError, match=r"b\.parquet has the columns key; expected one 'id'"):
        read_features(tmp_path / "b.parquet")


def test_bad_hdf5(tmp_path):
    def make(**datasets):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            for name, values in datasets.items():
                file[name] = values
        return tmp_path / "a.h5"

    with pytest.raises(InvalidInputError, match="has the datasets id, x, y; expected 'id' and 'values'"):
        read_features(make(id=[1], x=[1], y=[1]))
    with pytest.raises(InvalidInputError, match=r"'id' has shape \(2,\) and 'values' \(3, 2\)"):
        read_features(make(id=[1, 2], values=np.zeros((3, 2))))
    path = make(id=[1, 2], values=np.zeros((2, 2)))
    with h5py.File(path, "r+") as file:
        file["values"].attrs["columns"] = '["a"]'
    with pytest.raises(InvalidInputError, match="has 2 columns, but its attributes 1 names"):
        read_features(path)
    with pytest.raises(InvalidInputError, match="whole numbers above 2\\^53"):
        write_features(pd.DataFrame({"id": [1], "v": [2**53 + 1]}), tmp_path / "b.h5")
    with pytest.raises(InvalidInputError, match=r"a\.csv: expected a file of features, .*\.parquet"):
        read_features(tmp_path / "a.csv")
