"""The folder of the finished parts of work that can be interrupted."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from voxel_ext.data.prepared_folder import describe_difference, write_text_if_changed
from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.files import read_json

logger = logging.getLogger(__name__)


def _difference(settings: Path, record: Mapping[str, Any]) -> str:
    """In what the parts that are there were made otherwise; "" if in nothing."""
    try:
        there = read_json(settings, dict, "the settings of interrupted work")
    except (InvalidInputError, MissingDataError) as error:  # missing: a folder is in its place
        return str(error)
    return describe_difference(settings.parent, there, record)


def begin_parts(
    folder: Path,
    record: Mapping[str, Any],
    first: Callable[[], Callable[[], None]],
    overwrite: bool,
    work: str,
    output: str,
) -> None:
    """Make the folder of the finished parts of some work, or go on with the one that is there.

    Args:
        folder: hidden, for the files of this work alone.
        record: all that the work depends on, for JSON.
        first: what comes before the parts; returns what writes its result into the folder. Called only where that has
            not been done.
        overwrite: begin anew where there are parts of other settings.
        work: what it is, for messages.
        output: the setting of its output, likewise.

    Raises:
        InvalidInputError: there are parts of other settings; or what ``first`` raises.
        OSError: a file cannot be written.
    """
    settings = folder / "settings.json"
    difference = "it was not begun"
    if settings.exists():
        difference = _difference(settings, record)
        if difference and not overwrite and any(folder.glob("batch_*.h5")):
            raise InvalidInputError(
                f"an interrupted {work} is there: {difference}. Finish it with those settings, choose another "
                f"{output}, or set overwrite=True to begin anew"
            )
    if difference:
        write = first()  # before anything is written, since it may be that there are no objects
        shutil.rmtree(folder, ignore_errors=True)
        write()
        write_text_if_changed(settings, json.dumps(record))
    else:
        logger.info("going on with the interrupted %s in %s", work, folder)
