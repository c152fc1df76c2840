"""From labels to a file with a point cloud of the surface of every object."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.object_batches import ObjectReport, ObjectTask, Rows, prepare_task
from voxel_ext.data.object_classes import open_classes
from voxel_ext.data.object_preparation import describe_selection, select_objects
from voxel_ext.data.object_sources import MEMORY_LIMIT_GIB, PlacedObject, Source, open_objects
from voxel_ext.errors import check_counts, check_option
from voxel_ext.morphology.point_clouds import METHODS, normalize_points, sample_point_cloud
from voxel_ext.morphology.pose import principal_frame

POINTS = 4096


@dataclass(frozen=True)
class PointCloudMaker:
    """Makes the point cloud of an object, see :func:`prepare_point_clouds` for the fields.

    Raises:
        InvalidInputError: a field is unknown or out of range.
    """

    points: int
    method: str
    seed: int
    voxel_size: tuple[float, float, float]
    align: bool = False

    def __post_init__(self) -> None:
        check_option("method", self.method, METHODS)
        check_counts({"points": 2}, points=self.points, seed=self.seed)

    def __call__(self, placed: PlacedObject, mask: NDArray[np.bool_], image: NDArray | None) -> Rows:
        """Return ``points``, ``scale``, ``center`` and, if aligned, ``rotation`` of an object."""
        rng = np.random.default_rng((self.seed, placed.id))
        drawn = sample_point_cloud(mask, self.points, self.voxel_size, self.method, rng)
        points, center, scale = normalize_points(drawn)
        center = center + np.multiply(placed.lower, self.voxel_size)
        rows = {"scale": np.array([scale]), "center": center[None]}
        if self.align:
            frame = principal_frame(points)
            points = points @ frame.T
            rows["rotation"] = frame[None]
        return {"points": points[None].astype(np.float32), **rows}


def prepare_point_clouds(
    labels: Source,
    output_file: str | os.PathLike[str],
    points: int = POINTS,
    method: str = "uniform",
    *,
    bounds: Sequence[int | None] = (None, None),
    exclude_border: bool = False,
    voxel_size: Sequence[float] | None = None,
    classes: Source | Mapping[int, Any] | None = None,
    align: bool = False,
    memory_limit_gib: float = MEMORY_LIMIT_GIB,
    seed: int = 0,
    num_workers: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> ObjectReport:
    """Write points on the surface of every object of a label volume into one HDF5 file.

    The file has, for N objects, ascending by id:

    - ``points`` (N, P, 3) float32, (z, y, x) around their mean, the farthest at distance 1, see ``normalize_points``;
    - ``id`` int64;
    - ``scale`` float64: what was distance 1, in nm;
    - ``center`` (N, 3) float64: their mean, in nm from the center of the volume's first voxel;
    - ``rotation`` (N, 3, 3) float64, only with ``align``: the frames R; ``points * scale @ R + center`` are the points
      in the volume;
    - ``class`` int64, -1 where unknown, if ``classes`` are given;
    - the attributes ``class_names`` (null where classes are numbers) and ``settings``, as JSON.

    Args:
        labels: see ``prepare_objects``, as all that is not here.
        output_file: the file to write, ``….h5``.
        points: number of points P of each object; 4096 as in EManalysis. For a random subset of them in every epoch see
            ``PointCloudDataset``.
        method: how they are drawn, see ``sample_point_cloud``.
        bounds: likewise.
        exclude_border: likewise.
        voxel_size: likewise.
        classes: likewise.
        align: turn every object into the frame of its principal axes, see ``principal_frame``, so that the points tell
            its shape, not its pose.
        memory_limit_gib: likewise.
        seed: of the random points.
        num_workers: likewise.
        overwrite: likewise.
        progress: likewise.

    Raises:
        MissingDataError: as ``prepare_objects``.
        InvalidInputError: as ``prepare_objects``.
        MissingDependencyError: pandas is not installed.
        VoxelExtError: a worker process ended unexpectedly.
        OSError: the file cannot be written. What was finished is kept.
    """
    volumes = open_objects(labels, None, voxel_size)
    known = open_classes(classes, volumes.labels)
    maker = PointCloudMaker(points, method, seed, volumes.voxel_size, align)
    settings = {"kind": "points", **asdict(maker), **describe_selection(bounds, exclude_border)}
    attributes = {"class_names": None if known is None else known.names}
    task = ObjectTask(Path(output_file), volumes, known, maker, settings, attributes)

    def objects() -> list[PlacedObject]:
        return select_objects(volumes, bounds, exclude_border, memory_limit_gib, num_workers, progress)

    check_counts({}, num_workers=num_workers)
    return prepare_task(task, objects, num_workers, overwrite, progress)
