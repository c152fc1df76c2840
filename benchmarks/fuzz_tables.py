"""Readers of tables for ``benchmarks.fuzz``: cells, classes, ROIs, labels, features, probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.fuzz_child import Reader
from voxel_ext.data.feature_files import read_features, write_features
from voxel_ext.data.neuron_names import read_class_names
from voxel_ext.data.object_classes import read_class_table
from voxel_ext.data.roi_table import read_roi_table
from voxel_ext.data.worm_table import WormTable, read_worm_table, write_worm_table
from voxel_ext.labeling import label as labels
from voxel_ext.labeling import table

COUNT = 5


def make_cells(folder: Path) -> Sequence[Path]:
    """Coordinates of a worm's cells."""
    numbers = np.arange(1, COUNT + 1)
    cells = WormTable(tuple(f"CELL{i}" for i in numbers), np.random.default_rng(0).random((COUNT, 3)), numbers, numbers)
    return [write_worm_table(folder / "cells.txt", cells)]


def text_file(name: str, *lines: str) -> Callable[[Path], Sequence[Path]]:
    """What writes a text file."""

    def make(folder: Path) -> Sequence[Path]:
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return [folder / name]

    return make


def make_labels(folder: Path) -> Sequence[Path]:
    """Labels of ROIs."""
    made = [
        labels.CellLabel("AVAL", 3, (1.0, 2.0, 3.0), 4, 0.9, 1, "AVAL(0.93), AVAR(0.05)", "merged with ROI 7"),
        labels.CellLabel("AVA?-alt", 7, (1.0, 2.0, 5.0), 2, 0.5, -1, "AVAL(0.30)", "contaminated", True),
        labels.CellLabel("UNKNOWN", 9, (4.0, 2.0, 5.0), 0, 0.5, 0),
    ]
    table.write_labels(folder / "labels.csv", made)
    return [folder / "labels.csv"]


def make_features(folder: Path, suffix: str) -> Sequence[Path]:
    """Features of objects."""
    import pandas

    numbers = np.arange(1, COUNT + 1)
    made = pandas.DataFrame({"id": numbers, "volume": numbers / 2, "voxels": numbers * 3})
    write_features(made, folder / f"a{suffix}")
    if suffix == ".parquet":
        made["class"] = [f"class{i % 2}" for i in numbers]
    write_features(made.astype({"volume": np.float32}), folder / f"b{suffix}")
    return [folder / f"a{suffix}", folder / f"b{suffix}"]


def make_probabilities(folder: Path, suffix: str) -> Sequence[Path]:
    """Probabilities of ROIs."""
    rois = labels.RoiProbabilities(
        roi_ids=np.array([3, 7]),
        probabilities=np.array([[0.25, 0.25, 0.5], [1.0, 0, 0]]),
        sizes=np.array([10, 20]),
        centers=np.ones((2, 3)),
        confident_counts=np.ones((2, 3), np.int64),
    )
    table.write_probabilities(folder / f"a{suffix}", rois, ["background", "AVAL", "AVAR"])
    return [folder / f"a{suffix}"]


make_classes = text_file("classes.csv", "id,class,more", "1,round,x", "2,long,", "17,round,y")
make_rois = text_file(
    "rois.csv",
    "Neuron Class,Coordinates,ROI ID,Confidence,Comments",
    "AVAL,,3,5,sure",
    "AVAR,,7/9,2,",
    "UNKNOWN,,11,0,",
)
make_names = text_file("names.txt", "background", "AVAL  # left", "AVAR", "", "RMD\u03b3")

READERS = (
    Reader("cells", make_cells, read_worm_table),
    Reader("classes", make_classes, read_class_table),
    Reader("rois", make_rois, read_roi_table),
    Reader("class_names", make_names, read_class_names),
    Reader("labels", make_labels, lambda path: table.read_labels(path, ["background", "AVAL", "AVAR"])),
    Reader("features_parquet", lambda folder: make_features(folder, ".parquet"), read_features),
    Reader("features_h5", lambda folder: make_features(folder, ".h5"), read_features),
    Reader("probabilities_npz", lambda folder: make_probabilities(folder, ".npz"), table.read_probabilities),
    Reader("probabilities_h5", lambda folder: make_probabilities(folder, ".h5"), table.read_probabilities),
)
