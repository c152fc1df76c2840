"""Block-wise inference beside MONAI's ways: peak memory by the length of the volume, and wall time."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from monai.inferers import PatchInferer, SlidingWindowInferer, SlidingWindowSplitter, ZarrAvgMerger

from benchmarks.harness import Row
from voxel_ext.inferers.blockwise import BlockwiseInferer
from voxel_ext.networks.nets.unet3d import UNet3D

CLASSES = 32
PLANE = (128, 128)
DEPTHS = (128, 256, 512, 1024)
ROI, OVERLAP, CHUNK = 32, 0.25, 32
TIMED_DEPTH = 256
WAYS = ("ours", "MONAI in memory", "MONAI buffer_steps", "MONAI ZarrAvgMerger")


def run(arguments: argparse.Namespace) -> list[Row]:
    """Each run is a process of its own, since a process never shows a lower peak again."""
    rows = []
    for depth in DEPTHS:
        peaks = {way: _measure(way, depth, "conv")["megabytes"] for way in WAYS}
        for way in WAYS[1:]:
            rows.append(
                Row(
                    "blockwise",
                    f"peak memory above that of the imports, D = {depth} / {way}",
                    peaks["ours"],
                    peaks[way],
                    peaks["ours"] / peaks[way],
                    unit="MB",
                    goal="the same for every D",
                )
            )
    pairs = [[_measure(way, TIMED_DEPTH, "unet")["seconds"] for way in WAYS[:2]] for _ in range(arguments.repeats)]
    ours, other = (float(np.median(times)) for times in zip(*pairs, strict=True))
    ratio = float(np.median([a / b for a, b in pairs]))
    what = f"U-Net, zarr to zarr, D = {TIMED_DEPTH} / MONAI in memory with reading and writing"
    return [*rows, Row("blockwise", what, ours, other, ratio, goal="ratio < 1.1")]


def _measure(way: str, depth: int, network: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        image = zarr.create_array(
            f"{folder}/image.zarr", shape=(depth, *PLANE), dtype="float32", chunks=(CHUNK,) * 3, fill_value=0
        )
        rng = np.random.default_rng(0)
        for start in range(0, depth, CHUNK):
            image[start : start + CHUNK] = rng.normal(size=(CHUNK, *PLANE))
        command = [sys.executable, "-m", "benchmarks.blockwise", way, folder, network]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(answer.splitlines()[-1])
    return found


def _network(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    if name == "conv":
        return torch.nn.Conv3d(1, CLASSES, 1).eval()
    return UNet3D(in_channels=1, out_channels=2, f_maps=16, num_levels=3, num_groups=8).eval()


def _infer(way: str, folder: str, network: torch.nn.Module) -> None:
    source, store = f"{folder}/image.zarr", f"{folder}/result.zarr"
    settings: dict[str, Any] = {"roi_size": (ROI,) * 3, "overlap": OVERLAP, "mode": "gaussian", "progress": False}
    if way == "ours":
        BlockwiseInferer(**settings, chunks=(CHUNK,) * 3)(source, network, store)
        return
    image = torch.from_numpy(np.asarray(zarr.open_array(source, mode="r")[:]))[None, None]
    if way == "MONAI ZarrAvgMerger":
        stores = {"store": store, "value_store": f"{folder}/values.zarr", "count_store": f"{folder}/counts.zarr"}
        splitter = SlidingWindowSplitter((ROI,) * 3, OVERLAP)
        PatchInferer(splitter, ZarrAvgMerger, **stores, chunks=(1, CLASSES, *(CHUNK,) * 3))(image, network)
        return
    more = {"buffer_steps": 4, "buffer_dim": 0} if way == "MONAI buffer_steps" else {}
    result = SlidingWindowInferer(**settings, **more)(image, network)[0].numpy()
    stored = zarr.create_array(store, shape=result.shape, dtype="float32", chunks=(1, *(CHUNK,) * 3))
    for start in range(0, result.shape[1], CHUNK):
        stored[:, start : start + CHUNK] = result[:, start : start + CHUNK]


def _peak() -> float:
    """Largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "linux" else 1024) / 1024


def main() -> None:
    way, folder, name = sys.argv[1:]
    network = _network(name)
    with torch.no_grad():
        network(torch.zeros(1, 1, *(ROI,) * 3))
    before, start = _peak(), time.perf_counter()
    with torch.no_grad():
        _infer(way, folder, network)
    took = time.perf_counter() - start
    assert (Path(folder) / "result.zarr").exists()
    sys.stdout.write(json.dumps({"megabytes": _peak() - before, "seconds": took}) + "\n")


if __name__ == "__main__":
    main()
