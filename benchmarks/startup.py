"""What ``import voxel_ext`` adds to ``import monai``, in fresh interpreters."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable

from benchmarks.harness import Row, compare


def run(arguments: argparse.Namespace) -> list[Row]:
    return [
        compare(
            "startup",
            "import monai, voxel_ext / import monai",
            _importing("monai, voxel_ext"),
            _importing("monai"),
            repeats=arguments.repeats,
            goal="difference < 0.3 s",
        ),
        compare(
            "startup",
            "all that a training config imports / import monai, monai.bundle",
            _importing("monai, monai.bundle, voxel_ext.data, voxel_ext.handlers, voxel_ext.networks, voxel_ext.losses"),
            _importing("monai, monai.bundle"),
            repeats=arguments.repeats,
        ),
    ]


def _importing(modules: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, "-c", f"import {modules}"], check=True)
