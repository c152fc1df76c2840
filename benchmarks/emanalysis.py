"""Features of objects slice by slice: EManalysis beside ours, on one folder of PNG slices, and their values."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Row, compare
from voxel_ext.data import open_volume
from voxel_ext.morphology import object_features
from voxel_ext.synthetic import Mitochondria

SIZE, OBJECTS = 256, 500
# the original's name, ours, and what ours is in (it has no voxel size)
SAME = (
    ("size", "voxels", 1.0),
    ("circ", "slice_circularity", 1.0),
    ("surface_to_volume", "slice_surface_to_volume_per_um", 1e3),
)
PROCESSES = 2


def run(arguments: argparse.Namespace) -> list[Row]:
    folder = arguments.original_emanalysis
    if not folder:
        sys.stderr.write("emanalysis: left out, as there is no --original-emanalysis\n")
        return []
    sys.path.insert(0, folder)
    try:
        original = importlib.import_module("analyzer.model.utils.extracting")
    finally:
        sys.path.remove(folder)
    with tempfile.TemporaryDirectory() as work:
        slices = _write_slices(Path(work))
        name = f"of {OBJECTS} objects in {SIZE}³, {PROCESSES} processes"
        found: dict[str, Any] = {}
        rows = [
            compare(
                "emanalysis",
                f"size, distance and slice-wise measures {name} / original",
                lambda: found.update(ours=_ours(Path(work), ["size", "distance", "slices"])),
                lambda: found.update(original=_original(original, slices)),
                arguments.repeats,
                goal="ratio < 1",
            ),
            compare(
                "emanalysis",
                f"the same with meshes, skeletons and depths {name} / original without",
                lambda: _ours(Path(work), "all"),
                lambda: _original(original, slices),
                1,
            ),
        ]
    return rows + _differences(found["ours"], found["original"])


def _write_slices(folder: Path) -> list[str]:
    import imageio.v3 as imageio

    labels = Mitochondria(0, size=SIZE, objects=OBJECTS, volume=(0.02, 0.06)).generate()["label"]
    paths = [folder / f"{z:04d}.png" for z in range(len(labels))]
    for path, labeled in zip(paths, labels, strict=True):
        imageio.imwrite(path, labeled.astype(np.uint16))
    return [str(path) for path in paths]


def _ours(folder: Path, features: str | list[str]) -> Any:
    labels = np.asarray(open_volume(folder).read([slice(None)] * 3)[0])
    return object_features(labels, features=features, num_workers=PROCESSES, progress=False)


def _original(original: Any, slices: list[str]) -> dict[str, list[dict[str, Any]]]:
    """All its features that are made slice by slice; it starts a process for each core."""
    with contextlib.redirect_stdout(io.StringIO()):
        return {
            "size": original.compute_region_size(None, "iter", slices),
            "dist": original.compute_dist_graph(None, "iter", slices),
            "circ": original.compute_circularity(None, "iter", slices),
            "slen": original.compute_skeleton(slices),
            "surface_to_volume": original.compute_surface_to_volume(None, "iter", slices),
        }


def _differences(table: Any, original: dict[str, list[dict[str, Any]]]) -> list[Row]:
    table = table.set_index("id")
    rows = []
    for name, column, factor in SAME:
        theirs = _values(original[name], name)
        ours = table.loc[[row["id"] for row in original[name]], column].to_numpy(float) / factor
        worst = float(np.abs(ours - theirs).max())
        rows.append(Row("emanalysis", f"largest difference of {name}", worst, unit="", goal="< 1e-12"))
    return rows


def _values(rows: list[dict[str, Any]], name: str) -> NDArray[np.float64]:
    return np.array([float(np.squeeze(row[name])) for row in rows])
