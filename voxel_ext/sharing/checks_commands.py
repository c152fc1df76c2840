"""The config files that run together, merged as MONAI merges them, without evaluating anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from voxel_ext.errors import InvalidInputError
from voxel_ext.sharing.bundle import METADATA, Bundle, read_config

SEPARATOR = "::"
"""Between the parts of an id; ``#`` where a user reads it."""

ENTRY_IDS = frozenset({"imports", "initialize", "run", "finalize"})
"""Ids that ``monai.bundle run`` itself looks for."""

_SUFFIXES = (".json", ".yaml", ".yml")
_OVERLAYS = {"evaluate": ("train",), "multi_gpu_train": ("train",), "multi_gpu_evaluate": ("train", "evaluate")}


@dataclass(frozen=True)
class Command:
    """Config files that run together.

    Attributes:
        files: relative to the bundle, in the order of the command line.
        content: the merged ids.
        unknown: ids of the last file that the files before it do not have and that nothing refers to; not in
            ``content``.
    """

    files: tuple[str, ...]
    content: dict[str, Any]
    unknown: tuple[str, ...] = field(default=())

    @property
    def label(self) -> str:
        """The files, for messages."""
        return " + ".join(self.files)


def shown(config_id: str) -> str:
    """Return an id as a user writes it."""
    return config_id.replace(SEPARATOR, "#")


def items(content: Any, config_id: str = "") -> Iterator[tuple[str, Any]]:
    """Give every id below a config, with its value."""
    if isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            below = f"{config_id}{SEPARATOR}{key}" if config_id else str(key)
            yield below, value
            yield from items(value, below)


def config_files(bundle: Bundle) -> dict[str, Path]:
    """Return the config files directly in ``configs``, by name without suffix."""
    files = sorted((bundle.root / "configs").glob("*"))
    return {file.stem: file for file in files if file.suffix in _SUFFIXES and file.name != METADATA.name}


def complete_configs(bundle: Bundle) -> dict[str, Path]:
    """Return the config files that run by themselves: those with a ``bundle_root``."""
    return {name: file for name, file in config_files(bundle).items() if "bundle_root" in read_config(file)}


@lru_cache(maxsize=4)
def commands(bundle_root: Path) -> tuple[Command, ...]:
    """Return every combination of config files that a user may run.

    That is each complete config; evaluation and training on several devices on top of the training; every other
    overlay, in ``configs`` or ``configs/variants``, on top of each of these that it changes.

    Args:
        bundle_root: folder of the bundle.

    Raises:
        InvalidInputError: a file is no config.
    """
    bundle = Bundle.open(bundle_root)
    named = {stem: file.relative_to(bundle.root).as_posix() for stem, file in config_files(bundle).items()}
    contents = {file: read_config(bundle.root / file) for file in named.values()}
    made = {stem: Command((named[stem],), contents[named[stem]]) for stem in complete_configs(bundle)}
    for stem, base in _OVERLAYS.items():
        if stem in named and stem not in made and base[-1] in made:
            made[stem] = overlaid(made[base[-1]], named[stem], contents[named[stem]])
    bases = list(made.values())
    others = {file: contents[file] for stem, file in named.items() if stem not in made}
    for path in bundle.variants.values():
        others[path.relative_to(bundle.root).as_posix()] = read_config(path)
    for file, overlay in others.items():
        bases += [overlaid(base, file, overlay) for base in made.values() if _top_ids(overlay) & base.content.keys()]
    return tuple(bases)


def overlays_without_command(bundle: Bundle) -> list[str]:
    """Return the overlays that change no id of any other config."""
    ran = {command.files[-1] for command in commands(bundle.root)}
    files = (*config_files(bundle).values(), *bundle.variants.values())
    return [name for name in (file.relative_to(bundle.root).as_posix() for file in files) if name not in ran]


def _top_ids(overlay: Mapping[str, Any]) -> set[str]:
    """Ids at the top level that an overlay changes, without those that every config has."""
    from monai.bundle import ReferenceResolver

    return {ReferenceResolver.split_id(key.removeprefix("+"))[0] for key in overlay} - ENTRY_IDS


def overlaid(base: Command, file: str, overlay: Mapping[str, Any]) -> Command:
    """Put an overlay on a command, as a list of config files does.

    Args:
        base: the files before it.
        file: its name.
        overlay: its ids.

    Raises:
        InvalidInputError: a value cannot be put there, e.g. ``+id`` is no list or mapping.
    """
    from monai.bundle import ConfigParser, ReferenceResolver
    from monai.bundle.utils import merge_kv

    parser = ConfigParser(config=deepcopy(base.content))
    new, refused = [], []
    for key, value in overlay.items():
        config_id = ReferenceResolver.normalize_id(key.removeprefix("+"))
        if config_id not in parser:
            parent, last = ReferenceResolver.split_id(config_id, last=True)
            if parent and not isinstance(parser.get(parent), dict):
                refused.append(config_id)
                continue
            new.append(config_id)
        try:
            merge_kv(parser, key, deepcopy(value))
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise InvalidInputError(f"{file}: {key!r} does not fit {base.label} ({error})") from error
    content = parser.get()
    unused = [config_id for config_id in new if not _is_used(config_id, content)]
    for config_id in unused:
        parent, last = ReferenceResolver.split_id(config_id, last=True)
        del (parser[parent] if parent else content)[last]
    return Command((*base.files, file), content, (*refused, *unused))


def _is_used(config_id: str, content: dict[str, Any]) -> bool:
    """Whether MONAI, the component that an id lies in, or a reference elsewhere needs it."""
    from monai.bundle import ConfigComponent, ConfigParser

    parent = config_id.rpartition(SEPARATOR)[0]
    parser = ConfigParser(config=content)
    if config_id in ENTRY_IDS or parser.get(config_id) == "@run":
        return True
    if parent and ConfigComponent.is_instantiable(parser[parent]):
        return True
    return any(
        reference == config_id
        or reference.startswith(config_id + SEPARATOR)
        or config_id.startswith(reference + SEPARATOR)
        for owner, reference in references(content)
        if owner != config_id and not owner.startswith(config_id + SEPARATOR)
    )


def references(content: dict[str, Any]) -> list[tuple[str, str]]:
    """Return every ``@reference`` of a config: the id where it stands, and the id it names."""
    from monai.bundle import ConfigParser, ReferenceResolver

    return [
        (config_id, reference)
        for config_id, value in items(content)
        if isinstance(value, str) and "@" in value
        for reference in ReferenceResolver.match_refs_pattern(ConfigParser.resolve_relative_ids(config_id, value))
    ]
