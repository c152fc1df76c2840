"""Checks of the settings that every synthetic generator shares."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from voxel_ext.errors import InvalidInputError


def check_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """Return ``value`` as a float if it is a finite number in [low, high].

    Raises:
        InvalidInputError: otherwise; names the setting, its value and the limits.
    """
    number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low <= float(value) <= high:
        raise InvalidInputError(f"{name}={value!r}: expected a number{_limits(low, high)}.")
    return float(value)


def check_integer(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> int:
    """Return ``value`` as an int if it is a whole number in [low, high].

    Raises:
        InvalidInputError: otherwise; names the setting, its value and the limits.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or not low <= int(value) <= high:
        raise InvalidInputError(f"{name}={value!r}: expected an integer{_limits(low, high)}.")
    return int(value)


def check_range(
    name: str, value: Any, low: float = -math.inf, high: float = math.inf, integer: bool = False
) -> tuple[Any, Any]:
    """Return ``value`` as a tuple (lowest, highest) if it is an ordered pair within [low, high].

    Raises:
        InvalidInputError: it is no pair of (whole, with ``integer``) numbers, is outside the limits, or has its lowest
            value above its highest.
    """
    check = check_integer if integer else check_number
    pair = check_sequence(name, value, 2)
    first, last = (check(f"{name}[{i}]", item, low, high) for i, item in enumerate(pair))
    if first > last:
        raise InvalidInputError(f"{name}={value!r}: expected (lowest, highest), but {first} > {last}.")
    return first, last


def check_sequence(name: str, value: Any, length: int) -> list[Any]:
    """Return ``value`` as a list if it is a sequence of ``length`` items.

    Raises:
        InvalidInputError: otherwise; names the setting, its value and the length.
    """
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != length:
        raise InvalidInputError(f"{name}={value!r}: expected a sequence of {length} values.")
    return list(value)


def check_size(value: Any, dimensions: int, lowest: int = 8) -> tuple[int, ...]:
    """Return the size of an image as a tuple; one integer means the same size along every axis.

    Raises:
        InvalidInputError: not one or ``dimensions`` integers, or one of them below ``lowest``.
    """
    items = [value] * dimensions if isinstance(value, Integral) else check_sequence("size", value, dimensions)
    return tuple(check_integer(f"size={value!r}: axis {axis}", item, lowest) for axis, item in enumerate(items))


def check_threads(value: Any) -> int:
    """Return the number of threads; ``None`` means every core that this process may use, or 1 in a worker process.

    Raises:
        InvalidInputError: neither ``None`` nor a positive integer.
    """
    if value is not None:
        return check_integer("threads", value, 1)
    if multiprocessing.parent_process() is not None:  # as many of them as there are cores, of PyTorch's loaders, too
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _limits(low: float, high: float) -> str:
    if math.isinf(low) and math.isinf(high):
        return ""
    if math.isinf(high):
        return f" of at least {low:g}"
    return f" of at most {high:g}" if math.isinf(low) else f" from {low:g} to {high:g}"
