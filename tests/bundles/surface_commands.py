"""The commands of the bundle surface_multitask with a tiny network on tiny volumes of sheets."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from bundle_commands import ROOT, configs, run_command

from voxel_ext.data import decode_vectors

BUNDLE = "surface_multitask"
FOLDER = ROOT / "bundles" / BUNDLE
SIZE = (32, 32, 32)
VOLUMES = {"volume_size": list(SIZE), "training_volumes": 2, "validation_volumes": 1, "chunks": [16, 16, 16]}
NETWORK = {"f_maps": [8, 16], "patch_size": [16, 16, 16]}
TINY = NETWORK | {"epochs": 2, "batch_size": 2, "iterations_per_epoch": 2, "validation_iterations": 4}
SHEET = {"channels": 1, "activation": "sigmoid", "weight": 1.0, "loss": "bce_dice"}
NORMALS = {"channels": 3, "activation": "unit_norm", "weight": 0.75, "loss": "cosine", "oriented": False}


def places(folder: Path) -> dict[str, str]:
    return {"ckpt_dir": f"{folder}/models", "output_dir": f"{folder}/eval", "log_path": f"{folder}/runs"}


def prepare(folder: Path, **override: Any) -> Path:
    settings = {"dataset_dir": str(folder), "bundle_root": str(FOLDER)} | VOLUMES | override
    run_command("run", configs(BUNDLE, "prepare"), **settings)
    return folder


def train(folder: Path, dataset: Path | str, *overlays: str, **override: Any) -> Path:
    settings = TINY | places(folder) | {"dataset_dir": str(dataset), "bundle_root": str(FOLDER)} | override
    run_command("training", configs(BUNDLE, "train", *overlays), **settings)
    return folder


def evaluate(folder: Path, dataset: Path | str, *overlays: str, **override: Any) -> Path:
    """Run ``evaluating``; return the folder of its results."""
    settings = TINY | places(folder) | {"dataset_dir": str(dataset), "bundle_root": str(FOLDER)}
    settings |= {"output_dir": f"{folder}/evaluation"} | override
    run_command("evaluating", configs(BUNDLE, "train", *overlays, "evaluate"), **settings)
    return Path(settings["output_dir"])


def infer(folder: Path, dataset: Path | str, *overlays: str, **override: Any) -> Path:
    settings = NETWORK | places(folder) | {"dataset_dir": str(dataset), "bundle_root": str(FOLDER)}
    settings.pop("log_path")
    settings |= {"chunks": [16, 16, 16], "show_report": False} | override
    run_command("inference", configs(BUNDLE, "inference", *overlays), **settings)
    return Path(settings["output_dir"])


@cache
def tiny_sheets(base: Path) -> Path:
    """The synthetic volumes of a test session; do not change them."""
    return prepare(base / "surface_sheets")


@cache
def tiny_training(base: Path) -> Path:
    """A network that was trained on them; do not change it."""
    return train(base / "surface_training", tiny_sheets(base))


def entries(folder: Path, *keys: str) -> list[dict[str, str]]:
    """The stores of a folder as the setting ``volumes`` describes them."""
    wanted = keys or ("sheet", "normals")
    stores = sorted(folder.glob("*.zarr"))
    return [{"input": f"{path}/image", **{key: f"{path}/{key}" for key in wanted}} for path in stores]


def array(store: Path, name: str) -> np.ndarray:
    """An image of a store, as stored."""
    return zarr.open_group(str(store), mode="r")[f"{name}/0"][...]


def vectors(store: Path, name: str = "normals") -> np.ndarray:
    return decode_vectors(array(store, name))


def contents(folder: Path) -> dict[str, bytes]:
    """Bytes of all files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_store(path: Path, **arrays: np.ndarray) -> Path:
    """Write plain arrays side by side into a zarr store."""
    group = zarr.open_group(str(path), mode="w")
    for name, values in arrays.items():
        group.create_array(name, data=values)
    return path


def planes(seed: int = 0, shape: tuple[int, int, int] = SIZE) -> dict[str, np.ndarray]:
    """A noisy image of flat sheets normal to z, 3 voxels thick with 2 between them, with mask and normals."""
    noise = np.random.default_rng(seed).normal(100, 10, shape)
    sheet = np.zeros(shape, np.uint8)
    for first in range(2, shape[0], 5):
        sheet[first : first + 3] = 1
    normals = np.zeros((3, *shape), np.float32)
    normals[0] = sheet
    return {"image": (noise + 80 * sheet).astype(np.float32), "sheet": sheet, "normals": normals}
