"""Seconds per synthetic optic-lobe volume, how they grow with the volume, and the original beside them."""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import sys
import types
from collections.abc import Callable

import numpy as np

from benchmarks.harness import Row, compare
from voxel_ext.synthetic import OpticLobe


def run(arguments: argparse.Namespace) -> list[Row]:
    seeds = itertools.count(100)
    original = original_generator(arguments.original) if arguments.original else None
    rows = [
        compare(
            "generator",
            "128³ volume, all cores" + (" / original" if original else ""),
            lambda: OpticLobe(seed=next(seeds), size=128).generate(),
            original,
            repeats=max(arguments.repeats, 10),
            goal="ratio < 0.1" if original else "",
        ),
        compare(
            "generator",
            "128³ volume, one thread" + (" / original" if original else ""),
            lambda: OpticLobe(seed=next(seeds), size=128, threads=1).generate(),
            original,
            repeats=max(arguments.repeats, 10),
            goal="ratio < 0.1" if original else "",
        ),
    ]
    for size in (64, 192, 256):
        rows.append(
            compare(
                "generator",
                f"{size}³ volume, all cores",
                lambda size=size: OpticLobe(seed=next(seeds), size=size).generate(),
                repeats=arguments.repeats,
                goal="< 3 s" if size == 256 else "",
            )
        )
    return rows


def original_generator(folder: str) -> Callable[[], object]:
    """Import the original generator, which needs names that NumPy has dropped and a plotting package unused here."""
    for name, kind in (("int", int), ("float", float), ("bool", bool)):
        if name not in np.__dict__:
            setattr(np, name, kind)
    with contextlib.suppress(ImportError):
        import ipyvolume  # noqa: F401
    sys.modules.setdefault("ipyvolume", types.ModuleType("ipyvolume"))
    sys.path.insert(0, folder)
    from seg3d.fakedata import RandomVolume

    seeds = itertools.count(100)

    def generate() -> object:
        with contextlib.redirect_stdout(io.StringIO()):
            return RandomVolume(
                random_geometry=True,
                L_xy=128,
                L_z=128,
                NF_size=10,
                cube_kernel_size=2,
                simplify_factor=1.25,
                std_intensity_range=(0.3, 1.2),
                verbose=0,
                seed=next(seeds),
            )

    return generate
