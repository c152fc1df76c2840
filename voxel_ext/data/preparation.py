"""Making a set of synthetic volumes on disk, with worker processes, continued where it was interrupted."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tqdm import tqdm

from voxel_ext.data.preparation_plan import (
    SEEDS_PER_SET,
    PlannedFile,
    check_strangers,
    missing_files,
    plan_files,
    remove,
)
from voxel_ext.data.prepared_folder import MARKER, differing_settings, write_marker
from voxel_ext.data.synthetic_volumes import Generator
from voxel_ext.data.volume_record import VolumeRecord, encode_volume
from voxel_ext.data.volume_store import open_store, read_settings, salvage
from voxel_ext.data.workers import check_picklable, explain_ended_workers, results_in_order, start_pool
from voxel_ext.errors import InvalidInputError, check_counts, check_option
from voxel_ext.files import explain_write_errors, locked_folder

logger = logging.getLogger(__name__)


def prepare_synthetic(
    generator: Generator,
    output_dir: str | os.PathLike[str],
    train_files: int = 4,
    volumes_per_file: int = 512,
    validation_volumes: int = 64,
    seed: int = 0,
    num_workers: int = 0,
    progress: bool = True,
    format: str = "h5",
    dtype: str = "float16",
    overwrite: bool = False,
) -> Path:
    """Write ``train/train_1.h5`` … and ``val/val.h5`` with synthetic volumes.

    Datasets of a file with N volumes: ``data`` (N, X, Y, Z), ``labels`` (N, X, Y, Z) uint16, ``parameters`` (N,) JSON
    text, ``seeds`` and other tables with a number of rows per volume (HDF5: flat, attribute ``row_shape``; zarr:
    padded, ``<name>_length``), ``checksum`` (N,) CRC-32. The result depends on the generator and the seeds alone, not
    on the number of workers. An interrupted run is continued by running it again: the file under construction is
    ``….partial``; finished files made with the same settings are kept.

    Args:
        generator: ``seed -> dict`` with ``image``, ``label``, ``seeds``, ``parameters``, … For worker processes it must
            be picklable, such as ``SyntheticVolumes``.
        output_dir: the folder.
        train_files: number of files for training; 4 × 512 + 64 volumes are those of
            https://github.com/michi-d/3dsegmentation.
        volumes_per_file: volumes in each of them.
        validation_volumes: volumes for validation.
        seed: each has its own volumes, none shared with another's.
        num_workers: processes that generate; 0 for this one. They are spawned, so a script that calls this needs
            ``if __name__ == "__main__":``.
        progress: show a bar.
        format: "h5" or "zarr".
        dtype: "float16" or "float32" for the image.
        overwrite: replace files that were made with other settings, and remove those that do not belong; only such as
            this function made.

    Returns:
        the folder.

    Raises:
        InvalidInputError: a file was made with other settings, or does not belong; an option is out of range; the
            generator's output cannot be stored (see ``encode_volume``), or its options cannot be recorded as JSON.
        VoxelExtError: a worker process ended unexpectedly.
        OSError: the folder is not writable, or the disk is full; what was finished is kept.
    """
    check_option("format", format, ("h5", "zarr"))
    check_option("dtype", dtype, ("float16", "float32"))
    _check_counts(train_files, volumes_per_file, validation_volumes, seed, num_workers)
    if num_workers:
        check_picklable(generator)
    root = Path(output_dir)
    files = plan_files(root, generator, train_files, volumes_per_file, validation_volumes, seed, format, dtype)
    with locked_folder(root, ".prepare.lock"):
        with explain_write_errors(root):
            for folder in ("train", "val"):
                (root / folder).mkdir(exist_ok=True)
        missing = missing_files(files, overwrite)
        check_strangers(files, overwrite)
        if missing:
            (root / MARKER).unlink(missing_ok=True)
            logger.info("making %d of %d files in %s", len(missing), len(files), root)
            _make(missing, generator, num_workers, progress, dtype)
        else:
            logger.info("%s is complete", root)
        write_marker(root, {file.path: file.settings for file in files})
    return root


def _check_counts(train_files: int, per_file: int, validation: int, seed: int, num_workers: int) -> None:
    counts = {"train_files": train_files, "volumes_per_file": per_file, "validation_volumes": validation}
    check_counts(dict.fromkeys(counts, 1), **counts, seed=seed, num_workers=num_workers)
    half = SEEDS_PER_SET // 2
    if max(train_files * per_file, validation) > half:
        raise InvalidInputError(f"{train_files} * {per_file} or {validation} volumes are more than the {half} seeds")


def _make(files: Sequence[PlannedFile], generator: Generator, num_workers: int, progress: bool, dtype: str) -> None:
    total = sum(file.count for file in files)
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=total, desc="synthetic volumes", unit="volume", disable=not progress))
        pool = stack.enter_context(start_pool(min(num_workers, total))) if num_workers else None
        records = functools.partial(_records, generator, dtype, pool, 2 * num_workers)
        for file in files:
            _make_file(file, records, bar)


def _make_file(file: PlannedFile, records: Callable[[Sequence[int]], Iterator[VolumeRecord]], bar: tqdm) -> None:
    opened = contextlib.ExitStack()
    with explain_write_errors(file.path):
        settings = None if _can_continue(file) else file.settings
        store = opened.enter_context(open_store(file.partial, file.count, settings))
    try:
        done = store.finished
        bar.update(done)
        seeds = range(file.first_seed + done, file.first_seed + file.count)
        for record in records(seeds):  # outside: a generator's errors are its own
            with explain_write_errors(file.path):
                store.append(record)
            bar.update()
    finally:
        with explain_write_errors(file.path):
            opened.close()
    with explain_write_errors(file.path):
        if file.path.is_dir():  # a folder, unlike a file, is not replaced by a rename
            shutil.rmtree(file.path)
        os.replace(file.partial, file.path)


def _can_continue(file: PlannedFile) -> bool:
    """Whether an interrupted file is there that has finished volumes of the same settings."""
    if not file.partial.exists():
        return False
    try:
        reason = "; ".join(differing_settings(read_settings(file.partial), file.settings))
    except InvalidInputError as error:
        reason = f"damaged ({error})"
    if not reason:
        done = salvage(file.partial, file.count, file.settings)
        if done:
            logger.info("continuing %s after %d of %d volumes", file.path, done, file.count)
            return True
        reason = "no volume of it is finished"
    logger.warning("starting %s over, the interrupted one is of no use: %s", file.path, reason)
    remove(file.partial)
    return False


def _records(
    generator: Generator, dtype: str, pool: ProcessPoolExecutor | None, ahead: int, seeds: Sequence[int]
) -> Iterator[VolumeRecord]:
    """The encoded volumes in the order of the seeds, with ``ahead`` of them made before by worker processes."""
    if pool is None:
        yield from (_record(generator, seed, dtype) for seed in seeds)
        return
    make = functools.partial(_record, generator, dtype=dtype)
    with explain_ended_workers("volumes", "lower num_workers or the size of the volumes"):
        yield from results_in_order(pool, make, seeds, ahead)


def _record(generator: Generator, seed: int, dtype: str) -> VolumeRecord:
    return encode_volume(generator(seed), dtype)
