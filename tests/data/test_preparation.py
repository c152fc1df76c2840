import json
import logging
import multiprocessing
import os
import re
import resource
import shutil
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import zarr
from monai.transforms import LoadImaged
from tiny_volumes import TinyVolumes, killed, tiny

from voxel_ext.data import SyntheticVolumes, datalists, preparation, prepare_synthetic
from voxel_ext.errors import InvalidInputError, VoxelExtError

FORMATS = ["h5", "zarr"]
FILES = ["train/train_1", "train/train_2", "val/val"]
SMALL = {"train_files": 2, "volumes_per_file": 3, "validation_volumes": 2, "progress": False}


def prepare(folder, generator=tiny, **options):
    return prepare_synthetic(generator, folder, **{**SMALL, **options})


def arrays(path):
    """All datasets of a file with their data types and bytes."""
    if path.suffix == ".zarr":
        return {name: content(array) for name, array in zarr.open_group(path, mode="r").arrays()}
    with h5py.File(path) as root:
        return {name: content(array) for name, array in root.items()}


def content(array):
    values = array[()]
    if values.dtype.kind in "OT":  # text, or tables of HDF5
        values = [np.asarray(value).tolist() for value in values]
    return str(array.dtype), array.shape, values if isinstance(values, list) else values.tobytes()


def everything(folder, format):
    return {name: arrays(folder / f"{name}.{format}") for name in FILES}


def table(path, name, index):
    if path.suffix == ".zarr":
        root = zarr.open_group(path, mode="r")
        return root[name][index, : int(root[f"{name}_length"][index])]
    with h5py.File(path) as root:
        return root[name][index].reshape(-1, *root[name].attrs["row_shape"])


def dataset(path, name):
    if path.suffix == ".zarr":
        return zarr.open_group(path, mode="r")[name]
    return h5py.File(path)[name]


@pytest.mark.parametrize("format", FORMATS)
def test_files_hold_what_was_generated(tmp_path, format):
    assert prepare(tmp_path, format=format) == tmp_path
    first_seeds = {FILES[0]: 0, FILES[1]: 3, FILES[2]: 500_000}
    for name, first in first_seeds.items():
        path = tmp_path / f"{name}.{format}"
        data, labels = dataset(path, "data"), dataset(path, "labels")
        assert data.dtype == np.float16
        assert labels.dtype == np.uint16
        assert data.shape == labels.shape == (2 if "val" in name else 3, 5, 6, 7)
        assert data.chunks == (1, 5, 6, 7)
        for i in range(data.shape[0]):
            expected = tiny(first + i)
            assert np.array_equal(data[i], expected["image"].astype(np.float16))
            assert np.array_equal(labels[i], expected["label"])
            assert np.array_equal(table(path, "seeds", i), expected["seeds"].astype(np.float32))
            assert np.array_equal(table(path, "classes", i), expected["classes"])
            text = dataset(path, "parameters")[i]
            text = text.decode() if isinstance(text, bytes) else str(text)
            assert json.loads(text) == {"seed": first + i, "size": [5, 6, 7], "scale": 0.5}
    assert json.loads((tmp_path / "dataset.json").read_text())["complete"]


def test_layout_of_hdf5(tmp_path):
    prepare(tmp_path, SyntheticVolumes(TinyVolumes, size=(70, 3, 4)), dtype="float32")
    with h5py.File(tmp_path / "train" / "train_1.h5") as root:
        assert root["data"].chunks == (1, 64, 3, 4)
        assert (root["data"].compression, root["data"].compression_opts) == ("gzip", 1)
        assert root["data"].dtype == np.float32
        assert h5py.check_vlen_dtype(root["seeds"].dtype) == np.float32
        assert h5py.check_string_dtype(root["parameters"].dtype) is not None


@pytest.mark.parametrize("format", FORMATS)
def test_data_list_loads(tmp_path, format):
    lists = datalists(prepare(tmp_path, format=format))
    assert {part: len(entries) for part, entries in lists.items()} == {"train": 6, "val": 2}
    item = LoadImaged(["image", "label"], ensure_channel_first=True)(lists["train"][4])
    assert np.array_equal(item["image"].numpy(), tiny(4)["image"].astype(np.float16)[None])
    assert np.array_equal(item["label"].numpy(), tiny(4)["label"][None])


