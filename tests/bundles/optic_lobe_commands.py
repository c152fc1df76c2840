"""The optic lobe bundle's commands with a tiny network."""

from pathlib import Path

from bundle_commands import ROOT, configs, run_command

BUNDLE = "optic_lobe_segmentation"
FOLDER = ROOT / "bundles" / BUNDLE
TINY = {"depth": 2, "start_channels": 4, "patch_size": [16, 16, 16], "epochs": 2, "batch_size": 2}
TINY_2D = TINY | {"patch_size": [16, 16]}


def places(folder: Path) -> dict[str, str]:
    return {"ckpt_dir": f"{folder}/models", "output_dir": f"{folder}/eval", "log_path": f"{folder}/runs"}


def train(folder: Path, dataset: Path, *overlays: str, run_id: str = "training", **override) -> Path:
    settings = TINY | places(folder) | {"dataset_dir": str(dataset)} | override
    run_command(run_id, configs(BUNDLE, "train", *overlays), bundle_root=str(FOLDER), **settings)
    return folder


def infer(folder: Path, dataset: Path, *overlays: str, run_id: str = "inference", **override) -> Path:
    settings = {name: TINY[name] for name in ("depth", "start_channels", "patch_size")} | places(folder)
    settings.pop("log_path")
    settings |= {"dataset_dir": str(dataset)} | override
    run_command(run_id, configs(BUNDLE, "inference", *overlays), bundle_root=str(FOLDER), **settings)
    return folder / "eval"
