"""Objects as cubes of one size: the whole object scaled to fit, and parts of large ones at full resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.object_resampling import Size, find_pose, resample
from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.morphology.object_columns import check_voxel_size

CONTENTS: dict[str, tuple[str, ...]] = {
    "mask": ("mask",),
    "masked_image": ("masked_image",),
    "both": ("mask", "masked_image"),
}
"""The channels of a crop by the name of its contents."""

SIZE = 64
"""Voxels along each edge of a crop."""


def cut_object(
    mask: NDArray,
    image: NDArray | None = None,
    size: int = SIZE,
    contents: str = "both",
    voxel_size: Size = (1.0, 1.0, 1.0),
    align: bool = False,
) -> tuple[NDArray[np.float32], float]:
    """Scale a whole object so that its bounding box fits into a cube, centered and without stretching it.

    Voxels of the cube have the same length along all axes, in nm: the longest edge of the bounding box becomes ``size``
    voxels. Where that makes the object larger, values are interpolated linearly between voxels, else they are means
    over the voxels that an output voxel covers. The mask has about as many voxels as the object's volume asks for (at
    least one): those of the greatest values, equal ones together, so that thin objects do not vanish. The image is 0
    outside of the mask.

    With ``align`` the object is also turned into the frame of its principal axes, the longest along z, and the
    bounding box is that in the frame; so the cube does not tell how the object lay in the volume.

    Args:
        mask: (d, h, w), not 0 in the object; what surrounds its bounding box is passed over.
        image: (d, h, w), for contents with an image.
        size: voxels S along each edge of the cube.
        contents: "mask", "masked_image", or "both" with the two as channels in this order.
        voxel_size: (z, y, x) in nm.
        align: turn the object.

    Returns:
        the cube (C, S, S, S) float32 and its scale: the length of its voxels in nm.

    Raises:
        InvalidInputError: an empty mask, an image of another shape or none where one is needed, or an argument that is
            out of range.
    """
    steps = _check(mask, image, size, contents, voxel_size)
    box = _bounding_box(mask)
    inside = np.asarray(mask[box] != 0, np.float32)
    pose = find_pose(inside, steps, align)
    scale = float(pose.extent.max()) / size
    soft = resample(inside, pose.center, size, scale, steps, False, pose.rotation)
    solid = _greatest(soft, float(inside.sum(dtype=np.float64)) * math.prod(steps) / scale**3)
    picture = None if image is None else image[box]
    return _channels(solid, picture, contents, pose.center, scale, steps, pose.rotation), scale


def is_large(shape: Sequence[int], size: int = SIZE, voxel_size: Size = (1.0, 1.0, 1.0)) -> bool:
    """Whether a bounding box does not fit into a cube at full resolution, which is that of the shortest voxel edge.

    Args:
        shape: of the bounding box (d, h, w).
        size: voxels along each edge of the cube.
        voxel_size: (z, y, x) in nm.
    """
    longest = max(step * length for step, length in zip(voxel_size, shape, strict=True))
    return longest / size > min(voxel_size) * (1 + 1e-9)


def cut_samples(
    mask: NDArray,
    image: NDArray | None = None,
    count: int = 4,
    seed: int | Sequence[int] | np.random.Generator = 0,
    size: int = SIZE,
    contents: str = "both",
    voxel_size: Size = (1.0, 1.0, 1.0),
    align: bool = False,
) -> tuple[NDArray[np.float32], float]:
    """Cut cubes at full resolution from random places of a large object.

    Each is centered at a random voxel of the object and then moved into its bounding box where that is longer than the
    cube, so no cube is without a part of the object; along the other axes the object is centered.

    Args:
        mask: see :func:`cut_object`, as ``image``, ``size``, ``contents`` and ``voxel_size``.
        image: likewise.
        count: number of cubes N.
        seed: of the random places.
        size: likewise.
        contents: likewise.
        voxel_size: likewise.
        align: likewise.

    Returns:
        the cubes (N, C, S, S, S) float32, and their scale: the length of the shortest voxel edge in nm.

    Raises:
        InvalidInputError: as :func:`cut_object`.
    """
    steps = _check(mask, image, size, contents, voxel_size)
    box = _bounding_box(mask)
    inside = np.asarray(mask[box] != 0)
    picture = None if image is None else image[box]
    scale = min(steps)
    pose = find_pose(inside, steps, align)
    rng = np.random.default_rng(seed)
    found = np.flatnonzero(inside)
    grid = (math.inf,) * 3 if align else steps
    cubes = np.empty((count, len(CONTENTS[contents]), size, size, size), np.float32)
    for cube in cubes:
        voxel = np.stack(np.unravel_index(found[rng.integers(len(found))], inside.shape))
        places = zip(pose.inward((voxel + 0.5) * steps), pose.extent, grid, strict=True)
        center = pose.outward([_center(at, whole, size, step, scale) for at, whole, step in places])
        edge = size * scale * (math.sqrt(3) if align else 1)  # a cube of its diagonal holds it, however it is turned
        near, close, moved = _window(inside, picture, center, edge, steps)
        soft = resample(near, moved, size, scale, steps, False, pose.rotation)
        cube[:] = _channels(soft >= 0.5, close, contents, moved, scale, steps, pose.rotation)
    return cubes, scale


def _check(mask: NDArray, image: NDArray | None, size: int, contents: str, voxel_size: Size) -> tuple[float, ...]:
    check_option("contents", contents, CONTENTS)
    if not isinstance(size, Integral) or isinstance(size, bool) or size < 1:
        raise InvalidInputError(f"size={size!r}; expected a whole number of at least 1")
    if mask.ndim != 3:
        raise InvalidInputError(f"the mask has shape {mask.shape}; expected (D, H, W)")
    if image is None and "masked_image" in CONTENTS[contents]:
        raise InvalidInputError(f"contents={contents!r} needs an image; give one, or choose contents='mask'")
    if image is not None and image.shape != mask.shape:
        raise InvalidInputError(f"the image has shape {image.shape}, but the mask {mask.shape}; expected the same")
    return tuple(map(float, check_voxel_size(voxel_size)))


def _bounding_box(mask: NDArray) -> tuple[slice, ...]:
    found = [np.flatnonzero(mask.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
    if not len(found[0]):
        raise InvalidInputError(f"the mask of shape {mask.shape} is empty; expected at least one voxel that is not 0")
    return tuple(slice(int(at[0]), int(at[-1]) + 1) for at in found)


def _center(at: float, whole: float, size: int, step: float, scale: float) -> float:
    """Where a cube is centered along an axis (nm) to be about a place and inside of the bounding box, if it can be."""
    half = size * scale / 2
    center = whole / 2 if whole <= 2 * half else min(max(at, half), whole - half)
    # on the voxels' grid, values need not be interpolated
    return round((center - half) / step) * step + half if step == scale else center


def _greatest(soft: NDArray[np.float32], wanted: float) -> NDArray[np.bool_]:
    """Choose the voxels of the greatest values, about as many as wanted, at least one; equal ones together."""
    levels = (soft / soft.max()).round(4)  # of the greatest, which may be small: an object may fill little of its box
    values, counts = np.unique(levels, return_counts=True)
    above = np.cumsum(counts[::-1])[::-1][values > 0]
    values = values[values > 0]
    return levels >= values[np.abs(above - wanted).argmin()]


def _window(
    mask: NDArray, image: NDArray | None, center: Size, edge: float, steps: Size
) -> tuple[NDArray, NDArray | None, list[float]]:
    """Cut out what a cube of an edge (nm) around a center (nm) needs, with the center as it is there."""
    parts, moved = [], []
    for at, length, step in zip(center, mask.shape, steps, strict=True):
        start = max(math.floor((at - edge / 2) / step) - 2, 0)
        parts.append(slice(start, min(math.ceil((at + edge / 2) / step) + 2, length)))
        moved.append(at - start * step)
    z, y, x = parts
    return mask[z, y, x], None if image is None else image[z, y, x], moved


def _channels(
    solid: NDArray,
    image: NDArray | None,
    contents: str,
    center: Size,
    scale: float,
    steps: Size,
    rotation: NDArray[np.float64] | None,
) -> NDArray[np.float32]:
    channels = {"mask": solid.astype(np.float32)}
    if "masked_image" in CONTENTS[contents] and image is not None:
        values = resample(image, center, len(solid), scale, steps, True, rotation)
        channels["masked_image"] = np.where(solid, values, np.float32(0))
    return np.stack([channels[name] for name in CONTENTS[contents]])
