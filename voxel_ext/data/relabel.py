"""Replacing the ids of a label volume by the numbers of their clusters, block by block."""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from voxel_ext.data.label_scan import Box, scan_blocks
from voxel_ext.data.lazy_volume import PARTIAL_SUFFIX, LazyVolume, open_volume
from voxel_ext.data.object_sources import open_single
from voxel_ext.data.relabel_formats import check_replaceable, choose_format
from voxel_ext.data.scheduling import BlockScheduler, block_scheduler
from voxel_ext.data.zarr_io import LEVEL, create_image
from voxel_ext.errors import InvalidInputError
from voxel_ext.files import atomic_path
from voxel_ext.morphology.clustering.feature_table import check_ids
from voxel_ext.morphology.clustering.label_values import cluster_values, map_labels

CHUNK = 64
"""Edge of the chunks of a result whose input has none."""

_IDS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Relabeled:
    """What became of a label volume.

    Attributes:
        path: what was written.
        voxels: by value, how many voxels have it; background included.
        unknown: ids of the labels that are not among the given ones, which became background, ascending.
        absent: given ids that no voxel has, ascending.
    """

    path: Path
    voxels: dict[int, int]
    unknown: NDArray[np.int64]
    absent: NDArray[np.int64]


@dataclass(frozen=True)
class _Job:
    volume: LazyVolume
    store: str
    ids: NDArray[np.int64]
    values: NDArray[Any]


def relabel_volume(
    labels: Any,
    ids: ArrayLike,
    clusters: ArrayLike,
    path: str | os.PathLike[str],
    *,
    noise: str = "background",
    scheduler: BlockScheduler | None = None,
    slice_suffix: str = ".png",
    overwrite: bool = False,
    progress: bool = True,
) -> Relabeled:
    """Write a label volume whose values are the objects' clusters.

    The value of cluster k is k + 1, so that 0 stays the background, which also takes objects without a cluster. The
    type of the values is uint8, or where there are more than 254 clusters uint16 or uint32. Memory: a block of about 2
    million voxels (or a chunk) for each worker; for all but zarr also up to 512 MiB, and beside the result a compressed
    copy of it on disk while it is written.

    Args:
        labels: what :func:`~voxel_ext.data.open_volume` opens, or has opened: (D, H, W) integer ids.
        ids: (N,) of the objects, as in :class:`~voxel_ext.morphology.clustering.ClusterResult`.
        clusters: (N,) cluster of each from 0 on, -1 for noise.
        path: what to write, with the voxel size of the input:

            - ``*.zarr``: an OME-Zarr 0.5 image of the input's chunks (without a unit where the input tells none);
            - ``*.h5``, ``*.hdf5``, ``*.hdf``: the dataset ``labels`` of the input's chunks;
            - ``*.tif``, ``*.tiff``: one stack, an ImageJ file, or where that cannot hold it a BigTIFF (OME);
            - ``*.nii``, ``*.nii.gz``: an image (x, y, z);
            - a name without a suffix: a folder with a slice per z, which do not tell the voxel size.
        noise: "background", or "own" for the value after that of the last cluster.
        scheduler: where blocks are done; None for this process.
        slice_suffix: of the files in a folder of slices: ".png" (values up to 65535), ".tif" or ".tiff".
        overwrite: replace what exists; a folder without the suffix ``.zarr`` only if nothing but slices is in it.
        progress: show a bar.

    Returns:
        counts of voxels, and ids that are in only one of the two.

    Raises:
        MissingDataError: the labels do not exist.
        InvalidInputError: the labels are not integers of one channel; wrong ids or clusters; another format; or what is
            to be written exists, or is, holds or is inside of the labels.
        OSError: it cannot be written.
    """
    is_open = isinstance(labels, LazyVolume)
    volume = open_single(labels, "labels") if is_open else open_volume(labels, channels=1, name="labels")
    if volume.dtype.kind not in "iu":
        raise InvalidInputError(f"{volume.address} has data type {volume.dtype}; expected integer ids")
    known, found = check_ids(ids, "ids"), np.asarray(clusters)
    if found.shape != known.shape:
        raise InvalidInputError(f"{found.shape} clusters for {len(known)} ids; expected one for each")
    values = cluster_values(found, noise)
    target = Path(path)
    form = choose_format(target, values.dtype, slice_suffix)
    _check_target(target, volume, overwrite, form.is_folder)
    job = partial(_write_blocks, volume=volume, ids=known, values=values, scheduler=scheduler, progress=progress)
    with atomic_path(target, directory=form.is_folder) as temporary:
        if form.write is None:
            counts, present = job(temporary)
        else:
            # formats without chunks are written in their order, blocks come in any
            with tempfile.TemporaryDirectory(prefix=".blocks.", suffix=PARTIAL_SUFFIX, dir=temporary.parent) as folder:
                blocks = Path(folder) / "labels.zarr"
                counts, present = job(blocks)
                form.write(_open_level(blocks, "r"), temporary, volume.voxel_size, progress)
    return Relabeled(
        target,
        {value: int(count) for value, count in enumerate(counts) if count},
        np.setdiff1d(present, known, assume_unique=True),
        np.setdiff1d(known, present, assume_unique=True),
    )


