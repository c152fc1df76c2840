"""Which files of a bundle's folder, and which settings of its training, go into a packed bundle."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from voxel_ext.errors import MissingDataError
from voxel_ext.files import read_json
from voxel_ext.sharing.bundle import Bundle
from voxel_ext.sharing.commands import SAMPLE

logger = logging.getLogger(__name__)

_FOLDERS = ("configs", "docs", "scripts")
_FILES = ("LICENSE*", "NOTICE*", "README*")
_CACHES = ("__pycache__", ".pyc", ".partial")
_OF_ZARR = (".zarray", ".zgroup", ".zattrs", ".zmetadata")
_OF_THE_RUN = {
    "bundle_root",
    "dataset_dir",
    "prepared_dir",
    "ckpt_dir",
    "checkpoint",
    "output_dir",
    "log_path",
    "device",
    "amp",
    "num_workers",
    "seed",
}
"""Settings of a training that say nothing about the network."""


def bundle_files(bundle: Bundle) -> dict[str, Path]:
    """Return the files to pack by their path in the bundle: configs, docs, scripts, license.

    Data, runs, results, checkpoints and hidden files are left out, links too, which is logged.
    """
    found: dict[str, Path] = {}
    for name in _FOLDERS:
        if (bundle.root / name).is_dir() and not (bundle.root / name).is_symlink():
            found |= {f"{name}/{path}": file for path, file in _files_below(bundle.root / name)}
    for pattern in _FILES:
        found |= {file.name: file for file in bundle.root.glob(pattern) if file.is_file() and not _is_link(file)}
    return found


def sample_files(sample: str | os.PathLike[str] | None) -> dict[str, Path]:
    """Return the files of a sample by their path in the packed bundle, below ``sample``.

    Args:
        sample: a file; a folder, whose content is taken; a store ``….zarr`` keeps its name. None: no files.

    Raises:
        MissingDataError: there is nothing, or nothing in it.
    """
    if sample is None:
        return {}
    path = Path(sample)
    if path.is_file():
        return {f"{SAMPLE}/{path.name}": path}
    if not path.is_dir():
        raise MissingDataError(f"no sample at {path}; expected a file or a folder that the bundle's command takes")
    start = f"{SAMPLE}/{path.name}" if path.suffix == ".zarr" else SAMPLE
    found = {f"{start}/{name}": file for name, file in _files_below(path)}
    if not found:
        raise MissingDataError(f"the sample {path} is an empty folder")
    return found


def read_settings(weights: Path) -> dict[str, Any] | None:
    """Return the settings that training left beside weights, with the paths of that machine cut to their last part.

    Args:
        weights: the weight file.

    Returns:
        the settings, or None if there are none beside it.

    Raises:
        InvalidInputError: they cannot be read.
    """
    file = weights.parent / "settings.json"
    if not file.is_file():
        return None
    return _without_folders(read_json(file, dict, "a settings file"))


def differing_settings(settings: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a training that a config must be given to fit its weights.

    Args:
        settings: those of the training.
        config: ids of the config with their values; those computed from others are left to the config.
    """
    return {
        name: value
        for name, value in settings.items()
        if name in config and name not in _OF_THE_RUN and not _is_computed(config[name]) and config[name] != value
    }


def _is_computed(value: object) -> bool:
    """Whether a config's value is an expression, a reference or a component."""
    return isinstance(value, dict) or (isinstance(value, str) and value.startswith(("$", "@", "%")))


def _without_folders(value: Any) -> Any:
    """The same with every absolute path cut to its last part: where others keep their data is theirs."""
    if isinstance(value, dict):
        return {name: _without_folders(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    return Path(value).name if isinstance(value, str) and os.path.isabs(value) else value


def _files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """Files below a folder with their path relative to it, sorted; no hidden files, caches and links."""
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(name for name in folders if _is_content(name) and not _is_link(here / name))
        for name in sorted(files):
            if (name in _OF_ZARR or _is_content(name)) and not _is_link(here / name):
                yield (here / name).relative_to(folder).as_posix(), here / name


def _is_content(name: str) -> bool:
    """Whether a name is neither hidden nor that of a cache."""
    return not name.startswith(".") and not name.endswith(_CACHES)


def _is_link(path: Path) -> bool:
    """Whether a path is a link or no file or folder, which is logged."""
    if path.is_symlink() or not (path.is_file() or path.is_dir()):
        logger.warning("%s is a link or a special file: not packed", path)
        return True
    return False