def test_same_result_with_worker_processes_and_other_global_state(tmp_path, monkeypatch):
    start, started = preparation.start_pool, []
    monkeypatch.setattr(preparation, "start_pool", lambda count: [started.append(count), start(count)][1])
    torch.manual_seed(0)
    state = torch.get_rng_state()
    prepare(tmp_path / "a", num_workers=0)
    assert started == []
    np.random.seed(7)  # noqa: NPY002
    prepare(tmp_path / "b", num_workers=2)
    assert started == [2]
    assert torch.equal(torch.get_rng_state(), state)
    assert everything(tmp_path / "a", "h5") == everything(tmp_path / "b", "h5")


def test_worker_process_that_ends(tmp_path):
    with pytest.raises(VoxelExtError, match=r"a worker process ended unexpectedly.*lower num_workers.*are kept"):
        prepare(tmp_path, killed, num_workers=1)
    prepare(tmp_path)


def test_volumes_are_distinct_within_and_between_seeds(tmp_path):
    for seed in (0, 1):
        prepare(tmp_path / str(seed), seed=seed)
    volumes = [
        bytes(np.asarray(volume))
        for seed in (0, 1)
        for name in FILES
        for volume in dataset(tmp_path / str(seed) / f"{name}.h5", "data")[()]
    ]
    assert len(set(volumes)) == len(volumes) == 16


def test_validation_does_not_depend_on_the_number_of_training_volumes(tmp_path):
    prepare(tmp_path / "a")
    prepare(tmp_path / "b", train_files=1, volumes_per_file=1)
    assert arrays(tmp_path / "a" / "val" / "val.h5") == arrays(tmp_path / "b" / "val" / "val.h5")


@pytest.mark.parametrize("format", FORMATS)
def test_finished_files_are_kept(tmp_path, format, caplog):
    generator = SyntheticVolumes(TinyVolumes, log=str(tmp_path / "log"))
    prepare(tmp_path / "data", generator, format=format)
    before = everything(tmp_path / "data", format)
    (tmp_path / "log").unlink()
    caplog.set_level(logging.INFO)
    prepare(tmp_path / "data", generator, format=format, num_workers=1)
    assert not (tmp_path / "log").exists()
    assert "is complete" in caplog.text
    lost = tmp_path / "data" / f"val/val.{format}"
    shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    prepare(tmp_path / "data", generator, format=format)
    assert (tmp_path / "log").read_text().split() == ["500000", "500001"]
    assert everything(tmp_path / "data", format) == before


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"seed": 1}, r"first_seed is 0 there, 1000000 now"),
        ({"volumes_per_file": 4}, r"volumes is 3 there, 4 now"),
        ({"dtype": "float32"}, r"dtype is float16 there, float32 now"),
        (
            {"generator": SyntheticVolumes(TinyVolumes, brightness=2.0)},
            r"generator\.name is .*tiny there, .*TinyVolumes",
        ),
        ({"train_files": 1}, r"1 files do not belong to the set asked for: .*train_2"),
    ],
)
def test_other_settings_are_refused_or_replace(tmp_path, format, options, match):
    prepare(tmp_path, format=format)
    before = everything(tmp_path, format)
    with pytest.raises(InvalidInputError, match=match + r".*another output_dir, or set overwrite=True"):
        prepare(tmp_path, format=format, **options)
    assert everything(tmp_path, format) == before
    prepare(tmp_path, format=format, overwrite=True, **options)
    prepare(tmp_path / "fresh", format=format, **options)
    for name in FILES[:1] if "train_files" in options else FILES:
        assert arrays(tmp_path / f"{name}.{format}") == arrays(tmp_path / "fresh" / f"{name}.{format}")
    assert (tmp_path / f"{FILES[1]}.{format}").exists() == ("train_files" not in options)


def test_generator_options_are_compared(tmp_path):
    prepare(tmp_path, SyntheticVolumes(TinyVolumes, size=(3, 4, 5)))
    prepare(tmp_path, SyntheticVolumes("tiny_volumes.TinyVolumes", size=[3, 4, 5]))
    with pytest.raises(InvalidInputError, match=r"generator\.options\.size is \[3, 4, 5\] there, \[3, 4, 6\] now"):
        prepare(tmp_path, SyntheticVolumes(TinyVolumes, size=(3, 4, 6)))


@pytest.mark.parametrize("option", [object(), {1, 2}, {(1, 2): 3}, 1j])
def test_options_that_cannot_be_recorded(tmp_path, option):
    with pytest.raises(InvalidInputError, match=r"options of tiny_volumes\.TinyVolumes cannot be recorded as JSON"):
        prepare(tmp_path / "out", SyntheticVolumes(TinyVolumes, size=option))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", FORMATS)
