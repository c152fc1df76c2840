"""Names of neurons: the list of classes, names with an uncertain letter, and what a mistyped name may have meant."""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from voxel_ext.errors import InvalidInputError, MissingDataError

BACKGROUND = "background"
"""The first class."""

UNKNOWN = "UNKNOWN"
"""The name of an ROI that nobody could name."""

NON_NEURONS = ("granule", "glia", UNKNOWN)
"""Names that a table may give to any number of ROIs although they are no neurons."""

UNCERTAIN_LETTERS = "DVLR"
"""What a ``?`` in a name stands for: dorsal, ventral, left or right."""

ALTERNATIVE = "-alt"
"""Ending of a name that was given as a second choice."""


def is_uncertain(name: str) -> bool:
    """Whether a name leaves open which neuron is meant: it has a ``?`` or ends with ``-alt``."""
    return "?" in name or name.endswith(ALTERNATIVE)


def expand_name(name: str, class_names: Sequence[str]) -> list[str]:
    """Return the existing names that a name may mean.

    Args:
        name: each ``?`` in it stands for D, V, L or R.
        class_names: the names that exist.

    Returns:
        those that fit, in the order D, V, L, R of the letters; ``[name]`` for a certain name that exists. Empty if none
        does.
    """
    existing = set(class_names)
    parts = name.split("?")
    letters = itertools.product(UNCERTAIN_LETTERS, repeat=len(parts) - 1)
    names = (parts[0] + "".join(map("".join, zip(chosen, parts[1:], strict=True))) for chosen in letters)
    return [candidate for candidate in names if candidate in existing]


def near_names(name: str, class_names: Sequence[str], count: int = 3) -> list[str]:
    """Return the existing names most like a mistyped one, the most alike first; upper and lower case count as equal.

    Args:
        name: what was written.
        class_names: the names that exist.
        count: at most so many.
    """
    by_fold: dict[str, str] = {}
    for existing in class_names:
        by_fold.setdefault(existing.casefold(), existing)
    return [by_fold[match] for match in difflib.get_close_matches(name.casefold(), by_fold, n=count)]


def describe_unknown(name: str, class_names: Sequence[str]) -> str:
    """Say that a name is not known, and what it may have meant."""
    near = near_names(name, class_names)
    return f"unknown neuron {name!r}" + (f" (near: {', '.join(near)})" if near else " (no name is like it)")


def read_class_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read the list of classes, one name a line; empty lines and what follows a ``#`` are passed over.

    Args:
        path: a UTF-8 text file. ``background`` may stand first; it is added where it does not.

    Returns:
        the names, ``background`` first, then as in the file.

    Raises:
        MissingDataError: there is no such file.
        InvalidInputError: no names, a name twice, one with ``?`` or ending with ``-alt``, ``background`` not first, or
            not a text file; lists all such lines.
    """
    file = Path(path)
    if not file.is_file():
        raise MissingDataError(f"{file} does not exist; expected a text file with the name of one neuron class a line")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{file} is not a UTF-8 text file ({error})") from error
    stripped = [(number, line.partition("#")[0].strip()) for number, line in enumerate(lines, 1)]
    named = [(number, name) for number, name in stripped if name]
    if named and named[0][1] == BACKGROUND:
        del named[0]
    if not named:
        raise InvalidInputError(f"{file} has no names; expected the name of one neuron class a line")
    _check_names(file, named)
    return (BACKGROUND, *(name for _, name in named))


def _check_names(file: Path, named: Sequence[tuple[int, str]]) -> None:
    seen: dict[str, int] = {}
    problems = []
    for line, name in named:
        if name in seen:
            problems.append(f"line {line}: {name!r} is also in line {seen[name]}")
        elif name == BACKGROUND:
            problems.append(f"line {line}: {BACKGROUND!r} can only be the first class")
        elif is_uncertain(name):
            problems.append(f"line {line}: {name!r} is not a certain name, it has a '?' or ends with {ALTERNATIVE!r}")
        seen.setdefault(name, line)
    if problems:
        raise InvalidInputError(f"{file} is not a list of classes:\n" + "\n".join(problems))
