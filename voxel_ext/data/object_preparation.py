"""From an image and labels to a file with every object as a cube of one size."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.object_batches import ObjectReport, ObjectTask, Rows, prepare_task
from voxel_ext.data.object_bounds import check_bounds
from voxel_ext.data.object_classes import open_classes
from voxel_ext.data.object_crops import CONTENTS, SIZE, cut_object, cut_samples, is_large
from voxel_ext.data.object_sources import (
    MEMORY_LIMIT_GIB,
    ObjectVolumes,
    PlacedObject,
    Source,
    check_object_memory,
    list_objects,
    open_objects,
)
from voxel_ext.errors import InvalidInputError, check_counts, check_option


@dataclass(frozen=True)
class CropMaker:
    """Makes the cubes of an object, see :func:`prepare_objects` for the fields.

    Raises:
        InvalidInputError: a field is unknown or out of range.
    """

    size: int
    contents: str
    large_object_samples: int
    intensity_range: tuple[float, float] | None
    seed: int
    voxel_size: tuple[float, float, float]
    align: bool = False

    def __post_init__(self) -> None:
        check_option("contents", self.contents, CONTENTS)
        numbers = {"size": self.size, "large_object_samples": self.large_object_samples, "seed": self.seed}
        check_counts({"size": 1}, **numbers)
        if not isinstance(self.align, bool):
            raise InvalidInputError(f"align={self.align!r}; expected True or False")
        given = self.intensity_range
        if given is not None and not (
            len(given) == 2 and all(isinstance(v, Real) and math.isfinite(v) for v in given) and given[0] < given[1]
        ):
            raise InvalidInputError(f"intensity_range={given!r}; expected two numbers (low, high) with low < high")

    def __call__(self, placed: PlacedObject, mask: NDArray[np.bool_], image: NDArray | None) -> Rows:
        """Return ``volumes``, ``chunk`` and ``scale`` of an object."""
        picture = None if image is None else self._normalize(image)
        names = ("size", "contents", "voxel_size", "align")
        options: dict[str, Any] = {name: getattr(self, name) for name in names}
        cube, scale = cut_object(mask, picture, **options)
        volumes, scales = cube[None], [scale]
        if self.large_object_samples and is_large(placed.shape, self.size, self.voxel_size):
            seed = (self.seed, placed.id)
            samples, fine = cut_samples(mask, picture, self.large_object_samples, seed, **options)
            volumes = np.concatenate([volumes, samples])
            scales += [fine] * len(samples)
        numbers = np.arange(len(volumes), dtype=np.int64)
        return {"volumes": volumes.astype(np.float16), "chunk": numbers, "scale": np.array(scales)}

    def _normalize(self, image: NDArray) -> NDArray[np.float32]:
        """Bring intensities to [0, 1]."""
        values = image.astype(np.float32)
        if self.intensity_range is not None:
            low, high = self.intensity_range
            values = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
        elif image.dtype.kind == "u":
            values /= np.float32(np.iinfo(image.dtype).max)
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):  # also where they are NaN
            raise InvalidInputError(
                f"the image has values from {low:g} to {high:g} around it; expected 0 to 1, or give the "
                "intensity_range (low, high) that is to become that"
            )
        return values


def prepare_objects(
    labels: Source,
    image: Source | None,
    output_file: str | os.PathLike[str],
    contents: str = "both",
    size: int = SIZE,
    *,
    align: bool = False,
    large_object_samples: int = 4,
    intensity_range: Sequence[float] | None = None,
    bounds: Sequence[int | None] = (None, None),
    exclude_border: bool = False,
    voxel_size: Sequence[float] | None = None,
    classes: Source | Mapping[int, Any] | None = None,
    memory_limit_gib: float = MEMORY_LIMIT_GIB,
    seed: int = 0,
    num_workers: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> ObjectReport:
    """Write every object of a label volume as a cube of one size, ``cut_object``, into one HDF5 file.

    The file has, for N cubes of C channels, ascending by id:

    - ``volumes`` (N, C, S, S, S) float16, from 0 to 1, each stored apart;
    - ``id`` int64;
    - ``chunk`` int64: 0 for the whole object scaled to fit; 1, 2, ... for parts of a large object at full resolution;
    - ``scale`` float64: the length of a cube's voxels in nm;
    - ``class`` int64, -1 where unknown, if ``classes`` are given;
    - the attributes ``channels``, ``class_names`` (null where classes are numbers) and ``settings``, as JSON.

    The labels are read once for the list of objects, then object by object. A run that was interrupted is continued by
    the same call: what is finished lies in ``.<name>.parts`` beside the file until all is complete.

    Args:
        labels: integers from 0 (background) to 2**63 - 1, one id per object; see ``open_volume`` for the formats.
        image: intensities of the same shape; None for ``contents="mask"``, for which it is not read.
        output_file: the file to write, ``….h5``.
        contents: "mask", "masked_image", or "both" with the two as channels in this order.
        size: voxels S along each edge of the cubes; 64 as in EManalysis.
        align: turn each object into the frame of its principal axes, see ``cut_object``.
        large_object_samples: number of parts of each object that does not fit into a cube at full resolution; 4 as in
            EManalysis.
        intensity_range: (low, high) that become 0 and 1, values beyond are clipped; None for the whole range of
            unsigned integers, and for others that are from 0 to 1.
        bounds: least and greatest number of voxels of the objects to take, both included; None for no bound.
        exclude_border: leave out objects that touch the border of the volume.
        voxel_size: (z, y, x) in nm; None for that of the files.
        classes: of the objects, see ``open_classes``; None if unknown.
        memory_limit_gib: for one object, in each worker.
        seed: of the random places of parts.
        num_workers: processes; 0 for this one. They are spawned, so a script needs
            ``if __name__ == "__main__":``.
        overwrite: replace a file, or an interrupted run, of other settings.
        progress: show bars.

    Raises:
        MissingDataError: a file does not exist, or a slice is missing in a folder.
        InvalidInputError: labels that are not integers; volumes of different shape; no object within the bounds; an
            object that needs more memory than allowed (names it); values that are not in the range; other settings
            than those of the file, or of an interrupted run; an argument that is out of range.
        MissingDependencyError: pandas is not installed.
        VoxelExtError: a worker process ended unexpectedly.
        OSError: the file cannot be written. What was finished is kept.
    """
    check_option("contents", contents, CONTENTS)
    if image is None and contents != "mask":
        raise InvalidInputError(f"contents={contents!r} needs an image; give one, or choose contents='mask'")
    volumes = open_objects(labels, None if contents == "mask" else image, voxel_size)
    known = open_classes(classes, volumes.labels)
    between = None if intensity_range is None or contents == "mask" else tuple(intensity_range)
    maker = CropMaker(size, contents, large_object_samples, between, seed, volumes.voxel_size, align)  # type: ignore[arg-type]
    settings = {"kind": "volumes", **asdict(maker), **describe_selection(bounds, exclude_border)}
    attributes = {"channels": CONTENTS[contents], "class_names": None if known is None else known.names}
    task = ObjectTask(Path(output_file), volumes, known, maker, settings, attributes)

    def objects() -> list[PlacedObject]:
        return select_objects(volumes, bounds, exclude_border, memory_limit_gib, num_workers, progress)

    check_counts({}, num_workers=num_workers)
    return prepare_task(task, objects, num_workers, overwrite, progress)


def describe_selection(bounds: Sequence[int | None], exclude_border: bool) -> dict[str, Any]:
    """Tell, for JSON, which objects are taken.

    Args:
        bounds: see :func:`prepare_objects`.
        exclude_border: likewise.

    Raises:
        InvalidInputError: invalid bounds.
    """
    return {"bounds": list(check_bounds(bounds)), "exclude_border": bool(exclude_border)}


def select_objects(
    volumes: ObjectVolumes,
    bounds: Sequence[int | None],
    exclude_border: bool,
    memory_limit_gib: float,
    num_workers: int,
    progress: bool,
) -> list[PlacedObject]:
    """List the objects to prepare.

    Args:
        volumes: where they are.
        bounds: see :func:`prepare_objects`, as the others.
        exclude_border: likewise.
        memory_limit_gib: likewise.
        num_workers: likewise.
        progress: likewise.

    Raises:
        InvalidInputError: no object within the bounds, one that needs too much memory, or a limit that is no positive
            number.
    """
    if isinstance(memory_limit_gib, bool) or not isinstance(memory_limit_gib, Real) or not memory_limit_gib > 0:
        raise InvalidInputError(f"memory_limit_gib={memory_limit_gib!r}; expected a positive number")
    objects = list_objects(volumes, bounds, exclude_border, num_workers, progress)
    without = ", or leave the objects out by the upper bound of bounds"
    check_object_memory(objects, volumes, float(memory_limit_gib), without)
    return objects
