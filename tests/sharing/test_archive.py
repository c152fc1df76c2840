"""Unpacking archives, also hostile ones."""

import hashlib
import json
import random
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest

from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.sharing import entries
from voxel_ext.sharing.archive import unpack_bundle, write_zip
from voxel_ext.sharing.manifest import Manifest, PackedFile

CONTENT = {"LICENSE": b"free", "models/model.pt": bytes(range(256)) * 8}


def manifest(**changes: Any) -> bytes:
    """The manifest of ``CONTENT``."""
    files = tuple(PackedFile(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in CONTENT.items())
    content = json.loads(Manifest("x", "1.0", {"torch": "2.13.0"}, "install", "run", (), files).to_json())
    return json.dumps(content | changes).encode()


def make(file: Path, *further: zipfile.ZipInfo | str, **changes: bytes) -> Path:
    """An archive of ``CONTENT`` with further entries, and the content of some files changed."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (CONTENT | {"manifest.json": manifest()} | changes).items():
            archive.writestr(f"x/{name}", data)
        for entry in further:
            archive.writestr(entry, b"evil")
    return file


def refused(archive: Path, folder: Path, **options: Any) -> str:
    """Unpack; it must be refused with nothing written. Return the message."""
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(InvalidInputError) as caught:
        unpack_bundle(archive, folder, **options)
    assert sorted(folder.parent.rglob("*")) == before
    assert str(archive) in str(caught.value)
    return str(caught.value)


def entry(name: str, mode: int = 0o100644, **attributes: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    for key, value in attributes.items():
        setattr(info, key, value)
    return info


def test_a_whole_archive(tmp_path):
    folder = unpack_bundle(make(tmp_path / "a.zip"), tmp_path / "there")
    assert folder == tmp_path / "there" / "x"
    assert {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()} == {
        **CONTENT,
        "manifest.json": manifest(),
    }
    assert [file.name for file in (tmp_path / "there").iterdir()] == ["x"]


def test_entries_of_folders_are_no_files(tmp_path):
    archive = make(tmp_path / "a.zip", entry("x/", stat.S_IFDIR | 0o755), entry("x/models/", stat.S_IFDIR | 0o755))
    assert "a folder with content" in refused(archive, tmp_path / "there")
    with zipfile.ZipFile(make(tmp_path / "b.zip"), "a") as opened:
        opened.mkdir("x/empty")
    assert unpack_bundle(tmp_path / "b.zip", tmp_path / "there").is_dir()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("/etc/evil", "an absolute path"),
        ("C:/evil", "an absolute path"),
        ("c:evil", "an absolute path"),
        ("../evil", "leads out of the folder"),
        ("x/../../evil", "leads out of the folder"),
        ("x\\..\\evil", "backslashes"),
        ("x/a\nb", "characters that not every system allows"),
        ("x/a:b", "characters that not every system allows"),
        ("x/./a", "a part that not every system allows"),
        ("x//a", "a part that not every system allows"),
        ("x/a.", "a part that not every system allows"),
        ("x/a ", "a part that not every system allows"),
        ("x/aux.txt", "a part that not every system allows"),
        ("x/" + "a" * 201, "too long"),
        ("x" + "/abc" * 200, "too long"),
    ],
)
def test_names_that_are_not_safe(tmp_path, name, problem):
    assert problem in refused(make(tmp_path / "a.zip", entry(name)), tmp_path / "there")


def test_a_name_that_an_extra_field_replaces():
    info = entry("x/a.txt")
    info.filename = "x/../../a.txt"  # as newer versions of zipfile do
    with pytest.raises(InvalidInputError, match="leads out of the folder"):
        entries.check_entries([info], "a.zip", 100, 100)


def test_a_name_that_is_cut_by_a_null(tmp_path):
    archive = make(tmp_path / "a.zip", entry("x/aZ.txt"))
    archive.write_bytes(archive.read_bytes().replace(b"x/aZ.txt", b"x/a\0.txt"))
    assert "characters that not every system allows" in refused(archive, tmp_path / "there")


@pytest.mark.parametrize(
    "first_second", [("x/a", "x/A"), ("x/é", "x/e\u0301"), ("x/ß", "x/SS"), ("x/a", "x/a/b"), ("x/a/b", "x/A/c")]
)
def test_names_that_take_the_same_place(tmp_path, first_second):
    assert "take the same place" in refused(make(tmp_path / "a.zip", *map(entry, first_second)), tmp_path / "there")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice(tmp_path):
    assert "take the same place" in refused(make(tmp_path / "a.zip", entry("x/LICENSE")), tmp_path / "there")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK, stat.S_IFDIR])
def test_no_links_and_special_files(tmp_path, kind):
    archive = make(tmp_path / "a.zip", entry("x/a", kind | 0o777))
    assert "'x/a' is a link or another special file" in refused(archive, tmp_path / "there")


def test_no_reparse_points_of_windows(tmp_path):
    archive = make(tmp_path / "a.zip", entry("x/a", external_attr=0x400, create_system=0))
    assert "a link or another special file" in refused(archive, tmp_path / "there")


def test_no_encryption(tmp_path):
    archive = make(tmp_path / "a.zip")
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    assert "is encrypted" in refused(archive, tmp_path / "there")


def test_no_unusual_compression(tmp_path):
    archive = make(tmp_path / "a.zip", entry("x/a", compress_type=zipfile.ZIP_BZIP2))
    assert "unusual method" in refused(archive, tmp_path / "there")


def test_sizes(tmp_path, monkeypatch):
    archive = make(tmp_path / "a.zip")
    assert "the limit is 2000" in refused(archive, tmp_path / "there", total_limit=2000)
    monkeypatch.setattr(entries, "MAX_ENTRIES", 2)
    assert "3 entries, at most 2" in refused(archive, tmp_path / "there")


def test_content_that_swells(tmp_path, monkeypatch):
    monkeypatch.setattr(entries, "_RATIO_FROM", 2**20)
    archive = make(tmp_path / "a.zip", **{"models/model.pt": bytes(2**22)})
    assert "more than 250 times as many" in refused(archive, tmp_path / "there")


def test_a_size_that_is_not_true(tmp_path):
    archive = make(tmp_path / "a.zip", **{"LICENSE": bytes(5000)})
    data = archive.read_bytes()
    where = data.index(b"PK\x01\x02") + 24
    archive.write_bytes(data[:where] + (4).to_bytes(4, "little") + data[where + 4 :])
    assert "x/LICENSE" in refused(archive, tmp_path / "there")


def test_entries_that_share_their_content(tmp_path):
    archive = make(tmp_path / "a.zip")
    data = archive.read_bytes()
    where = data.index(b"PK\x01\x02") + 20
    archive.write_bytes(data[:where] + (2**20).to_bytes(4, "little") + data[where + 4 :])
    assert "its entries overlap" in refused(archive, tmp_path / "there")


def test_a_changed_file(tmp_path):
    changed = CONTENT["models/model.pt"][:-1] + b"!"
    archive = make(tmp_path / "a.zip", **{"models/model.pt": changed})
    assert "x/models/model.pt is damaged or was changed" in refused(archive, tmp_path / "there")
    archive = make(tmp_path / "b.zip", LICENSE=b"free, as in beer")
    assert "x/LICENSE is damaged or was changed" in refused(archive, tmp_path / "there")


def test_files_that_are_not_those_of_the_manifest(tmp_path):
    archive = make(tmp_path / "a.zip", "x/further")
    assert "not in the manifest: x/further" in refused(archive, tmp_path / "there")
    files = json.loads(manifest())["files"]
    more = manifest(files=[*files, {"path": "lacking", "size": 1, "sha256": "0" * 64}])
    assert "missing: x/lacking" in refused(make(tmp_path / "b.zip", **{"manifest.json": more}), tmp_path / "there")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "y"}, "its manifest is of 'y'"),
        ({"format": 2}, "has the format 2; this voxel_ext reads 1"),
        ({"version": 1}, "is not one that"),
        ({"files": [{"path": "a"}]}, "is not one that"),
        ({"files": [{"path": "a", "size": -1, "sha256": "0" * 64}]}, "is not one that"),
        ({"files": [{"path": "a", "size": 1, "sha256": "0"}]}, "is not one that"),
        ({"exports": 3}, "is not one that"),
        ({"made_with": []}, "is not one that"),
    ],
)
def test_wrong_manifests(tmp_path, changes, message):
    archive = make(tmp_path / "a.zip", **{"manifest.json": manifest(**changes)})
    assert message in refused(archive, tmp_path / "there")


def test_no_manifest(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/a", "a")
        archive.writestr("y/b", "b")
    assert "is no packed bundle" in refused(tmp_path / "a.zip", tmp_path / "there")


def test_an_existing_folder_is_kept(tmp_path):
    mine = tmp_path / "there" / "x" / "mine"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(InvalidInputError, match="there/x exists; remove it, or unpack into another folder"):
        unpack_bundle(make(tmp_path / "a.zip"), tmp_path / "there")
    assert mine.read_text() == "mine"


def test_a_link_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "x").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidInputError, match="exists"):
        unpack_bundle(make(tmp_path / "a.zip"), tmp_path / "there")
    assert not (tmp_path / "elsewhere").exists()


def test_no_archive(tmp_path):
    with pytest.raises(MissingDataError, match="no archive at"):
        unpack_bundle(tmp_path / "a.zip", tmp_path / "there")
    (tmp_path / "a.zip").write_bytes(b"no zip")
    assert "truncated or foreign" in refused(tmp_path / "a.zip", tmp_path / "there")


def test_truncated_and_mutated_archives_are_refused_or_right(tmp_path):
    whole = make(tmp_path / "whole.zip").read_bytes()
    rng = random.Random(0)
    archive, refusals = tmp_path / "a.zip", 0
    for number in range(300):
        data = bytearray(whole)
        if number % 3 == 0:
            del data[rng.randrange(len(data)) :]
        for _ in range(rng.randint(1, 4)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        archive.write_bytes(data)
        try:
            folder = unpack_bundle(archive, tmp_path / str(number))
        except InvalidInputError:
            refusals += 1
            assert not (tmp_path / str(number)).exists()
        else:
            assert {name: (folder / name).read_bytes() for name in CONTENT} == CONTENT
    assert refusals > 100


def test_a_file_that_changes_while_it_is_packed(tmp_path, monkeypatch):
    file = tmp_path / "a"
    file.write_bytes(b"short")
    monkeypatch.setattr(Path, "stat", lambda path, **options: type("", (), {"st_size": 3})())
    with pytest.raises(InvalidInputError, match="x/a was changed while it was packed"):
        write_zip(tmp_path / "a.zip", {"x/a": file}, lambda written: ("x/manifest.json", b""))
