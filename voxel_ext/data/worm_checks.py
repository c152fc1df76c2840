"""Checking a folder of prepared worms, and the statistics of their voxels."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.moments import Moments
from voxel_ext.data.worm_file import WormHeader, read_worm, read_worm_header, read_worm_moments
from voxel_ext.errors import InvalidInputError, MissingDataError

logger = logging.getLogger(__name__)

BLOCK = 32
"""How many cubes are read at a time."""


def list_prepared(folder: str | os.PathLike[str]) -> list[Path]:
    """List the prepared worms (``.h5``) in a folder and its subfolders, or the one file.

    Raises:
        MissingDataError: the folder does not exist, or has no such files.
    """
    root = Path(folder)
    files = [root] if root.is_file() else sorted(path for path in root.rglob("*.h5") if not _hidden(path, root))
    if not files:
        state = "has no prepared worms (files .h5)" if root.exists() else "does not exist"
        raise MissingDataError(f"{str(root)!r} {state} (current folder: {os.getcwd()})")
    return files


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def validate_worms(folder: str | os.PathLike[str]) -> list[str]:
    """Check every prepared worm in a folder and its subfolders.

    Args:
        folder: the folder, or one file.

    Returns:
        one sentence per problem, beginning with the file: damaged or foreign; wrong dtype; a shape or channels unlike
        those of most others; missing cells; NaN or infinite values; a valid cell whose cube is constant; a missing one
        whose cube is not zero; a slot with another name than in the first file that names it. Empty if all is well.

    Raises:
        MissingDataError: the folder does not exist, or has no prepared worms.
    """
    files = list_prepared(folder)
    headers: dict[Path, WormHeader] = {}
    problems: dict[Path, list[str]] = {path: [] for path in files}
    for path in files:
        try:
            headers[path] = read_worm_header(path)
        except InvalidInputError as error:
            problems[path].append(str(error))
    usual = Counter((header.shape, header.channels) for header in headers.values()).most_common(1)
    names: dict[int, str] = {}
    for path, header in headers.items():
        if (header.shape, header.channels) != usual[0][0]:
            shape, channels = usual[0][0]
            problems[path].append(
                f"{path}: shape {header.shape}, channels {header.channels}; most others have {shape}, {channels}"
            )
        problems[path] += _header_problems(path, header, names) + _voxel_problems(path, header)
    return [problem for path in files for problem in problems[path]]


def require_valid_worms(folder: str | os.PathLike[str]) -> None:
    """Log every problem of a folder of prepared worms, see :func:`validate_worms`, and fail if there are any.

    Args:
        folder: the folder, or one file.

    Raises:
        MissingDataError: the folder does not exist, or has no prepared worms.
        InvalidInputError: there are problems; says how many and the first.
    """
    problems = validate_worms(folder)
    for problem in problems:
        logger.warning("%s", problem)
    count = len(list_prepared(folder))
    if problems:
        raise InvalidInputError(
            f"{len(problems)} problems in the {count} prepared worms of {folder}: {problems[0]} ..."
        )
    logger.info("%d prepared worms in %s, no problems", count, folder)


def _header_problems(path: Path, header: WormHeader, names: dict[int, str]) -> list[str]:
    problems = []
    missing = np.flatnonzero(~header.valid).tolist()
    if len(missing):
        listed = ", ".join(f"{slot + 1} {header.names[slot]}".strip() for slot in missing[:5])
        problems.append(f"{path}: {len(missing)} of {len(header)} cells are missing: {listed}{_more(missing, 5)}")
    nowhere = np.flatnonzero(header.valid & ~np.isfinite(header.positions).all(axis=1)).tolist()
    if len(nowhere):
        problems.append(f"{path}: {len(nowhere)} cells have no position: {_numbers(nowhere)}")
    for slot, name in enumerate(header.names):
        if name and names.setdefault(slot, name) != name:
            problems.append(f"{path}: cell {slot + 1} is named {name}, but {names[slot]} in another file")
            break
    return problems


def _voxel_problems(path: Path, header: WormHeader) -> list[str]:
    found: dict[str, list[int]] = {}
    try:
        for slot, cube in _cubes(path, range(len(header))):
            problem = _cube_problem(cube, bool(header.valid[slot]))
            if problem:
                found.setdefault(problem, []).append(slot)
    except InvalidInputError as error:
        return [str(error)]
    return [f"{path}: {len(slots)} cubes {what}: {_numbers(slots)}" for what, slots in found.items()]


def _cube_problem(cube: NDArray[np.float32], valid: bool) -> str:
    if not np.isfinite(cube).all():
        return "have NaN or infinite values"
    if valid and cube[0].min() == cube[0].max():
        return "are valid but constant"
    return "are missing but not zero" if not valid and cube.any() else ""


def _cubes(path: Path, slots: Sequence[int]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The cubes of some slots, valid or not, few of them in memory at a time."""
    for start in range(0, len(slots), BLOCK):
        block = slots[start : start + BLOCK]
        yield from zip(block, read_worm(path, block, missing_too=True).cubes, strict=True)


def _numbers(slots: Sequence[int]) -> str:
    return "cells " + ", ".join(str(int(slot) + 1) for slot in slots[:10]) + _more(slots, 10)


def _more(items: Sequence[int], shown: int) -> str:
    return " …" if len(items) > shown else ""


def worm_statistics(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Mean, standard deviation and range of the valid cubes, read cube by cube (one pass, constant memory).

    Args:
        folder: a folder with prepared worms, also in subfolders, or one file.

    Returns:
        ``mean``, ``std``, ``min``, ``max`` of channel 0; ``channels``: the same of each channel; ``voxels`` per
        channel, ``worms``.

    Raises:
        MissingDataError: the folder does not exist, or has no prepared worms.
        InvalidInputError: a file is damaged, or the worms have different channels.
    """
    files = list_prepared(folder)

    def moments() -> Iterable[list[Moments]]:
        for path in files:
            for _, cube in _cubes(path, np.flatnonzero(read_worm_header(path).valid).tolist()):
                yield [Moments.of(channel) for channel in cube]

    return describe_moments(_total(moments()), len(files))


def collect_moments(files: Sequence[Path]) -> list[Moments]:
    """Add up the moments that are recorded in prepared worms, per channel.

    Raises:
        InvalidInputError: a file is damaged, or the worms have different channels.
    """
    return _total(read_worm_moments(path) for path in files)


def _total(parts: Iterable[list[Moments]]) -> list[Moments]:
    total: list[Moments] = []
    for part in parts:
        if total and len(part) != len(total):
            raise InvalidInputError(f"the worms have different channels: {len(total)} and {len(part)}")
        total = [a + b for a, b in zip(total, part, strict=True)] if total else part
    return total


def describe_moments(channels: Sequence[Moments], worms: int) -> dict[str, Any]:
    """Write the moments of the channels as :func:`worm_statistics` returns them."""
    rows = [{"mean": one.mean, "std": one.std, "min": one.low, "max": one.high} for one in channels if one.count]
    first = rows[0] if rows else {"mean": None, "std": None, "min": None, "max": None}
    return {**first, "channels": rows, "voxels": channels[0].count if channels else 0, "worms": worms}
