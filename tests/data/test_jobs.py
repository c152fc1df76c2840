import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from voxel_ext.data.jobs import do_jobs, do_missing, pending
from voxel_ext.data.prepared_folder import (
    MARKER,
    check_foreign,
    describe_difference,
    foreign_files,
    write_marker,
    write_text_if_changed,
)
from voxel_ext.errors import InvalidInputError, check_counts


@dataclass(frozen=True)
class Note:
    """A JSON file with its record; fails if the record has a number below 0."""

    path: Path
    record: dict = field(default_factory=lambda: {"number": 1})

    @property
    def name(self):
        return self.path.stem

    def is_complete(self):
        return self.path.exists() and not self.path.with_suffix(".lost").exists()

    def make(self):
        if self.record["number"] < 0:
            raise InvalidInputError(f"number={self.record['number']}")
        self.path.write_text(json.dumps(self.record))


def difference(note):
    return describe_difference(note.path, json.loads(note.path.read_text()), note.record)


def test_pending_jobs(tmp_path):
    notes = [Note(tmp_path / f"{name}.json") for name in "abc"]
    assert pending(notes, False, difference) == notes
    for note in notes[:2]:
        note.make()
    assert pending(notes, False, difference) == notes[2:]
    (tmp_path / "a.lost").touch()
    assert pending(notes, False, difference) == [notes[0], notes[2]]
    other = [notes[0], Note(notes[1].path, {"number": 2})]
    with pytest.raises(
        InvalidInputError, match=r"b\.json was made with other settings: number is 1 there, 2 now\. Cho"
    ):
        pending(other, False, difference)
    assert pending(other[1:], True, difference) == other[1:]


def test_a_failure_does_not_stop_the_others(tmp_path, caplog, capsys):
    notes = [
        Note(tmp_path / f"{name}.json", {"number": number}) for name, number in zip("abc", (1, -2, 3), strict=True)
    ]
    assert do_jobs(notes, 0, True, "all notes", "note") == {"b": "number=-2"}
    assert "note b: number=-2" in caplog.text
    bar = capsys.readouterr().err
    assert "all notes: 100%" in bar
    assert "note/s" in bar
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "c.json"]


def test_a_folder_is_not_complete_until_all_is_done(tmp_path):
    notes = [Note(tmp_path / "a.json"), Note(tmp_path / "b.json", {"number": -1})]
    write_marker(tmp_path, [])
    with pytest.raises(InvalidInputError, match=r"1 of 2 notes cannot be prepared, the others are:\nb: number=-1"):
        do_missing(tmp_path, notes, difference, "note", "notes", progress=False)
    assert not (tmp_path / MARKER).exists()
    write_marker(tmp_path, [notes[0].path])
    assert do_missing(tmp_path, notes[:1], difference, "note", "notes", progress=False) == []
    assert (tmp_path / MARKER).exists()


def test_marker(tmp_path):
    files = [tmp_path / "train" / "b.h5", tmp_path / "a.h5"]
    write_marker(tmp_path, files, counts={"x": 1})
    told = json.loads((tmp_path / MARKER).read_text())
    assert told == {"complete": True, "files": ["train/b.h5", "a.h5"], "counts": {"x": 1}}
    write_marker(tmp_path, {files[0]: {"seed": 3}})
    assert json.loads((tmp_path / MARKER).read_text()) == {"complete": True, "files": {"train/b.h5": {"seed": 3}}}


def test_text_is_written_if_it_changed(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_text_if_changed(path, "µ\n")
    before = path.stat()
    write_text_if_changed(path, "µ\n")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    write_text_if_changed(path, "m\n")
    assert path.read_text(encoding="utf-8") == "m\n"


def test_foreign_files(tmp_path):
    planned = [tmp_path / "train" / "a.h5", tmp_path / "val" / "b.h5"]
    (tmp_path / "train").mkdir()
    for name in ("a.h5", "c.H5", ".d.h5", "e.txt"):
        (tmp_path / "train" / name).touch()
    assert foreign_files(planned) == [tmp_path / "train" / "c.H5"]
    assert foreign_files(planned, ("",)) == [tmp_path / "train" / "c.H5", tmp_path / "train" / "e.txt"]
    check_foreign(tmp_path, planned, "worms", (".zarr",))
    with pytest.raises(InvalidInputError, match=r"1 worms in .* do not belong to the set asked for: .*c\.H5\. Move"):
        check_foreign(tmp_path, planned, "worms")


def test_counts():
    check_counts({"a": 2}, a=2, b=0)
    for counts, match in (
        ({"a": 1}, "a=1; expected an integer of at least 2"),
        ({"b": -1}, "b=-1"),
        ({"b": True}, "b="),
    ):
        with pytest.raises(InvalidInputError, match=match):
            check_counts({"a": 2}, **counts)
