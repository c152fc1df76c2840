"""A small label volume of two kinds of objects, with tables of their features."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from voxel_ext.data import write_features
from voxel_ext.data.object_sources import ObjectVolumes, open_objects
from voxel_ext.engines import (
    ClusteredObjects,
    DescribedClusters,
    cluster_objects,
    describe_clusters,
    find_objects,
    read_feature_tables,
)

VOXEL_SIZE = (30.0, 8.0, 10.0)
IDS = np.array([3, 70000, 5, 2**40, 11, 12, 400, 8, 90])
IS_ROD = np.array([0, 1, 0, 1, 1, 0, 1, 0, 0], bool)  # five cubes, four rods
SHAPES = {False: (4, 6, 6), True: (3, 3, 14)}


def label_volume() -> np.ndarray:
    """(12, 24, 64) int64: nine boxes apart from each other, far below and above 2^32."""
    labels = np.zeros((12, 24, 64), np.int64)
    for place, (one, rod) in enumerate(zip(IDS, IS_ROD, strict=True)):
        depth, height, width = SHAPES[bool(rod)]
        z, y, x = 1 + 6 * (place // 8), 1 + 11 * ((place // 4) % 2), 1 + 16 * (place % 4)
        labels[z : z + depth, y : y + height, x : x + width] = one
    return labels


def volumes(image: bool = False, labels: np.ndarray | None = None) -> ObjectVolumes:
    given = label_volume() if labels is None else labels
    return open_objects(given, given.astype(np.float32) if image else None, VOXEL_SIZE)


def kind_table(ids: np.ndarray = IDS, seed: int = 0) -> pd.DataFrame:
    """Two columns, around (0, 5) for cubes and (10, 1) for rods, rows in random order."""
    rng = np.random.default_rng(seed)
    rods = dict(zip(IDS.tolist(), IS_ROD.tolist(), strict=True))
    centers = np.array([(10.0, 1.0) if rods.get(one, False) else (0.0, 5.0) for one in ids.tolist()])
    values = centers + 0.1 * rng.standard_normal(centers.shape)
    table = pd.DataFrame({"id": ids, "length": values[:, 0], "width": values[:, 1]})
    return table.sample(frac=1, random_state=seed)


def number_table(column: str, values: Any, ids: np.ndarray = IDS) -> pd.DataFrame:
    return pd.DataFrame({"id": ids, column: np.asarray(values)})


def write_tables(folder: Path, **tables: pd.DataFrame) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        write_features(table, folder / f"{name}.parquet")
    return folder


def cluster_tables(folder: Path, *features: str, labels: np.ndarray | None = None, **settings: Any) -> ClusteredObjects:
    """Two clusters of the objects by tables that are there."""
    sources = read_feature_tables(folder, features)
    objects = find_objects(volumes(labels=labels), sources, progress=False)
    return cluster_objects(sources, objects, **({"n_clusters": 2, "stability_repeats": 0} | settings))


def clustered(folder: Path, **settings: Any) -> ClusteredObjects:
    """Clusters of the two kinds of objects."""
    write_tables(folder, shape=kind_table())
    return cluster_tables(folder, "shape", **settings)


def described(folder: Path, clusters: ClusteredObjects | None = None, **settings: Any) -> DescribedClusters:
    return describe_clusters(clusters or clustered(folder), **({"embedding": "pca"} | settings))
