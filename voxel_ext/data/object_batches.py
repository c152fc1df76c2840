"""Preparing objects in batches, each a file of its own until all are done, so that a killed run is continued."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.address import HDF5_SUFFIXES
from voxel_ext.data.container import arrays, describe, is_numeric
from voxel_ext.data.jobs import do_missing
from voxel_ext.data.object_classes import ObjectClasses
from voxel_ext.data.object_sources import ObjectVolumes, PlacedObject
from voxel_ext.data.part_folder import begin_parts
from voxel_ext.data.prepared_file import prepared_difference, read_record
from voxel_ext.data.prepared_folder import describe_difference, write_text_if_changed
from voxel_ext.errors import InvalidInputError
from voxel_ext.files import atomic_path, locked_folder, read_json
from voxel_ext.hdf5 import read_hdf5, write_hdf5
from voxel_ext.hdf5_checks import check_file, read_whole

BATCH = 32
"""Objects in a batch."""

Rows = Mapping[str, NDArray]


class ObjectMaker(Protocol):
    """Makes the training data of one object; picklable."""

    def __call__(self, placed: PlacedObject, mask: NDArray[np.bool_], image: NDArray | None) -> Rows:
        """Return arrays by name, each with the same number of rows, at least one."""


@dataclass(frozen=True)
class ObjectReport:
    """What a preparation of objects did.

    Args:
        path: the file.
        objects: number of objects in it.
        rows: number of entries, more than one for some objects.
        kept: whether the file was there before.
    """

    path: Path
    objects: int
    rows: int
    kept: bool


@dataclass(frozen=True, eq=False)
class ObjectTask:
    """What is to be made of the objects of a volume.

    Args:
        path: the HDF5 file to write.
        volumes: where the objects are.
        classes: of the objects, if known.
        maker: makes the rows of an object.
        settings: all that the file depends on, besides the volumes and the classes.
        attributes: of the file, besides the settings.
    """

    path: Path
    volumes: ObjectVolumes
    classes: ObjectClasses | None
    maker: ObjectMaker
    settings: Mapping[str, Any]
    attributes: Mapping[str, Any]

    def record(self) -> dict[str, Any]:
        """Tell, for JSON, all that the file depends on."""
        classes = None if self.classes is None else self.classes.describe()
        return {**self.settings, **self.volumes.describe(), "classes": classes}


def prepare_task(
    task: ObjectTask, objects: Callable[[], list[PlacedObject]], num_workers: int, overwrite: bool, progress: bool
) -> ObjectReport:
    """Write the file of a task, unless it is there; batches of a run that was interrupted are used.

    Args:
        task: what to make.
        objects: lists the objects; called only where that has not been done by an interrupted run.
        num_workers: processes; 0 for this one.
        overwrite: replace a file, or batches, of other settings.
        progress: show a bar.

    Raises:
        InvalidInputError: the file, or the batches of an interrupted run, were made with other settings (says which);
            or objects cannot be prepared (lists the batches with the reasons).
        VoxelExtError: a worker process ended unexpectedly.
        OSError: a file cannot be written. Finished batches are kept.
    """
    path = task.path
    if not path.name.lower().endswith(HDF5_SUFFIXES):
        raise InvalidInputError(f"output_file={str(path)!r}; expected a name that ends with {', '.join(HDF5_SUFFIXES)}")
    record = task.record()
    with locked_folder(path.parent, f".{path.name}.lock"):
        if path.exists():
            difference = _file_difference(path, record)
            if not difference:
                return _report(path, True)
            if not overwrite:
                raise InvalidInputError(f"{difference}. Choose another output_file, or set overwrite=True")
        folder = path.parent / f".{path.name}.parts"
        jobs = _list_batches(task, folder, _open_parts(folder, record, objects, overwrite), record)
        do_missing(folder, jobs, prepared_difference, "part", "objects", num_workers, True, progress)
        merge_batches(path, [job.path for job in jobs], record, task.attributes)
        shutil.rmtree(folder, ignore_errors=True)
    return _report(path, False)


def _file_difference(path: Path, record: Mapping[str, Any]) -> str:
    try:
        return describe_difference(path, read_record(path), record)
    except InvalidInputError as error:
        return f"{path} was not made by prepare, or is damaged ({error})"


def _report(path: Path, kept: bool) -> ObjectReport:
    with read_hdf5(path) as file:
        ids = file["id"][:]
    return ObjectReport(path, len(np.unique(ids)), len(ids), kept)


def _open_parts(
    folder: Path, record: dict[str, Any], objects: Callable[[], list[PlacedObject]], overwrite: bool
) -> list[PlacedObject]:
    """Make the folder of batches, or go on with the one that is there; its list of objects."""
    listed = folder / "objects.json"

    def find() -> Callable[[], None]:
        found = objects()
        return lambda: write_text_if_changed(listed, json.dumps(found))

    begin_parts(folder, record, find, overwrite, "preparation", "output_file")
    rows = read_json(listed, list, "the list of the objects to prepare")
    try:
        return [PlacedObject(int(one), _corner(lower), _corner(upper)) for one, lower, upper in rows]
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInputError(f"{listed} is damaged ({error}); remove {folder} to begin anew") from error


def _corner(values: Any) -> tuple[int, int, int]:
    z, y, x = values
    return int(z), int(y), int(x)


def _list_batches(
    task: ObjectTask, folder: Path, objects: Sequence[PlacedObject], record: dict[str, Any]
) -> list[ObjectBatch]:
    jobs = []
    for number, start in enumerate(range(0, len(objects), BATCH)):
        placed = tuple(objects[start : start + BATCH])
        classes = None if task.classes is None else task.classes.only(one.id for one in placed)
        path = folder / f"batch_{number:06d}.h5"
        jobs.append(ObjectBatch(path, record, placed, task.volumes, classes, task.maker))
    return jobs


@dataclass(frozen=True, eq=False)
class ObjectBatch:
    """Some objects to be prepared; a job of ``do_jobs``."""

    path: Path
    record: dict[str, Any]
    objects: tuple[PlacedObject, ...]
    volumes: ObjectVolumes
    classes: ObjectClasses | None
    maker: ObjectMaker

    @property
    def name(self) -> str:
        """That of its file."""
        return self.path.stem

    def is_complete(self) -> bool:
        """Whether the file is there."""
        return self.path.exists()

    def make(self) -> None:
        """Read the objects one by one and write what is made of them.

        Raises:
            MissingDataError: a file does not exist any more.
            InvalidInputError: an object cannot be prepared (names it).
        """
        parts: dict[str, list[NDArray]] = {}
        for placed in self.objects:
            for name, values in self._rows(placed).items():
                parts.setdefault(name, []).append(values)
        with atomic_path(self.path) as temporary, write_hdf5(temporary) as (file, _):
            file.attrs["settings"] = json.dumps(self.record)
            for name, found in parts.items():
                file.create_dataset(name, data=np.concatenate(found), **_storage(found[0].shape[1:]))

    def _rows(self, placed: PlacedObject) -> Rows:
        mask, image = self.volumes.read(placed)
        try:
            rows = dict(self.maker(placed, mask, image))
        except InvalidInputError as error:
            raise InvalidInputError(f"object {placed.id}: {error}") from error
        count = len(next(iter(rows.values())))
        rows["id"] = np.full(count, placed.id, np.int64)
        if self.classes is not None:
            rows["class"] = np.full(count, self.classes.of(placed, mask), np.int64)
        return rows


def _storage(shape: tuple[int, ...]) -> dict[str, Any]:
    """How rows of a shape are stored: large ones apart from each other and compressed."""
    return {"chunks": (1, *shape), "compression": "lzf", "shuffle": True} if len(shape) > 1 else {}


def merge_batches(path: Path, parts: Sequence[Path], record: dict[str, Any], attributes: Mapping[str, Any]) -> None:
    """Put the rows of several files into one, ascending by ``id``; the rows of an object stay in their order.

    Args:
        path: the file to write, replacing what is there.
        parts: files of the same datasets, one of them ``id``. Every object is in one of them only.
        record: what the file depends on; stored as JSON in the attribute ``settings``.
        attributes: of the file, besides that; stored as JSON.

    Raises:
        InvalidInputError: a part is damaged, or has other datasets than the first one.
        OSError: the file cannot be written.
    """
    counts, ids = [], []
    for part in parts:
        with read_hdf5(part) as source:
            _check_part(source, part, parts[0])
            ids.append(read_whole(source["id"]))
            counts.append(len(ids[-1]))
    order = np.concatenate(ids).argsort(kind="stable")
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    vectors: dict[str, list[NDArray]] = {}
    with atomic_path(path) as temporary, write_hdf5(temporary) as (file, guard):
        for part, rows in zip(parts, np.split(places, np.cumsum(counts)[:-1]), strict=True):
            with read_hdf5(part) as source:
                for name, values in source.items():
                    if values.ndim < 3:
                        vectors.setdefault(name, []).append(read_whole(values))
                    else:
                        _copy_rows(file, name, values, rows, len(places))
            guard.check()
        for name, columns in vectors.items():
            file.create_dataset(name, data=np.concatenate(columns)[order])
        file.attrs["settings"] = json.dumps(record)
        for name, value in attributes.items():
            file.attrs[name] = json.dumps(value)


def _check_part(source: Any, part: Path, first: Path) -> None:
    """Refuse a file whose datasets are not those of the first one, or do not have a row for each id."""
    check_file(source)
    found = arrays(source)
    rows = found["id"].shape if "id" in found else ()
    with read_hdf5(first) as other:
        expected = {name: (one.shape[1:], one.dtype) for name, one in arrays(other).items()}
    described = {name: (one.shape[1:], one.dtype) for name, one in found.items()}
    fitting = len(rows) == 1 and all(one.shape[:1] == rows and is_numeric(one) for one in found.values())
    if not fitting or described != expected or set(source) != set(found):
        raise InvalidInputError(
            f"{part} is damaged: it has {describe(source)}; expected a row for each id, as {first} has them. Remove "
            f"{part.parent} to begin anew"
        )


def _copy_rows(file: Any, name: str, values: Any, rows: NDArray[np.int64], total: int) -> None:
    shape = values.shape[1:]
    if name not in file:
        file.create_dataset(name, (total, *shape), values.dtype, **_storage(shape))
    for index, row in enumerate(rows):
        file[name][row] = values[index]
