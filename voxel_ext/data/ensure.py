"""The data folder of a bundle: the one that the user names, or synthetic data made at first use."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

from voxel_ext.data.prepared_folder import MARKER, write_text_if_changed
from voxel_ext.errors import MissingDataError
from voxel_ext.files import locked_folder

logger = logging.getLogger(__name__)


def ensure_dataset(
    dataset_dir: str | os.PathLike[str] | None,
    default_dir: str | os.PathLike[str],
    prepare: Callable[..., object],
) -> str:
    """Return the folder to read data from, after making it where that is needed.

    Args:
        dataset_dir: the user's folder or file; None or "" for the default.
        default_dir: the folder of the default data. It is complete if it has a file ``dataset.json``, as
            ``prepare_synthetic`` writes it last. It is used as it is then, whatever settings it was made with.
        prepare: called as ``prepare(output_dir=default_dir)`` to make, or complete, the default data, e.g.
            ``prepare_synthetic`` with all else filled in. Of several processes, one makes them while the others wait.

    Returns:
        ``dataset_dir`` if given, else ``default_dir``.

    Raises:
        MissingDataError: ``dataset_dir`` is given but does not exist, or is an empty folder.
        OSError: ``default_dir`` is not writable.
    """
    if dataset_dir is not None and os.fspath(dataset_dir) != "":
        _check_given(Path(dataset_dir))
        return os.fspath(dataset_dir)
    folder = Path(default_dir)
    marker = folder / MARKER
    if not marker.is_file():
        with locked_folder(folder, ".ensure.lock"):
            if not marker.is_file():
                logger.info("no dataset_dir is given: making the default data in %s", folder)
                prepare(output_dir=str(folder))
            if not marker.is_file():
                mark_complete(folder)
    logger.info("no dataset_dir is given: using the default data in %s", folder)
    return str(folder)


def mark_complete(folder: str | os.PathLike[str], *made: object) -> None:
    """Write the file that tells that the data in a folder are complete, so that :func:`ensure_dataset` takes them.

    Args:
        folder: where they are.
        made: what was made; not looked at. In a config, references to it let it be made before.

    Raises:
        OSError: the folder is not writable.
    """
    write_text_if_changed(Path(folder) / MARKER, json.dumps({"complete": True}) + "\n")


def _check_given(path: Path) -> None:
    if not path.exists():
        raise MissingDataError(f"dataset_dir {str(path)!r} does not exist (current folder: {os.getcwd()})")
    if path.is_dir() and all(child.name.startswith(".") for child in path.iterdir()):
        raise MissingDataError(f"dataset_dir {str(path)!r} is empty; leave it out to use the default data")
