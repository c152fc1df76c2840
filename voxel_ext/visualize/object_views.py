"""Shaded pictures of the surfaces of single objects, seen along their principal axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology.object_columns import check_voxel_size
from voxel_ext.morphology.pose import principal_frame
from voxel_ext.visualize import colors

# towards the light: from the left, from above, from the viewer
_LIGHT = (-0.45, -0.6, -0.66)
_SMOOTHING = 0.6  # standard deviation, in the largest side of a voxel
_LEVEL = 0.4
_STEP = 0.7  # along a ray, in the largest side of a voxel
_MARGIN = 0.08


class ObjectShape(NamedTuple):
    """An object in its box, maybe at a lower resolution.

    Attributes:
        coverage: (d, h, w) float32, which share of each voxel belongs to the object.
        voxel_size: (z, y, x) in nm.
        frame: (3, 3), the object's long, middle and short principal axes in rows.
    """

    coverage: NDArray[np.float32]
    voxel_size: tuple[float, float, float]
    frame: NDArray[np.float64]


class ObjectView(NamedTuple):
    """A picture of an object.

    Attributes:
        shade: (H, W) float32, from 0 (dark) to 1 (lit); NaN where there is no object.
        pixel_size: side of a pixel in nm.
    """

    shade: NDArray[np.float32]
    pixel_size: float


def object_shape(coverage: ArrayLike, voxel_size: Sequence[float]) -> ObjectShape:
    """Find the principal axes of an object.

    Args:
        coverage: (D, H, W), boolean, or the share of each voxel that belongs to the object.
        voxel_size: (z, y, x) in nm.

    Raises:
        InvalidInputError: an array of another shape, nothing inside, or a voxel size that is not valid.
    """
    share, size = np.asarray(coverage, np.float32), check_voxel_size(voxel_size)
    if share.ndim != 3 or not (share > 0).any():
        raise InvalidInputError(f"the mask of shape {share.shape} is empty or not (D, H, W)")
    inside = share > 0
    return ObjectShape(share, size, principal_frame(np.argwhere(inside) * np.array(size), share[inside]))


def shaded_view(
    shape: ObjectShape, size: int = 48, rotation: ArrayLike | None = None, pixel_size: float | None = None
) -> ObjectView:
    """Draw the lit surface of an object by parallel rays, darker where it is farther away.

    The surface is where the smoothed mask crosses 0.4, less where an object is so thin that nothing reaches that.

    Args:
        shape: the object.
        size: height and width in pixels.
        rotation: (3, 3), turns the picture's axes (right, down, away from the viewer) in the object's frame: its rows
            are these axes in terms of the long, middle and short axis. None for the long axis to the right, seen along
            the short one.
        pixel_size: in nm; None for the object to fill the picture.

    Returns:
        the picture, with the object's box in its center.

    Raises:
        InvalidInputError: a size below 8, or a pixel size that is not positive.
    """
    if size < 8 or (pixel_size is not None and not pixel_size > 0):
        raise InvalidInputError(f"size={size!r}, pixel_size={pixel_size!r}; expected at least 8, and a positive length")
    axes = (np.eye(3) if rotation is None else np.asarray(rotation, np.float64)) @ shape.frame
    field, level = _smooth(shape)
    sizes = np.array(shape.voxel_size)
    corners = np.argwhere(field >= level) * sizes @ axes.T
    low, high = corners.min(axis=0) - sizes.max() / 2, corners.max(axis=0) + sizes.max() / 2
    pixel = pixel_size or float((high - low)[:2].max()) * (1 + _MARGIN) / size
    center, step = (low + high) / 2, _STEP * sizes.max()
    where = _footprint((corners - center)[:, :2] / pixel, sizes.max() / pixel, size)
    depths = np.arange(low[2], high[2] + step, step)
    values = _sample(field, _rays(axes, center, depths, pixel, where) / sizes)
    depth = np.full((size, size), np.nan, np.float32)
    depth[where] = _first_crossing(values, level) * step
    return ObjectView(_light(depth, pixel, float(high[2] - low[2])), pixel)


def colored_view(view: ObjectView, color: str) -> NDArray[np.uint8]:
    """Give a picture of an object a color, on the dark ground of all 3D views.

    Args:
        view: of :func:`shaded_view`.
        color: as ``"#rrggbb"``.

    Returns:
        (H, W, 3).
    """
    shade = np.nan_to_num(view.shade)[..., None]
    # bright parts tend to white
    lit = shade * colors.rgb(color) + 0.35 * np.clip(shade - 0.6, 0, 1) * (1 - colors.rgb(color))
    picture = np.where(np.isnan(view.shade)[..., None], colors.rgb(colors.DARK), lit)
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)


def _smooth(shape: ObjectShape) -> tuple[NDArray[np.float32], float]:
    """The smoothed mask with a border of zeros, and the level of its surface."""
    from scipy import ndimage

    sigma = _SMOOTHING * max(shape.voxel_size) / np.array(shape.voxel_size)
    padded = np.pad(shape.coverage, [(int(np.ceil(2 * one)),) * 2 for one in sigma])
    field = ndimage.gaussian_filter(padded, sigma, truncate=2.5, mode="constant")
    return field, min(_LEVEL, 0.5 * float(field.max()))


def _footprint(points: NDArray[np.float64], reach: float, size: int) -> NDArray[np.bool_]:
    """Pixels (size, size) that may show something: near points (N, 2), right and down of the center, in pixels."""
    from scipy import ndimage

    right, down = np.clip((points + size / 2).astype(np.int64), 0, size - 1).T
    where = np.zeros((size, size), np.uint8)
    where[down, right] = 1
    return ndimage.maximum_filter(where, 2 * int(np.ceil(reach)) + 1) > 0


def _rays(
    axes: NDArray[np.float64],
    center: NDArray[np.float64],
    depths: NDArray[np.float64],
    pixel: float,
    where: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Points (T, N, 3) in nm (z, y, x) along the parallel rays of N pixels."""
    down, right = ((np.argwhere(where) - (len(where) - 1) / 2) * pixel).T
    start = (right + center[0])[:, None] * axes[0] + (down + center[1])[:, None] * axes[1]
    return ((depths[:, None] * axes[2])[:, None] + start).astype(np.float32)


