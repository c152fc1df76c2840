"""Whether a bundle's metadata name the packages that its configs import, and these are installed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import packages_distributions

from voxel_ext.errors import MissingDependencyError
from voxel_ext.sharing.bundle import METADATA, Bundle
from voxel_ext.sharing.checks_commands import commands, items
from voxel_ext.sharing.checks_components import full_name
from voxel_ext.sharing.checks_expressions import import_of, is_expression
from voxel_ext.sharing.checks_outcome import Check, outcome
from voxel_ext.sharing.requirements import check_requirements, required_packages

SOURCE = METADATA.as_posix()


def check_packages(bundle: Bundle) -> Check:
    """Check that every package that the configs import is listed with its version, and that these are installed."""
    from packaging.utils import canonicalize_name

    required = required_packages(bundle.metadata, SOURCE)
    optional = bundle.metadata.get("optional_packages_version", {})
    if not isinstance(optional, Mapping):
        return outcome("packages", [f"{SOURCE}: optional_packages_version={optional!r} must be an object"], "")
    listed = {canonicalize_name(name) for name in (*required, *optional)}
    problems = []
    if optional and "required_packages_version" in bundle.metadata:
        problems.append(
            f"{SOURCE}: MONAI reads optional_packages_version as required_packages_version, which is lost; "
            "expected one of them"
        )
    used = packages_used(bundle)
    for module, where in used.items():
        names = _distributions().get(module, [module])
        if not listed & {canonicalize_name(name) for name in names}:
            problems.append(f"{SOURCE}: required_packages_version lacks {names[0]}, which {where} imports")
    try:
        check_requirements(bundle.metadata, SOURCE)
    except MissingDependencyError as error:
        problems.append(str(error))
    return outcome("packages", problems, f"{len(required)} required, {len(used)} named in the configs")


@lru_cache(maxsize=1)
def _distributions() -> dict[str, list[str]]:
    """Installed distributions by the modules they bring."""
    return {module: list(names) for module, names in packages_distributions().items()}


def packages_used(bundle: Bundle) -> dict[str, str]:
    """Return the packages that configs name, with the file and id that name them first; Python's own left out.

    Args:
        bundle: the bundle; packages of its own are left out.
    """
    used: dict[str, str] = {}
    for command in commands(bundle.root):
        for where, value in items(command.content):
            name = ""
            if is_expression(value):
                found = import_of(value)
                name = found[0] if found else ""
            elif isinstance(value, dict) and isinstance(value.get("_target_"), str):
                name = full_name(value["_target_"])
                name = name if "." in name else ""
            top = name.partition(".")[0]
            if top.isidentifier() and not _known(top, bundle):
                used.setdefault(top, f"{command.label}: {where.replace('::', '#')}")
    return used


def _known(top: str, bundle: Bundle) -> bool:
    """Whether a module is Python's or the bundle's own."""
    own = (bundle.root / top).is_dir() or (bundle.root / f"{top}.py").is_file()
    return top in sys.stdlib_module_names or own
