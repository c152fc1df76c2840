"""Group convolutions beside plain ones of the expanded width, the original's, and escnn's; and how exact they are.

One thread and CPU time, so that other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.group_convolution_others import equivariance_error, escnn_layer, original_layer
from benchmarks.harness import Row
from voxel_ext.networks.layers import GroupConv3d, LiftingConv3d, fold_group_convolutions
from voxel_ext.networks.nets import GroupEncoder

NAME = "group_convolution"
GROUPS = ("V", "T4", "S4")
BATCH, SIZE = 2, 16
SLICE = 0.2  # seconds that one timing should take at least; short functions are called several times
TRAINING_GOAL, EVALUATION_GOAL = "ratio <= 1.10", "ratio <= 1.02"


def run(arguments: argparse.Namespace) -> list[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        repeats = max(arguments.repeats, 5)
        rows = _layers(repeats) + _networks(repeats)
        if arguments.original_worm:
            rows += _against_original(arguments.original_worm, repeats)
        return rows + _against_escnn(repeats) + _errors(arguments.original_worm)
    finally:
        torch.set_num_threads(threads)


def race(what: str, ours: Callable[[], object], other: Callable[[], object] | None, repeats: int, goal: str) -> Row:
    """Time in turn like ``harness.compare``, by CPU seconds of this process; the times are the least of all."""
    ours()
    calls = max(1, math.ceil(SLICE / max(_cpu_seconds(ours, 1), 1e-6)))
    if other is None:
        return Row(NAME, what, min(_cpu_seconds(ours, calls) for _ in range(repeats)), goal=goal)
    other()
    pairs = [(_cpu_seconds(ours, calls), _cpu_seconds(other, calls)) for _ in range(repeats)]
    ratio = statistics.median(a / b for a, b in pairs)
    return Row(NAME, what, min(a for a, _ in pairs), min(b for _, b in pairs), ratio, goal=goal)


def _cpu_seconds(function: Callable[[], object], calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        function()
    return (time.process_time() - start) / calls


def training(module: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    """Forward and backward, to the input too, without the optimizer (which has |G| times more to do if plain)."""
    module.train()
    x = x.clone().requires_grad_()
    shape = module(x).shape
    grad = torch.randn(shape)

    def step() -> None:
        module.zero_grad(set_to_none=True)
        x.grad = None
        module(x).backward(grad)

    return step


def evaluation(module: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    """Forward without gradients."""
    module.eval()

    def forward() -> None:
        with torch.no_grad():
            module(x)

    return forward


def _races(what: str, ours: nn.Module, other: nn.Module, x: torch.Tensor, y: torch.Tensor, repeats: int) -> list[Row]:
    first = race(f"{what}, training", training(ours, x), training(other, y), repeats, TRAINING_GOAL)
    second = race(f"{what}, evaluation", evaluation(ours, x), evaluation(other, y), repeats, EVALUATION_GOAL)
    return [first, second]


def _layers(repeats: int) -> list[Row]:
    rows = []
    for group in GROUPS:
        for channels in (4, 8):
            for kind in (LiftingConv3d, GroupConv3d):
                layer = kind(group, channels, channels, 3, padding=1)
                axes = () if kind is LiftingConv3d else (layer.order,)
                x = torch.randn(BATCH, channels, *axes, SIZE, SIZE, SIZE)
                plain = x if kind is LiftingConv3d else x.flatten(1, 2)
                what = f"{kind.__name__} {group}, {channels} channels, {SIZE}³ / conv3d"
                rows += _races(what, layer, layer.fold().conv, x, plain, repeats)
    return rows


def _networks(repeats: int) -> list[Row]:
    rows = []
    for group, size in (*((group, SIZE) for group in GROUPS), ("V", 2 * SIZE), ("T4", 2 * SIZE)):
        network = GroupEncoder(group, divider=16, depth=3, grid=2, mlp_dropout=0.0)
        x = torch.randn(BATCH, 1, size, size, size)
        what = f"GroupEncoder {group}, 4, 8, 16 channels, {size}³ / with conv3d"
        rows += _races(what, network, fold_group_convolutions(network), x, x, repeats)
    return rows


def _against_original(folder: str, repeats: int) -> list[Row]:
    rows = []
    for group in GROUPS:
        for channels, size in ((4, 8), (4, 16), (8, 16), (4, 32)):
            ours = GroupConv3d(group, channels, channels, 3, padding=1, bias=False)
            other = original_layer(folder, group, ours.order, channels, channels)
            x = torch.randn(BATCH, channels, ours.order, size, size, size)
            what = f"GroupConv3d {group}, {channels} channels, {size}³ / original"
            rows.append(race(f"{what}, training", training(ours, x), training(other, x), repeats, ""))
            rows.append(race(f"{what}, evaluation", evaluation(ours, x), evaluation(other, x), repeats, ""))
    return rows


def _against_escnn(repeats: int) -> list[Row]:
    rows = []
    other = escnn_layer(channels=4)
    ours = GroupConv3d("S4", 4, 4, 3, padding=1)
    for size in (8, 16):
        x = torch.randn(BATCH, 4, ours.order, size, size, size)
        what = f"GroupConv3d S4, 4 channels, {size}³ / escnn" + ("" if other else " (not installed)")
        for mode, make in (("training", training), ("evaluation", evaluation)):
            theirs = make(other, x) if other else None
            rows.append(race(f"{what}, {mode}", make(ours, x), theirs, repeats, ""))
    return rows


def _errors(folder: str | None) -> list[Row]:
    """How far f(g·x) is from g·f(x), as a row whose ``ours`` and ``other`` are errors."""
    rows = []
    for group in GROUPS:
        lift = LiftingConv3d(group, 1, 4, 3, padding=1)
        ours = {"lifting 1 to 4": lift, "lifting, 4 to 4": nn.Sequential(lift, GroupConv3d(group, 4, 4, 3, padding=1))}
        for what, module in ours.items():
            error = equivariance_error(module, group)
            other = None
            if folder:
                parts = [nn.Unflatten(1, (1, 1)), original_layer(folder, group, 1, 1, 4)]
                if len(what) > len("lifting 1 to 4"):
                    parts.append(original_layer(folder, group, lift.order, 4, 4))
                other = equivariance_error(nn.Sequential(*parts), group)
            name = f"equivariance error {group}, {what} channels, 9³" + (" / original" if folder else "")
            rows.append(Row(NAME, name, error, other, unit="", goal="< 1e-5"))
    return rows
