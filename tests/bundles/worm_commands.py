"""The worm bundles' commands with tiny networks on tiny worms."""

from pathlib import Path

from bundle_commands import ROOT, configs, run_command

BUNDLE = "worm_matching"
FOLDER = ROOT / "bundles" / BUNDLE
TINY_WORMS = {"cells": 12, "cube_size": 16, "training_worms": 3, "validation_worms": 2}
ENCODER = {"features": [2, 3], "hidden": 8, "grid": 2, "out_features": 12}
ATTENTION = {"attention_layers": 1, "attention_width": 24, "attention_heads": 2}
TRAINING = {"num_cells": 12, "pairs_per_epoch": 3, "epochs": 2}
TINY = ENCODER | ATTENTION | TRAINING
COORDINATES = ROOT.parent / "shared" / "data" / "worm_coordinates"


def places(folder: Path) -> dict[str, str]:
    return {"ckpt_dir": f"{folder}/models", "output_dir": f"{folder}/eval", "log_path": f"{folder}/runs"}


def prepare(folder: Path, **override) -> Path:
    run_command(
        "run", configs(BUNDLE, "prepare"), bundle_root=str(FOLDER), dataset_dir=str(folder), **(TINY_WORMS | override)
    )
    return folder


def train(folder: Path, dataset: Path, *overlays: str, run_id: str = "training", **override) -> Path:
    settings = TINY | places(folder) | {"dataset_dir": str(dataset), "bundle_root": str(FOLDER)} | override
    run_command(run_id, configs(BUNDLE, "train", *overlays), **settings)
    return folder


def evaluate(folder: Path, dataset: Path, *overlays: str, **override) -> Path:
    settings = TINY | places(folder) | {"dataset_dir": str(dataset), "bundle_root": str(FOLDER)} | override
    run_command("evaluating", configs(BUNDLE, "train", *overlays, "evaluate"), **settings)
    return Path(settings["output_dir"])


def infer(folder: Path, dataset: Path, **override) -> Path:
    settings = ENCODER | ATTENTION | places(folder) | {"dataset_dir": str(dataset), "bundle_root": str(FOLDER)}
    settings.pop("log_path")
    settings |= override
    run_command("inference", configs(BUNDLE, "inference"), **settings)
    return Path(settings["output_dir"])
