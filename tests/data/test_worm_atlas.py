import csv
from pathlib import Path

import numpy as np
import pytest

from voxel_ext.data import (
    WormTable,
    align_by_atlas,
    aligned_positions,
    atlas_worms,
    build_atlas,
    compare_pairs,
    name_by_atlas,
    write_worm_table,
)
from voxel_ext.data.worm_atlas import read_positions
from voxel_ext.data.worm_tables import cell_rows, file_names, write_rows
from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.matching import WormAtlas

CELLS = 40
NAMES = [f"N{i}" for i in range(CELLS)]
BUNDLE = Path(__file__).parents[2] / "bundles" / "worm_matching"


def make_worms(folder, count=6, left_out=()):
    """Forty cells, bent and stretched a little in each worm; every other worm lies on its other side."""
    rng = np.random.default_rng(0)
    mean = rng.random((CELLS, 3)) * [30, 40, 400]
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        points = mean + 0.3 * rng.standard_normal((CELLS, 3))
        points[:, 1] += rng.normal() * np.sin(mean[:, 2] / 150)
        points *= 1 + 0.02 * rng.standard_normal(3)
        if number % 2:
            points[:, :2] = [30, 40] - points[:, :2]
        kept = [i for i in range(CELLS) if (number, i) not in left_out]
        table = WormTable(
            tuple(NAMES[i] for i in kept), points[kept], np.array(kept) + 1, np.array(kept), f"worm {number}"
        )
        write_worm_table(folder / f"w{number}.txt", table)
    return sorted(folder.glob("*.txt"))


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_atlas_names_and_aligns_worms_it_has_not_seen(tmp_path):
    files = make_worms(tmp_path / "in", left_out={(5, 0), (5, 7)})
    atlas = build_atlas(files[:4], tmp_path / "atlas.npz")
    assert WormAtlas.load(tmp_path / "atlas.npz").names == NAMES
    named = name_by_atlas(atlas, files[4:], tmp_path / "out")
    assert [item.accuracy for item in named] == [1.0, 1.0]
    rows = read(tmp_path / "out" / "names" / "w5.csv")
    assert list(rows[0]) == ["slot", "z", "y", "x", "name", "cost", "margin", "true_name", "correct"]
    assert [row["slot"] for row in rows] == [str(i) for i in range(CELLS) if i not in (0, 7)]
    assert all(row["name"] == NAMES[int(row["slot"])] and row["correct"] == "true" for row in rows)
    assert [row["named"] for row in read(tmp_path / "out" / "names.csv")] == ["40", "38"]
    align_by_atlas(atlas, files[5:], tmp_path / "out")
    aligned = read(tmp_path / "out" / "aligned" / "w5.csv")
    found = np.array([[float(row[axis]) for axis in "zyx"] for row in aligned])
    expected = atlas.mean[[int(row["slot"]) for row in aligned]]
    assert np.abs(found - expected).mean(axis=0).max() < 1.5


def test_aligned_positions_keep_missing_rows(tmp_path):
    files = make_worms(tmp_path)
    worm = read_positions(files[3:4])[0].positions
    worm[3] = np.nan
    moved = aligned_positions(build_atlas(files[:3]), worm, "quadratic")
    assert np.flatnonzero(np.isnan(moved[:, 0])).tolist() == [3]


def test_unknown_truth_and_names_that_are_not_known(tmp_path):
    files = make_worms(tmp_path)
    (item,) = name_by_atlas(build_atlas(files[:4]), files[5:], tmp_path / "out", truth=False)
    assert np.isnan(item.accuracy)
    assert "correct" not in read(tmp_path / "out" / "names" / "w5.csv")[0]
    assert not (tmp_path / "out" / "per_cell.csv").exists()


def test_pairs_are_compared_by_slot(tmp_path):
    rows = compare_pairs(make_worms(tmp_path, 3), ("roll", "quadratic"), max_pairs=2)
    assert [row["method"] for row in rows] == ["pairs, roll", "pairs, quadratic"]
    assert all(row["pairs"] == 2 and row["accuracy"] > 0.9 and row["worst"] <= row["accuracy"] for row in rows)
    assert compare_pairs(tmp_path, max_pairs=0) == []