def test_version_is_recorded_but_not_compared(tmp_path, format, caplog, monkeypatch):
    monkeypatch.setattr("voxel_ext.data.volume_store.__version__", "0.0.7")
    prepare(tmp_path, format=format)
    path = tmp_path / f"train/train_1.{format}"
    root = zarr.open_group(path, mode="r") if format == "zarr" else h5py.File(path)
    assert root.attrs["voxel_ext_version"] == "0.0.7"
    del root
    monkeypatch.undo()
    caplog.set_level(logging.INFO)
    prepare(tmp_path, format=format)
    assert "is complete" in caplog.text


def test_other_format_is_refused_or_replaced(tmp_path):
    prepare(tmp_path / "a")
    with pytest.raises(InvalidInputError, match=r"3 files do not belong .*train_1\.h5.*overwrite=True"):
        prepare(tmp_path / "a", format="zarr")
    prepare(tmp_path / "a", format="zarr", overwrite=True)
    assert sorted(path.name for path in (tmp_path / "a" / "train").iterdir()) == ["train_1.zarr", "train_2.zarr"]


@pytest.mark.parametrize("name", ["val/val.h5", "train/mine.h5", "train/MINE.H5", "val/mine.zarr", "val/val.zarr"])
@pytest.mark.parametrize("kind", ["recording", "settings of another program", "damaged"])
def test_files_of_others_are_never_replaced_nor_removed(tmp_path, name, kind):
    prepare(tmp_path)
    (tmp_path / "train" / "train_1.h5").unlink()
    mine = tmp_path / name
    mine.unlink(missing_ok=True)
    if kind == "damaged":
        mine.write_bytes(b"\x89HDF")
    else:
        root = zarr.open_group(mine, mode="w") if mine.suffix == ".zarr" else h5py.File(mine, "w")
        root.attrs["settings"] = "7" if kind == "settings of another program" else ""
        del root
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != ".prepare.lock"}
    with pytest.raises(InvalidInputError, match=rf"(?i){mine.name}.*not made by prepare, or damaged: move it"):
        prepare(tmp_path, overwrite=True, dtype="float32")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != ".prepare.lock"} == before
    mine.rename(tmp_path / f"moved{mine.suffix}")
    prepare(tmp_path, overwrite=True, dtype="float32")


def test_foreign_files_are_refused(tmp_path):
    prepare(tmp_path / "a")
    (tmp_path / "b" / "val").mkdir(parents=True)
    (tmp_path / "b" / "val" / "val.h5").write_text("not HDF5")
    with pytest.raises(InvalidInputError, match=r"val\.h5 cannot be opened.*move it"):
        prepare(tmp_path / "b")
    with h5py.File(tmp_path / "b" / "val" / "val.h5", "w") as root:
        root["data"] = np.ones(3)
    with pytest.raises(InvalidInputError, match=r"val\.h5 does not tell how it was made.*move it"):
        prepare(tmp_path / "b")
    (tmp_path / "b" / "val" / "val.h5").unlink()
    prepare(tmp_path / "b")
    assert everything(tmp_path / "a", "h5") == everything(tmp_path / "b", "h5")


def wait_for_lines(path, count, process):
    while not path.exists() or len(path.read_text().split()) < count:
        assert process.is_alive(), f"exit code {process.exitcode}"
        time.sleep(0.002)


