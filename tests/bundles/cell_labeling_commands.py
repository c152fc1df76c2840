"""The commands of the bundle cell_labeling with a tiny network on tiny animals."""

import csv
from functools import cache
from pathlib import Path

from bundle_commands import ROOT, configs, run_command

BUNDLE = "cell_labeling"
FOLDER = ROOT / "bundles" / BUNDLE
CHANNELS = ("mTagBFP2", "CyOFP1", "mNeptune2.5", "TagRFP")
SIZE = [12, 24, 40]
TINY_ANIMALS = {"volume_size": SIZE, "cells": 8, "training_animals": 4, "validation_animals": 3}
NETWORK = {"f_maps": 4, "num_groups": 2, "num_levels": 2}
TINY = NETWORK | {"patch_size": SIZE, "epochs": 2}


def places(folder: Path) -> dict[str, str]:
    return {"ckpt_dir": f"{folder}/models", "output_dir": f"{folder}/eval", "log_path": f"{folder}/runs"}


def prepare(folder: Path, **override) -> Path:
    settings = TINY_ANIMALS | {"dataset_dir": str(folder), "bundle_root": str(FOLDER)} | override
    run_command("run", configs(BUNDLE, "prepare"), **settings)
    return folder


def train(folder: Path, dataset: Path, *overlays: str, **override) -> Path:
    settings = TINY | places(folder) | {"dataset_dir": str(dataset), "bundle_root": str(FOLDER)} | override
    run_command("training", configs(BUNDLE, "train", *overlays), **settings)
    return folder


def evaluate(folder: Path, dataset: Path, **override) -> dict[str, float]:
    """Run ``evaluating`` and return its metrics."""
    settings = TINY | places(folder) | {"dataset_dir": str(dataset), "bundle_root": str(FOLDER)} | override
    run_command("evaluating", configs(BUNDLE, "train", "evaluate"), **settings)
    rows = csv.reader((Path(settings["output_dir"]) / "metrics.csv").read_text().splitlines())
    return {name: float(value) for name, value in rows}


def infer(folder: Path, dataset: Path, *overlays: str, **override) -> Path:
    settings = NETWORK | places(folder) | {"dataset_dir": str(dataset), "bundle_root": str(FOLDER)}
    settings.pop("log_path")
    settings |= override
    run_command("inference", configs(BUNDLE, "inference", *overlays), **settings)
    return Path(settings["output_dir"])


@cache
def tiny_animals(base: Path) -> Path:
    """The synthetic animals of a test session; do not change them."""
    return prepare(base / "cell_labeling_animals")


@cache
def tiny_training(base: Path) -> Path:
    """A network that was trained on them; do not change it."""
    return train(base / "cell_labeling_training", tiny_animals(base))