def _sample(field: NDArray[np.float32], points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Interpolate a field at points (T, N, 3), which are in voxels."""
    grid = (points + 0.5) / np.array(field.shape) * 2 - 1
    at = torch.from_numpy(np.ascontiguousarray(grid[..., ::-1], np.float32))[None, None]
    found = torch.nn.functional.grid_sample(torch.from_numpy(field)[None, None], at, align_corners=False)
    return found[0, 0, 0].numpy()


def _first_crossing(values: NDArray[np.float32], level: float) -> NDArray[np.float32]:
    """Steps along each ray of values (T, N) to where it first reaches the level; NaN where it does not."""
    above = values >= level
    first = above.argmax(axis=0)
    here = np.take_along_axis(values, first[None], axis=0)[0]
    before = np.take_along_axis(values, np.maximum(first - 1, 0)[None], axis=0)[0]
    back = np.where(first > 0, (here - level) / np.maximum(here - before, 1e-6), 0)
    return np.where(above.any(axis=0), first - np.clip(back, 0, 1), np.nan).astype(np.float32)


def _light(depth: NDArray[np.float32], pixel: float, range_nm: float) -> NDArray[np.float32]:
    """Ambient and diffuse light (Lambert) on a surface of which the depths (H, W) in nm are known."""
    known = ~np.isnan(depth)
    down, right = np.gradient(np.where(known, depth, range_nm), pixel)
    normal = np.stack([right, down, -np.ones_like(right)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    light = np.array(_LIGHT) / np.linalg.norm(_LIGHT)
    near = 1 - np.clip(depth / max(range_nm, 1e-6), 0, 1)
    shade = (0.3 + 0.8 * np.maximum(normal @ light, 0)) * (0.65 + 0.35 * near)
    return np.where(known, np.clip(shade, 0, 1), np.nan).astype(np.float32)
