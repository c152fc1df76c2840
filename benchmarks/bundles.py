"""Running the commands of a bundle from a benchmark, as a user would."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "bundles"


def run_bundle(bundle: str, run_id: str, configs: Sequence[str], **options: Any) -> None:
    """Run a command of a bundle, and stop where it fails.

    Args:
        bundle: name of its folder.
        run_id: the command.
        configs: names of config files in its folder ``configs``.
        options: values for the command line.
    """
    root = FOLDER / bundle
    files = [str(root / "configs" / name) for name in configs]
    words = [sys.executable, "-m", "monai.bundle", "run", run_id]
    words += ["--config_file", str(files), "--bundle_root", str(root)]
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    sys.stderr.write(f"{' '.join(words)}\n")
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def cpu_seconds() -> float:
    """CPU seconds of all commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
