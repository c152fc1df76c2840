from pathlib import Path

import numpy as np
import pytest

from voxel_ext.data.worm_table import WormTable, check_inside, read_worm_table, write_worm_table
from voxel_ext.errors import InvalidInputError, MissingDataError

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "worm_coordinates"
HEADER = "label_number\tlabel_name\tx\ty\tz\tAligned_No\n"
ROWS = ("7\tADAL\t3.5\t2.25\t1.0\t2\n", "4\tADAR\t9.5\t8.0\t7.0\t1\n")


def written(tmp_path, text):
    path = tmp_path / "worm_001.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_reads_positions_in_array_order(tmp_path):
    table = read_worm_table(written(tmp_path, HEADER + "".join(ROWS)))
    assert table.names == ("ADAL", "ADAR")
    assert table.positions.tolist() == [[1.0, 2.25, 3.5], [7.0, 8.0, 9.5]]
    assert table.numbers.tolist() == [2, 1]
    assert table.label_numbers.tolist() == [7, 4]
    assert table.path.endswith("worm_001.txt")
    assert len(table) == 2


def test_halves_are_rounded_up():
    positions = np.array([[0.5, 1.5, 2.5], [-0.5, 0.49, 0.51]])
    table = WormTable(("a", "b"), positions, np.array([1, 2]), np.array([1, 2]))
    assert table.centers.tolist() == [[1, 2, 3], [0, 0, 1]]


def test_order_of_columns_line_ends_and_empty_lines_do_not_matter(tmp_path):
    text = "\ufeffAligned_No\tz\ty\tx\tnote\tlabel_name\tlabel_number\r\n\r\n5\t1\t2\t3\tgood\tA\t9\r\n\r\n"
    table = read_worm_table(written(tmp_path, text))
    assert (table.names, table.positions.tolist(), table.numbers.tolist()) == (("A",), [[1.0, 2.0, 3.0]], [5])


def test_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    table = WormTable(("a", "b é"), rng.uniform(0, 1900, (2, 3)), np.array([558, 3]), np.array([0, 12]))
    again = read_worm_table(write_worm_table(tmp_path / "new" / "a.txt", table))
    assert again.names == table.names
    assert np.abs(again.positions - table.positions).max() <= 5e-7
    assert np.array_equal(again.numbers, table.numbers)
    assert np.array_equal(again.label_numbers, table.label_numbers)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real coordinate files are not there")
def test_real_files(tmp_path):
    for path in sorted(REAL.glob("*.txt"))[:5]:
        table = read_worm_table(path)
        assert np.array_equal(table.numbers, np.arange(1, 559))
        assert sorted(table.label_numbers) == list(range(1, 559))
        assert np.ptp(table.positions, axis=0).argmax() == 2
        assert write_worm_table(tmp_path / path.name, table).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        (HEADER, "has column names but no cells"),
        ("label_name\tx\ty\n" + "a\t1\t2\n", "line 1: no column label_number, z, Aligned_No; .*found 'label_name'"),
        (HEADER.replace("\t", ",") + "1,a,1,1,1,1", "line 1: no column"),
        (HEADER + ROWS[0] + "4\tADAR\t9.5\n", "line 3: 3 columns; expected 6"),
        (HEADER + "7\tA\tthree\t1\t1\t1\n", "line 2, column x: 'three'; expected a finite number"),
        (HEADER + "7\tA\t1\tnan\t1\t1\n", "line 2, column y: 'nan'"),
        (HEADER + "7\tA\t1\t1\t-inf\t1\n", "line 2, column z: '-inf'"),
        (HEADER + "7\tA\t1\t1\t1\t\n", "line 2, column Aligned_No: ''; expected a whole number"),
        (HEADER + "7\tA\t1\t1\t1\t1.5\n", "line 2, column Aligned_No: '1.5'"),
        (HEADER + "7\tA\t1\t1\t1\t0\n", "line 2, column Aligned_No: 0; expected 1 or more"),
        (HEADER + "x\tA\t1\t1\t1\t1\n", "line 2, column label_number: 'x'"),
        (HEADER + "7\t \t1\t1\t1\t1\n", "line 2, column label_name: the name is empty"),
        (HEADER + ROWS[0] + "\n" + ROWS[0].replace("ADAL", "B"), "line 4, column Aligned_No: 2 is also in line 2"),
        (HEADER + ROWS[0] + ROWS[0].replace("2\n", "3\n"), "line 3, column label_name: 'ADAL' is also in line 2"),
        (HEADER + "7\tA\t1\t1\t1\t" + "9" * 30 + "\n", "column Aligned_No: '999"),
        (b"\xff\xfe\x00label", "not a tab-separated UTF-8 text file"),
    ],
)
def test_bad_files(tmp_path, text, match):
    with pytest.raises(InvalidInputError, match=rf"worm_001\.txt.*{match}"):
        read_worm_table(written(tmp_path, text))


def test_no_file(tmp_path):
    with pytest.raises(MissingDataError, match="does not exist"):
        read_worm_table(tmp_path / "none.txt")
    with pytest.raises(InvalidInputError, match="is a folder"):
        read_worm_table(tmp_path)


@pytest.mark.parametrize(
    ("positions", "numbers", "match"),
    [
        ([[1, 2]], [1], "shapes"),
        ([[1, 2, np.nan]], [1], "NaN"),
        ([[1, 2, 3]], [0], "at least 1"),
    ],
)
def test_bad_tables(positions, numbers, match):
    with pytest.raises(InvalidInputError, match=match):
        WormTable(("a",), np.array(positions), np.array(numbers), np.array([1]))


def test_cells_outside_are_listed(tmp_path):
    table = read_worm_table(written(tmp_path, HEADER + "".join(ROWS)))
    check_inside(table, (8, 9, 11))
    # 9.5 is rounded to 10
    with pytest.raises(
        InvalidInputError, match=r"worm_001\.txt: 1 of 2 cells .*the image of shape .*\(8, 9, 10\): ADAR at \(7.0, 8.0"
    ):
        check_inside(table, (8, 9, 10), "the image")
    many = WormTable(tuple("abcde"), np.full((5, 3), -0.6), np.arange(1, 6), np.arange(5))
    with pytest.raises(InvalidInputError, match=r"5 of 5 cells .*a at .*; b at .*; c at .* …"):
        check_inside(many, (5, 5, 5))
