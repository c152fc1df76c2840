"""The neuron segmentation bundle's commands with a tiny network and tiny volumes."""

from pathlib import Path
from typing import Any

import h5py
import itk
import nibabel
import numpy as np
from bundle_commands import ROOT, configs, run_command

BUNDLE = "neuron_segmentation"
FOLDER = ROOT / "bundles" / BUNDLE
VOLUMES = {"volume_size": [16, 32, 40], "cells": 12, "training_volumes": 3, "validation_volumes": 2}
NETWORK = {"f_maps": 4, "num_groups": 2, "num_levels": 2, "patch_size": [16, 16, 16]}
TINY = NETWORK | {"epochs": 2, "batch_size": 2, "patches_per_volume": 2, "min_size": 2}
FLAT = {"patch_size": [1, 16, 16], "batch_size": 2, "patches_per_volume": 2}


def places(folder: Path) -> dict[str, str]:
    return {"ckpt_dir": f"{folder}/models", "output_dir": f"{folder}/eval", "bundle_root": str(FOLDER)}


def prepare(folder: Path, **override: Any) -> Path:
    settings = {"dataset_dir": str(folder)} | VOLUMES | override
    run_command("run", configs(BUNDLE, "prepare"), **settings)
    return folder


def train(folder: Path, dataset: Path | str, *overlays: str, run_id: str = "training", **override: Any) -> Path:
    settings = TINY | places(folder) | {"dataset_dir": str(dataset), "log_path": f"{folder}/runs"} | override
    run_command(run_id, configs(BUNDLE, "train", *overlays), **settings)
    return folder


def evaluate(folder: Path, dataset: Path | str, *overlays: str, **override: Any) -> Path:
    output = folder / "evaluation"
    settings = {"log_path": f"{folder}/runs", "output_dir": str(output)} | override
    train(folder, dataset, "evaluate", *overlays, run_id="evaluating", **settings)
    return output


def infer(folder: Path, dataset: Path | str, *overlays: str, run_id: str = "inference", **override: Any) -> Path:
    settings = NETWORK | {"min_size": 2} | places(folder) | {"dataset_dir": str(dataset)} | override
    run_command(run_id, configs(BUNDLE, "inference", *overlays), **settings)
    return folder / "eval"


def write_hdf5(path: Path, **arrays: np.ndarray) -> Path:
    """Write a file of a data set; return the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path.parent


def write_image(path: Path, array: np.ndarray) -> None:
    """Write (z, y, x) voxels in the format of the suffix; a voxel is 3 x 2 x 1 micrometers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith((".nii", ".nii.gz")):
        image = nibabel.Nifti1Image(array.T, np.diag([1.0, 2.0, 3.0, 1.0]))
        image.header.set_xyzt_units("micron")
        nibabel.save(image, path)
    else:
        image = itk.image_from_array(array)
        image.SetSpacing((1.0, 2.0, 3.0))
        itk.imwrite(image, str(path))


def blobs(seed: int = 0, shape: tuple[int, ...] = (16, 32, 32)) -> tuple[np.ndarray, np.ndarray]:
    """An image (float32) of bright balls on noise, and their instance ids (uint16)."""
    random = np.random.default_rng(seed)
    axes = np.indices(shape)
    ids = np.zeros(shape, np.uint16)
    for index, center in enumerate([(5, 8, 8), (8, 22, 10), (10, 10, 24), (6, 24, 25)], 1):
        distance = sum((axis - c) ** 2 for axis, c in zip(axes, center, strict=True))
        ids[distance <= 16] = index
    image = 100 * (ids > 0) + random.normal(100, 10, shape)
    return image.astype(np.float32), ids


def sparse_labels(ids: np.ndarray) -> np.ndarray:
    """Labels as a person might draw them: 0 not labeled, 1 neuron, 2 background, 3 gap."""
    sparse = np.where(ids > 0, 1, 2).astype(np.uint8)
    sparse[:, :, 16] = 3
    sparse[:, 16:, 16:] = 0
    return sparse
