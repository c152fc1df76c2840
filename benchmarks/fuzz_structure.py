"""Mutations of what is inside HDF5 files, zip archives, torch files and folders; the rest as bytes."""

from __future__ import annotations

import io
import json
import random
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from benchmarks.fuzz_bytes import VALUES, mutate_bytes, mutate_json, mutate_text, mutate_value

TEXT_SUFFIXES = (".csv", ".txt", ".tsv", ".obj", ".nrrd", ".mha")
JSON_NAMES = (".json", ".jsonl", ".zarray", ".zattrs", ".zgroup")
HDF5_SUFFIXES = (".h5", ".hdf5")
TORCH_SUFFIXES = (".pt", ".pytorch")
ZIP_SUFFIXES = (".npz", ".zip", *TORCH_SUFFIXES)
DTYPES = ("i1", "u2", "i8", "u8", "f2", "f4", "f8", "c8", "S5", "?", "V3")
SHAPES: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (3,), (4, 3), (0, 3), (2, 2, 2), (3, 4, 5, 6), (1,) * 7)
HUGE: tuple[tuple[int, ...], ...] = ((10**6, 10**6), (10**5,) * 3, (10**9,), (2, 10**5, 10**5, 10**5), (10**4,) * 5)


def mutate(path: Path, rng: random.Random) -> None:
    """Change a file, or one file of a folder, one to three times."""
    for number in range(rng.choice((1, 1, 1, 2, 3))):
        # h5py changes only what is valid: on a damaged file it may crash, which is not a reader's
        if path.is_dir():
            mutate_folder(path, rng, number == 0)
        elif path.exists():
            mutate_file(path, rng, number == 0)


def mutate_folder(folder: Path, rng: random.Random, valid: bool = True) -> None:
    """Change, remove, exchange or add a file in a folder; those with metadata as often as all others."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        return
    special = [path for path in files if path.name.endswith(JSON_NAMES)]
    path = rng.choice(special if special and rng.random() < 0.5 else files)
    action = rng.random()
    if action < 0.08:
        path.unlink()
    elif action < 0.14:
        shutil.copyfile(rng.choice(files), path.with_name(rng.choice(("9", "0.0.0", "x", rng.choice(files).name))))
    elif action < 0.18 and path.parent != folder:
        shutil.rmtree(path.parent)
    elif action < 0.22:
        path.unlink()
        path.mkdir()
    elif action < 0.26:
        other = rng.choice(files)
        if other != path:
            shutil.copyfile(other, path)
    else:
        mutate_file(path, rng, valid)


def mutate_file(path: Path, rng: random.Random, valid: bool = True) -> None:
    """Change a file by what its name says that it is; half of those with a structure as bytes."""
    name = path.name.lower()
    if valid and name.endswith(HDF5_SUFFIXES) and rng.random() < 0.5:
        mutate_hdf5(path, rng)
        return
    if name.endswith(TORCH_SUFFIXES) and rng.random() < 0.4:
        mutate_torch(path, rng)
        return
    data = path.read_bytes()
    if name.endswith(ZIP_SUFFIXES) and rng.random() < 0.6:
        path.write_bytes(mutate_zip(data, rng))
    elif name.endswith(JSON_NAMES):
        path.write_bytes(mutate_json(data, rng))
    elif name.endswith(TEXT_SUFFIXES) or (name.endswith(".ply") and data[:9] == b"ply\nforma"):
        path.write_bytes(mutate_text(data, rng))
    else:
        path.write_bytes(mutate_bytes(data, rng))


def mutate_zip(data: bytes, rng: random.Random) -> bytes:
    """Change, remove, rename or double a member, with valid checksums."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, EOFError, zlib.error):
        return mutate_bytes(data, rng)
    if not members:
        return mutate_bytes(data, rng)
    index, action = rng.randrange(len(members)), rng.random()
    name, content = members[index]
    if action < 0.1:
        del members[index]
    elif action < 0.2:
        members[index] = (rng.choice(("x", "../x", f"{name}x", "/x")), content)
    elif action < 0.25:
        members[index] = (name, rng.choice(members)[1])
    else:
        members[index] = (name, mutate_bytes(content, rng))
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return target.getvalue()


def mutate_torch(path: Path, rng: random.Random) -> None:
    """Change the dictionary of a torch file, or a tensor in it."""
    try:
        content = _mutate_state(torch.load(path, weights_only=True), rng)
    except Exception:  # torch cannot read or change what an earlier mutation has made of it
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))
        return
    torch.save(content, path)