def ended(pid):
    """Whether a process is no more, or waits for its parent to take note of its end."""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize(
    ("format", "num_workers", "kills"), [("h5", 0, (4, 12, 20)), ("zarr", 0, (4, 12, 20)), ("h5", 1, (8,))]
)
def test_kill_and_resume(tmp_path, format, num_workers, kills):
    """Killed several times, in the middle of files: the same bytes as without, and no volume is made over and over."""
    options = {"volumes_per_file": 12, "format": format, "num_workers": num_workers}
    log = tmp_path / "log"
    # in total more than what a pipe holds, so that an orphaned worker process could get stuck
    generator = SyntheticVolumes(TinyVolumes, size=(24, 40, 40), log=str(log), pause=0.01)
    fork = multiprocessing.get_context("fork")
    for lines in kills:
        process = fork.Process(target=prepare, args=(tmp_path / "killed", generator), kwargs=options)
        process.start()
        wait_for_lines(log, lines, process)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        workers = children.read_text().split() if children.exists() else []
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not (tmp_path / "killed" / "dataset.json").exists()
        limit = time.monotonic() + 30
        while not all(map(ended, workers)):
            assert time.monotonic() < limit, f"worker processes {workers} go on without their parent"
            time.sleep(0.05)
    prepare(tmp_path / "killed", generator, **options)
    seeds = log.read_text().split()
    assert len(set(seeds)) == 26
    assert len(seeds) < 26 + 3 * 6
    prepare(tmp_path / "whole", generator, **{**options, "num_workers": 0})
    assert everything(tmp_path / "killed", format) == everything(tmp_path / "whole", format)
    assert not [path for path in (tmp_path / "killed").rglob("*") if path.name.endswith(".partial")]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("truncated", "starting .* over, .*: damaged"),
        ("foreign", "starting .* over, .*: damaged"),
        ("altered 0", "volume 0 has another checksum.*starting .* over, .*: no volume of it is finished"),
        ("altered 1", "volume 1 has another checksum.*continuing .* after 1 of 3 volumes"),
        ("other settings", "starting .* over, .*: dtype is float16 there, float32 now"),
    ],
)
def test_damaged_partial_file(tmp_path, format, damage, message, caplog):
    generator = SyntheticVolumes(TinyVolumes, failing=str(tmp_path / "failing"))
    (tmp_path / "failing").write_text("2")
    with pytest.raises(ArithmeticError):
        prepare(tmp_path / "a", generator, format=format)
    (tmp_path / "failing").unlink()
    partial = tmp_path / "a" / "train" / f"train_1.{format}.partial"
    file = partial / "zarr.json" if format == "zarr" else partial
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[: len(file.read_bytes()) // 2])
    elif damage == "foreign":
        file.write_bytes(b"something else")
    elif damage.startswith("altered"):
        root = zarr.open_group(partial, mode="r+") if format == "zarr" else h5py.File(partial, "r+")
        root["data"][int(damage[-1])] = 0
        del root
    options = {"dtype": "float32"} if damage == "other settings" else {}
    caplog.set_level(logging.INFO)
    prepare(tmp_path / "a", generator, format=format, **options)
    assert re.search(message, caplog.text, re.DOTALL)
    prepare(tmp_path / "b", generator, format=format, **options)
    assert everything(tmp_path / "a", format) == everything(tmp_path / "b", format)


@pytest.mark.parametrize("format", FORMATS)
def test_error_of_the_generator_is_seen_and_work_is_kept(tmp_path, format, caplog):
    generator = SyntheticVolumes(TinyVolumes, failing=str(tmp_path / "failing"))
    (tmp_path / "failing").write_text("4")
    for workers in (0, 1) if format == "h5" else (0,):
        with pytest.raises(ArithmeticError, match="seed 4"):
            prepare(tmp_path / "a", generator, format=format, num_workers=workers)
    assert not (tmp_path / "a" / "dataset.json").exists()
    (tmp_path / "failing").unlink()
    caplog.set_level(logging.INFO)
    prepare(tmp_path / "a", generator, format=format)
    assert "after 1 of 3 volumes" in caplog.text
    prepare(tmp_path / "b", generator, format=format)
    assert everything(tmp_path / "a", format) == everything(tmp_path / "b", format)


def test_file_system_errors_of_the_generator_are_its_own(tmp_path):
    def full(seed):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device$"):
        prepare(tmp_path, full)


def prepare_under_a_limit(folder, format, report):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
    try:
        prepare(folder, SyntheticVolumes(TinyVolumes, size=(40, 40, 40)), format=format)
    except OSError as error:
        report.put(str(error))


@pytest.mark.parametrize("format", FORMATS)
def test_write_that_the_system_refuses_in_the_middle(tmp_path, format):
    """A real failing write, as on a full disk."""
    fork = multiprocessing.get_context("fork")
    report = fork.SimpleQueue()
    process = fork.Process(target=prepare_under_a_limit, args=(tmp_path, format, report))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert f"train_1.{format}: the file became larger than the system allows" in report.get()
    assert not (tmp_path / "train" / f"train_1.{format}").exists()
    prepare(tmp_path, SyntheticVolumes(TinyVolumes, size=(40, 40, 40)), format=format)
    assert (tmp_path / "dataset.json").exists()


def test_not_writable(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match=r"cannot write .*out: a part of the path is a file"):
        prepare(tmp_path / "file" / "out")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"image": np.full((5, 6, 7), np.nan)}, "'image' has values from nan to nan"),
        ({"image": np.full((5, 6, 7), 1e6)}, r"'image' has values from 1000000\.0 .* float16"),
        ({"label": np.full((5, 6, 7), 70_000)}, "'label' has values from 70000 .* uint16"),
        ({"label": np.full((5, 6, 7), -1)}, "'label' has values from -1"),
        ({"label": np.zeros((5, 6))}, r"'label' has shape \(5, 6\), its image \(5, 6, 7\)"),
        ({"seeds": np.zeros((2, 3, 4))}, r"'seeds' has shape \(2, 3, 4\)"),
        ({"data": np.zeros((5, 6, 7))}, "gave 'data', a name that the file needs itself"),
        ({"labels": np.zeros(3)}, "gave 'labels', a name"),
        ({"checksum": np.zeros(3)}, "gave 'checksum', a name"),
        ({"settings": np.zeros(3)}, "gave 'settings', a name"),
        ({"seeds": "text"}, "'seeds' is not an array of numbers but str"),
        ({"parameters": {"x": object()}}, "'parameters' cannot be written as JSON"),
    ],
)
def test_output_that_cannot_be_stored(tmp_path, change, match):
    with pytest.raises(InvalidInputError, match=match):
        prepare(tmp_path, lambda seed: {**tiny(seed), **change})


