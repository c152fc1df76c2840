"""Features, crops and point clouds of all objects of a volume beside EManalysis' slice-wise way, and their errors."""

from __future__ import annotations

import argparse
import gc
import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks import slice_wise
from benchmarks.harness import Row
from benchmarks.object_statistics import draw_ellipsoids
from voxel_ext.morphology import object_features, sample_point_cloud
from voxel_ext.morphology.statistics import measure_objects

SIZE, OBJECTS, POINTS, WORKERS = 256, 500, 4096, 2
COUNTERPARTS = ("size", "distance", "sphericity", "skeleton", "surface_to_volume", "density")
SAME_VALUES = ("size", "slices")
AFFORDABLE = 50  # objects that the slice-wise way cuts out; it takes as long for each


def run(arguments: argparse.Namespace) -> list[Row]:
    labels = draw_ellipsoids(SIZE, OBJECTS)
    image = np.random.default_rng(1).random(labels.shape, dtype=np.float32)
    return [
        *_feature_rows(labels, image, arguments.repeats),
        *_cutting_rows(labels, image, arguments.repeats),
        *errors(),
    ]


def compare(
    what: str,
    ours: Callable[[], object],
    other: Callable[[], object] | None = None,
    repeats: int = 5,
    goal: str = "",
) -> list[Row]:
    """Time in turn, each after a call that is not counted, in seconds and in CPU seconds with those of processes."""
    sides = [side for side in (ours, other) if side is not None]
    for side in sides:
        side()
    runs = np.array([[_clocks(side) for side in sides] for _ in range(repeats)])
    rows = []
    for clock, times in zip(("", ", CPU time"), np.moveaxis(runs, -1, 0), strict=True):
        medians = [statistics.median(column) for column in times.T]
        ratio = statistics.median(times[:, 0] / times[:, 1]) if other else None
        rows.append(Row("object_features", what + clock, medians[0], medians[1] if other else None, ratio, goal=goal))
        goal = ""
    return rows


def _clocks(function: Callable[[], object]) -> tuple[float, float]:
    """Seconds and CPU seconds of one call, with those of the processes that it started and that ended."""
    gc.collect()
    start, before = time.perf_counter(), os.times()
    function()
    after = os.times()
    return time.perf_counter() - start, sum(after[:4]) - sum(before[:4])


def _feature_rows(labels: NDArray, image: NDArray, repeats: int) -> list[Row]:
    def ours(features: str | tuple[str, ...], workers: int) -> Callable[[], object]:
        return lambda: object_features(labels, image, features=features, num_workers=workers, progress=False)

    def theirs(names: tuple[str, ...], workers: int) -> Callable[[], object]:
        return lambda: slice_wise.slice_wise_features(labels, names, workers)

    what = f"{len(np.unique(labels)) - 1} objects in {SIZE}³"
    return [
        *compare(
            f"{what}: all classical features, {WORKERS} processes",
            ours("all", WORKERS),
            repeats=repeats,
            goal="< 60 s",
        ),
        *compare(
            f"{what}: the counterparts of EManalysis' features, {WORKERS} processes / slice-wise, {WORKERS} processes",
            ours(COUNTERPARTS, WORKERS),
            theirs(slice_wise.NAMES, WORKERS),
            repeats,
        ),
        *compare(
            f"{what}: the same values (size, circularity, path, perimeter to area), one process / slice-wise",
            ours(SAME_VALUES, 0),
            theirs(("sizef", "circf", "slenf", "surface_to_volumef"), 0),
            repeats,
        ),
    ]


