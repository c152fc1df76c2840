"""Making the files of a set as jobs, in worker processes, continued where it was interrupted."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from tqdm import tqdm

from voxel_ext.data.prepared_folder import MARKER
from voxel_ext.data.workers import explain_ended_workers, start_pool
from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.files import explain_write_errors

logger = logging.getLogger(__name__)


class Job(Protocol):
    """A file to be made, perhaps with others beside it; picklable."""

    @property
    def name(self) -> str:
        """What it is called in messages, unlike all others."""

    @property
    def path(self) -> Path:
        """The file, which is written last."""

    @property
    def record(self) -> dict[str, Any]:
        """What the file depends on, as it is stored in it."""

    def is_complete(self) -> bool:
        """Whether all that it makes is there."""

    def make(self) -> None:
        """Write the file."""


AnyJob = TypeVar("AnyJob", bound=Job)


@dataclass(frozen=True)
class PreparedFiles:
    """What a preparation did.

    Args:
        made: files or stores written in this run, relative to the output folder.
        kept: those that were finished before.
    """

    made: list[str]
    kept: list[str]

    @classmethod
    def of(cls, root: Path, jobs: Sequence[AnyJob], done: Sequence[AnyJob]) -> Self:
        """Tell the files of the jobs done from those of the others.

        Args:
            root: the output folder.
            jobs: all of them.
            done: as :func:`do_missing` returns them.
        """
        made = [job.path.relative_to(root).as_posix() for job in done]
        kept = [job.path.relative_to(root).as_posix() for job in jobs if job not in done]
        return cls(made, kept)


def pending(jobs: Sequence[AnyJob], overwrite: bool, difference: Callable[[AnyJob], str]) -> list[AnyJob]:
    """Return the jobs that are still to be done.

    Args:
        jobs: all of them.
        overwrite: redo those whose file was made with other settings, or is damaged.
        difference: says of a job whose file is there in what that was made otherwise, or how it is damaged; "" if it is
            as asked for.

    Raises:
        InvalidInputError: without ``overwrite``, a file was made with other settings (says which), or is damaged.
    """
    missing = []
    for job in jobs:
        reason = difference(job) if job.path.exists() else ""
        if reason and not overwrite:
            raise InvalidInputError(f"{reason}. Choose another output_dir, or set overwrite=True to replace it")
        if reason or not job.is_complete():
            missing.append(job)
    return missing


def do_jobs(jobs: Sequence[Job], num_workers: int, progress: bool, description: str, unit: str) -> dict[str, str]:
    """Do the jobs; one that fails on its input does not keep the others from being done.

    Args:
        jobs: what to do.
        num_workers: processes; 0 for this one.
        progress: show a bar.
        description: beside the bar.
        unit: what a job makes, e.g. "worm".

    Returns:
        the errors about the input, by the job's name.

    Raises:
        VoxelExtError: a worker process ended unexpectedly.
        OSError: a file cannot be written. Finished ones are kept.
    """
    errors: dict[str, str] = {}
    with tqdm(total=len(jobs), desc=description, unit=unit, disable=not progress) as bar:
        outcomes = _in_processes(jobs, num_workers, unit) if num_workers and len(jobs) > 1 else _here(jobs)
        with contextlib.closing(outcomes):
            for name, error in outcomes:
                bar.update()
                if error:
                    logger.error("%s %s: %s", unit, name, error)
                    errors[name] = error
    return errors


def _here(jobs: Sequence[Job]) -> Generator[tuple[str, str]]:
    for job in jobs:
        yield job.name, _do(job)


def _in_processes(jobs: Sequence[Job], num_workers: int, unit: str) -> Generator[tuple[str, str]]:
    with start_pool(min(num_workers, len(jobs))) as pool:
        futures = {pool.submit(_do, job): job.name for job in jobs}
        try:
            with explain_ended_workers(f"{unit}s"):
                for future in as_completed(futures):
                    yield futures[future], future.result()
        finally:
            for future in futures:
                future.cancel()


def _do(job: Job) -> str:
    """Do one job; the error about its input, "" for none."""
    try:
        with explain_write_errors(job.path):
            job.make()
    except (InvalidInputError, MissingDataError) as error:
        return str(error)
    return ""


def raise_failures(errors: Mapping[str, str], total: int, what: str) -> None:
    """Tell of the jobs that failed, if any did.

    Args:
        errors: as :func:`do_jobs` returns them.
        total: number of files of the set.
        what: they are, e.g. "worms".

    Raises:
        InvalidInputError: lists the errors.
    """
    if errors:
        lines = "\n".join(f"{name}: {text}" for name, text in sorted(errors.items()))
        raise InvalidInputError(f"{len(errors)} of {total} {what} cannot be prepared, the others are:\n{lines}")


def do_missing(
    root: Path,
    jobs: Sequence[AnyJob],
    difference: Callable[[AnyJob], str],
    unit: str,
    description: str,
    num_workers: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> list[AnyJob]:
    """Do the jobs that are still to be done; what they make is not complete before ``write_marker``.

    Args:
        root: the folder that they write to.
        jobs: all of them.
        difference: see :func:`pending`.
        unit: what a job makes, e.g. "worm".
        description: beside the progress bar.
        num_workers: processes; 0 for this one.
        overwrite: redo those whose file was made with other settings, or is damaged.
        progress: show a bar.

    Returns:
        the jobs done.

    Raises:
        InvalidInputError: as :func:`pending`; or, after all others are done, jobs that failed on their input.
        VoxelExtError: a worker process ended unexpectedly.
        OSError: a file cannot be written. Finished ones are kept.
    """
    missing = pending(jobs, overwrite, difference)
    if missing:
        (root / MARKER).unlink(missing_ok=True)
    raise_failures(do_jobs(missing, num_workers, progress, description, unit), len(jobs), f"{unit}s")
    return missing