@pytest.mark.parametrize("format", FORMATS)
def test_volumes_that_differ_in_kind(tmp_path, format):
    with pytest.raises(InvalidInputError, match="no 'image' but"):
        prepare(tmp_path, lambda _: {"label": np.zeros(3)}, format=format)
    with pytest.raises(InvalidInputError, match=r"'data' of volume 1 has shape \(3, 6, 7\), but \(5, 6, 7\) before"):
        prepare(tmp_path, lambda s: {"image": np.zeros((5 - 2 * s, 6, 7))}, format=format)
    with pytest.raises(InvalidInputError, match=r"volume 1 has the tables \['x'\], unlike the first one"):
        prepare(tmp_path, lambda s: {"image": np.zeros((5, 6, 7)), **({"x": np.zeros(2)} if s else {})}, format=format)


@pytest.mark.parametrize("format", FORMATS)
def test_other_arrays_over_the_voxels_and_two_dimensions(tmp_path, format):
    def planes(seed):
        normals = np.random.default_rng(seed).random((2, 6, 7)).astype(np.float32)
        return {"image": normals[0], "normals": normals, "mask": normals[1] > 0.5}

    prepare(tmp_path, planes, format=format)
    path = tmp_path / f"train/train_1.{format}"
    assert np.array_equal(dataset(path, "data")[2], planes(2)["image"].astype(np.float16))
    assert np.array_equal(dataset(path, "normals")[2], planes(2)["normals"].astype(np.float16))
    assert np.array_equal(dataset(path, "mask")[2], planes(2)["mask"])
    assert len(datalists(tmp_path, spatial_dims=2, require_label=False)["train"]) == 6


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"train_files": 0}, "train_files=0; expected an integer of at least 1"),
        ({"train_files": "4"}, "train_files='4'; expected an integer"),
        ({"volumes_per_file": 1.0}, r"volumes_per_file=1\.0; expected an integer"),
        ({"num_workers": None}, "num_workers=None; expected an integer of at least 0"),
        ({"seed": True}, "seed=True; expected an integer of at least 0"),
        ({"volumes_per_file": 0}, "volumes_per_file=0"),
        ({"validation_volumes": 0}, "validation_volumes=0"),
        ({"seed": -1}, "seed=-1; expected an integer of at least 0"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"volumes_per_file": 10**6}, "more than the 500000 seeds"),
        ({"format": "hdf"}, "format='hdf' is not known"),
        ({"dtype": "float61"}, "dtype='float61' is not known.*float16"),
    ],
)
def test_wrong_options(tmp_path, options, match):
    with pytest.raises(InvalidInputError, match=match):
        prepare(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_generator_for_worker_processes_must_be_picklable(tmp_path):
    with pytest.raises(InvalidInputError, match=r"cannot be sent to worker processes \(.*; use SyntheticVolumes"):
        prepare(tmp_path / "out", lambda seed: tiny(seed), num_workers=1)


def test_progress_bar(tmp_path, capsys):
    prepare(tmp_path / "a", progress=True)
    assert "8/8" in capsys.readouterr().err
    prepare(tmp_path / "b", progress=False)
    assert capsys.readouterr().err == ""
