"""Which files a set of synthetic volumes consists of, and whether those on disk are they."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxel_ext.data.address import CONTAINER_SUFFIXES
from voxel_ext.data.prepared_folder import differing_settings, foreign_files
from voxel_ext.data.synthetic_volumes import Generator, describe_generator
from voxel_ext.data.volume_record import plain
from voxel_ext.data.volume_store import read_settings
from voxel_ext.errors import InvalidInputError

logger = logging.getLogger(__name__)

SEEDS_PER_SET = 1_000_000
"""Seed s of a set means the generator's seeds from s * SEEDS_PER_SET on; those for validation start half-way."""

_REMEDY = "Choose another output_dir, or set overwrite=True to replace it"


@dataclass(frozen=True)
class PlannedFile:
    """A file to be made.

    Args:
        path: where.
        first_seed: of its first volume; the others follow.
        count: number of volumes.
        settings: how it is made, as recorded in it.
    """

    path: Path
    first_seed: int
    count: int
    settings: dict[str, Any]

    @property
    def partial(self) -> Path:
        """Its name while it is under construction."""
        return self.path.with_name(self.path.name + ".partial")


def plan_files(
    root: Path,
    generator: Generator,
    train_files: int,
    per_file: int,
    validation: int,
    seed: int,
    format: str,
    dtype: str,
) -> list[PlannedFile]:
    """The files of a set, see ``prepare_synthetic``; the validation seeds do not depend on the training volumes."""
    description = _as_json(describe_generator(generator))
    start = seed * SEEDS_PER_SET
    parts = [(f"train/train_{i + 1}", start + i * per_file, per_file) for i in range(train_files)]
    parts.append(("val/val", start + SEEDS_PER_SET // 2, validation))
    files = []
    for name, first, count in parts:
        settings = {"generator": description, "first_seed": first, "volumes": count, "dtype": dtype}
        files.append(PlannedFile(root / f"{name}.{format}", first, count, settings))
    return files


def _as_json(description: dict[str, Any]) -> Any:
    """A generator's description as it is when read back; functions and classes by name."""

    def describe(value: Any) -> Any:
        return f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else plain(value)

    try:
        return json.loads(json.dumps(description, default=describe))
    except TypeError as error:
        raise InvalidInputError(
            f"the options of {description['name']} cannot be recorded as JSON ({error}); expected numbers, text, "
            "lists, dictionaries, arrays, functions or classes"
        ) from error


def missing_files(files: Sequence[PlannedFile], overwrite: bool) -> list[PlannedFile]:
    """The files still to be made; those that are there must have the same settings."""
    missing = []
    for file in files:
        if not file.path.exists():
            missing.append(file)
            continue
        differences = differing_settings(_own_settings(file.path), file.settings)
        if differences and not overwrite:
            raise InvalidInputError(f"{file.path} was made with other settings: {'; '.join(differences)}. {_REMEDY}")
        if differences:
            missing.append(file)
    return missing


def _own_settings(path: Path) -> dict[str, Any]:
    """Settings of a file, which may be replaced or removed only if it has them."""
    try:
        return read_settings(path)
    except InvalidInputError as error:
        raise InvalidInputError(
            f"{error}. Not made by prepare, or damaged: move it, or choose another output_dir"
        ) from error


def check_strangers(files: Sequence[PlannedFile], overwrite: bool) -> None:
    """Refuse, or remove if ``prepare`` made them, volumes that are not of this set but would be read with it."""
    strangers = foreign_files([file.path for file in files], CONTAINER_SUFFIXES)
    if strangers and not overwrite:
        names = ", ".join(str(path) for path in strangers[:5])
        raise InvalidInputError(f"{len(strangers)} files do not belong to the set asked for: {names}. {_REMEDY}")
    for path in strangers:
        _own_settings(path)
    for path in strangers:
        logger.warning("removing %s", path)
        remove(path)


def remove(path: Path) -> None:
    """Remove a file or a folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
