"""Statistics of synthetic volumes over 20 seeds, beside the original's where a checkout of it is given."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

import numpy as np

from benchmarks.generator import original_generator
from benchmarks.harness import Row
from voxel_ext.synthetic import OpticLobe

SEEDS = 20
NAMES = ("mask fraction", "columns", "mean intensity", "standard deviation", "99th percentile")


def run(arguments: argparse.Namespace) -> list[Row]:
    lobes = (OpticLobe(seed=seed, size=128).generate() for seed in range(SEEDS))
    ours = _table((v["image"], v["label"], v["parameters"]["n_columns"]) for v in lobes)
    other = None
    if arguments.original:
        generate = original_generator(arguments.original)
        volumes = (generate() for _ in range(SEEDS))
        other = _table((v.vol_data, v.vol_labels, len(v.geometry.points)) for v in volumes)
    rows = []
    for column, name in enumerate(NAMES):
        for statistic, reduce in (("mean", np.mean), ("standard deviation", np.std)):
            a = float(reduce(ours[:, column]))
            b = None if other is None else float(reduce(other[:, column]))
            what = f"{name}: {statistic} over {SEEDS} seeds, 128³"
            rows.append(Row("generator_statistics", what, a, b, None if b is None else a / b, unit=""))
    return rows


def _table(volumes: Iterable[tuple[np.ndarray, np.ndarray, int]]) -> np.ndarray:
    return np.array(
        [
            (np.mean(label > 0), columns, image.mean(), image.std(), np.percentile(image, 99))
            for image, label, columns in volumes
        ]
    )
