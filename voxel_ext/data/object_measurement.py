"""Classical features of all objects of a volume larger than memory, as tables in files."""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxel_ext.data.measurement_parts import CropMeasurer, measure_batches, open_parts
from voxel_ext.data.measurement_tables import DISTANCE_MATRIX, MeasurementFolder, check_distance_objects
from voxel_ext.data.object_bounds import check_bounds, keep_objects
from voxel_ext.data.object_classes import UNKNOWN, ObjectClasses, open_classes
from voxel_ext.data.object_sources import MEMORY_LIMIT_GIB, ObjectVolumes, Source, open_objects
from voxel_ext.data.object_table import object_statistics
from voxel_ext.data.scheduling import block_scheduler
from voxel_ext.errors import InvalidInputError, check_counts, require
from voxel_ext.files import locked_folder
from voxel_ext.morphology.feature_names import CROP_GROUPS, name_features
from voxel_ext.morphology.object_columns import neighbor_columns, objects_in_block
from voxel_ext.morphology.object_features import check_crop_memory
from voxel_ext.morphology.spatial_density import SpatialGrid

if TYPE_CHECKING:
    import pandas

logger = logging.getLogger(__name__)

MAX_DISTANCE_OBJECTS = 20000


@dataclass(frozen=True)
class MeasurementSettings:
    """How objects are measured, see :func:`measure_volume` for the fields.

    Raises:
        InvalidInputError: a field is out of range.
    """

    bounds: tuple[int, int | None]
    exclude_border: bool
    neighbors: int
    radius_nm: float
    density_blocks: int

    def __post_init__(self) -> None:
        check_counts(
            {"neighbors": 1, "density_blocks": 1}, neighbors=self.neighbors, density_blocks=self.density_blocks
        )
        _check_positive("radius_nm", self.radius_nm)


@dataclass(frozen=True)
class _Work:
    """Where objects are measured."""

    scheduler: str | None
    num_workers: int
    memory_limit_gib: float
    max_distance_objects: int
    overwrite: bool
    progress: bool

    def __post_init__(self) -> None:
        counts = {"num_workers": self.num_workers, "max_distance_objects": self.max_distance_objects}
        check_counts({}, **counts)
        _check_positive("memory_limit_gib", self.memory_limit_gib)


def _check_positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < math.inf:
        raise InvalidInputError(f"{name}={value!r}; expected a positive number")


def measure_volume(
    labels: Source,
    image: Source | None,
    output_dir: str | os.PathLike[str],
    features: str | Sequence[str] = "all",
    *,
    voxel_size: Sequence[float] | None = None,
    bounds: Sequence[int | None] = (None, None),
    exclude_border: bool = False,
    neighbors: int = 5,
    radius_nm: float = 2000.0,
    density_blocks: int = 8,
    classes: Source | Mapping[int, Any] | None = None,
    memory_limit_gib: float = MEMORY_LIMIT_GIB,
    scheduler: str | None = None,
    num_workers: int = 0,
    overwrite: bool = False,
    progress: bool = True,
    distance_matrix: bool = False,
    max_distance_objects: int = MAX_DISTANCE_OBJECTS,
) -> pandas.DataFrame:
    """Measure all objects of a label volume block by block and write tables of features, ``object_features`` of files.

    Statistics of all objects come from one pass over the blocks of the volume, objects that lie in many blocks are put
    together by id; meshes, skeletons and depths from each object's bounding box, which is read on its own. In
    ``<output_dir>/features`` are then:

    - ``objects.parquet``: a row per object, ascending by ``id``, with the bounding box (``lower_z`` ... ``upper_x``),
      ``centroid_z/y/x`` in voxels and ``centroid_z_nm`` ..., ``voxels``, ``volume_um3``, ``touches_border``, and
      ``class`` where ``classes`` are given;
    - for each name that was asked for, ``<name>.parquet`` and ``<name>.h5`` with ``id`` and the columns of its group;
    - ``distance_matrix.h5`` if asked for: ``id`` (N,) and ``values`` (N, N) float32, distances of centroids in nm;
    - ``measurement.json``: the settings and fingerprints of the volumes that the tables were measured of.

    Tables that are there of the same volumes and settings are kept, and further names added. A measurement that was
    interrupted is continued by the same call: what is finished lies in ``.objects.parts`` beside the tables until all
    is complete.

    Args:
        labels: integers from 0 (background) to 2**63 - 1, one id per object; see ``open_volume`` for the formats.
        image: intensities of the same shape; None for none.
        output_dir: the folder of ``features``.
        features: ``"all"``, or names of groups or those of EManalysis, see ``name_features``.
        voxel_size: (z, y, x) in nm; None for that of the files.
        bounds: least and greatest number of voxels of the objects to take, both included; None for no bound.
        exclude_border: leave out objects that touch the border of the volume; they still count as neighbors.
        neighbors: how many nearest objects ``mean_neighbor_nm`` is of.
        radius_nm: of the ball in which neighbors are counted.
        density_blocks: n of the n x n x n blocks of ``density``, less where the shortest axis has fewer voxels.
        classes: of the objects, see ``open_classes``; None if unknown.
        memory_limit_gib: most memory that one object may take in each worker, estimated from its bounding box.
        scheduler: see ``block_scheduler``; workers elsewhere must have the same files.
        num_workers: processes on this machine; 0 for this one. They are spawned, so a script needs
            ``if __name__ == "__main__":``.
        overwrite: replace tables, or an interrupted measurement, of other settings.
        progress: show bars.
        distance_matrix: also write the distances between all objects.
        max_distance_objects: most objects for that; 20000 take 1.5 GiB of disk.

    Returns:
        ``id`` and the columns of all names asked for, as ``object_features`` returns them; rounding errors of centroids
        and moments depend on the blocks, nothing on the number of workers.

    Raises:
        MissingDataError: a file does not exist, or a slice is missing in a folder.
        InvalidInputError: labels that are not integers; volumes of different shape; no voxel size; a name that is not
            known, or of a learned feature; no object within the bounds; an object that needs more memory than allowed
            (names it); tables or an interrupted measurement of other settings; an argument that is out of range.
        MissingDependencyError: pandas, pyarrow or edt is not installed.
        VoxelExtError: workers were lost. What was finished is kept.
        OSError: a file cannot be written. What was finished is kept.
    """
    for library in ("pandas", "pyarrow"):
        require(library, extra="em")  # before the work
    names = name_features(features, image is not None)
    settings = MeasurementSettings(check_bounds(bounds), exclude_border, neighbors, radius_nm, density_blocks)
    work = _Work(scheduler, num_workers, memory_limit_gib, max_distance_objects, overwrite, progress)
    volumes = open_objects(labels, image, voxel_size)
    known = open_classes(classes, volumes.labels)
    record = {**asdict(settings), **volumes.describe(), "classes": None if known is None else known.describe()}
    wanted = {**names, DISTANCE_MATRIX: DISTANCE_MATRIX} if distance_matrix else names
    folder = MeasurementFolder(Path(output_dir).absolute() / "features")
    with locked_folder(folder.path, ".objects.lock"):
        missing = {name: wanted[name] for name in folder.missing(wanted, record, overwrite)}
        if missing:
            table = _measure(volumes, known, settings, record, missing, folder.parts, work)
            folder.write(table, missing, record)
            shutil.rmtree(folder.parts, ignore_errors=True)
        table = folder.read(list(names))
    logger.info("%s has the features %s of %d objects", folder.path, ", ".join(names), len(table))
    return table


