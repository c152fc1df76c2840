"""Pack every bundle and run it by its two commands in one new environment, as a stranger would.

Each bundle is trained for a moment on tiny synthetic data. The environment gets nothing but what each packed bundle's
``requirements.txt`` names, and its wheel; it lies, as everything else, in FOLDER, which must not exist.

    python scripts/pack_all.py FOLDER [BUNDLE ...]

VOXEL_EXT_TORCH says what to give to pip for PyTorch before anything else, see scripts/install.sh.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHORT = {"epochs": 1, "batch_size": 2}
CUBES = {"cells": 12, "cube_size": 16, "training_worms": 3, "validation_worms": 2}
OBJECTS = {"synthetic_size": [72, 112, 112], "synthetic_objects": 18}

Settings = dict[str, Any]
TINY: dict[str, tuple[Settings, Settings | None, str]] = {
    "cell_labeling": (
        {"volume_size": [12, 24, 40], "cells": 8, "training_animals": 4, "validation_animals": 3},
        {"f_maps": 4, "num_groups": 2, "num_levels": 2, "patch_size": [12, 24, 40]},
        "val",
    ),
    "em_clustering": (OBJECTS, None, "volume"),
    "em_contrastive": (
        OBJECTS | {"size": 16},
        {"size": 16, "width": 0.0625, "projector_size": 16, "predictor_size": 8, "warmup_epochs": 0, "batch_size": 4},
        "",
    ),
    "em_point_cloud_autoencoder": (
        OBJECTS | {"points": 96},
        {"num_points": 24, "latent_size": 4, "channels": [8, 12], "points": 32, "val_points": 48},
        "",
    ),
    "em_shape_vae": (OBJECTS | {"size": 32}, {"size": 32, "latent_size": 3, "filters": [2, 4]}, ""),
    "neuron_segmentation": (
        {"volume_size": [16, 32, 40], "cells": 12, "training_volumes": 2, "validation_volumes": 1},
        {"f_maps": 4, "num_groups": 2, "num_levels": 2, "patch_size": [16, 16, 16], "patches_per_volume": 2},
        "val",
    ),
    "optic_lobe_segmentation": (
        {"volume_size": 32, "volumes_per_file": 2, "validation_volumes": 1},
        {"depth": 2, "start_channels": 4, "patch_size": [16, 16, 16]},
        "val",
    ),
    "surface_multitask": (
        {"volume_size": [32, 32, 32], "training_volumes": 2, "validation_volumes": 1, "chunks": [16, 16, 16]},
        {"f_maps": [8, 16], "patch_size": [16, 16, 16], "iterations_per_epoch": 2, "validation_iterations": 4},
        "val",
    ),
    "worm_autoencoder": (CUBES, {"features": [2, 3], "depth": 2, "cells_per_epoch": 8}, "val"),
    "worm_matching": (
        CUBES,
        {
            **{"features": [2, 3], "hidden": 8, "grid": 2, "out_features": 12, "attention_layers": 1},
            **{"attention_width": 24, "attention_heads": 2, "num_cells": 12, "pairs_per_epoch": 3, "batch_size": 1},
        },
        "val",
    ),
}
"""By bundle: settings of ``prepare`` and of ``training``, and the part of the data that is the sample."""


def pack(bundle: str, folder: Path) -> Path:
    """Prepare, train and pack a bundle; return the archive."""
    from voxel_ext.sharing.pack import pack_bundle

    prepare, training, sample = TINY[bundle]
    run(bundle, "run", "prepare", dataset_dir=folder / "data", **prepare)
    weights = None
    if training is not None:
        places = {"ckpt_dir": folder / "models", "output_dir": folder / "eval", "log_path": folder / "runs"}
        run(bundle, "training", "train", dataset_dir=folder / "data", **places, **(SHORT | training))
        weights = folder / "models" / "model.pt"
    archive = folder / f"{bundle}.zip"
    pack_bundle(ROOT / "bundles" / bundle, archive, weights=weights, sample=folder / "data" / sample)
    return archive


def run(bundle: str, run_id: str, config: str, **settings: Any) -> None:
    """Run a command of a bundle in this process."""
    from monai.bundle import ConfigWorkflow

    root = ROOT / "bundles" / bundle
    values = {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}
    file = str(root / "configs" / f"{config}.json")
    workflow = ConfigWorkflow(file, run_id=run_id, logging_file=False, bundle_root=str(root), **values)
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def use(archive: Path, folder: Path, environment: dict[str, str]) -> str:
    """Unzip a packed bundle and run the two commands of its manifest, which must leave results; return a line on it."""
    from voxel_ext.sharing.manifest import Manifest

    start = time.monotonic()
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    root = folder / archive.stem
    manifest = Manifest.from_json((root / "manifest.json").read_text(encoding="utf-8"), str(root))
    for command in (manifest.install, manifest.run):
        print(f"{root}$ {command}", flush=True)
        subprocess.run(command, shell=True, cwd=root, env=environment, check=True)
    assert any((root / "eval").iterdir()), f"{root / 'eval'} is empty"
    exports = [f"{one.format} {one.difference:.1e}" if one.path else f"no {one.format}" for one in manifest.exports]
    seconds = time.monotonic() - start
    return f"{archive.stem}: {archive.stat().st_size / 2**20:.1f} MiB, {', '.join(exports)}, {seconds:.0f} s"


def new_environment(folder: Path) -> dict[str, str]:
    """Make an environment without packages; return the variables that select it."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment = kept | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    if torch := os.environ.get("VOXEL_EXT_TORCH"):
        subprocess.run(["python", "-m", "pip", "install", *shlex.split(torch)], env=environment, check=True)
    return environment


def main() -> None:
    """Pack and use the bundles; stop at the first that does not work."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="where everything goes; must not exist")
    parser.add_argument("bundles", nargs="*", metavar="BUNDLE", help=f"default: all of {', '.join(TINY)}")
    arguments = parser.parse_args()
    for bundle in arguments.bundles:
        if bundle not in TINY:
            parser.error(f"{bundle} is no bundle; expected some of {', '.join(TINY)}")
    folder = arguments.folder.resolve()
    if folder.exists():
        parser.error(f"{folder} exists; choose another folder")
    folder.mkdir(parents=True)
    archives = [pack(bundle, folder / "made" / bundle) for bundle in arguments.bundles or TINY]
    environment = new_environment(folder / "venv")
    lines = [use(archive, folder / "there", environment) for archive in archives]
    print("\n".join(lines))
    print(f"{len(archives)} packed bundles run in a new environment", flush=True)


if __name__ == "__main__":
    main()
