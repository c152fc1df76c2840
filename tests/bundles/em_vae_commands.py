"""The commands of em_shape_vae with a tiny network on tiny objects."""

from pathlib import Path

from bundle_commands import ROOT, configs, run_command

BUNDLE = "em_shape_vae"
FOLDER = ROOT / "bundles" / BUNDLE
OBJECTS = {
    "synthetic_size": [48, 128, 128],
    "synthetic_objects": 12,
    "synthetic_volume": [0.02, 0.03],
    "size": 16,
}
NETWORK = {"size": 16, "latent_size": 3, "filters": [2, 4]}
TINY = NETWORK | {"epochs": 2, "batch_size": 4, "val_batch_size": 4, "beta_warmup_epochs": 2}


def places(folder: Path) -> dict[str, str]:
    return {"ckpt_dir": f"{folder}/models", "output_dir": f"{folder}/eval", "bundle_root": str(FOLDER)}


def prepare(folder: Path, *overlays: str, **override) -> Path:
    settings = OBJECTS | {"dataset_dir": str(folder), "bundle_root": str(FOLDER)} | override
    run_command("run", configs(BUNDLE, "prepare", *overlays), **settings)
    return folder


def train(folder: Path, dataset: Path | str, *overlays: str, run_id: str = "training", **override) -> Path:
    settings = TINY | places(folder) | {"dataset_dir": str(dataset), "log_path": f"{folder}/runs"} | override
    run_command(run_id, configs(BUNDLE, "train", *overlays), **settings)
    return folder


def evaluate(folder: Path, dataset: Path, *overlays: str, **override) -> Path:
    settings = TINY | places(folder) | {"dataset_dir": str(dataset), "log_path": f"{folder}/runs"} | override
    run_command("evaluating", configs(BUNDLE, "train", *overlays, "evaluate"), **settings)
    return Path(settings["output_dir"])


def infer(folder: Path, dataset: Path | str, *overlays: str, **override) -> Path:
    settings = NETWORK | places(folder) | {"dataset_dir": str(dataset), "val_batch_size": 5} | override
    run_command("inference", configs(BUNDLE, "inference", *overlays), **settings)
    return Path(settings["output_dir"])
