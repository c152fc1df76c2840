"""The exceptions that voxel_ext raises, and small helpers to raise them with."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from numbers import Integral
from types import ModuleType
from typing import Any


class VoxelExtError(Exception):
    """Base of every exception that voxel_ext raises on purpose."""


class InvalidInputError(VoxelExtError, ValueError):
    """A value, shape, file content or setting is not what was expected."""


class MissingDataError(VoxelExtError, FileNotFoundError):
    """A file, folder or dataset inside a file does not exist."""


class CheckpointError(VoxelExtError, ValueError):
    """A checkpoint is truncated, foreign, or of another architecture."""


class MissingDependencyError(VoxelExtError, ImportError):
    """An optional library is not installed."""


def check_option(name: str, value: object, options: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``options``.

    Args:
        name: what the value sets, as the user wrote it (for the message).
        value: the user's value.
        options: the valid ones.

    Raises:
        InvalidInputError: otherwise; lists the valid options and the nearest of them.
    """
    valid = list(options)
    if isinstance(value, str) and value in valid:
        return value
    near = difflib.get_close_matches(str(value), valid, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise InvalidInputError(f"{name}={value!r} is not known; expected one of {', '.join(map(repr, valid))}.{hint}")


def check_counts(least: Mapping[str, int], **counts: int) -> None:
    """Refuse numbers that are no integers or too small.

    Args:
        least: the smallest allowed values by name; 0 for names that are not there.
        counts: the values by name.

    Raises:
        InvalidInputError: names the value.
    """
    for name, value in counts.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least.get(name, 0):
            raise InvalidInputError(f"{name}={value!r}; expected an integer of at least {least.get(name, 0)}")


def check_sizes(name: str, value: object, count: int = 3) -> tuple[Any, ...]:
    """Return a size for each axis, from a size for each or one for all.

    Args:
        name: what the value sets, as the user wrote it (for the message).
        value: the user's value.
        count: number of axes, the last of (z, y, x).

    Returns:
        ``count`` integers.

    Raises:
        InvalidInputError: it is neither a whole number of at least 1 nor ``count`` of them.
    """
    given = list(value) if isinstance(value, Iterable) else [value] * count
    sizes = [int(one) for one in given if isinstance(one, Integral) and not isinstance(one, bool) and int(one) > 0]
    if len(sizes) != count or len(given) != count:
        axes = ", ".join("zyx"[-count:])
        raise InvalidInputError(
            f"{name}={value!r}; expected {count} whole numbers of at least 1 ({axes}), or one for all"
        )
    return tuple(sizes)


def require(module: str, extra: str) -> ModuleType:
    """Import an optional library where it is used.

    Args:
        module: dotted name to import, e.g. ``"plotly.graph_objects"``.
        extra: the extra of voxel_ext that installs it.

    Raises:
        MissingDependencyError: it is not installed; names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"{module.split('.')[0]} is needed here but could not be imported ({error}); "
            f"install it with: pip install 'voxel_ext[{extra}]'"
        ) from error
