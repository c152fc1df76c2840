"""Whether the ids that a bundle's configs name exist: references, macros, and what overlays change."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from voxel_ext.errors import InvalidInputError
from voxel_ext.sharing.bundle import Bundle, read_config
from voxel_ext.sharing.checks_commands import (
    Command,
    commands,
    items,
    overlays_without_command,
    references,
    shown,
)
from voxel_ext.sharing.checks_outcome import Check, outcome


def near(name: str, names: Iterable[str]) -> str:
    """Return a hint at the name most like one that does not exist, or nothing."""
    found = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {shown(found[0])}?" if found else ""


def check_overlays(bundle: Bundle) -> Check:
    """Check that every overlay changes ids that the config it belongs to has."""
    tried: dict[str, list[Command]] = {}
    for command in commands(bundle.root):
        if len(command.files) > 1:
            tried.setdefault(command.files[-1], []).append(command)
    problems = [f"{file}: none of its ids is in another config" for file in overlays_without_command(bundle)]
    for file, combined in tried.items():
        for name in combined[0].unknown:
            if all(name in command.unknown for command in combined):
                bases = sorted({command.files[0] for command in combined})
                known = {one for command in combined for one in command.content}
                problems.append(f"{file}: {shown(name)} is no id of {' or '.join(bases)}{near(name, known)}")
    return outcome("overlays", problems, f"{len(tried)} overlays")


def check_references(bundle: Bundle) -> Check:
    """Check that every ``@reference`` and ``%macro`` of every command names an id, and that no id needs itself."""
    found: dict[tuple[str, str], str] = {}
    number = 0
    for command in commands(bundle.root):
        content = command.content | {"_meta_": dict(bundle.metadata)}
        for where, problem in [*_missing(content), *_macros(content, bundle.root), *_circles(command.content)]:
            found.setdefault((where, problem), command.label)
        number += len(references(command.content))
    problems = [f"{label}: {shown(where)}: {problem}" for (where, problem), label in found.items()]
    return outcome("references", problems, f"{number} in {len(commands(bundle.root))} commands")


def _missing(content: dict[str, Any]) -> list[tuple[str, str]]:
    """References to no id: where and what."""
    ids = {config_id for config_id, _ in items(content)}
    return [
        (where, f"@{shown(reference)} is no id{near(reference, ids)}")
        for where, reference in references(content)
        if reference not in ids
    ]


def _macros(content: dict[str, Any], root: Path) -> list[tuple[str, str]]:
    """Macros that name no id of this config or of a file of the bundle: where and what."""
    from monai.bundle import ConfigParser

    problems = []
    for where, value in items(content):
        if not isinstance(value, str) or not value.startswith("%"):
            continue
        path, config_id = ConfigParser.split_path_id(ConfigParser.resolve_relative_ids(where, value)[1:])
        file = (root / path).resolve()
        if path and not (file.is_relative_to(root) and file.is_file()):
            problems.append((where, f"{value} names the file {path}, which is not in the bundle"))
            continue
        try:
            source = read_config(file) if path else content
        except InvalidInputError as error:
            problems.append((where, f"{value}: {error}"))
            continue
        if config_id and config_id not in ConfigParser(config=source):
            problems.append((where, f"{value} is no id{near(config_id, (one for one, _ in items(source)))}"))
    return problems


def _circles(content: dict[str, Any]) -> list[tuple[str, str]]:
    """Ids that need themselves: where and what."""
    from monai.bundle import ReferenceResolver

    values = dict(items(content))
    done: set[str] = set()
    problems = []

    def visit(config_id: str, path: tuple[str, ...]) -> None:
        if config_id in path:
            circle = " needs ".join(f"@{shown(one)}" for one in (*path[path.index(config_id) :], config_id))
            problems.append((config_id, f"{circle}: no id can need itself"))
        elif config_id in values and config_id not in done:
            for needed in ReferenceResolver.find_refs_in_config(values[config_id], config_id):
                visit(needed, (*path, config_id))
            done.add(config_id)

    for config_id in content:
        visit(config_id, ())
    return problems
