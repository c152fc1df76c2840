"""What a picture of the gallery is: who draws it, what it shows, and the call that made it."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SECTIONS = ("Transforms", "Synthetic data", "Networks", "Bundles")
"""Sections of the gallery, in their order."""


@dataclasses.dataclass(frozen=True)
class Context:
    """How the pictures of a run are made.

    Attributes:
        quick: take a handful of training steps, on tiny data.
        work: folder for data and checkpoints of the bundles.
        seed: of everything random.
    """

    quick: bool
    work: Path
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A picture that has been made.

    Attributes:
        png: the file.
        call: the code or commands that made what it shows.
        note: a line on how it was made, such as the length of a training; may be empty.
    """

    png: bytes
    call: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A picture that can be made.

    Attributes:
        section: one of :data:`SECTIONS`.
        name: unique in the gallery.
        shows: one line.
        draw: makes it.
    """

    section: str
    name: str
    shows: str
    draw: Callable[[Context], Drawn]


def summary(thing: Any, package: Any) -> str:
    """Return the first sentence of a docstring as plain text.

    Args:
        thing: a class or a function.
        package: where the array version of a dictionary transform is looked up, whose docstring says more.
    """
    text = inspect.getdoc(thing) or ""
    if text.startswith("Dictionary version of") and hasattr(package, thing.__name__[:-1]):
        text = inspect.getdoc(getattr(package, thing.__name__[:-1])) or text
    paragraph = re.split(r"\n\s*\n", text)[0].replace("\n", " ")
    paragraph = re.sub(r":\w+:`~?[\w.]*?(\w+)`", r"\1", paragraph).replace("``", "")
    return re.split(r"(?<=[.;]) ", paragraph)[0].rstrip(";. ") + "."


def call_text(name: str, settings: Mapping[str, Any]) -> str:
    """Write a call with keyword arguments as Python source."""
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in settings.items())})"
