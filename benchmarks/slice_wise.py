"""Measuring and cutting out objects slice by slice, as EManalysis does: own code, from the formulas it uses.

There is no voxel size: lengths are in voxels. Each feature takes a pass of its own over the slices. Where EManalysis
reads images of slices, arrays are in memory here, which saves this side the decoding.
"""

from __future__ import annotations

import functools
import itertools
import math
import multiprocessing
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import find_contours, regionprops

Slices = list[tuple[int, Any]]  # of one object: z, and what was measured there
DENSITY_BLOCKS = 30
CROP = 64
LEVEL = 0.8  # of contours, in an image of the object's id

PER_SLICE: dict[str, tuple[str, ...]] = {
    "sizef": ("area",),
    "distf": ("area", "centroid"),
    "circf": ("area", "perimeter"),
    "slenf": ("centroid",),
    "surface_to_volumef": ("area", "perimeter"),
}
"""Properties of scikit-image that a feature needs of each slice."""


def sizef(slices: Slices) -> float:
    """Voxels."""
    return float(sum(area for _, (area,) in slices))


def distf(slices: Slices) -> tuple[float, float, float]:
    """Whole-numbered center (y, x, z); z is divided by the number of slices once too often."""
    areas = np.array([area for _, (area, _) in slices], float)
    y, x = np.mean([np.trunc(center) for _, (_, center) in slices], axis=0)
    z = (areas * [z for z, _ in slices]).sum() / areas.sum() / len(slices)
    return math.floor(y), math.floor(x), math.floor(z)


def circf(slices: Slices) -> float:
    """Mean of 4 pi a / p², 0 where p is 0."""
    return float(np.mean([4 * math.pi * a / p**2 if p else 0.0 for _, (a, p) in slices]))


def slenf(slices: Slices) -> float:
    """Length of the path through the whole-numbered centroids of the slices."""
    path = np.array([(z, *np.trunc(center)) for z, (center,) in slices])
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


def surface_to_volumef(slices: Slices) -> float:
    """Sum of perimeters over sum of areas."""
    return float(sum(p for _, (_, p) in slices) / sum(a for _, (a, _) in slices))


FORMULAS: dict[str, Callable[[Slices], Any]] = {
    function.__name__: function for function in (sizef, distf, circf, slenf, surface_to_volumef)
}
NAMES = (*FORMULAS, "spatial_densityf")


def slice_wise_features(labels: NDArray, names: Iterable[str] = NAMES, workers: int = 0) -> dict[str, Any]:
    """Measure all objects of a label volume.

    Args:
        labels: (D, H, W) ids.
        names: of the features.
        workers: processes; 0 for this one.

    Returns:
        by name a dictionary from id to the value, but for ``distf`` the distances (N, N) between all, and for
        ``spatial_densityf`` the sums of ids and of voxels of the blocks of a grid.
    """
    found: dict[str, Any] = {}
    for name in names:
        if name == "spatial_densityf":
            found[name] = spatial_densityf(labels)
            continue
        objects = _all_slices(labels, PER_SLICE[name], workers)
        found[name] = {number: FORMULAS[name](slices) for number, slices in objects.items()}
    if "distf" in found:
        centers = np.array(list(found["distf"].values()), float)
        found["distf"] = np.linalg.norm(centers[:, None] - centers[None], axis=-1)
    return found


def _all_slices(labels: NDArray, properties: Sequence[str], workers: int) -> dict[int, Slices]:
    """By id, what is measured in each slice, in the order of z."""
    measure = functools.partial(_measure_slice, properties=properties)
    if workers:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
            results = list(pool.map(measure, labels, chunksize=max(1, len(labels) // (4 * workers))))
    else:
        results = [measure(part) for part in labels]
    objects: dict[int, Slices] = defaultdict(list)
    for z, result in enumerate(results):
        for number, values in result.items():
            objects[number].append((z, values))
    return objects


def _measure_slice(labels: NDArray, properties: Sequence[str]) -> dict[int, tuple]:
    return {region.label: tuple(getattr(region, name) for name in properties) for region in regionprops(labels)}


def spatial_densityf(labels: NDArray, blocks: int = DENSITY_BLOCKS) -> tuple[NDArray, NDArray]:
    """Sum of ids, and of voxels, of the objects in each block of a grid."""
    edges = [np.linspace(0, size, blocks + 1).astype(int) for size in labels.shape]
    volume, count = np.zeros((blocks,) * 3), np.zeros((blocks,) * 3)
    for index in itertools.product(range(blocks), repeat=3):
        part = labels[tuple(slice(edge[i], edge[i + 1]) for edge, i in zip(edges, index, strict=True))]
        ids, voxels = np.unique(part, return_counts=True)
        volume[index], count[index] = ids[1:].sum(), voxels[1:].sum()
    return volume, count


def crops(labels: NDArray, image: NDArray, numbers: Iterable[int] | None = None) -> dict[int, NDArray]:
    """Cut out objects, the image inside and 0 outside, each from whole slices.

    Args:
        labels: (D, H, W) ids.
        image: (D, H, W).
        numbers: ids of the objects; None for all.
    """
    places = _all_slices(labels, ("area",), 0)
    found = {}
    for number in places if numbers is None else numbers:
        planes = [z for z, _ in places[number]]
        mask = np.stack([labels[z] == number for z in planes])
        inside = np.stack([np.where(labels[z] == number, image[z], 0) for z in planes])
        box = regionprops(mask.astype(np.uint8))[0].bbox
        found[number] = inside[tuple(slice(a, b + 1) for a, b in zip(box[:3], box[3:], strict=True))]
    return found


def contours(labels: NDArray) -> dict[int, NDArray]:
    """Points (P, 3), (y, x, z), of each object: of each slice the first contour by marching squares.

    The image that the contour is found in has the id inside, so that where it lies depends on the id.
    """
    found: dict[int, list[NDArray]] = defaultdict(list)
    for z, part in enumerate(labels):
        for number in np.unique(part[part > 0]):
            lines = find_contours(np.where(part == number, part, 0).astype(float), LEVEL)
            if lines:  # there is none where the object fills the slice
                found[int(number)].append(np.column_stack([lines[0], np.full(len(lines[0]), z)]))
    return {number: np.concatenate(parts) for number, parts in found.items()}
