"""Label volumes with their images, and the objects in them one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.lazy_volume import LazyVolume
from voxel_ext.data.object_table import Source, find_voxel_size, object_statistics, open_single
from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology.runs import check_label_type

GIB = 1 << 30

MEMORY_LIMIT_GIB = 4.0

_WORKING_BYTES = 16  # per voxel of a bounding box: the mask, and two copies as real numbers of it or of the image
_LISTED = 10


class PlacedObject(NamedTuple):
    """An object and its bounding box."""

    id: int
    lower: tuple[int, int, int]
    """First voxel (z, y, x)."""
    upper: tuple[int, int, int]
    """The one after the last voxel (z, y, x)."""

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """The bounding box as slices."""
        z, y, x = (slice(start, stop) for start, stop in zip(self.lower, self.upper, strict=True))
        return z, y, x

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the bounding box."""
        z, y, x = (stop - start for start, stop in zip(self.lower, self.upper, strict=True))
        return z, y, x


@dataclass(frozen=True, eq=False)
class ObjectVolumes:
    """A label volume, and the image of the same voxels; made by :func:`open_objects`.

    Attributes:
        labels: (D, H, W) ids, 0 for background.
        image: (D, H, W) intensities, or None.
        voxel_size: (z, y, x) in nm.
    """

    labels: LazyVolume
    image: LazyVolume | None
    voxel_size: tuple[float, float, float]

    def read(self, placed: PlacedObject) -> tuple[NDArray[np.bool_], NDArray | None]:
        """Read an object's mask and the image in its bounding box, (d, h, w) each; None without an image."""
        mask = self.labels.read(placed.box)[0] == self.labels.dtype.type(placed.id)
        return mask, None if self.image is None else self.image.read(placed.box)[0]

    def describe(self) -> dict[str, Any]:
        """Tell, for JSON, what changes whenever the objects do; files may be moved with their folder."""
        sources = {"labels": describe_volume(self.labels)}
        if self.image is not None:
            sources["image"] = describe_volume(self.image)
        return {"voxel_size": list(self.voxel_size), "sources": sources}


def describe_volume(volume: LazyVolume) -> dict[str, Any]:
    """Tell, for JSON, the name of a volume and what changes whenever its values do."""
    return {**volume.fingerprint(), "address": Path(volume.address).name}


def open_objects(labels: Source, image: Source | None, voxel_size: Sequence[float] | None) -> ObjectVolumes:
    """Open a label volume and the image of the same voxels.

    Args:
        labels: see ``object_statistics``, as ``voxel_size``.
        image: intensities, or None.
        voxel_size: likewise.

    Raises:
        MissingDataError: a file does not exist, or a slice is missing in a folder.
        InvalidInputError: labels that are not integers; shapes that differ; several channels; no voxel size.
    """
    volume = open_single(labels, "labels")
    check_label_type(volume.dtype, volume.address)
    picture = None if image is None else open_like(image, "image", volume)
    return ObjectVolumes(volume, picture, find_voxel_size(voxel_size, volume, picture))


def open_like(source: Source, name: str, labels: LazyVolume) -> LazyVolume:
    """Open a volume of one channel that has the shape of the labels.

    Args:
        source: see ``open_volume``.
        name: what it is, for messages.
        labels: the label volume.

    Raises:
        InvalidInputError: it has another shape, or as :func:`open_single`.
        MissingDataError: as ``open_volume``.
    """
    volume = open_single(source, name)
    ours, theirs = volume.spatial_shape, labels.spatial_shape
    if ours != theirs:
        slices = f": {ours[0]} slices, but {theirs[0]}" if ours[0] != theirs[0] and ours[1:] == theirs[1:] else ""
        raise InvalidInputError(
            f"{volume.address} ({name}) has shape {ours}, but {labels.address} (labels) has {theirs}{slices}; expected "
            "the same (D, H, W)"
        )
    return volume


def list_objects(
    volumes: ObjectVolumes, bounds: Sequence[int | None], exclude_border: bool, num_workers: int, progress: bool
) -> list[PlacedObject]:
    """List the objects of a label volume in the order of their first slice.

    Args:
        volumes: where they are.
        bounds: see ``object_statistics``, as the others.
        exclude_border: likewise.
        num_workers: likewise.
        progress: likewise.

    Raises:
        InvalidInputError: as ``object_statistics``, in particular no object within the bounds.
    """
    table = object_statistics(
        volumes.labels,
        voxel_size=volumes.voxel_size,
        bounds=bounds,
        exclude_border=exclude_border,
        euler=False,
        num_workers=num_workers,
        progress=progress,
    )
    corners = table[["lower_z", "lower_y", "lower_x", "upper_z", "upper_y", "upper_x"]].to_numpy().tolist()
    placed = [
        PlacedObject(one, tuple(at[:3]), tuple(at[3:])) for one, at in zip(table["id"].tolist(), corners, strict=True)
    ]
    return sorted(placed, key=lambda one: (one.lower, one.id))


def check_object_memory(
    objects: Iterable[PlacedObject], volumes: ObjectVolumes, limit_gib: float, otherwise: str = ""
) -> None:
    """Refuse objects that take too much memory.

    Args:
        objects: those to be read.
        volumes: where they are.
        limit_gib: memory for one object, in GiB.
        otherwise: what else than raising the limit the user can do, for the message, e.g. ", or leave them out".

    Raises:
        InvalidInputError: names the objects and what they need.
    """
    image = 0 if volumes.image is None else volumes.image.dtype.itemsize
    per_voxel = volumes.labels.dtype.itemsize + image + _WORKING_BYTES
    needed = {one: int(np.prod(one.shape, dtype=np.int64)) * per_voxel / GIB for one in objects}
    large = sorted((one for one in needed if needed[one] > limit_gib), key=lambda one: -needed[one])
    if large:
        listed = "; ".join(f"object {one.id}: {one.shape}, {needed[one]:.3g} GiB" for one in large[:_LISTED])
        raise InvalidInputError(
            f"{volumes.labels.address}: the bounding boxes (z, y, x) of {len(large)} objects need more memory than "
            f"memory_limit_gib={limit_gib:g} allows: {listed}{' …' if len(large) > _LISTED else ''}. Raise "
            f"memory_limit_gib (it is the memory of each worker){otherwise}"
        )
