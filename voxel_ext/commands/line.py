"""Understanding the words of a command line before any work is done, and the help texts."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import fire
from fire.core import FireExit
from fire.docstrings import parse

from voxel_ext.errors import InvalidInputError, check_option

PROGRAM = "python -m voxel_ext"
WIDTH = 100
"""Columns of the help texts."""

_HELP = ("--help", "-h")
_REASONS = {
    "Could not consume arg:": "there is no place for",
    "The function received no value for the required argument:": "there is no value for",
}
"""Messages of fire, and what they mean."""


class Job:
    """Work that starts only after the whole command line has been understood.

    It cannot be called and has no public members, so that fire finds nothing to do with it.

    Args:
        work: does it; returns the exit code, None for 0.
    """

    def __init__(self, work: Callable[[], int | None]) -> None:
        self._work = work


def do(job: Job) -> int:
    """Do the work of a job.

    Args:
        job: what :func:`understand` returned.

    Returns:
        the exit code.
    """
    return job._work() or 0


@dataclass(frozen=True)
class Command:
    """A command of the program.

    Args:
        function: takes what stands on the command line, and returns a :class:`Job`. Its docstring is the help.
        details: gives another help text for some words behind the command, or "".
    """

    function: Callable[..., Job]
    details: Callable[[Sequence[str]], str] = lambda words: ""

    def help(self, words: Sequence[str] = ()) -> str:
        """Return the help text.

        Args:
            words: what stands behind the command.
        """
        return self.details([word for word in words if word not in _HELP]) or _help(self.function)


def understand(command: Command, words: Sequence[str]) -> Job:
    """Find out what a command is to do.

    Args:
        command: the command.
        words: what stands behind it.

    Raises:
        InvalidInputError: an option is not known or has no value, or an argument is missing or too many.
    """
    name = command.function.__name__
    checked = _checked_words(command.function, words)
    try:
        # fire prints its usage text with every error
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            job = fire.Fire(command.function, command=checked, name=name)
    except FireExit as stop:
        reason = stop.trace.elements[-1].ErrorAsStr().strip()
        for theirs, ours in _REASONS.items():
            reason = reason.replace(theirs, ours)
        raise InvalidInputError(f"{reason}; see {PROGRAM} {name} --help") from None
    if not isinstance(job, Job):
        raise InvalidInputError(f"the arguments of {name} are not understood; see {PROGRAM} {name} --help")
    return job


def asks_for_help(words: Sequence[str]) -> bool:
    """Whether one of the words is ``--help`` or ``-h``."""
    return any(word in _HELP for word in words)


def overview(commands: Mapping[str, Command], version: str) -> str:
    """Return one line for each command."""
    width = max(map(len, commands))
    lines = [f"  {name:{width}}  {_summary(command.function)}" for name, command in commands.items()]
    return "\n".join(
        [
            f"voxel_ext {version}",
            "",
            f"Usage: {PROGRAM} COMMAND ...",
            "",
            *lines,
            "",
            f"{PROGRAM} COMMAND --help explains a command.",
            "",
        ]
    )


def option_lines(options: Mapping[str, tuple[object, str]]) -> str:
    """Format options for a help text.

    Args:
        options: name -> default and description.
    """
    lines = []
    for name, (default, description) in options.items():
        shown = "" if default is None else f" {_shown(default)}"
        lines.append(_entry(f"--{name}{shown}", description))
    return "\n".join(lines)


def _help(function: Callable[..., Job]) -> str:
    """Usage, purpose and arguments of a command, by its signature and docstring."""
    parameters = inspect.signature(function).parameters.values()
    documented = {one.name.lstrip("*"): one.description for one in parse(inspect.getdoc(function) or "").args or ()}
    places = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.VAR_POSITIONAL)]
    options = {one.name: one for one in parameters if one.kind is one.KEYWORD_ONLY}
    usage = [one.name.upper() + (" ..." if one.kind is one.VAR_POSITIONAL else "") for one in places]
    text, _, _ = (inspect.getdoc(function) or "").partition("\nArgs:")
    arguments = [_entry(one.name.upper(), documented[one.name]) for one in places]
    listed = option_lines({name: (one.default, documented[name]) for name, one in options.items()})
    more = [_entry("--...", documented[one.name]) for one in parameters if one.kind is one.VAR_KEYWORD]
    head = " ".join([f"Usage: {PROGRAM} {function.__name__}", *usage, *(["[--OPTION VALUE ...]"] if options else [])])
    return "\n".join([head, "", text.strip(), "", *arguments, *([listed] if listed else []), *more, ""])


def _entry(name: str, description: str) -> str:
    """A name, and what it means in lines below each other beside it."""
    indent = " " * 26
    body = textwrap.fill(
        " ".join(description.replace("``", "").split()), WIDTH, initial_indent=indent, subsequent_indent=indent
    )
    head = f"  {name}"
    return f"{head:26}{body[26:]}" if len(head) < 25 else f"{head}\n{body}"


def _shown(default: object) -> str:
    if isinstance(default, list | tuple):
        return ",".join(map(str, default))
    return str(default).lower() if isinstance(default, bool) else str(default)


def _summary(function: Callable[..., Job]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


def _checked_words(function: Callable[..., Job], words: Sequence[str]) -> list[str]:
    """Check the names of options, and give each its value in the same word."""
    parameters = inspect.signature(function).parameters
    known = {name: one for name, one in parameters.items() if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)}
    takes_others = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    checked, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        if re.fullmatch(r"-[A-Za-z].*|--|-", word):
            raise InvalidInputError(f"{word} is not understood; options are written --name value")
        if not word.startswith("--"):
            checked.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if not takes_others:
            check_option("option", name, known)
        follows = bool(rest) and not rest[0].startswith("--")
        if not equals and _is_switch(known.get(name)):
            value = rest.pop(0) if follows and rest[0].lower() in ("true", "false") else "true"
        elif not equals and follows:
            value = rest.pop(0)
        elif not equals and name not in known:  # a switch of what the command passes on
            value = "True"
        if not value:
            raise InvalidInputError(f"--{name} needs a value")
        if _is_switch(known.get(name)):
            if value.lower() not in ("true", "false"):
                raise InvalidInputError(f"--{name}={value} must be true or false")
            value = value.capitalize()
        checked.append(f"--{name}={value}")
    return checked


def _is_switch(parameter: inspect.Parameter | None) -> bool:
    return parameter is not None and str(parameter.annotation).startswith("bool")