def test_coordinate_files_are_split_by_worm(tmp_path):
    files = make_worms(tmp_path / "coordinates")
    parts = atlas_worms(tmp_path, 0.34)
    assert sorted(parts["train"] + parts["val"]) == files
    assert len(parts["val"]) == 2
    with pytest.raises(InvalidInputError, match="validation_fraction=2"):
        atlas_worms(tmp_path, 2)


def test_bad_worms(tmp_path):
    with pytest.raises(MissingDataError, match=r"neither prepared worms .* nor coordinate files"):
        read_positions(tmp_path)
    with pytest.raises(InvalidInputError, match="there are no worms"):
        read_positions([])
    with pytest.raises(InvalidInputError, match=r"expected a prepared worm \.h5 or a coordinate file \.txt"):
        read_positions([tmp_path / "a.csv"])
    files = make_worms(tmp_path)
    table = files[1].read_text(encoding="utf-8").replace("\tN3\t", "\tother\t")
    files[1].write_text(table, encoding="utf-8")
    with pytest.raises(InvalidInputError, match="worm w1 calls the cell of Aligned_No 4 'other'"):
        build_atlas(files)


def test_output_that_cannot_be_written(tmp_path):
    atlas = build_atlas(make_worms(tmp_path)[:3])
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write"):
        name_by_atlas(atlas, [tmp_path / "w3.txt"], tmp_path / "file")


def test_atlas_command(tmp_path):
    pytest.importorskip("plotly")
    from monai.bundle import ConfigParser

    make_worms(tmp_path / "in" / "coordinates")
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "atlas.json"))
    folders = {"dataset_dir": tmp_path / "in", "atlas_file": tmp_path / "m" / "atlas.npz", "output_dir": tmp_path / "o"}
    parser.update({**{key: str(value) for key, value in folders.items()}, "validation_fraction": 0.34, "max_pairs": 1})
    parser.get_parsed_content("initialize")
    parser.get_parsed_content("atlas")
    assert WormAtlas.load(tmp_path / "m" / "atlas.npz").residuals.shape == (4, CELLS, 3)
    assert len(list((tmp_path / "o" / "aligned").glob("*.csv"))) == 6
    assert len(read(tmp_path / "o" / "names.csv")) == 2
    page = (tmp_path / "o" / "report.html").read_text(encoding="utf-8")
    for text in ("pairs, roll", "pairs, drift", "naming by the atlas", "naming accuracy, worst"):
        assert text in page


def test_rows_are_written_as_csv(tmp_path):
    rows = [{"a": 'say "1, 2"', "b": 1 / 3, "c": True}, {"a": "é", "b": float("nan"), "c": None}]
    path = write_rows(tmp_path / "x.csv", rows, ["a", "b", "c", "d"])
    assert path.read_bytes().decode() == 'a,b,c,d\n"say ""1, 2""",0.3333333,true,\né,,,\n'


def test_file_names_are_safe_and_unique():
    assert file_names(["a/b", "a b", "../x", "A_B", ""]) == ["a_b", "a_b_2", "_x", "A_B_3", "_"]


def test_cell_rows_count_confusions():
    found = [([0, 1, 2], [1, 1, -1]), ([0, 1], [1, 3])]
    rows = {row["name"]: row for row in cell_rows(["AL", "AR", "B", "?"], found)}
    assert set(rows) == {"AL", "AR", "B"}
    assert (rows["AL"]["accuracy"], rows["AL"]["left_right"], rows["AL"]["confused_with"]) == (0, 1, "AR")
    assert (rows["AR"]["accuracy"], rows["AR"]["confused_with"]) == (0.5, "?")
    assert (rows["B"]["count"], rows["B"]["accuracy"], rows["B"]["confused_with"]) == (1, 0, None)
    with pytest.raises(InvalidInputError, match="not pairs of 0 to 1"):
        cell_rows(["a", "b"], [([0], [2])])
