"""Small pictures of many objects of a label volume."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm.auto import tqdm

from voxel_ext.data.lazy_volume import open_volume
from voxel_ext.data.object_sources import ObjectVolumes, PlacedObject
from voxel_ext.errors import InvalidInputError, require
from voxel_ext.visualize import colors
from voxel_ext.visualize.arrays import as_image, normalize
from voxel_ext.visualize.object_views import ObjectShape, colored_view, object_shape, shaded_view

if TYPE_CHECKING:
    import pandas as pd

_SLAB = 1 << 24  # voxels of a label volume that are in memory at once
_REGION = 1 << 24  # voxels of a region that is read once for several objects
_BRICK = 128  # objects with their first corner in the same brick of so many voxels share a region
_CORNERS = ["lower_z", "lower_y", "lower_x", "upper_z", "upper_y", "upper_x"]
_CONTEXT = 0.15  # of the image beyond the object's box on each side, in the longer side of the box


def object_thumbnails(
    volumes: ObjectVolumes, objects: pd.DataFrame, ids: ArrayLike, size: int = 48, progress: bool = True
) -> NDArray[np.uint8]:
    """Draw a small picture of each of some objects, from its box alone.

    The picture is the lit surface, seen along the shortest principal axis, the longest to the right; it fills the
    picture. With an image, a slice (y, x) is beside it: the middle one of the object's box, or if the object is not
    there, the one with the most of it, with the outline of the object.

    Args:
        volumes: the labels, and the image or None.
        objects: a row per object: ``id`` and the bounding box, ``lower_z`` to ``upper_x`` in voxels, the upper ends
            excluded, as ``object_statistics`` gives them. Other columns are passed over.
        ids: (N,) those to draw.
        size: height in pixels, and width of each of the two pictures.
        progress: show a bar.

    Returns:
        (N, size, size, 3), or (N, size, 2 size, 3) with an image, in the order of ``ids``.

    Raises:
        InvalidInputError: an id or a column is not in the table, a box has no voxel of its object, the image is not
            finite, or the size is below 8.
        MissingDependencyError: pillow is not installed, and there is an image.
    """
    placed = place_objects(objects, ids)
    result = np.zeros((len(placed), size, size * (1 if volumes.image is None else 2), 3), np.uint8)
    with tqdm(total=len(placed), desc="thumbnails", unit="object", disable=not progress) as bar:
        for region, members in _regions(placed, volumes):
            for number, one in members:
                result[number] = _thumbnail(region, one, size)
                bar.update()
    return result


def place_objects(objects: pd.DataFrame, ids: ArrayLike) -> list[PlacedObject]:
    """Return objects with their boxes.

    Args:
        objects: as for :func:`object_thumbnails`.
        ids: (N,) of the objects.

    Raises:
        InvalidInputError: an id or a column is not in the table.
    """
    lacking = [column for column in ("id", *_CORNERS) if column not in objects.columns]
    if lacking:
        raise InvalidInputError(f"the table of objects lacks {', '.join(lacking)}; expected id, {', '.join(_CORNERS)}")
    wanted = np.asarray(ids).tolist()
    rows = dict(zip(objects["id"].tolist(), objects[_CORNERS].to_numpy().tolist(), strict=True))
    missing = [one for one in wanted if one not in rows]
    if missing:
        raise InvalidInputError(
            f"the table of {len(rows)} objects lacks the ids {', '.join(map(str, missing[:20]))} ({len(missing)} of "
            f"{len(wanted)}); expected a row with the bounding box of each"
        )
    return [PlacedObject(one, tuple(rows[one][:3]), tuple(rows[one][3:])) for one in wanted]


def read_shape(volumes: ObjectVolumes, placed: PlacedObject, max_side: int = 128) -> ObjectShape:
    """Read the mask of an object, averaged down so that no axis is longer than ``max_side``.

    Large objects are read slab by slab, so that memory hardly grows with them.

    Args:
        volumes: where the object is.
        placed: the object.
        max_side: in voxels.

    Raises:
        InvalidInputError: there is no voxel of the object in its box.
    """
    z, y, x = placed.box
    factors = [-(-side // max_side) for side in placed.shape]
    step = max(1, _SLAB // (placed.shape[1] * placed.shape[2]))
    slabs = []
    for start in range(z.start, z.stop, step):
        labels = volumes.labels.read((slice(start, min(start + step, z.stop)), y, x))[0]
        mask = (labels == volumes.labels.dtype.type(placed.id)).astype(np.float32)
        slabs.append(_block_mean(_block_mean(mask, 1, factors[1]), 2, factors[2]))
    coverage = _block_mean(np.concatenate(slabs), 0, factors[0])
    if not coverage.any():
        raise InvalidInputError(
            f"{volumes.labels.address} has no voxel of object {placed.id} in its bounding box; expected the table of "
            "the objects of this volume"
        )
    return object_shape(coverage, [size * factor for size, factor in zip(volumes.voxel_size, factors, strict=True)])


def _block_mean(array: NDArray[np.float32], axis: int, factor: int) -> NDArray[np.float32]:
    """Mean of so many elements along an axis; beyond the end there are zeros."""
    if factor == 1:
        return array
    count = -(-array.shape[axis] // factor)
    after = [(0, count * factor - array.shape[axis] if one == axis else 0) for one in range(array.ndim)]
    shape = (*array.shape[:axis], count, factor, *array.shape[axis + 1 :])
    return np.pad(array, after).reshape(shape).mean(axis=axis + 1)


def _regions(
    placed: Sequence[PlacedObject], volumes: ObjectVolumes
) -> Iterator[tuple[ObjectVolumes, list[tuple[int, PlacedObject]]]]:
    """Yield parts of the volumes in memory, where objects lie close together, and the objects in them with numbers.

    Chunks of a file are thus read a few times at most, rather than once for each object in them.
    """
    bricks: dict[tuple[int, ...], list[int]] = {}
    for number, one in enumerate(placed):
        bricks.setdefault(tuple(side // _BRICK for side in one.lower), []).append(number)
    for _, numbers in sorted(bricks.items()):
        boxes = [_context_box(placed[number], volumes) for number in numbers]
        lower = np.min([[part.start for part in box] for box in boxes], axis=0)
        upper = np.max([[part.stop for part in box] for box in boxes], axis=0)
        needed = sum(math.prod(part.stop - part.start for part in box) for box in boxes)
        if int(np.prod(upper - lower, dtype=np.int64)) > min(_REGION, 2 * needed):
            yield volumes, [(number, placed[number]) for number in numbers]
            continue
        region = tuple(slice(int(a), int(b)) for a, b in zip(lower, upper, strict=True))
        yield _load(volumes, region), [(number, _shifted(placed[number], lower)) for number in numbers]


def _load(volumes: ObjectVolumes, region: Sequence[slice]) -> ObjectVolumes:
    labels = open_volume(volumes.labels.read(region)[0], name=volumes.labels.address)
    image = None
    if volumes.image is not None:
        image = open_volume(volumes.image.read(region)[0], name=volumes.image.address)
    return ObjectVolumes(labels, image, volumes.voxel_size)


def _shifted(placed: PlacedObject, corner: NDArray[np.int64]) -> PlacedObject:
    lower, upper = (tuple((np.array(end) - corner).tolist()) for end in (placed.lower, placed.upper))
    return PlacedObject(placed.id, lower, upper)


def _context_box(placed: PlacedObject, volumes: ObjectVolumes) -> tuple[slice, slice, slice]:
    """An object's box, widened along y and x to a square with a margin, inside the volume."""
    z, y, x = placed.box
    extents = [side * size for side, size in zip(placed.shape[1:], volumes.voxel_size[1:], strict=True)]
    wide = []
    for part, extent, side, size in zip(
        (y, x), extents, volumes.labels.spatial_shape[1:], volumes.voxel_size[1:], strict=True
    ):
        margin = math.ceil(((0.5 + _CONTEXT) * max(extents) - 0.5 * extent) / size)
        wide.append(slice(max(part.start - margin, 0), min(part.stop + margin, side)))
    return z, wide[0], wide[1]