def _measure(
    volumes: ObjectVolumes,
    classes: ObjectClasses | None,
    settings: MeasurementSettings,
    record: dict[str, Any],
    names: Mapping[str, str],
    parts: Path,
    work: _Work,
) -> pandas.DataFrame:
    """Measure what the tables of some names need: a row per object."""
    groups = tuple(dict.fromkeys(names.values()))
    on_crops = tuple(group for group in groups if group in CROP_GROUPS)

    def scan() -> pandas.DataFrame:
        table = _scan(volumes, settings, groups, work)
        if DISTANCE_MATRIX in groups:
            check_distance_objects(len(table), work.max_distance_objects)
        if on_crops:
            extents = _boxes(table, "upper") - _boxes(table, "lower")
            ids = table["id"].to_numpy()
            check_crop_memory(ids, extents, volumes.voxel_size, work.memory_limit_gib, "memory_limit_gib")
        return table

    record = {**record, "features": sorted(groups)}
    table = open_parts(parts, record, scan, work.overwrite)
    if on_crops or (classes is not None and classes.volume is not None):
        measured = measure_batches(
            parts,
            record,
            table,
            ObjectVolumes(volumes.labels, None, volumes.voxel_size),
            classes,
            CropMeasurer(on_crops, volumes.voxel_size),
            block_scheduler(work.scheduler, work.num_workers),
            overwrite=work.overwrite,
            progress=work.progress,
        )
        table = table.assign(**{name: measured[name] for name in measured})
    elif classes is not None:
        table = table.assign(**{"class": [classes.table.get(one, UNKNOWN) for one in table["id"].tolist()]})
    if classes is not None and classes.names is not None:
        table["class"] = [None if number == UNKNOWN else classes.names[number] for number in table["class"]]
    return table


def _scan(
    volumes: ObjectVolumes, settings: MeasurementSettings, groups: Sequence[str], work: _Work
) -> pandas.DataFrame:
    """Measure all that comes from one pass over the volume; the objects that are kept."""
    shape = volumes.labels.spatial_shape
    grid = SpatialGrid(shape, min(settings.density_blocks, *shape)) if "density" in groups else None
    table = object_statistics(
        volumes.labels,
        volumes.image if "intensity" in groups else None,
        volumes.voxel_size,
        bounds=settings.bounds,
        euler="shape" in groups,
        density_blocks=None if grid is None else grid.blocks,
        scheduler=work.scheduler,
        num_workers=work.num_workers,
        progress=work.progress,
    )
    if "distance" in groups:
        table = table.assign(**neighbor_columns(table, settings.neighbors, settings.radius_nm))
    if grid is not None:
        table["block_objects"] = objects_in_block(table, grid)[1]  # of those within the bounds
    return keep_objects(table, *settings.bounds, settings.exclude_border, volumes.labels.address)


def _boxes(table: pandas.DataFrame, corner: str) -> Any:
    return table[[f"{corner}_{axis}" for axis in "zyx"]].to_numpy()
