"""Seconds and memory of the class probabilities of the ROIs of one volume, beside AutoCellLabeler; needs Linux.

4 channels, 64 × 120 × 284 voxels, 185 classes, a U-Net of 64 channels with random parameters, the same on both sides;
artificial cells. Each run is in a process of its own with one thread, ours and the original's in turn. Memory is the
peak of the resident memory above that right before the volume is read, when network and libraries are loaded.

Ours is :class:`~voxel_ext.inferers.RoiInferer`, whose prediction ends with the probabilities of the ROIs. The
original's prediction ends with those of all voxels, which it then writes with gzip and reads again to average them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from benchmarks.harness import Row
from benchmarks.unet3d_originals import original_models
from benchmarks.unet3d_parity import randomize
from voxel_ext.convert import convert_checkpoint
from voxel_ext.networks.nets import UNet3D
from voxel_ext.synthetic import NeuroPAL

NAME = "labeling"
CHANNELS, GROUPS = 4, 16
MIB = 2**20
CONTRAST = 8.0
"""Factor on the last layer's random weights, without which all classes are about as probable."""


def run(arguments: argparse.Namespace) -> list[Row]:
    original, labeler = arguments.original_3dunet, arguments.original_labeler
    if not original:
        sys.stderr.write(f"{NAME}: ours alone, as there is no --original-3dunet\n")
    elif not labeler:
        sys.stderr.write(f"{NAME}: the original without averages over ROIs, as there is no --original-labeler\n")
    shape, classes = tuple(arguments.shape), arguments.classes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, shape, classes, arguments.f_maps, original)
        rows = []
        for slab in arguments.slab:
            pairs = []
            for _ in range(arguments.repeats):
                ours = _side(folder, "ours", str(slab))
                pairs.append((ours, _side(folder, "original", original, labeler or "") if original else None))
            size = " × ".join(map(str, shape))
            what = f"{size}, {classes} classes, f_maps {arguments.f_maps}, slab {slab}"
            rows += _rows(what, pairs, 4 * classes * int(np.prod(shape)))
            if labeler and original:
                worst = float(np.abs(np.load(folder / "ours.npy") - np.load(folder / "original.npy")).max())
                rows.append(Row(NAME, f"{what}: max. difference of ROI probabilities", worst, unit=""))
    return rows


def write_inputs(folder: Path, shape: Sequence[int], classes: int, f_maps: int, original: str | None) -> None:
    """Write ``volume.h5``, ``network.json`` and the random parameters, ``model.pt`` and ``original.pytorch``."""
    worm = NeuroPAL(size=shape, cells=classes - 1, threads=1)
    drawn = worm.generate()
    image = drawn["image"] / drawn["image"].max() * 2 - 1
    image[0, 0, 0, 0], image[0, 0, 0, 1] = -1, 1  # so that scaling by the least and the greatest changes nothing
    with h5py.File(folder / "volume.h5", "w") as file:
        file["raw"], file["roi"] = image.astype(np.float32), drawn["label"]
    settings: dict[str, Any] = {"in_channels": CHANNELS, "out_channels": classes, "f_maps": f_maps}
    settings |= {"layer_order": "gcr", "num_groups": math.gcd(GROUPS, f_maps)}
    torch.manual_seed(0)
    if original:
        with original_models(original) as models, torch.no_grad():
            network = randomize(models.UNet3D(**settings, final_sigmoid=False))
            network.get_parameter("final_conv.weight").mul_(CONTRAST)
            torch.save({"model_state_dict": network.state_dict()}, folder / "original.pytorch")
        converted = convert_checkpoint(folder / "original.pytorch", folder / "model.pt", "gcr", settings["num_groups"])
        ours = asdict(converted)
    else:
        ours = {**settings, "architecture": "unet3d"}
        with torch.no_grad():
            plain = randomize(UNet3D(**settings))
            plain.get_parameter("final_conv.weight").mul_(CONTRAST)
        torch.save({"network": plain.state_dict()}, folder / "model.pt")
    about = {"ours": ours, "original": settings, "shape": list(shape), "class_names": worm.class_names}
    (folder / "network.json").write_text(json.dumps(about), encoding="utf-8")


def _side(folder: Path, *arguments: str) -> dict[str, float]:
    """Run one side in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.labeling_sides", str(folder), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _rows(what: str, pairs: list[tuple[dict[str, float], dict[str, float] | None]], logits: int) -> list[Row]:
    """Medians over the pairs of runs of what the sides tell."""

    def row(text: str, key: str, against: str, unit: str = "s", goal: str = "") -> Row:
        scale = 1 if unit == "s" else MIB
        ours = [one[key] / scale for one, _ in pairs]
        others = [two[against] / scale for _, two in pairs if two is not None and against in two]
        if not others:
            return Row(NAME, f"{what}: {text}", statistics.median(ours), unit=unit)
        ratio = statistics.median(a / b for a, b in zip(ours, others, strict=True))
        named = f"{what}: {text} / original"
        return Row(NAME, named, statistics.median(ours), statistics.median(others), ratio, unit=unit, goal=goal)

    def beside_logits(text: str, side: int) -> Row:
        peak = statistics.median(pair[side]["above"] for pair in pairs if pair[side] is not None)  # type: ignore[index]
        goal = "ratio < 1.5" if side == 0 else ""
        return Row(NAME, f"{what}: {text} / logits", peak / MIB, logits / MIB, peak / logits, unit="MiB", goal=goal)

    rows = [row("prediction", "prediction", "prediction", goal="ratio <= 1")]
    rows.append(row("prediction, CPU time", "prediction_cpu", "prediction_cpu", goal="ratio <= 1"))
    if pairs[0][1] is not None:
        rows.append(row("prediction, the original's with writing", "prediction", "written"))
    rows.append(row("all to the labels, the original's without the labels", "whole", "whole"))
    rows.append(row("all, CPU time", "whole_cpu", "whole_cpu"))
    rows.append(row("peak memory above what is loaded", "above", "above", "MiB", "ratio <= 0.6"))
    rows.append(row("peak memory, all", "peak", "peak", "MiB"))
    rows.append(beside_logits("peak memory above what is loaded", 0))
    if pairs[0][1] is not None:
        rows.append(beside_logits("the original's peak memory above what is loaded", 1))
    return rows
