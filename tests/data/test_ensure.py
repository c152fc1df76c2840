import functools
import logging
import multiprocessing
import os

import pytest
from tiny_volumes import tiny

from voxel_ext.data import datalists, ensure_dataset, mark_complete, prepare_synthetic
from voxel_ext.errors import MissingDataError

options = {"train_files": 1, "volumes_per_file": 2, "validation_volumes": 1, "progress": False}
prepare = functools.partial(prepare_synthetic, generator=tiny, **options)


def not_called(output_dir):
    raise AssertionError(output_dir)


def test_given_folder_or_file_is_used(tmp_path):
    (tmp_path / "a.h5").write_text("x")
    assert ensure_dataset(str(tmp_path), tmp_path / "default", not_called) == str(tmp_path)
    assert ensure_dataset(tmp_path / "a.h5", tmp_path / "default", not_called) == str(tmp_path / "a.h5")
    assert not (tmp_path / "default").exists()


def test_given_but_wrong(tmp_path):
    with pytest.raises(MissingDataError, match=r"dataset_dir '.*nowhere' does not exist"):
        ensure_dataset(tmp_path / "nowhere", tmp_path / "default", not_called)
    (tmp_path / ".hidden").write_text("x")
    with pytest.raises(MissingDataError, match="is empty; leave it out"):
        ensure_dataset(tmp_path, tmp_path / "default", not_called)


@pytest.mark.parametrize("dataset_dir", ["", None])
def test_default_is_made_once(tmp_path, dataset_dir, caplog):
    caplog.set_level(logging.INFO)
    folder = ensure_dataset(dataset_dir, tmp_path / "default", prepare)
    assert folder == str(tmp_path / "default")
    assert "making the default data" in caplog.text
    assert {part: len(volumes) for part, volumes in datalists(folder).items()} == {"train": 2, "val": 1}
    assert ensure_dataset(dataset_dir, folder, not_called) == folder


def test_incomplete_default_is_completed(tmp_path):
    def interrupted(output_dir):
        prepare(output_dir=output_dir)
        os.remove(f"{output_dir}/dataset.json")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_dataset("", tmp_path / "default", interrupted)
    ensure_dataset("", tmp_path / "default", prepare)
    assert (tmp_path / "default" / "dataset.json").is_file()


def test_any_other_way_to_make_data(tmp_path):
    def copy(output_dir):
        with open(f"{output_dir}/a.txt", "w") as file:
            file.write("x")

    ensure_dataset("", tmp_path / "default", copy)
    assert ensure_dataset("", tmp_path / "default", not_called) == str(tmp_path / "default")


def test_not_writable(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match=r"cannot write .*file/default: a part of the path is a file"):
        ensure_dataset("", tmp_path / "file" / "default", prepare)


def ensure_and_log(folder, log):
    def logged(output_dir):
        with open(log, "a") as file:
            file.write("made\n")
        prepare(output_dir=output_dir)

    ensure_dataset("", folder, logged)
    assert len(datalists(folder)["train"]) == 2


def test_several_processes_make_it_once(tmp_path):
    fork = multiprocessing.get_context("fork")
    arguments = (str(tmp_path / "default"), str(tmp_path / "log"))
    processes = [fork.Process(target=ensure_and_log, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "made\n"


def test_marked_data_are_used_as_they_are(tmp_path):
    (tmp_path / "objects.h5").write_text("of any settings")
    mark_complete(tmp_path, "what was made", None)
    assert ensure_dataset("", tmp_path, not_called) == str(tmp_path)
