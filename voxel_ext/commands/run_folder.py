"""What a run of a bundle left in its folder: settings, history, metrics and pages."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.files import read_json

if TYPE_CHECKING:
    from voxel_ext.visualize.overview_report import Run

HISTORY, SETTINGS, METRICS, PAGE = "history.jsonl", "settings.json", "metrics.csv", "report.html"
"""What training (the first two), evaluation and all commands write."""

_SET_ASIDE = "previous"


def has_run_files(folder: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder with something that a run left; see :func:`find_run_files`.

    Args:
        folder: any path.
    """
    return Path(folder).is_dir() and any(find_run_files(folder).values())


def find_run_files(folder: str | os.PathLike[str]) -> dict[str, list[Path]]:
    """List what runs leave behind, in a folder and in its folders.

    Args:
        folder: e.g. one with ``models`` and ``evaluation``, or one of these. Files of earlier runs, which training has
            put into ``previous``, are passed over.

    Returns:
        paths by name, those of the folder itself first.
    """
    root = Path(folder)
    inside = sorted(one for one in root.iterdir() if one.is_dir() and one.name != _SET_ASIDE and one.name[0] != ".")
    names = (HISTORY, SETTINGS, METRICS, PAGE)
    return {name: [path for one in (root, *inside) if (path := one / name).is_file()] for name in names}


def read_runs(folders: Sequence[str | os.PathLike[str]]) -> list[Run]:
    """Read what runs have left in their folders; see :func:`find_run_files`.

    Args:
        folders: one per run.

    Raises:
        MissingDataError: there is no such folder, or nothing of a run in it.
        InvalidInputError: a file is damaged; two trainings in one folder; a folder is named twice.
    """
    paths = [Path(folder) for folder in folders]
    for path in paths:
        if not path.is_dir():
            raise MissingDataError(f"{path} is no folder; expected the output folder of a bundle")
    resolved = [path.resolve() for path in paths]
    for path in paths:
        if resolved.count(path.resolve()) > 1:
            raise InvalidInputError(f"the folder {path} is named twice")
    return [_read_run(path, name) for path, name in zip(paths, _names(resolved), strict=True)]


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of paths that differ."""
    longest = max(len(path.parts) for path in paths)
    for count in range(1, longest):
        names = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _read_run(folder: Path, name: str) -> Run:
    from voxel_ext.handlers.history import read_history
    from voxel_ext.visualize.overview_report import Run

    files = find_run_files(folder)
    if not any(files.values()):
        raise MissingDataError(
            f"{folder} has nothing of a run: no {HISTORY}, {SETTINGS}, {METRICS} or {PAGE}, nor has a folder in it"
        )
    for kind in (HISTORY, SETTINGS):
        if len(files[kind]) > 1:
            raise InvalidInputError(
                f"{folder} holds several trainings: {', '.join(map(str, files[kind]))}; give their folders one by one"
            )
    metrics = {str(path.parent.relative_to(folder)): _read_metrics(path) for path in files[METRICS]}
    several = len(metrics) > 1
    return Run(
        name=name,
        settings=read_json(files[SETTINGS][0], dict, "a settings file") if files[SETTINGS] else {},
        history=read_history(files[HISTORY][0]) if files[HISTORY] else [],
        metrics={
            f"{key} ({place})" if several else key: value
            for place, values in metrics.items()
            for key, value in values.items()
        },
        pages=files[PAGE],
    )


def _read_metrics(path: Path) -> dict[str, float]:
    """The lines ``name,value`` that MONAI's ``MetricsSaver`` writes; those without a number are passed over."""
    metrics = {}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.reader(file):
                if len(row) < 2:
                    raise InvalidInputError(f"{path} has the line {','.join(row)!r}; expected lines name,value")
                if (value := _number(row[1])) is not None:
                    metrics[row[0]] = value
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(f"{path} is not a table of metrics ({error})") from error
    return metrics


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