def _cutting_rows(labels: NDArray, image: NDArray, repeats: int) -> list[Row]:
    numbers = np.unique(labels[labels > 0])
    some = numbers[:: max(1, len(numbers) // AFFORDABLE)][:AFFORDABLE].tolist()
    return [
        *compare(
            f"finding {len(numbers)} objects in {SIZE}³ and cutting out {len(some)} / from whole slices",
            lambda: _cut(labels, image, some),
            lambda: slice_wise.crops(labels, image, some),
            repeats,
        ),
        *compare(
            f"{POINTS} points on the surface of each of {len(numbers)} objects in {SIZE}³ / contours of slices",
            lambda: [sample_point_cloud(mask, POINTS) for mask, _ in _cut(labels, image, numbers)],
            lambda: slice_wise.contours(labels),
            repeats,
        ),
    ]


def _cut(labels: NDArray, image: NDArray, numbers: ArrayLike) -> list[tuple[NDArray, NDArray]]:
    """Mask and masked image in the bounding box of each of these objects, which are found in one pass."""
    found = measure_objects(labels, euler=False)
    kept = found.select(np.isin(found.id, numbers))
    cut = []
    for number, lower, upper in zip(kept.id, kept.geometry.lower, kept.geometry.upper, strict=True):
        box = tuple(slice(int(a), int(b)) for a, b in zip(lower, upper, strict=True))
        mask = labels[box] == number
        cut.append((mask, np.where(mask, image[box], 0)))
    return cut


@dataclass(frozen=True)
class Body:
    """A capsule of known measures, in voxels: a ball where the length is 0."""

    name: str
    radius: float
    length: float = 0.0
    """Between the centers of the round ends."""
    direction: tuple[float, float, float] = (1.0, 0.0, 0.0)

    @property
    def volume(self) -> float:
        return math.pi * self.radius**2 * (self.length + 4 / 3 * self.radius)

    @property
    def area(self) -> float:
        return 2 * math.pi * self.radius * (self.length + 2 * self.radius)

    def truth(self) -> dict[str, float]:
        """Roundness, length from end to end, and surface to volume."""
        roundness = math.pi ** (1 / 3) * (6 * self.volume) ** (2 / 3) / self.area
        return dict(zip(MEASURES, (roundness, self.length + 2 * self.radius, self.area / self.volume), strict=True))

    def draw(self) -> NDArray[np.int32]:
        """Voxels with their centers inside are 1, in a cube with room to spare."""
        half = math.ceil(self.length / 2 + self.radius) + 2
        points = np.stack(np.meshgrid(*[np.arange(-half, half + 1)] * 3, indexing="ij"), -1) + 0.37
        along = np.array(self.direction) / np.linalg.norm(self.direction)
        position = np.clip(points @ along, -self.length / 2, self.length / 2)
        return (np.linalg.norm(points - position[..., None] * along, axis=-1) <= self.radius).astype(np.int32)


MEASURES = ("roundness", "length", "surface to volume")
BODIES = (
    Body("ball of radius 20", 20),
    Body("rod of radius 6, length 72, along z", 6, 60, (1, 0, 0)),
    Body("rod of radius 6, length 72, along x", 6, 60, (0, 0, 1)),
    Body("rod of radius 6, length 72, diagonal", 6, 60, (1, 1, 1)),
)


def errors() -> list[Row]:
    """Relative errors of ours and of the slice-wise values, in percent."""
    rows = []
    for body in BODIES:
        labels, truth = body.draw(), body.truth()
        ours, theirs = three_dimensional(labels), slice_wise_values(labels)
        for name in MEASURES:
            error, other = (100 * (found[name] / truth[name] - 1) for found in (ours, theirs))
            rows.append(Row("object_features", f"{body.name}: error of {name} / slice-wise", error, other, unit="%"))
    return rows


def three_dimensional(labels: NDArray) -> dict[str, float]:
    """Our values of a single object; a voxel has an edge of 1 nm."""
    groups = ("sphericity", "skeleton", "surface_to_volume")
    row = object_features(labels, features=groups, progress=False).iloc[0]
    values = (row["sphericity"], row["skeleton_longest_path_nm"], row["surface_to_volume_per_um"] / 1000)
    return dict(zip(MEASURES, map(float, values), strict=True))


def slice_wise_values(labels: NDArray) -> dict[str, float]:
    """The slice-wise values of a single object."""
    found = slice_wise.slice_wise_features(labels, ("circf", "slenf", "surface_to_volumef"))
    return dict(zip(MEASURES, (values[1] for values in found.values()), strict=True))
