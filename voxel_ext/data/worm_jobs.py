"""Folders of prepared worms: which are there but made otherwise, and what is told about all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from voxel_ext.data.jobs import Job
from voxel_ext.data.prepared_folder import describe_difference, write_marker, write_text_if_changed
from voxel_ext.data.worm_checks import collect_moments, describe_moments
from voxel_ext.data.worm_file import read_worm_header
from voxel_ext.errors import InvalidInputError

STATISTICS = "statistics.json"
PROCESSED, SKIPPED = "processed_cells.tsv", "skipped_cells.tsv"


def worm_difference(job: Job) -> str:
    """Say in what a worm that is there was made otherwise than the job makes it; "" if in nothing.

    Args:
        job: makes a prepared worm.
    """
    try:
        there = read_worm_header(job.path).settings
    except InvalidInputError as error:
        return str(error)
    return describe_difference(job.path, there, job.record)


def write_summary(root: Path, files: Sequence[Path], training: Sequence[Path]) -> dict[str, int]:
    """Write which cells were processed and which skipped, the statistics, and last the marker that all is complete.

    Args:
        root: the folder to write to.
        files: all prepared worms.
        training: those of them whose statistics are wanted.

    Returns:
        the numbers of processed and of skipped cells.

    Raises:
        InvalidInputError: a file is damaged.
        OSError: a file cannot be written.
    """
    processed, skipped = ["worm\tnumber\tname\trule"], ["worm\tnumber\tname\treason"]
    for path in files:
        header = read_worm_header(path)
        for slot, (valid, name, rule) in enumerate(zip(header.valid, header.names, header.rules, strict=True)):
            (processed if valid else skipped).append(f"{header.worm}\t{slot + 1}\t{name}\t{rule}")
    write_text_if_changed(root / PROCESSED, "\n".join(processed) + "\n")
    write_text_if_changed(root / SKIPPED, "\n".join(skipped) + "\n")
    statistics = describe_moments(collect_moments(training), len(training))
    write_text_if_changed(root / STATISTICS, json.dumps(statistics, indent=2) + "\n")
    write_marker(root, files)
    return {"processed": len(processed) - 1, "skipped": len(skipped) - 1}
