"""The exceptions that voxel_ext raises, and two small helpers to raise them with."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


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
