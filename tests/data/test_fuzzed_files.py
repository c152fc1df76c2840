"""Damaged files of the kinds that mutations found to break readers: an error that names the file, and nothing else."""

from __future__ import annotations

import copy
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from voxel_ext.data import HDF5Reader, ObjectDataset, open_volume
from voxel_ext.data.feature_files import read_features
from voxel_ext.data.object_batches import merge_batches
from voxel_ext.data.object_classes import read_class_table
from voxel_ext.data.part_folder import begin_parts
from voxel_ext.data.roi_table import read_roi_table
from voxel_ext.data.worm_volumes import load_volume
from voxel_ext.data.zarr_io import create_image
from voxel_ext.errors import CheckpointError, InvalidInputError, VoxelExtError
from voxel_ext.files import read_json
from voxel_ext.handlers import read_checkpoint, read_history, save_checkpoint
from voxel_ext.handlers.resume_state import restore_state
from voxel_ext.handlers.weights import load_weights
from voxel_ext.hdf5 import explain_damage, read_hdf5
from voxel_ext.hdf5_checks import check_file, read_text, read_whole
from voxel_ext.inferers.block_state import BlockState
from voxel_ext.labeling.table import COLUMNS, read_labels, read_probabilities
from voxel_ext.npz import read_arrays

DIGITS = "9" * 5000


