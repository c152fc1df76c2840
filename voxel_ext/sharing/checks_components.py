"""Whether every ``_target_`` of a bundle's configs exists and takes the arguments it is given."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from voxel_ext.sharing.bundle import Bundle
from voxel_ext.sharing.checks_commands import commands, items, shown
from voxel_ext.sharing.checks_modules import TRUSTED, UNKNOWN, binding_problem, find_module, follow, installed
from voxel_ext.sharing.checks_outcome import Check, outcome


def check_components(bundle: Bundle) -> Check:
    """Check the components of every command; none is made."""
    from monai.bundle import ConfigComponent

    found: dict[tuple[str, str], str] = {}
    number = 0
    for command in commands(bundle.root):
        for where, value in items(command.content):
            if ConfigComponent.is_instantiable(value):
                number += 1
                if problem := _problem(value, bundle.root):
                    found.setdefault((where, problem), command.label)
    problems = [f"{label}: {shown(where)}: {problem}" for (where, problem), label in found.items()]
    return outcome("components", problems, f"{number} in {len(commands(bundle.root))} commands")


def _problem(config: Mapping[str, Any], root: Path) -> str:
    """What is wrong with a component; empty if nothing is."""
    from monai.bundle import ConfigComponent

    target = config["_target_"]
    if not isinstance(target, str):
        return f"_target_={target!r} must be the name of a class or function"
    if not full_name(target):
        return ""
    component, missing = locate(target, root)
    if missing:
        return f"_target_={target!r}: {missing}"
    arguments = config.keys() - ConfigComponent.non_arg_keys
    problem = binding_problem(component, 0, arguments, partial=config.get("_mode_", "default") != "default")
    return f"{target}: {problem}" if problem else ""


@lru_cache(maxsize=1)
def _monai_names() -> Any:
    """MONAI's own table of short names."""
    from monai.bundle import ComponentLocator

    return ComponentLocator()


def full_name(target: str) -> str:
    """Return the dotted name of a ``_target_``: MONAI's own may be short; empty if an expression gives it."""
    if target.startswith(("$", "@")):
        return ""
    modules = _monai_names().get_component_module_name(target)
    if modules is None:
        return target
    return f"{modules if isinstance(modules, str) else modules[0]}.{target}"


def locate(target: str, root: Path) -> tuple[Any, str]:
    """Find what a ``_target_`` names.

    Args:
        target: a short name of MONAI or a dotted one.
        root: folder of the bundle, which may have packages of its own; these are not imported.

    Returns:
        the class or function, ``UNKNOWN`` if it may not be imported; and what does not exist, empty if all does.
    """
    target = full_name(target)
    top, *names = target.split(".")
    if top not in TRUSTED:
        if (root / top).is_dir() or (root / f"{top}.py").is_file():
            return UNKNOWN, ""
        return UNKNOWN, "" if names and installed(
            top
        ) else f"there is no {top} in MONAI or among the installed packages"
    module = find_module(top)
    if module is None:
        return UNKNOWN, f"{top} is not installed"
    found, missing = follow(module, names)
    return found, f"there is no {missing!r} in {target.rpartition('.' + missing)[0]}" if missing else ""
