import itertools

import pytest

from voxel_ext.data.neuron_names import (
    describe_unknown,
    expand_name,
    is_uncertain,
    near_names,
    read_class_names,
)
from voxel_ext.errors import InvalidInputError, MissingDataError

CLASSES = ["background", "RMDL", "RMDR", "RMDVL", "RMDVR", "RMDDL", "RMEL", "RMEV", "AVAL"]


@pytest.mark.parametrize("name", ["RMD?", "RMD??", "RM?L", "RME?", "AVAL", "?VAL", "AVA?", "XY?", "??", "RMDXX"])
def test_expansion_is_that_of_trying_all_letters(name):
    holes = [i for i, letter in enumerate(name) if letter == "?"]
    expected = set()
    for letters in itertools.product("DVLR", repeat=len(holes)):
        filled = list(name)
        for place, letter in zip(holes, letters, strict=True):
            filled[place] = letter
        expected |= {"".join(filled)} & set(CLASSES)
    found = expand_name(name, CLASSES)
    assert set(found) == expected
    assert len(found) == len(expected)


def test_expansion_examples():
    assert expand_name("RMD?", CLASSES) == ["RMDL", "RMDR"]
    assert expand_name("RMD?L", CLASSES) == ["RMDDL", "RMDVL"]
    assert expand_name("AVA?", CLASSES) == ["AVAL"]
    assert expand_name("ASH?", CLASSES) == []


def test_uncertain_names():
    assert [is_uncertain(n) for n in ("AVA?", "AVAL-alt", "AVAL", "UNKNOWN")] == [True, True, False, False]


def test_near_names():
    assert near_names("aval", CLASSES)[0] == "AVAL"
    assert near_names("RMDVLL", CLASSES)[0] == "RMDVL"
    assert near_names("qqqq", CLASSES) == []
    assert "AVAL" in describe_unknown("AVLA", CLASSES)
    assert "no name is like it" in describe_unknown("qqqq", CLASSES)


@pytest.mark.parametrize("first", ["", "background\n", "\ufeff# a list\n\n"])
def test_class_names(tmp_path, first):
    file = tmp_path / "names.txt"
    file.write_text(first + "AVAL\n RMDL  # a comment\n\ngranule\n", encoding="utf-8")
    assert read_class_names(file) == ("background", "AVAL", "RMDL", "granule")


def test_bad_class_names_are_all_listed(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("AVAL\nRMDL\nAVAL\nRMD?\nbackground\n")
    with pytest.raises(InvalidInputError) as error:
        read_class_names(file)
    text = str(error.value)
    assert "line 3: 'AVAL' is also in line 1" in text
    assert "line 4" in text
    assert "line 5" in text
    assert str(file) in text


@pytest.mark.parametrize("content", [b"", b"background\n", b"# nothing\n"])
def test_no_class_names(tmp_path, content):
    file = tmp_path / "names.txt"
    file.write_bytes(content)
    with pytest.raises(InvalidInputError, match="no names"):
        read_class_names(file)


def test_class_names_that_cannot_be_read(tmp_path):
    with pytest.raises(MissingDataError, match=r"nowhere\.txt does not exist"):
        read_class_names(tmp_path / "nowhere.txt")
    (tmp_path / "names.txt").write_bytes(b"\xff\xfe\x00A")
    with pytest.raises(InvalidInputError, match="not a UTF-8 text file"):
        read_class_names(tmp_path / "names.txt")