def test_only_errors_of_the_library_become_damage(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(InvalidInputError, match=r"a\.h5 cannot be read: it is damaged, or lacks"):  # noqa: SIM117
        with read_hdf5(tmp_path / "a.h5") as file:
            file["y"]
    with pytest.raises(KeyError, match="own"), read_hdf5(tmp_path / "a.h5"):
        raise KeyError("own")
    with pytest.raises(PermissionError), explain_damage("a", "h5py"):
        raise PermissionError


def test_what_does_not_fit_into_memory_is_said(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", (2**21, 2**21, 2**11), "f8", chunks=(1, 1, 64))
    with pytest.raises(InvalidInputError, match="GiB"):
        HDF5Reader().get_data(HDF5Reader().read(tmp_path / "a.h5"))


NO_CHUNKS = {"name": "regular", "configuration": {"chunk_shape": [0, 0, 0]}}


@pytest.mark.parametrize(
    ("name", "value"), [("chunk_grid", NO_CHUNKS), ("codecs", []), ("shape", "x"), ("shape", [10**400] * 3)]
)
def test_zarr_metadata_of_an_array(tmp_path: Path, name: str, value: Any) -> None:
    create_image(tmp_path / "a.zarr", (4, 5, 6), "u1", (2, 5, 6), None)[:] = 1
    file = tmp_path / "a.zarr" / "0" / "zarr.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: value}))
    with pytest.raises(VoxelExtError, match=r"a\.zarr"):
        open_volume(tmp_path / "a.zarr").read([slice(0, 4)] * 3)


@pytest.mark.parametrize("size", [2**64 - 8, 2**64 - 1, 0xFFFF])
def test_a_heap_that_hdf5_does_not_come_back_from(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("names", data=["AVAL", "AVAR"], dtype=h5py.string_dtype())
    with read_hdf5(path) as file:
        check_file(file)
        assert read_text(file["names"]) == ("AVAL", "AVAR")
    content = bytearray(path.read_bytes())
    struct.pack_into("<Q", content, content.index(b"GCOL") + 24, size)
    path.write_bytes(content)
    with read_hdf5(path) as file, pytest.raises(InvalidInputError, match="names is damaged"):
        read_text(file["names"])
    with read_hdf5(path) as file, pytest.raises(InvalidInputError, match="heap of its texts"):
        check_file(file)


def test_more_values_than_a_file_can_have(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", (10**9,), "u1", chunks=True)
        file.create_dataset("b", data=np.zeros(10**5), compression="gzip")
    with read_hdf5(tmp_path / "a.h5") as file:
        assert read_whole(file["b"]).shape == (10**5,)
        with pytest.raises(InvalidInputError, match="a is damaged"):
            read_whole(file["a"])


@pytest.mark.parametrize(
    ("name", "header", "message"),
    [
        ("a.nrrd", "NRRD0004\n" + "x" * 200_000, "a line of more than 4096 bytes"),
        ("a.nrrd", "NRRD0004\n" + "#\n" * 600_000, "or no end"),
        ("a.nrrd", "NRRD0004\nsizes: 9999999 9999999 9999999\n\n", "memory"),
        ("a.mha", "ObjectType = Image\nNDims = 2147483648\nElementDataFile = LOCAL\n", "2147483648 axes"),
        ("a.nrrd", "NRRD0004\ndimension: -3\n\n", "-3 axes"),
        ("a.mha", "ObjectType = Image\nDimSize = 9999999 9999999 9999999\nElementDataFile = LOCAL\n", "memory"),
    ],
)
def test_headers_that_itk_does_not_survive(tmp_path: Path, name: str, header: str, message: str) -> None:
    (tmp_path / name).write_text(header)
    with pytest.raises(InvalidInputError, match=message):
        open_volume(tmp_path / name)


@pytest.mark.parametrize(("order", "name"), [("<", b"II"), (">", b"MM")])
def test_directories_of_tiff_files(tmp_path: Path, order: str, name: bytes) -> None:
    start = struct.pack(f"{order}2sHI", name, 42, 8)
    (tmp_path / "a.tif").write_bytes(start + struct.pack(f"{order}H", 65535) + bytes(12 * 70_000))
    (tmp_path / "b.tif").write_bytes(start + struct.pack(f"{order}HI", 0, 8))
    for read in (open_volume, load_volume):
        with pytest.raises(InvalidInputError, match="65535 tags"):
            read(tmp_path / "a.tif")
        with pytest.raises(InvalidInputError, match="in a circle"):
            read(tmp_path / "b.tif")


@pytest.mark.parametrize("text", ["[" * 100_000, "\xff", DIGITS, "[]", ""])
def test_json(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(InvalidInputError, match=r"a\.json is not a record"):
        read_json(file, dict, "a record")
    with pytest.raises(InvalidInputError, match="settings of interrupted work"):
        folder_of_parts(tmp_path, text)
    if text:
        with pytest.raises(InvalidInputError, match="line 1"):
            read_history(file)


def folder_of_parts(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "parts"
    folder.mkdir(exist_ok=True)
    (folder / "settings.json").write_text(text, encoding="latin-1")
    (folder / "batch_0.h5").touch()
    begin_parts(folder, {}, lambda: lambda: None, False, "work", "output")


def test_damaged_parts_are_begun_anew_when_asked(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "settings.json").write_text("{")
    begin_parts(folder, {"a": 1}, lambda: lambda: None, True, "work", "output")
    assert json.loads((folder / "settings.json").read_text()) == {"a": 1}


def test_marks_of_blocks(tmp_path: Path) -> None:
    state = BlockState(tmp_path / "a.zarr")
    state.result.mkdir(parents=True)
    state.begin({"a": 1})
    state.mark(0, 1)
    assert state.can_continue({"a": 1}, True, False)
    (state.folder / "finished" / "x").touch()
    with pytest.raises(InvalidInputError, match="other files than marks"):
        state.can_continue({"a": 1}, True, False)
    assert not state.can_continue({"a": 1}, True, True)
    state.settings_file.mkdir()
    assert not state.can_continue({"a": 1}, True, False)
    assert not state.settings_file.exists()


def test_numbers_with_too_many_digits(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"id,class\n{DIGITS},x\n")
    with pytest.raises(InvalidInputError, match="line 2"):
        read_class_table(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text(f"name,roi,confidence\nAVAL,{DIGITS},3\n")
    with pytest.raises(InvalidInputError, match="line 2"):
        read_roi_table(tmp_path / "b.csv")


@pytest.mark.parametrize("row", [b"AVAL", b'"', b"\xff", b"x" * 200_000])
def test_rows_of_labels(tmp_path: Path, row: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(",".join(COLUMNS).encode() + b"\n" + row + b"\n")
    with pytest.raises(InvalidInputError, match=r"a\.csv"):
        read_labels(tmp_path / "a.csv")


def test_archives_of_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.arange(3))
    with zipfile.ZipFile(path) as archive:
        content = archive.read("a.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", content.replace(b"(3,)", b"(3,"))
    with pytest.raises(InvalidInputError, match=r"a\.npz cannot be read"):
        read_arrays(path, ["a"])
    with pytest.raises(VoxelExtError, match=r"a\.npz"):
        read_probabilities(path)


@pytest.mark.parametrize("columns", ["x", "1", '["id"]', '["a", "a"]', "[" * 100_000])
def test_columns_of_features(tmp_path: Path, columns: str) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["id"], file["values"] = [1, 2], np.ones((2, columns.count(",") + 1))
        file["values"].attrs["columns"] = columns if len(columns) < 50_000 else columns[:60_000]
    with pytest.raises(InvalidInputError, match=r"a\.h5"):
        read_features(path)


def write_objects(path: Path, **changes: Any) -> Path:
    parts = {"volumes": np.zeros((2, 1, 4, 4, 4)), "id": [1, 2], "scale": [1.0, 1.0], "chunk": [0, 0]}
    with h5py.File(path, "w") as file:
        for name, values in (parts | changes).items():
            file[name] = values
    return path


@pytest.mark.parametrize("changes", [{"chunk": [0]}, {"scale": [b"a", b"b"]}, {"id": h5py.Empty("i8")}, {"id": 1}])
def test_columns_of_objects(tmp_path: Path, changes: dict[str, Any]) -> None:
    whole, damaged = write_objects(tmp_path / "b.h5"), write_objects(tmp_path / "a.h5", **changes)
    with pytest.raises(InvalidInputError, match=r"a\.h5 is no file"):
        ObjectDataset(damaged)
    with pytest.raises(InvalidInputError, match=r"a\.h5 is damaged"):
        merge_batches(tmp_path / "c.h5", [whole, damaged], {}, {})
    assert not (tmp_path / "c.h5").exists()


def test_a_storage_shorter_than_its_tensor(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, {"a": torch.zeros(100)})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content[:8] if name.endswith("data/0") else content)
    with pytest.raises(CheckpointError, match="needs 400 bytes of storage 0, which has 8"):
        read_checkpoint(path)


def test_tensors_much_larger_than_the_file(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pt", {"a": torch.zeros(1).expand(10**5, 10**5)})
    with pytest.raises(CheckpointError, match="a file of"):
        read_checkpoint(tmp_path / "a.pt")


def test_a_compressed_checkpoint(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}))
        archive.writestr("a/data/0", bytes(10**6))
    with pytest.raises(CheckpointError, match="larger than the file"):
        read_checkpoint(tmp_path / "a.pt")


def _dropped(state: dict[str, Any]) -> None:
    del state["state"][0]["exp_avg"]


def _widened(state: dict[str, Any]) -> None:
    state["state"][0]["exp_avg"] = torch.zeros(7)


def _counted(state: dict[str, Any]) -> None:
    state["state"][0]["step"] = torch.tensor(-1e15)


def _beyond(state: dict[str, Any]) -> None:
    state["param_groups"][0]["betas"] = (2.0, 0.9)


def _switched(state: dict[str, Any]) -> None:
    state["param_groups"][0]["capturable"] = True


def _nothing(state: dict[str, Any]) -> None:
    del state["param_groups"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_dropped, "of one parameter"),
        (_widened, "does not fit a parameter"),
        (_counted, "a step that does not fit"),
        (_beyond, "does not take its settings"),
        (_switched, "has capturable True, it is False now"),
        (_nothing, "has no param_groups"),
    ],
)
def test_states_of_optimizers(change: Any, message: str) -> None:
    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    stored = copy.deepcopy(optimizer.state_dict())
    restore_state("optimizer", torch.optim.Adam(network.parameters()), stored, Path("a.pt"))
    change(stored)
    with pytest.raises(CheckpointError, match=message):
        restore_state("optimizer", torch.optim.Adam(network.parameters()), stored, Path("a.pt"))


@pytest.mark.parametrize("change", ["to_sparse", "cfloat"])
def test_tensors_of_another_kind(tmp_path: Path, change: str) -> None:
    network = torch.nn.Linear(2, 2)
    state = network.state_dict()
    save_checkpoint(tmp_path / "a.pt", state | {"weight": getattr(state["weight"], change)()})
    with pytest.raises(CheckpointError, match="expected plain values"):
        load_weights(tmp_path / "a.pt", network)
