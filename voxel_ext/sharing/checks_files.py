"""Whether a bundle has the files that others expect, under the names they expect."""

from __future__ import annotations

import re
from pathlib import Path

from voxel_ext.sharing.bundle import Bundle, read_config
from voxel_ext.sharing.checks_outcome import DOES_NOT_APPLY, PASSED, SKIPPED, Check, outcome

NECESSARY = ("configs/metadata.json", "LICENSE", "docs/README.md")
SUFFIXES = (".json", ".yaml", ".yml", ".conf", ".ini", ".py")
LARGEST = 25 * 2**20
"""Bytes of a file, as the model zoo allows them."""

_LARGE_FILES = tuple(f"large_files{suffix}" for suffix in (".yml", ".yaml", ".json"))
_MADE_BY_RUNNING = ("data", "models", "eval", "evaluation", "runs", "quickstart")
_PRIVATE = re.compile(r"(/home/|/root/|/Users/|[A-Za-z]:\\)")


def check_files(bundle: Bundle) -> Check:
    """Check that license, metadata, docs and the config of the inference are there and not empty."""
    problems = [
        f"{file} is missing or empty; every bundle needs it"
        for file in NECESSARY
        if not (bundle.root / file).is_file() or not (bundle.root / file).stat().st_size
    ]
    if "inference" not in bundle.configs and has_network(bundle):
        problems.append("configs/inference.json is missing; a bundle with a network needs it")
    return outcome("files", problems, ", ".join(NECESSARY))


def has_network(bundle: Bundle) -> bool:
    """Return whether a config of the bundle defines a network."""
    return any(
        name == "network_def" or name.endswith("_network_def")
        for file in bundle.configs.values()
        for name in read_config(file)
    )


def check_weights(bundle: Bundle) -> Check:
    """Check that there are weights, or say where they come from."""
    if not has_network(bundle):
        return Check("weights", DOES_NOT_APPLY, "the bundle has no network")
    if (bundle.root / "models" / "model.pt").is_file():
        return Check("weights", PASSED, "models/model.pt")
    large = next((name for name in _LARGE_FILES if (bundle.root / name).is_file()), None)
    if large:
        return Check("weights", PASSED, f"{large} says where to download them")
    return Check("weights", SKIPPED, "no weights yet: models/model.pt is made by `run training`")


def check_names(bundle: Bundle) -> Check:
    """Check the names of the bundle, its files and its version by the rules of the model zoo."""
    problems = []
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*", bundle.name):
        problems.append(f"the folder's name {bundle.name!r} must be words of letters and digits joined by '_'")
    if not re.fullmatch(r"\d+\.\d+\.\d+", bundle.version):
        problems.append(f"configs/metadata.json: version={bundle.version!r} must be three numbers, e.g. '0.1.0'")
    title = bundle.metadata.get("name")
    if not isinstance(title, str) or not title.strip():
        problems.append(f"configs/metadata.json: name={title!r} must be the name to display")
    files = _own_files(bundle.root)
    for file in files:
        if not re.fullmatch(r"[A-Za-z0-9_./-]+", file):
            problems.append(f"the name of {file!r} must be of letters, digits, '_', '-' and '.'")
        if file.startswith("configs/") and not file.endswith(SUFFIXES):
            problems.append(f"{file} is no config; expected one of {', '.join(SUFFIXES)}")
        size = (bundle.root / file).stat().st_size
        if size > LARGEST:
            problems.append(
                f"{file} has {size} bytes; the model zoo takes {LARGEST} at most, larger by large_files.yml"
            )
    return outcome("names", [*problems, *_private_paths(bundle)], f"{bundle.name} {bundle.version}, {len(files)} files")


def _own_files(root: Path) -> list[str]:
    """Files that belong to the bundle and were not made by running it, relative to it."""
    files = (file.relative_to(root) for file in sorted(root.rglob("*")) if file.is_file())
    return [
        file.as_posix() for file in files if file.parts[0] not in _MADE_BY_RUNNING and "__pycache__" not in file.parts
    ]


def _private_paths(bundle: Bundle) -> list[str]:
    """Top-level values that are folders of one person's machine."""
    return [
        f"{file.relative_to(bundle.root)}: {name}={value!r} is a path of one machine; expected one below bundle_root"
        for file in (*bundle.configs.values(), *bundle.variants.values())
        for name, value in read_config(file).items()
        if isinstance(value, str) and _PRIVATE.match(value)
    ]


def check_logging(bundle: Bundle) -> Check:
    """Check that ``configs/logging.conf`` can be read and starts nothing but loggers.

    It is read with the rules of MONAI, which refuse one that would run code, and is not applied.
    """
    import configparser

    from monai.bundle import workflows

    file = bundle.root / "configs" / "logging.conf"
    if not file.is_file():
        return Check("logging", DOES_NOT_APPLY, "there is no configs/logging.conf")
    try:
        content = workflows._reject_executable_logging_config(str(file))
    except ValueError as error:
        return outcome("logging", [str(error).replace(str(file), "configs/logging.conf")], "")
    parser = configparser.RawConfigParser()
    parser.read_string(content)
    problems = []
    for kind, prefix in (("loggers", "logger_"), ("handlers", "handler_"), ("formatters", "formatter_")):
        if not parser.has_option(kind, "keys"):
            problems.append(f"configs/logging.conf: section [{kind}] with its keys is missing")
            continue
        names = [name.strip() for name in parser.get(kind, "keys").split(",") if name.strip()]
        problems += [
            f"configs/logging.conf: [{kind}] names {name}, but there is no section [{prefix}{name}]"
            for name in names
            if not parser.has_section(prefix + name)
        ]
    return outcome("logging", problems, "configs/logging.conf")
