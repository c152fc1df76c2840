"""Timing two things in turn, and printing what was found as one table."""

from __future__ import annotations

import gc
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Row:
    """One line of the table: medians in ``unit``, and the median of the ratios of neighbouring runs."""

    benchmark: str
    what: str
    ours: float | None
    other: float | None = None
    ratio: float | None = None
    unit: str = "s"
    goal: str = ""


def seconds(function: Callable[[], object]) -> float:
    """Wall seconds of one call, until a GPU has finished what it was given."""
    gc.collect()
    _synchronize()
    start = time.perf_counter()
    function()
    _synchronize()
    return time.perf_counter() - start


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def compare(
    benchmark: str,
    what: str,
    ours: Callable[[], object],
    other: Callable[[], object] | None = None,
    repeats: int = 5,
    goal: str = "",
) -> Row:
    """Time ``ours`` and ``other`` in turn (A B A B ...) after one call of each that is not counted.

    The ratio is the median over neighbouring pairs, so that it holds when the machine's speed drifts.
    """
    ours()
    if other is None:
        return Row(benchmark, what, statistics.median(seconds(ours) for _ in range(repeats)), goal=goal)
    other()
    pairs = [(seconds(ours), seconds(other)) for _ in range(repeats)]
    return Row(
        benchmark,
        what,
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
        goal=goal,
    )


def machine() -> str:
    """Processor, cores and GPU, without names of hosts or paths."""
    model = platform.processor() or platform.machine()
    if os.path.isfile("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            models = [line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")]
        model = models[0] if models else model
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    return f"{model}, {os.cpu_count()} cores, {gpu}"


def versions() -> str:
    """Versions of what the figures depend on."""
    names = ("voxel_ext", "monai", "torch", "numpy", "scipy", "pytorch-ignite")
    return f"Python {platform.python_version()}, " + ", ".join(f"{n} {importlib.metadata.version(n)}" for n in names)


def table(rows: Iterable[Row]) -> str:
    """Render rows as a Markdown table, followed by the machine and the versions."""

    def number(value: float | None, unit: str = "") -> str:
        return "" if value is None else f"{value:.3g}{' ' + unit if unit else ''}"

    lines = ["| benchmark | what | ours | other | ratio | goal |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        cells = (
            row.benchmark,
            row.what,
            number(row.ours, row.unit),
            number(row.other, row.unit),
            number(row.ratio),
            row.goal,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Machine: {machine()}", f"Versions: {versions()}"])