def _mutate_state(value: Any, rng: random.Random) -> Any:
    if isinstance(value, torch.Tensor):
        return _mutate_tensor(value, rng)
    if isinstance(value, dict | list) and value and rng.random() < 0.9:
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        if rng.random() < 0.2:
            del value[key]
        else:
            value[key] = _mutate_state(value[key], rng)
        return value
    return rng.choice((*VALUES, torch.zeros(2), "text", b"bytes", (1, 2), {1, 2}))


def _mutate_tensor(value: torch.Tensor, rng: random.Random) -> Any:
    made: list[Any] = [
        torch.full_like(value, 1) / 0,
        value.to(rng.choice((torch.float16, torch.int8, torch.bool, torch.complex64, torch.float64))),
        torch.zeros(rng.choice(SHAPES)),
        torch.zeros(1).expand(10**6, 10**6),
        torch.tensor(0.5).expand(value.shape),
        value[..., None],
        value.reshape(-1)[:1],
        value.to_sparse(),
        torch.empty(value.shape, device="meta"),
        torch.nn.Parameter(value) if value.is_floating_point() else value[None],
        value.tolist(),
        None,
    ]
    return rng.choice(made)


def mutate_hdf5(path: Path, rng: random.Random) -> None:
    """Change a dataset, a group or an attribute of an HDF5 file."""
    try:
        with h5py.File(path, "r+") as file:
            nodes: list[Any] = [file]
            file.visititems(lambda _, node: nodes.append(node))
            node = rng.choice(nodes)
            if len(node.attrs) and (node is file or rng.random() < 0.4):
                _mutate_attribute(node.attrs, rng)
            elif node is not file:
                _mutate_node(file, node.name, rng)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, UnicodeError):  # of an earlier mutation
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))


def _mutate_attribute(attributes: Any, rng: random.Random) -> None:
    name = rng.choice(sorted(attributes))
    value, action = attributes[name], rng.random()
    if action < 0.15:
        del attributes[name]
    elif action < 0.5 and isinstance(value, str):
        try:
            attributes[name] = json.dumps(mutate_value(json.loads(value), rng))
        except ValueError:
            attributes[name] = mutate_text(value.encode(), rng).decode("latin-1").replace("\x00", "")[:50_000]
    else:
        plain = [
            -1,
            0,
            1.5,
            float("nan"),
            "x",
            "",
            b"\xff\xfe",
            [1, 2, 3],
            [[1.0]],
            h5py.Empty("f"),
            np.zeros(40),
            "[]",
        ]
        attributes[name] = rng.choice([*plain, np.array(["a", "b"], dtype=h5py.string_dtype()), 2**40, "9" * 5000])


def _mutate_node(file: h5py.File, name: str, rng: random.Random) -> None:
    old = file[name]
    values = old[()] if isinstance(old, h5py.Dataset) and old.shape is not None and rng.random() < 0.4 else None
    shape = old.shape if isinstance(old, h5py.Dataset) and old.shape else (3,)
    attributes = dict(old.attrs)
    del file[name]
    action = rng.randrange(10)
    if values is not None and isinstance(values, np.ndarray) and values.size and values.dtype.kind in "biuf":
        file[name] = _mutate_values(values, rng)
    elif action == 0:
        file.create_group(name)
    elif action == 1:
        file[name] = h5py.SoftLink(rng.choice(("/nowhere", name, "/")))
    elif action == 2:
        file[name] = h5py.ExternalLink("nowhere.h5", "/x")
    elif action == 3:
        file[name] = h5py.Empty(rng.choice(("f", "i8", "S3")))
    elif action == 4:
        file.create_dataset(name, rng.choice(HUGE), rng.choice(DTYPES[:9]), chunks=True)
    elif action == 5:
        texts = rng.choice((h5py.string_dtype(), h5py.vlen_dtype(np.int32), h5py.string_dtype("ascii", 4)))
        file.create_dataset(name, shape, texts)
    elif action < 8:
        file.create_dataset(name, shape, rng.choice(DTYPES))
    elif action == 8:
        file.create_dataset(name, rng.choice(SHAPES), rng.choice(DTYPES))
    if name in file and file.get(name, getlink=True).__class__ is h5py.HardLink:
        for key, value in attributes.items():
            file[name].attrs[key] = value


def _mutate_values(values: np.ndarray, rng: random.Random) -> np.ndarray:
    changed = values.copy()
    limits = np.iinfo(values.dtype) if values.dtype.kind in "iu" else None
    extremes = [0, 1] if values.dtype.kind == "b" else [np.nan, np.inf, -1e30, 0, -1]
    extremes = [0, 1, limits.max, limits.min] if limits is not None else extremes
    changed.reshape(-1)[rng.randrange(values.size) :][: rng.choice((1, 3, values.size))] = rng.choice(extremes)
    return rng.choice((changed, changed, values[:-1], np.concatenate([values, values]), values[None], values.ravel()))