def slice_picture(volumes: ObjectVolumes, placed: PlacedObject, size: int) -> NDArray[np.uint8]:
    """Draw a slice (y, x) of the image around an object, with the object's outline.

    Args:
        volumes: labels and image.
        placed: the object.
        size: height and width in pixels; the longer side of the object's box and a margin fill it.

    Returns:
        (size, size, 3), the middle slice of the object's box, or if the object is not there, the one with the most.

    Raises:
        InvalidInputError: there is no image, or it is not finite.
        MissingDependencyError: pillow is not installed.
    """
    if volumes.image is None:
        raise InvalidInputError(f"there is no image beside {volumes.labels.address}; expected one to draw a slice of")
    z, _, _ = placed.box
    _, y, x = _context_box(placed, volumes)
    middle = z.start + placed.shape[0] // 2
    mask = _slice_mask(volumes, placed, middle)
    if not mask.any():
        counts = [np.count_nonzero(_slice_mask(volumes, placed, plane)) for plane in range(z.start, z.stop)]
        middle = z.start + int(np.argmax(counts))
        mask = _slice_mask(volumes, placed, middle)
    image = as_image(volumes.image.read((slice(middle, middle + 1), y, x))[0, 0], f"the image of object {placed.id}")
    return _outlined(image, mask, volumes.voxel_size[1:], size)


def _slice_mask(volumes: ObjectVolumes, placed: PlacedObject, plane: int) -> NDArray[np.bool_]:
    """The object in a slice of its box and the context of the image."""
    _, y, x = _context_box(placed, volumes)
    labels = volumes.labels.read((slice(plane, plane + 1), y, x))[0, 0]
    return labels == volumes.labels.dtype.type(placed.id)


def _thumbnail(volumes: ObjectVolumes, placed: PlacedObject, size: int) -> NDArray[np.uint8]:
    picture = colored_view(shaded_view(read_shape(volumes, placed, 2 * size), size), colors.AGREEMENT)
    if volumes.image is None:
        return picture
    return np.concatenate([picture, slice_picture(volumes, placed, size)], axis=1)


def _outlined(
    image: NDArray[np.float32], mask: NDArray[np.bool_], voxel_size: Sequence[float], size: int
) -> NDArray[np.uint8]:
    """A slice (H, W) and the outline of the mask in the middle of a picture (size, size, 3), to scale."""
    pil: Any = require("PIL.Image", extra="viz")
    extent = np.array(image.shape) * voxel_size
    height, width = np.maximum((extent / extent.max() * size).round().astype(int), 1).tolist()
    gray, inside = (
        np.asarray(pil.fromarray((plane * 255).astype(np.uint8)).resize((width, height), pil.Resampling.BILINEAR))
        for plane in (normalize(image), mask)
    )
    cut = colors.blend(
        np.repeat(gray[..., None] / np.float32(255), 3, axis=2),
        colors.outline((inside > 127).astype(np.uint8)),
        colors.PREDICTION,
    )
    top, left = (size - height) // 2, (size - width) // 2
    picture = np.tile(colors.rgb(colors.DARK), (size, size, 1))
    picture[top : top + height, left : left + width] = cut
    return (picture * 255).round().astype(np.uint8)
