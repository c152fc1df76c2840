"""Measuring objects one by one from their boxes of a lazy volume, continued where it was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from voxel_ext.data import object_batches
from voxel_ext.data.feature_files import ID, read_features, write_features
from voxel_ext.data.jobs import pending
from voxel_ext.data.object_batches import ObjectBatch
from voxel_ext.data.object_classes import ObjectClasses
from voxel_ext.data.object_sources import ObjectVolumes, PlacedObject
from voxel_ext.data.part_folder import begin_parts
from voxel_ext.data.prepared_file import prepared_difference
from voxel_ext.data.scheduling import BlockScheduler
from voxel_ext.errors import require
from voxel_ext.hdf5 import read_hdf5
from voxel_ext.morphology.object_features import crop_features

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class CropMeasurer:
    """Measures one object; an ``ObjectMaker``.

    Args:
        groups: of features, see ``crop_features``.
        voxel_size: (z, y, x) in nm.
    """

    groups: tuple[str, ...]
    voxel_size: tuple[float, float, float]

    def __call__(self, placed: PlacedObject, mask: NDArray[np.bool_], image: NDArray | None) -> dict[str, NDArray]:
        """Return the features by column, and the number of voxels, (1,) each."""
        found = crop_features(mask, self.voxel_size, self.groups)
        return {"voxels": np.array([np.count_nonzero(mask)]), **{name: np.array([found[name]]) for name in found}}


def open_parts(
    folder: Path, record: Mapping[str, Any], scan: Callable[[], pandas.DataFrame], overwrite: bool
) -> pandas.DataFrame:
    """Make the folder of an unfinished measurement, or go on with the one that is there.

    Args:
        folder: hidden, for the files of this measurement alone.
        record: all that the measurement depends on, for JSON.
        scan: measures what does not need the objects' masks; called only where that has not been done.
        overwrite: begin anew where there is an unfinished measurement of other settings.

    Returns:
        what ``scan`` returned, a row per object.

    Raises:
        InvalidInputError: there is an unfinished measurement of other settings; or what ``scan`` raises.
        OSError: a file cannot be written.
    """
    objects = folder / "objects.parquet"

    def measure() -> Callable[[], None]:
        table = scan()
        return lambda: write_features(table, objects)

    begin_parts(folder, record, measure, overwrite, "measurement", "output_dir")
    return read_features(objects)


def measure_batches(
    folder: Path,
    record: dict[str, Any],
    table: pandas.DataFrame,
    volumes: ObjectVolumes,
    classes: ObjectClasses | None,
    measurer: CropMeasurer,
    scheduler: BlockScheduler,
    *,
    overwrite: bool = False,
    progress: bool = True,
) -> pandas.DataFrame:
    """Measure the objects of a table one by one, in batches; a batch whose file is there is not measured again.

    Args:
        folder: of the batches.
        record: what they depend on.
        table: the objects' ``id`` and bounding boxes.
        volumes: where they are.
        classes: of the objects, for a column ``class``; None for none.
        measurer: measures one.
        scheduler: where batches are measured. Its workers write files to ``folder``.
        overwrite: measure batches again whose file is damaged.
        progress: show a bar.

    Returns:
        a row per object, in the order of the table, without ``id``.

    Raises:
        InvalidInputError: an object cannot be measured (names it); or a batch is damaged.
        VoxelExtError: worker processes were lost. Finished batches are kept.
        OSError: a file cannot be written. Finished batches are kept.
    """
    objects = _place(table)
    starts = range(0, len(objects), object_batches.BATCH)
    jobs = [
        ObjectBatch(
            folder / f"batch_{number:06d}.h5",
            record,
            tuple(objects[start : start + object_batches.BATCH]),
            volumes,
            classes,
            measurer,
        )
        for number, start in enumerate(starts)
    ]
    missing = pending(jobs, overwrite, prepared_difference)
    tasks = [(job.path, job.objects) for job in missing]
    done = len(objects) - sum(len(job.objects) for job in missing)
    results = scheduler.run(_measure_batch, tasks, (record, volumes, classes, measurer))
    with tqdm(total=len(objects), initial=done, desc="object features", unit="object", disable=not progress) as bar:
        for index, _ in results:
            bar.update(len(tasks[index][1]))
    return _join([job.path for job in jobs], table[ID].to_numpy())


Task = tuple[Path, tuple[PlacedObject, ...]]
Common = tuple[dict[str, Any], ObjectVolumes, ObjectClasses | None, CropMeasurer]


def _measure_batch(task: Task, common: Common) -> None:
    (path, objects), (record, volumes, classes, measurer) = task, common
    ObjectBatch(path, record, objects, volumes, classes, measurer).make()


def _place(table: pandas.DataFrame) -> list[PlacedObject]:
    """The objects in the order of their first slice, so that neighbors in the file are read one after the other."""
    lower, upper = (table[[f"{name}_{axis}" for axis in "zyx"]].to_numpy().tolist() for name in ("lower", "upper"))
    corners = zip(table[ID].tolist(), lower, upper, strict=True)
    placed = [PlacedObject(one, tuple(low), tuple(high)) for one, low, high in corners]
    return sorted(placed, key=lambda one: (one.lower, one.id))


def _join(paths: list[Path], ids: NDArray[np.int64]) -> pandas.DataFrame:
    pandas = require("pandas", extra="em")
    parts = []
    for path in paths:
        with read_hdf5(path) as file:
            parts.append(pandas.DataFrame({name: file[name][:] for name in file}))
    return pandas.concat(parts).set_index(ID).loc[ids].reset_index(drop=True)
