"""Positions of patches in a JSON file, with a fingerprint of all that they depend on."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from voxel_ext.data.prepared_folder import differing_settings
from voxel_ext.errors import InvalidInputError
from voxel_ext.files import atomic_path

logger = logging.getLogger(__name__)

FORMAT = 1
"""Version of the file, part of the fingerprint: to be raised when the same settings give other positions."""


def read_cached_positions(
    cache: str | os.PathLike[str], fingerprint: Mapping[str, Any], last: Sequence[int]
) -> np.ndarray | None:
    """Read positions if they were found with the same settings in the same label.

    Args:
        cache: the JSON file.
        fingerprint: all that the positions depend on, JSON-able.
        last: the largest possible position (z, y, x), which is the volume's shape less the patch size.

    Returns:
        (N, 3) int64; None if there is no file, or if it is stale or damaged: a warning then says so, and why.

    Raises:
        InvalidInputError: ``cache`` is a folder.
        PermissionError: it cannot be read.
    """
    path = Path(cache)
    if path.is_dir():
        raise InvalidInputError(f"cache={str(cache)!r} is a folder; expected the name of a JSON file in it")
    if not path.exists():
        return None
    try:
        positions = _read(path, json.loads(json.dumps(_with_format(fingerprint))), last)
    except _UnusableError as error:
        logger.warning("the cache of patch positions %s is %s; the patches are looked for again", path, error)
        return None
    logger.info("%d patch positions taken from the cache %s", len(positions), path)
    return positions


class _UnusableError(Exception):
    """A cache is stale or damaged."""


def _read(path: Path, fingerprint: dict[str, Any], last: Sequence[int]) -> np.ndarray:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _UnusableError(f"damaged: not JSON ({error})") from error
    missing = [key for key in ("fingerprint", "positions") if not isinstance(content, dict) or key not in content]
    if missing:
        raise _UnusableError(f"damaged: {' and '.join(missing)} missing")
    different = differing_settings(content["fingerprint"], fingerprint)
    if different:
        raise _UnusableError(f"stale: {'; '.join(different)}")
    return _check(content["positions"], last)


def write_cached_positions(
    cache: str | os.PathLike[str], fingerprint: Mapping[str, Any], positions: np.ndarray
) -> None:
    """Write positions with what they depend on.

    Args:
        cache: the JSON file; missing folders are made, an existing file is replaced.
        fingerprint: all that the positions depend on, JSON-able.
        positions: (N, 3) integers (z, y, x).

    Raises:
        OSError: it cannot be written; names the file and what to do.
    """
    with atomic_path(cache) as path, open(path, "w", encoding="utf-8") as file:
        json.dump({"fingerprint": _with_format(fingerprint), "positions": positions.tolist()}, file)


def _with_format(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT, **fingerprint}


def _check(values: Any, last: Sequence[int]) -> np.ndarray:
    """The positions as (N, 3) int64, all between 0 and ``last``."""
    try:
        positions = np.array(values)
    except (ValueError, OverflowError) as error:  # rows of different lengths
        raise _UnusableError("damaged: its positions are not rows of three numbers") from error
    if positions.dtype.kind != "i" or positions.ndim != 2 or positions.shape[1] != 3:
        raise _UnusableError("damaged: its positions are not rows of three integers")
    outside = ((positions < 0) | (positions > np.asarray(last))).any(1)
    if outside.any():
        raise _UnusableError(
            f"damaged: position {positions[outside][0].tolist()} is not between 0 and {list(map(int, last))}"
        )
    return positions.astype(np.int64)
