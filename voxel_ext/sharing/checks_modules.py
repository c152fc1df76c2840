"""Looking up what a config names in installed packages, importing only those that voxel_ext itself needs."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable
from functools import lru_cache
from types import ModuleType
from typing import Any

TRUSTED = frozenset({"voxel_ext", "monai", "torch", "numpy", "scipy", "skimage", "sklearn", "ignite"})
"""Packages that may be imported to look into them. Importing runs a module's code, so no other is."""

UNKNOWN = object()
"""Something that exists as far as can be told without importing it."""


def installed(module: str) -> bool:
    """Return whether the package of a module can be imported, without importing it."""
    top = module.partition(".")[0]
    if top in sys.modules:
        return True
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


@lru_cache(maxsize=4096)
def find_module(module: str) -> ModuleType | None:
    """Return a module of a trusted package, or one of Python's own that is loaded already; None if there is none.

    Args:
        module: its dotted name.
    """
    if module.partition(".")[0] in TRUSTED and "__main__" not in module:
        try:
            return importlib.import_module(module)
        except ImportError:
            return None
    return sys.modules.get(module) if module.partition(".")[0] in sys.stdlib_module_names else None


def follow(start: object, names: Iterable[str]) -> tuple[Any, str]:
    """Follow attributes from a module, as far as that can be done without running anything.

    Args:
        start: a module or class.
        names: attributes, one of another.

    Returns:
        the object, or ``UNKNOWN`` behind something that is neither module nor class; and the first name that does not
        exist, empty if all do.
    """
    found = start
    for name in names:
        if not inspect.ismodule(found) and not inspect.isclass(found):
            return UNKNOWN, ""
        below = getattr(found, name, UNKNOWN)
        if below is UNKNOWN and inspect.ismodule(found):
            below = find_module(f"{found.__name__}.{name}") or UNKNOWN
        if below is UNKNOWN:
            return UNKNOWN, name
        found = below
    return found, ""


def binding_problem(function: object, positional: int, named: Iterable[str], partial: bool = False) -> str:
    """Return why arguments do not fit a function or class; empty if they do, or if its arguments are not known.

    What a function takes by ``**kwargs`` is not known.

    Args:
        function: what is called.
        positional: number of arguments without a name.
        named: names of the others.
        partial: whether others may follow later.
    """
    if not callable(function):
        return ""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return ""
    bind = signature.bind_partial if partial else signature.bind
    try:
        bind(*[None] * positional, **dict.fromkeys(named))
    except TypeError as error:
        return f"{error}; it takes {', '.join(signature.parameters) or 'none'}"
    return ""
