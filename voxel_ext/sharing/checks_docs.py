"""Whether what ``docs/README.md`` of a bundle says agrees with its configs: sections, settings, defaults."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from voxel_ext.sharing.bundle import Bundle, read_config
from voxel_ext.sharing.checks_commands import ENTRY_IDS, config_files
from voxel_ext.sharing.checks_outcome import Check, outcome

DOCS = "docs/README.md"
SECTIONS = ("Model", "Data", "Commands", "Settings", "Performance", "Limits", "License", "References")

_INTERNAL = ENTRY_IDS | {"settings", "bundle_root"}
_ROW = re.compile(r"^\| ((?:`[a-z0-9_]+`(?:, )?)+) \| ([^|]+) \|", re.MULTILINE)


def read_docs(bundle: Bundle) -> str:
    """Return the text of ``docs/README.md``, empty if there is none."""
    file = bundle.root / DOCS
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def check_sections(bundle: Bundle) -> Check:
    """Check that the docs have the sections that every bundle has, in the same order."""
    found = re.findall(r"^## (.+)$", read_docs(bundle), re.MULTILINE)
    if found == list(SECTIONS):
        return outcome("sections", [], f"{len(found)} sections")
    problem = f"{DOCS} has the sections {', '.join(found) or 'none'}; expected {', '.join(SECTIONS)}"
    return outcome("sections", [problem], "")


def settings(bundle: Bundle) -> dict[str, list[Any]]:
    """Return the values that a user may set, with the default of each config: no components and no internal ids."""
    found: dict[str, list[Any]] = {}
    for file in config_files(bundle).values():
        for name, value in read_config(file).items():
            if name not in _INTERNAL and not _is_component(value) and "#" not in name:
                found.setdefault(name, []).append(value)
    return found


def _is_component(value: object) -> bool:
    """Whether a value is made of other ids: a component, or a list of components or of expressions."""
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, dict) or (isinstance(value, list) and _is_derived(first))


def _is_derived(value: object) -> bool:
    """Whether a value follows from others."""
    return isinstance(value, str) and value.startswith(("$", "@"))


def check_settings(bundle: Bundle) -> Check:
    """Check that the docs name every value that a user may set."""
    named = set(re.findall(r"`([a-z0-9_]+)`", read_docs(bundle)))
    values = {name: defaults[-1] for name, defaults in settings(bundle).items() if not all(map(_is_derived, defaults))}
    problems = [
        f"{DOCS} does not say what `{name}` is, whose default is {json.dumps(default)}"
        for name, default in values.items()
        if name not in named
    ]
    return outcome("settings", problems, f"{len(values)} settings")


def check_defaults(bundle: Bundle) -> Check:
    """Check that the tables of settings give ids that exist, with the defaults of the configs."""
    values = settings(bundle)
    ids = {name for file in config_files(bundle).values() for name in read_config(file)}
    rows = documented_defaults(read_docs(bundle))
    problems = []
    for name, text in rows:
        if name not in ids:
            problems.append(f"{DOCS}: `{name}` is in no config")
        elif name in values and text is not None and not any(is_default(text, value) for value in values[name]):
            defaults = " or ".join(dict.fromkeys(json.dumps(value) for value in values[name]))
            problems.append(f"{DOCS}: the default of `{name}` is given as {text}; in the configs it is {defaults}")
    if not rows:
        problems.append(f"{DOCS} has no table of settings; expected rows such as | `seed` | 0 | of everything random |")
    return outcome("defaults", problems, f"{len(rows)} defaults")


def documented_defaults(docs: str) -> list[tuple[str, str | None]]:
    """Return the names of the tables of settings with their defaults.

    A row may give several names and as many defaults; where their numbers differ and there is more than one default,
    these cannot be told apart and are None.

    Args:
        docs: text of the docs.
    """
    found: list[tuple[str, str | None]] = []
    for names, cell in _ROW.findall(docs):
        several = re.findall(r"[a-z0-9_]+", names)
        texts: list[str] = [cell.strip()] if len(several) == 1 else cell.strip().split(", ")
        if len(texts) == 1:
            texts *= len(several)
        found += zip(several, texts if len(texts) == len(several) else [None] * len(several), strict=True)
    return found


def is_default(text: str, value: object) -> bool:
    """Return whether the docs' text is a value, as far as that can be told.

    Args:
        text: the cell of the table; texts stand in backticks or bare, an empty one is ``empty``.
        value: the default in a config; one that follows from others, or is a mapping, may be described in words.
    """
    plain = text.replace("`", "")
    if _is_derived(value) or isinstance(value, Mapping):
        return True
    if isinstance(value, str):
        return plain == (value or "empty")
    try:
        given = json.loads(re.sub(r"`([^`]*)`", r'"\1"', text) if isinstance(value, list) else plain)
    except ValueError:
        return isinstance(value, list) and not plain.startswith("[")
    return given == value and isinstance(given, bool) == isinstance(value, bool)