def _check_target(target: Path, volume: LazyVolume, overwrite: bool, is_folder: bool) -> None:
    place, source = target.resolve(), Path(os.path.abspath(volume.address)).resolve()
    if place == source or place in source.parents or source in place.parents:
        raise InvalidInputError(f"{target} is where the labels {volume.address} are; choose another store")
    if target.exists():
        check_replaceable(target, is_folder)
        if not overwrite:
            raise InvalidInputError(f"{target} exists; choose another store, remove it, or give overwrite=True")


def _write_blocks(
    store: Path,
    volume: LazyVolume,
    ids: NDArray[np.int64],
    values: NDArray[Any],
    scheduler: BlockScheduler | None,
    progress: bool,
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Write the zarr store; return the counts of the values and the ids of all labels."""
    chunks = volume.chunks or (CHUNK,) * 3
    stored = create_image(store, volume.spatial_shape, values.dtype, chunks, volume.voxel_size)
    blocks = scan_blocks(volume.spatial_shape, stored.chunks)
    results = (scheduler or block_scheduler()).run(_do_block, blocks, _Job(volume, str(store), ids, values))
    with contextlib.closing(results):
        bar = tqdm(results, "relabeling", len(blocks), unit="block", disable=not progress, leave=False)
        return _collect(bar, int(values.max(initial=0)))


def _open_level(store: Path, mode: Literal["r", "r+"]) -> Any:
    import zarr

    return zarr.open_group(str(store), mode=mode)[LEVEL]


def _do_block(box: Box, job: _Job) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Write a block; return the counts of its values and the ids in it."""
    labels = job.volume.read(box)[0]
    mapped = map_labels(labels, job.ids, job.values)
    if mapped.any():  # chunks of zeros need not be written
        _open_level(Path(job.store), "r+")[box] = mapped
    ids = np.unique(labels)
    return np.bincount(mapped.ravel()), ids[ids != 0]


def _collect(results: Any, top: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Sum of the counts and union of the ids of all blocks."""
    counts, parts, rows = np.zeros(top + 1, dtype=np.int64), [np.empty(0, dtype=np.int64)], 0
    for _, (more, found) in results:
        counts[: len(more)] += more
        if found.size and int(found.max()) >= 2**63:
            raise InvalidInputError(f"the labels have the id {int(found.max())}; expected ids up to 2^63 - 1")
        parts.append(found.astype(np.int64))
        rows += len(found)
        if rows > max(_IDS_AT_ONCE, 2 * len(parts[0])):  # rarely, so that the work stays proportional to the ids found
            parts = [np.unique(np.concatenate(parts))]
            rows = len(parts[0])
    return counts, np.unique(np.concatenate(parts))
