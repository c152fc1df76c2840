import pytest

from voxel_ext.data.roi_table import RoiLabel, read_roi_table
from voxel_ext.errors import InvalidInputError, MissingDataError


def write(tmp_path, text, name="worm.csv"):
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return file


def rows(table):
    return [(label.name, label.roi_id, label.confidence) for label in table.labels]


EXPECTED = [("AVAL", 3, 5), ("RMD?", 12, 2), ("RMD?", 15, 2), ("granule", 7, 4)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "a.csv",
            "Neuron Class,Coordinates,ROI ID,Confidence,Comments\n"
            'AVAL,"(1, 2, 3)",3,5,sure\nRMD?,,12/15,2,\n\ngranule,,7.0,4.0,\n',
        ),
        ("b.tsv", "confidence\tROI_ID\tneuron\n5\t3\tAVAL\n2\t12 / 15\tRMD?\n4\t7\tgranule\n"),
        ("c.csv", "id;name;ROI;Confidence\n1;AVAL;3;5\n2;RMD?;12/15;2\n3;granule;7;4\n"),
        ("d.csv", "AVAL,x,3,5\nRMD?,x,12/15,2\ngranule,x,7,4,note\n"),
        ("e.csv", "\ufeffcell,where,number,how sure\nAVAL,x,3,5\nRMD?,x,12.0/15.0,2\ngranule,x,7,4\n"),
    ],
)
def test_formats(tmp_path, name, text):
    assert rows(read_roi_table(write(tmp_path, text, name))) == EXPECTED


def test_lines_and_comments(tmp_path):
    text = 'Neuron Class,ROI ID,Confidence,Comments\nAVAL,3,5,"two\nlines"\nAVAR,4,1,x\n'
    first, second = read_roi_table(write(tmp_path, text)).labels
    assert first == RoiLabel("AVAL", 3, 5, 3, "two\nlines")
    assert second == RoiLabel("AVAR", 4, 1, 4, "x")


def test_truth_needs_no_confidence(tmp_path):
    table = read_roi_table(write(tmp_path, "ROI ID,Neuron Class\n1,AVAL\n2,AVAR\n"), confidence=False)
    assert rows(table) == [("AVAL", 1, 5), ("AVAR", 2, 5)]


def test_labeling_result_can_be_read(tmp_path):
    text = (
        "Neuron Class,Coordinates,ROI ID,Confidence,Alternatives,Notes\n"
        'AVAL,"(1.0, 2.0, 3.0)",3,5,AVAR,\nUNKNOWN,"(1, 1, 1)",4,0,,\n'
    )
    assert rows(read_roi_table(write(tmp_path, text))) == [("AVAL", 3, 5), ("UNKNOWN", 4, 0)]


def test_all_wrong_rows_are_listed(tmp_path):
    text = (
        "Neuron Class,ROI ID,Confidence\n"
        "AVAL,3,5\n"  # 2
        "AVAL,3,4\n"  # 3: duplicate
        ",4,5\n"  # 4: no name
        "AVAR,,5\n"  # 5: no ROI
        "AVBL,x,5\n"  # 6
        "AVBR,0,5\n"  # 7
        "AVDL,5/-6,5\n"  # 8
        "AVDR,8,0\n"  # 9
        "AVEL,9,6\n"  # 10
        "AVER,10,2.5\n"  # 11
        "AIBL,11\n"  # 12: no confidence
        "AIBR,12/13/12,3\n"  # 13: duplicate within the cell
        "AIZL,14,3\n"
    )
    with pytest.raises(InvalidInputError) as error:
        read_roi_table(write(tmp_path, text))
    message = str(error.value)
    assert "worm.csv has 11 errors" in message
    assert "line 3: AVAL for ROI 3 is also in line 2" in message
    assert "line 5: the ROI cell of 'AVAR' is empty" in message
    assert "line 9: confidence '0'; expected an integer from 1 to 5" in message
    assert "line 13: AIBR for ROI 12 is also in line 13" in message
    assert {int(line.split()[1][:-1]) for line in message.splitlines()[1:]} == set(range(3, 14))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "is empty"),
        ("\n , \n", "is empty"),
        ("Neuron Class,ROI ID,Confidence\n", "a header but no rows"),
        ("Neuron Class,ROI ID\nAVAL,3\n", "no column Confidence; its first line is Neuron Class, ROI ID"),
        ("Confidence,Comments\n3,x\n", "no column Neuron Class, Roi Id"),
        ("AVAL,3\n", "no known header, and 2 columns; expected the headers Neuron Class"),
    ],
)
def test_tables_without_rows_or_columns(tmp_path, text, match):
    with pytest.raises(InvalidInputError, match=match):
        read_roi_table(write(tmp_path, text))


def test_missing_or_foreign_file(tmp_path):
    with pytest.raises(MissingDataError, match=r"none\.csv does not exist"):
        read_roi_table(tmp_path / "none.csv")
    (tmp_path / "image.csv").write_bytes(b"\x89PNG\xff\x00")
    with pytest.raises(InvalidInputError, match="not a table"):
        read_roi_table(tmp_path / "image.csv")


def test_rois_that_are_not_in_the_volume_are_all_listed(tmp_path):
    table = read_roi_table(write(tmp_path, "neuron,roi,confidence\nAVAL,3,5\nAVAR,12/15,2\nAVBL,16,2\n"))
    table.check_ids([3, 12, 15, 16, 99], "rois.nrrd")
    with pytest.raises(InvalidInputError, match=r"2 ROIs that are not in rois\.nrrd .*from 3 to 15") as error:
        table.check_ids({3, 15}, "rois.nrrd")
    assert "line 3: ROI 12 (AVAR)" in str(error.value)
    assert "line 4: ROI 16 (AVBL)" in str(error.value)
    assert "ROI 15" not in str(error.value)
    with pytest.raises(InvalidInputError, match="it has none"):
        table.check_ids([], "rois.nrrd")
