import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from voxel_ext import files
from voxel_ext.files import atomic_path, explain_write_errors, locked_folder


def contents(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_file_appears_complete_and_replaces(tmp_path):
    target = tmp_path / "new" / "folder" / "a.txt"
    for text in ("first", "second"):
        with atomic_path(target) as temporary:
            assert temporary.suffix == ".txt"
            assert temporary.parent.parent == target.parent
            temporary.write_text(text)
            assert not target.exists() or target.read_text() == "first"
        assert contents(tmp_path) == {"new/folder/a.txt": text}
    assert os.listdir(target.parent) == ["a.txt"]


def test_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "a.zarr"
    for name in ("old", "new"):
        with atomic_path(target, directory=True) as temporary:
            (temporary / "sub").mkdir()
            (temporary / "sub" / name).write_text(name)
        assert contents(tmp_path) == {f"a.zarr/sub/{name}": name}
    assert os.listdir(tmp_path) == ["a.zarr"]


@pytest.mark.parametrize("directory", [False, True])
def test_error_inside_keeps_what_was_there(tmp_path, directory):
    target = tmp_path / "a"
    written = (lambda path: path / "x") if directory else (lambda path: path)
    with atomic_path(target, directory) as temporary:
        written(temporary).write_text("before")
    before = contents(tmp_path)

    def fail():
        with atomic_path(target, directory) as temporary:
            written(temporary).write_text("half")
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        fail()
    assert contents(tmp_path) == before
    assert os.listdir(tmp_path) == ["a"]


def test_nothing_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing was written for .*a\.txt"), atomic_path(tmp_path / "a.txt"):
        pass
    assert os.listdir(tmp_path) == []


def test_folder_is_put_back_when_the_second_rename_fails(tmp_path, monkeypatch):
    target = tmp_path / "a.zarr"
    target.mkdir()
    (target / "x").write_text("before")
    rename = os.replace

    def fails_on_the_new_one(source, destination):
        if Path(destination) == target and Path(source).name == "a.zarr":
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(source, destination)

    monkeypatch.setattr(files.os, "replace", fails_on_the_new_one)
    with pytest.raises(OSError, match=r"a\.zarr.*disk is full"), atomic_path(target, directory=True) as temporary:
        (temporary / "x").write_text("after")
    assert contents(tmp_path) == {"a.zarr/x": "before"}


def test_full_disk_names_target_and_keeps_the_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("before")

    def write():
        with atomic_path(target) as path:
            path.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"cannot write .*a\.txt: the disk is full") as caught:
        write()
    assert caught.value.errno == errno.ENOSPC
    assert contents(tmp_path) == {"a.txt": "before"}
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("below", ["file/a.txt", "file/sub/a.txt"])
def test_not_writable_below_a_file(tmp_path, below):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match=r"a\.txt: a part of the path is a file"), atomic_path(tmp_path / below):
        pass
    assert contents(tmp_path) == {"file": "x"}


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    target = tmp_path / "a.h5"
    target.mkdir()
    with pytest.raises(IsADirectoryError, match="there is a folder of this name"), atomic_path(target) as temporary:
        temporary.write_text("x")
    assert target.is_dir()


def test_other_errors_pass_unchanged_and_explained_ones_once(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, explain_write_errors("target"):
        (tmp_path / "missing").read_text()
    assert "target" not in str(caught.value)

    def nested():
        with explain_write_errors("outer"), explain_write_errors("inner"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="cannot write inner") as caught:
        nested()
    assert "outer" not in str(caught.value)


@pytest.mark.parametrize(
    ("named", "explained"),
    [
        ("out/a.h5", True),
        ("out/.a.h5.partial/a.h5", True),
        ("out", True),
        (".", True),
        (None, True),
        (7, True),
        ("in/b.h5", False),
        ("out2/a.h5", False),
    ],
)
def test_error_about_another_file_passes_unchanged(tmp_path, named, explained):
    error = PermissionError(errno.EACCES, "Permission denied", tmp_path / named if isinstance(named, str) else named)
    with pytest.raises(PermissionError) as caught, explain_write_errors(tmp_path / "out" / "a.h5"):
        raise error
    assert ("cannot write" in str(caught.value)) == explained
    assert (caught.value is error) != explained


def test_folder_is_locked_and_the_other_says_that_it_waits(tmp_path, caplog):
    entered, events = threading.Event(), []

    def hold():
        with locked_folder(tmp_path / "new" / "folder", ".lock"):
            entered.set()
            limit = time.monotonic() + 20
            while "waiting for another process" not in caplog.text and time.monotonic() < limit:
                time.sleep(0.01)
            events.append("first")

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(20)
    with locked_folder(tmp_path / "new" / "folder", ".lock"):
        events.append("second")
    holder.join()
    assert events == ["first", "second"]
    assert f"waiting for another process that is making {tmp_path}/new/folder" in caplog.text
    caplog.clear()
    with locked_folder(tmp_path / "new" / "folder", ".lock"):
        assert caplog.text == ""


def test_lock_that_cannot_be_made(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(OSError, match=f"cannot write {tmp_path}: "), locked_folder(tmp_path, ".lock"):
        pass


@pytest.mark.parametrize("directory", [False, True])
def test_kill_while_writing_keeps_what_was_there(tmp_path, directory):
    target = tmp_path / "a"
    with atomic_path(target, directory) as temporary:
        (temporary / "x" if directory else temporary).write_text("before")
    before = contents(tmp_path)
    program = (
        "import sys, time; from voxel_ext.files import atomic_path\n"
        f"with atomic_path({str(target)!r}, {directory}) as path:\n"
        f"    (path / 'x' if {directory} else path).write_text('half')\n"
        "    print('writing', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    visible = {name: text for name, text in contents(tmp_path).items() if not name.startswith(".")}
    assert visible == before
    with atomic_path(target, directory) as temporary:
        (temporary / "x" if directory else temporary).write_text("after")
    assert (target / "x" if directory else target).read_text() == "after"
