"""Running the em_clustering bundle's `run clustering` on features of a tiny volume."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from bundle_commands import configs, run_command
from em_clustering_commands import BUNDLE, FOLDER, features, prepare, volumes

from voxel_ext.data import read_features, write_features

CLASSICAL = ["sizef", "distf", "shape", "sphericity", "skeleton", "thickness"]
TINY = {"n_clusters": 3, "stability_repeats": 2, "embedding": "pca", "farthest": 1}


def measured(folder: Path) -> Path:
    """Make a volume of seven objects and its tables: ``data`` and ``eval/features``; returns the folder."""
    prepare(folder / "data")
    features(folder / "eval", folder / "data", features=CLASSICAL)
    return folder


def cluster(measured: Path, output: Path, *overlays: str, **override: Any) -> Path:
    settings = TINY | volumes(measured / "data") | {"feature_dirs": [str(measured / "eval" / "features")]} | override
    files = configs(BUNDLE, "clustering", *overlays)
    run_command("clustering", files, bundle_root=str(FOLDER), output_dir=str(output), **settings)
    return output


def object_ids(measured: Path) -> np.ndarray:
    return read_features(measured / "eval" / "features" / "shape.parquet")["id"].to_numpy()


def learned_tables(measured: Path, folder: Path, *names: str) -> Path:
    """Tables such as networks write: random codes of 4 numbers."""
    ids, rng = object_ids(measured), np.random.default_rng(0)
    for name in names:
        codes = pd.DataFrame(rng.standard_normal((len(ids), 4)), columns=[f"{name}_{k:03}" for k in range(4)])
        codes.insert(0, "id", ids)
        write_features(codes, folder / f"{name}.parquet")
    return folder
