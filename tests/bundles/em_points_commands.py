"""The commands of the bundle em_point_cloud_autoencoder on a tiny volume with a tiny network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bundle_commands import ROOT, configs, run_command

from voxel_ext.handlers import read_history

BUNDLE = "em_point_cloud_autoencoder"
FOLDER = ROOT / "bundles" / BUNDLE
VOLUME = {"synthetic_size": [48, 88, 88], "synthetic_objects": 12, "synthetic_volume": [0.02, 0.021], "points": 96}
NETWORK = {"num_points": 24, "latent_size": 4, "channels": [8, 12], "decoder_channels": [16]}
TINY = NETWORK | {"epochs": 2, "batch_size": 4, "points": 32, "val_points": 48}


def prepare(folder: Path, **override: Any) -> Path:
    """Make tiny data in a folder."""
    run_command("run", configs(BUNDLE, "prepare"), **(VOLUME | {"dataset_dir": str(folder)} | override))
    return folder


def places(folder: Path) -> dict[str, str]:
    """Where a command writes."""
    return {
        "ckpt_dir": f"{folder}/models",
        "output_dir": f"{folder}/eval",
        "log_path": f"{folder}/runs",
        "bundle_root": str(FOLDER),
    }


def train(folder: Path, dataset: Path | str, *overlays: str, run_id: str = "training", **override: Any) -> Path:
    """Train, or what else ``run_id`` says, and return the folder."""
    settings = TINY | places(folder) | {"dataset_dir": str(dataset)} | override
    if "evaluate" in overlays:
        settings = {"max_report_objects": 2} | settings
    run_command(run_id, configs(BUNDLE, "train", *overlays), **settings)
    return folder


def infer(folder: Path, dataset: Path | str, *overlays: str, **override: Any) -> Path:
    """Run the inference, and return the folder of what it wrote."""
    shown = {"val_points": 48, "max_report_objects": 2}
    settings = NETWORK | places(folder) | shown | {"dataset_dir": str(dataset)} | override
    del settings["log_path"]
    run_command("inference", configs(BUNDLE, "inference", *overlays), **settings)
    return Path(settings["output_dir"])


def history(folder: Path) -> list[dict[str, float]]:
    """The rows of the training's history."""
    return read_history(folder / "models" / "history.jsonl")
