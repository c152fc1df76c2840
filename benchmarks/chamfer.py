"""Peak memory and seconds of the Chamfer loss, forward and backward, beside all distances by ``torch.cdist``."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from benchmarks.harness import Row
from benchmarks.labeling_sides import Meter
from voxel_ext.losses import ChamferLoss

BATCH, PREDICTED, TARGET = 16, 4096, 5000
WAYS = ("chunked", "tree", "cdist")
TOLERANCE = 1e-3


def run(arguments: argparse.Namespace) -> list[Row]:
    """Each way is a process of its own, since a process may keep the memory that it has had."""
    # all distances once: they take minutes where memory is slow to get
    results = {way: [_measure(way) for _ in range(1 if way == "cdist" else arguments.repeats)] for way in WAYS}
    found = {way: {key: min(one[key] for one in runs) for key in runs[0]} for way, runs in results.items()}
    for way in WAYS[:2]:
        for name in ("loss", "gradient"):
            if abs(found[way][name] - found["cdist"][name]) > TOLERANCE * abs(found["cdist"][name]):
                raise RuntimeError(f"chamfer: the {name} of {way} is {found[way][name]}, not {found['cdist'][name]}")
    what = f"batch {BATCH} of {PREDICTED} against {TARGET} points, float32, forward and backward"
    rows = []
    for way in WAYS[:2]:
        for key, unit, goal in (("gib", "GiB", "< 1"), ("seconds", "s", "")):
            ours, other = found[way][key], found["cdist"][key]
            name = "peak memory above what is loaded" if key == "gib" else "seconds"
            rows.append(Row("chamfer", f"{what}: {name}, {way} / torch.cdist", ours, other, ours / other, unit, goal))
    return rows


def plain(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The same loss from the matrix of all distances."""
    squares = torch.cdist(prediction, target).square()
    return (squares.min(2).values.mean(1) + squares.min(1).values.mean(1)).mean()


def _measure(way: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.chamfer", way]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(answer.splitlines()[-1])
    return found


def _step(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], predicted: int, target: int) -> tuple:
    """Two random clouds on the unit sphere, their loss and the norm of its gradient."""
    generator = torch.Generator().manual_seed(0)
    clouds = [torch.randn(BATCH, count, 3, generator=generator) for count in (predicted, target)]
    prediction, cloud = (one / one.norm(dim=2, keepdim=True) for one in clouds)
    prediction.requires_grad_()
    value = loss(prediction, cloud)
    value.backward()
    assert prediction.grad is not None
    return float(value.detach()), float(prediction.grad.norm())


def main() -> None:
    way = sys.argv[1]
    loss = plain if way == "cdist" else ChamferLoss(search=way)
    _step(loss, 8, 10)  # what is loaded at the first call
    meter, start = Meter(), time.perf_counter()
    value, gradient = _step(loss, PREDICTED, TARGET)
    took = time.perf_counter() - start
    gib = meter.memory()["above"] / 2**30
    sys.stdout.write(json.dumps({"gib": gib, "seconds": took, "loss": value, "gradient": gradient}) + "\n")


if __name__ == "__main__":
    main()
