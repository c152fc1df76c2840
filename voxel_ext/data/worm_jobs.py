"""Making the files of a set of worms, in worker processes, continued where it was interrupted."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from numbers import Integral
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from voxel_ext.data.preparation import MARKER, start_pool
from voxel_ext.data.preparation_plan import differing_settings
from voxel_ext.data.worm_checks import collect_moments, describe_moments
from voxel_ext.data.worm_file import read_worm_header
from voxel_ext.errors import InvalidInputError, MissingDataError, VoxelExtError
from voxel_ext.files import atomic_path, explain_write_errors

logger = logging.getLogger(__name__)

STATISTICS = "statistics.json"
PROCESSED, SKIPPED = "processed_cells.tsv", "skipped_cells.tsv"


class WormJob(Protocol):
    """A file to be made; picklable."""

    @property
    def name(self) -> str:
        """The worm's name."""

    @property
    def path(self) -> Path:
        """The prepared worm's file."""

    @property
    def record(self) -> dict[str, Any]:
        """What the file depends on, as it is stored in it."""

    def is_complete(self) -> bool:
        """Whether all that it makes is there."""

    def make(self) -> None:
        """Write the file."""


def check_counts(least: Mapping[str, int], **counts: int) -> None:
    """Refuse numbers that are no integers or too small.

    Args:
        least: the smallest allowed values by name; 0 for names that are not there.
        counts: the values by name.

    Raises:
        InvalidInputError: names the value.
    """
    for name, value in counts.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least.get(name, 0):
            raise InvalidInputError(f"{name}={value!r}; expected an integer of at least {least.get(name, 0)}")


def pending(jobs: Sequence[WormJob], overwrite: bool) -> list[WormJob]:
    """Return the jobs that are still to be done.

    Args:
        jobs: all of them.
        overwrite: redo those whose file was made with other settings, or is damaged.

    Raises:
        InvalidInputError: without ``overwrite``, a file was made with other settings (says which), or is damaged.
    """
    missing = []
    for job in jobs:
        reason = _difference(job) if job.path.exists() else "missing"
        if reason not in ("", "missing") and not overwrite:
            raise InvalidInputError(f"{reason}. Choose another output_dir, or set overwrite=True to replace it")
        if reason or not job.is_complete():
            missing.append(job)
    return missing


def _difference(job: WormJob) -> str:
    try:
        there = read_worm_header(job.path).settings
    except InvalidInputError as error:
        return str(error)
    differences = differing_settings(there, json.loads(json.dumps(job.record)))
    return f"{job.path} was made with other settings: {'; '.join(differences)}" if differences else ""


def do_jobs(jobs: Sequence[WormJob], num_workers: int, progress: bool, description: str) -> dict[str, str]:
    """Do the jobs; one that fails on its input does not keep the others from being done.

    Args:
        jobs: what to do.
        num_workers: processes; 0 for this one.
        progress: show a bar.
        description: beside the bar.

    Returns:
        the errors about the input, by the worm's name.

    Raises:
        VoxelExtError: a worker process ended unexpectedly.
        OSError: a file cannot be written. Finished ones are kept.
    """
    errors: dict[str, str] = {}
    with tqdm(total=len(jobs), desc=description, unit="worm", disable=not progress) as bar:
        outcomes = _in_processes(jobs, num_workers) if num_workers and len(jobs) > 1 else _here(jobs)
        with contextlib.closing(outcomes):
            for name, error in outcomes:
                bar.update()
                if error:
                    logger.error("worm %s: %s", name, error)
                    errors[name] = error
    return errors


def _here(jobs: Sequence[WormJob]) -> Generator[tuple[str, str]]:
    for job in jobs:
        yield job.name, _do(job)


def _in_processes(jobs: Sequence[WormJob], num_workers: int) -> Generator[tuple[str, str]]:
    with start_pool(min(num_workers, len(jobs))) as pool:
        futures = {pool.submit(_do, job): job.name for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise VoxelExtError(
                "a worker process ended unexpectedly, probably out of memory: lower num_workers (or it could not "
                "start: a script needs 'if __name__ == \"__main__\":'). Finished worms are kept"
            ) from error
        finally:
            for future in futures:
                future.cancel()


def _do(job: WormJob) -> str:
    """Do one job; the error about its input, "" for none."""
    try:
        with explain_write_errors(job.path):
            job.make()
    except (InvalidInputError, MissingDataError) as error:
        return str(error)
    return ""


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
    _write(root / PROCESSED, "\n".join(processed) + "\n")
    _write(root / SKIPPED, "\n".join(skipped) + "\n")
    statistics = describe_moments(collect_moments(training), len(training))
    _write(root / STATISTICS, json.dumps(statistics, indent=2) + "\n")
    names = [path.relative_to(root).as_posix() for path in files]
    _write(root / MARKER, json.dumps({"complete": True, "files": names}, indent=2) + "\n")
    return {"processed": len(processed) - 1, "skipped": len(skipped) - 1}


def _write(path: Path, text: str) -> None:
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
