"""The em_clustering bundle's commands on a tiny volume."""

from pathlib import Path

from bundle_commands import ROOT, configs, run_command

BUNDLE = "em_clustering"
FOLDER = ROOT / "bundles" / BUNDLE
TINY_VOLUME = {"synthetic_size": [40, 72, 72], "synthetic_objects": 7, "synthetic_volume": [0.02, 0.022]}
FEATURES = ["sizef", "sphericity", "intensity"]


def prepare(folder: Path, **override) -> Path:
    """Make the synthetic volume; returns the data set's folder."""
    settings = TINY_VOLUME | {"dataset_dir": str(folder), "bundle_root": str(FOLDER)} | override
    run_command("run", configs(BUNDLE, "prepare"), **settings)
    return folder


def volumes(dataset: Path) -> dict[str, str]:
    """The settings that name the files of a synthetic volume."""
    folder = dataset / "volume"
    names = {"labels": "labels.zarr", "image": "image.zarr", "classes": "classes.csv"}
    return {key: str(folder / name) for key, name in names.items()}


def features(output: Path, dataset: Path, run_id: str = "features", **override) -> Path:
    """Measure features of the synthetic volume of a data set; returns the folder of the tables."""
    settings = {"output_dir": str(output), "features": FEATURES, "bundle_root": str(FOLDER)} | volumes(dataset)
    run_command(run_id, configs(BUNDLE, "features"), **(settings | override))
    return output / "features"
