"""The commands of the bundle em_contrastive with a tiny network on few objects."""

from functools import cache
from pathlib import Path
from typing import Any

from bundle_commands import ROOT, configs, run_command

BUNDLE = "em_contrastive"
FOLDER = ROOT / "bundles" / BUNDLE
VOLUME = {"synthetic_size": [72, 112, 112], "synthetic_objects": 18, "size": 16}
NETWORK = {"width": 0.0625, "projector_size": 16, "predictor_size": 8}
CUBES = {"size": 16}
TINY = NETWORK | CUBES | {"epochs": 2, "batch_size": 4, "warmup_epochs": 0}


def places(folder: Path) -> dict[str, str]:
    return {"ckpt_dir": f"{folder}/models", "output_dir": f"{folder}/eval", "log_path": f"{folder}/runs"}


def prepare(folder: Path, *overlays: str, **override: Any) -> Path:
    settings = {"dataset_dir": str(folder), "bundle_root": str(FOLDER)} | VOLUME | override
    run_command("run", configs(BUNDLE, "prepare", *overlays), **settings)
    return folder


def train(folder: Path, dataset: Path | str, *overlays: str, run_id: str = "training", **override: Any) -> Path:
    settings = TINY | places(folder) | {"dataset_dir": str(dataset), "bundle_root": str(FOLDER)} | override
    run_command(run_id, configs(BUNDLE, "train", *overlays), **settings)
    return folder


def evaluate(folder: Path, dataset: Path | str, *overlays: str, **override: Any) -> Path:
    """Run ``evaluating``; return the folder of its results."""
    settings = TINY | places(folder) | {"dataset_dir": str(dataset), "bundle_root": str(FOLDER)}
    settings |= {"output_dir": f"{folder}/evaluation", "max_report_objects": 2} | override
    run_command("evaluating", configs(BUNDLE, "train", *overlays, "evaluate"), **settings)
    return Path(settings["output_dir"])


def infer(folder: Path, dataset: Path | str, *overlays: str, **override: Any) -> Path:
    """Run ``inference``; return the folder of its results."""
    settings = NETWORK | CUBES | places(folder) | {"dataset_dir": str(dataset), "bundle_root": str(FOLDER)}
    settings.pop("log_path")
    settings |= {"max_report_objects": 2} | override
    run_command("inference", configs(BUNDLE, "inference", *overlays), **settings)
    return Path(settings["output_dir"])


@cache
def tiny_objects(base: Path) -> Path:
    """Prepared objects of a test session; do not change them."""
    return prepare(base / "contrastive_objects")


@cache
def tiny_training(base: Path) -> Path:
    """A network that was trained on them; do not change it."""
    return train(base / "contrastive_training", tiny_objects(base))
