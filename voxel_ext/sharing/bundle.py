"""A bundle's folder: its metadata, the config of each command, its overlays."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import voxel_ext
from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.files import read_json

METADATA = Path("configs", "metadata.json")
"""Where the metadata lies in a bundle."""

_SUFFIXES = (".json", ".yaml", ".yml")
_COMMANDS = {"train": "training", "evaluate": "evaluating"}
_MOST_VALUES, _DEEPEST = 100_000, 100
_RUN_IDS = ("run", "training", "evaluating", "inference")


@dataclass(frozen=True)
class Bundle:
    """A folder that holds a MONAI bundle.

    Attributes:
        root: the folder, absolute and without links.
        metadata: content of ``configs/metadata.json``.
        configs: config file of each command, by the name to ``run``: ``training``, ``evaluating``, ``inference``,
            ``prepare``; other config files that can be run have their own name, e.g. ``clustering``. Overlays such as
            ``multi_gpu_train`` are not in it.
        variants: overlays in ``configs/variants``, by name.
        network_id: id of the network in the config of ``inference`` whose output is the tensor that the metadata
            describe: ``tensor_network_def`` where there is one, else ``network_def``; None for bundles without a
            network.
    """

    root: Path
    metadata: Mapping[str, Any]
    configs: Mapping[str, Path]
    variants: Mapping[str, Path]
    network_id: str | None

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """Open a folder; reads its JSON files and executes nothing.

        Args:
            path: the bundle's folder.

        Raises:
            MissingDataError: there is no such folder, or no ``configs/metadata.json`` in it.
            InvalidInputError: a config is not readable, or the metadata lack a version.
        """
        root = Path(path).resolve()
        if not root.is_dir():
            raise MissingDataError(f"{path} is no folder; expected the folder of a bundle")
        if not (root / METADATA).is_file():
            raise MissingDataError(f"{path} is no bundle: it has no {METADATA.as_posix()}")
        metadata = read_config(root / METADATA)
        if not isinstance(metadata.get("version"), str):
            raise InvalidInputError(
                f"{root / METADATA}: version={metadata.get('version')!r} must be a text such as '0.1.0'"
            )
        configs = _configs(root / "configs")
        return cls(root, metadata, configs, _files(root / "configs" / "variants"), _network_id(configs))

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.root.name

    @property
    def is_ours(self) -> bool:
        """Whether it lies in ``bundles`` of the checkout that runs: configs of others run only where that is asked."""
        checkout = Path(voxel_ext.__file__).resolve().parents[1]
        return self.root.parent == checkout / "bundles" and (checkout / "pyproject.toml").is_file()

    @property
    def version(self) -> str:
        """The bundle's version, as its metadata say."""
        return str(self.metadata["version"])


def read_config(file: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a config file without evaluating anything in it.

    Args:
        file: JSON, or YAML for bundles of others.

    Raises:
        MissingDataError: it is no file.
        InvalidInputError: it is neither, holds no ids or ids that are no text, or too many or too deep values.
        OSError: it cannot be read.
    """
    file = Path(file)
    content = read_json(file, dict, "a config file") if file.suffix == ".json" else _read_yaml(file)
    _check_values(content, file)
    return content


def _check_values(content: dict[str, Any], file: Path) -> None:
    """Refuse what no config has; aliases of YAML can make endless ones of a few lines."""
    pending: list[tuple[Any, int]] = [(content, 0)]
    number = 0
    while pending:
        value, depth = pending.pop()
        number += 1
        if number > _MOST_VALUES or depth > _DEEPEST:
            raise InvalidInputError(
                f"{file} is not a config file: it has more than {_MOST_VALUES} values, or more than {_DEEPEST} levels"
            )
        if isinstance(value, dict):
            wrong = next((key for key in value if not isinstance(key, str)), None)
            if wrong is not None or None in value:
                raise InvalidInputError(f"{file} is not a config file: {wrong!r} is no id, which is a text")
        below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        pending += [(one, depth + 1) for one in below]


def _read_yaml(file: Path) -> dict[str, Any]:
    """Read a config in YAML as MONAI does; see :func:`read_config`."""
    from monai.bundle import ConfigParser
    from yaml import YAMLError

    if not file.is_file():  # to read a pipe would never end
        raise MissingDataError(f"{file} does not exist or is no file; expected a config file")
    try:
        content = ConfigParser.load_config_file(file)
    except (YAMLError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"{file} is not a config file ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise InvalidInputError(f"{file} is not a config file: it holds a {type(content).__name__}, not a dict")
    return content


def _files(folder: Path) -> dict[str, Path]:
    """The config files directly in a folder, by name without suffix."""
    return {file.stem: file for file in sorted(folder.glob("*")) if file.suffix in _SUFFIXES and file.is_file()}


def _configs(folder: Path) -> dict[str, Path]:
    """The config file of each command: those that hold what ``run`` starts."""
    found = {}
    for stem, file in _files(folder).items():
        command = _COMMANDS.get(stem, stem)
        if stem != METADATA.stem and read_config(file).keys() & {*_RUN_IDS, command}:
            found[command] = file
    return found


def _network_id(configs: Mapping[str, Path]) -> str | None:
    """See :class:`Bundle`."""
    if "inference" not in configs:
        return None
    ids = read_config(configs["inference"])
    return next((name for name in ("tensor_network_def", "network_def") if name in ids), None)
