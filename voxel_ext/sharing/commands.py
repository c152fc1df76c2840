"""The two commands by which a stranger installs and runs a packed bundle."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import PurePosixPath

from voxel_ext.sharing.bundle import Bundle, read_config

SAMPLE = "sample"
"""Folder of the sample in a packed bundle."""

_CHAINS = (("inference",), ("features", "clustering"))
_INPUTS = ("labels", "image")


def install_command(wheel: str | None) -> str:
    """Return the command that installs what a packed bundle needs, to be run in its folder.

    Args:
        wheel: name of the wheel of voxel_ext in ``wheels``; None if the bundle does not need it.
    """
    return "python -m pip install -r requirements.txt" + (f" wheels/{wheel}" if wheel else "")


def run_command(bundle: Bundle, sample: Sequence[str], overlays: Sequence[str]) -> str:
    """Return the command that runs a packed bundle on its sample, to be run in its folder.

    Args:
        bundle: the bundle.
        sample: paths of the sample's files below the packed bundle's folder; none: the bundle makes its own data.
        overlays: config files to give after that of the command, as paths below the bundle's folder.

    Returns:
        ``inference`` where the bundle has it; of bundles without a network their ``features`` and ``clustering``; empty
        for bundles that have neither.
    """
    chain = next((chain for chain in _CHAINS if chain[0] in bundle.configs), ())
    return " && ".join(_one(bundle, command, sample, overlays) for command in chain if command in bundle.configs)


def _one(bundle: Bundle, command: str, sample: Sequence[str], overlays: Sequence[str]) -> str:
    """One command of a chain."""
    file = bundle.configs[command]
    files = [file.relative_to(bundle.root).as_posix(), *overlays]
    shown = files[0] if len(files) == 1 else '"[' + ",".join(f"'{name}'" for name in files) + ']"'
    words = [f"python -m monai.bundle run {command} --config_file {shown}"]
    known = read_config(file)
    if sample and "dataset_dir" in known:
        words.append(f"--dataset_dir {SAMPLE}")
    elif sample:
        found = {PurePosixPath(path).parts[1].split(".")[0]: PurePosixPath(path).parts[1] for path in sample}
        words += [
            f"--{name} {shlex.quote(f'{SAMPLE}/{found[name]}')}" for name in _INPUTS if name in known and name in found
        ]
    return " ".join(words)
