"""CPU seconds and memory of cutting the 558 cells out of one worm of 140 × 140 × 1200 voxels (z, y, x); needs Linux."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Row
from voxel_ext.data.vaa3d import write_vaa3d
from voxel_ext.data.worm_table import WormTable, write_worm_table
from voxel_ext.synthetic import Worm, WormShapeModel

SHAPE = (140, 140, 1200)
BORDER = (36, 31, 76)
CHANNELS = ("raw", "soft", "raw+mask+soft")
MIB = 2**20

# run in a process of its own, whose peak is that of the preparation alone; what it imports is loaded before
CHILD = """
import json, re, sys, time
import h5py, scipy.ndimage
from voxel_ext.data.worm_preparation import prepare_worms

def status(name):
    with open("/proc/self/status", encoding="ascii") as stream:
        return 1024 * int(re.search(name + r":\\s+(\\d+)", stream.read()).group(1))

root, out, channels = sys.argv[1:]
before = status("VmRSS")
start = time.process_time()
prepare_worms(f"{root}/images", f"{root}/labels", f"{root}/coordinates", out, channels=channels, progress=False)
print(json.dumps({"seconds": time.process_time() - start, "before": before, "peak": status("VmHWM")}))
"""


def run(arguments: argparse.Namespace) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        image, volumes = write_worm_volumes(root)
        for channels in CHANNELS:
            runs = [_prepare(root, f"{channels} {i}", channels) for i in range(arguments.repeats)]
            name = f"558 cells, {channels}"
            least = min(one["seconds"] for one in runs)
            rows.append(Row("worm_preparation", f"{name}, CPU time, one core", least, goal="< 3 s"))
            peak = statistics.median(one["peak"] - one["before"] for one in runs)
            base = statistics.median(one["before"] for one in runs)
            what = f"{name}, memory over the {base / MIB:.0f} MiB of the imports / "
            rows.append(_memory(f"{what}image and labels", peak, volumes, "ratio < 3"))
            rows.append(_memory(f"{what}image alone", peak, image, "ratio < 3"))
    return rows


def _memory(what: str, peak: float, size: int, goal: str) -> Row:
    return Row("worm_preparation", what, peak / MIB, size / MIB, peak / size, unit="MiB", goal=goal)


def _prepare(root: Path, name: str, channels: str) -> dict[str, float]:
    command = [sys.executable, "-c", CHILD, str(root), str(root / "out" / name), channels]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def write_worm_volumes(root: Path) -> tuple[int, int]:
    """Write a drawn worm, shortened to the length, as Vaa3D volumes and a table.

    Returns:
        the bytes of the image (8 bit), and of the image and the labels (16 bit).
    """
    model = WormShapeModel.load(None)
    positions = model.draw(np.random.default_rng(0))
    extent = np.ptp(positions[:, 2])
    positions[:, 2] *= (SHAPE[2] - 2 - 2 * BORDER[2]) / extent
    worm = Worm(0, positions=positions).generate()
    image = fit(worm["image"]).round().clip(0, 255).astype(np.uint8)
    label = fit(worm["label"]).astype(np.uint16)
    numbers = np.arange(len(worm["names"])) + 1
    table = WormTable(tuple(worm["names"]), worm["positions"], numbers, worm["label_numbers"], "worm")
    for name in ("images", "labels", "coordinates"):
        (root / name).mkdir()
    write_vaa3d(root / "images" / "worm.raw", image)
    write_vaa3d(root / "labels" / "worm.raw", label)
    write_worm_table(root / "coordinates" / "worm.txt", table)
    return image.nbytes, image.nbytes + label.nbytes


def fit(volume: NDArray) -> NDArray:
    """Cut or fill a volume at its far faces to the wanted shape."""
    cut = volume[tuple(slice(side) for side in SHAPE)]
    return np.pad(cut, [(0, want - have) for want, have in zip(SHAPE, cut.shape, strict=True)])
