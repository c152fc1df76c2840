"""Seconds to match all 558 cells, of the losses over them, and the share of cells to which a gradient comes back."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.harness import Row, compare
from voxel_ext.losses import LinearAssignmentLoss, matching_loss, solve_assignment
from voxel_ext.losses.matching_factory import LOSSES

CELLS, FEATURES = 558, 256
LAMBDAS = (5.0, 20.0, 80.0)


def run(arguments: argparse.Namespace) -> list[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _solving(arguments.repeats) + _losses(arguments.repeats) + _shares()
    finally:
        torch.set_num_threads(threads)


def _features(batch: int, signal: float) -> torch.Tensor:
    """(B, 2, N, F) of unit variance; the worms of a pair share ``signal`` of it, cell i being cell i."""
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(batch, 1, CELLS, FEATURES, generator=generator)
    own = torch.randn(batch, 2, CELLS, FEATURES, generator=generator)
    return signal**0.5 * shared + (1 - signal) ** 0.5 * own


def _cost(batch: int, signal: float) -> torch.Tensor:
    features = _features(batch, signal)
    return torch.cdist(features[:, 0], features[:, 1]).square() / FEATURES


def _solving(repeats: int) -> list[Row]:
    rows = []
    for name, signal in (("unrelated", 0.0), ("alike", 0.2)):
        cost = _cost(8, signal)
        what = f"solve one {CELLS} × {CELLS}, features {name}"
        rows.append(compare("assignment", what, partial(solve_assignment, cost[0]), repeats=repeats))
        for batch in (4, 8):
            rows.append(
                compare(
                    "assignment",
                    f"solve {batch} of {CELLS} × {CELLS}, features {name}, {os.cpu_count()} threads / one",
                    partial(solve_assignment, cost[:batch]),
                    partial(solve_assignment, cost[:batch], threads=1),
                    repeats=repeats,
                )
            )
    return rows


def _losses(repeats: int) -> list[Row]:
    features, target = _features(1, 0.2), torch.arange(CELLS)[None]
    rows = []
    for name in LOSSES:
        step = _step(name, features, target)
        rows.append(compare("assignment", f"{name} loss, forward and backward, {CELLS} cells", step, repeats=repeats))
    return rows


def _step(name: str, features: torch.Tensor, target: torch.Tensor) -> Callable[[], object]:
    loss = matching_loss(name)
    leaf = features.clone().requires_grad_()

    def step() -> None:
        leaf.grad = None
        loss(leaf, target).backward()

    return step


def _shares() -> list[Row]:
    """Share of rows with a gradient: ``ours`` with lambda scaled to the costs, ``other`` with lambda as it is."""
    target = torch.arange(CELLS)[None]
    rows = []
    for name, signal in (("unrelated", 0.0), ("alike", 0.05)):
        for lambda_ in LAMBDAS:
            shares = []
            for scaled in (True, False):
                loss = LinearAssignmentLoss("mse", lambda_, scaled)
                loss(_features(1, signal).requires_grad_(), target).backward()
                shares.append(loss.last_gradient_share)
            what = f"share of rows with a gradient, lambda {lambda_:g}, features {name}: scaled / fixed"
            rows.append(Row("assignment", what, shares[0], shares[1], unit=""))
    return rows
