"""A picture of a volume in 3D: the signal glows blue, the mask is a lit red surface around it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError, require
from voxel_ext.visualize import colors
from voxel_ext.visualize.arrays import as_image, as_labels, check_voxel_size, normalize, shrink

_MAX_SIDE = 128
# samples over the diagonal
_STEPS = 160
_SLAB = 16
# how strongly the brightest signal hides what is behind it, over the length of the diagonal
_DENSITY = 20.0
_LEVEL = 0.4
_SURFACE_OPACITY = 0.8
_LIGHT = (-0.45, -0.6, -0.66)


def render_volume(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    size: int = 640,
    azimuth: float = 35.0,
    elevation: float = 25.0,
    voxel_size: Sequence[float] | None = None,
) -> bytes:
    """Cast parallel rays through a volume: signal by emission and absorption, the mask as a lit surface.

    Along a ray the signal s in [0, 1] adds blue with opacity 1 - exp(-density s² dt) (Max 1995, the optical model of
    volume rendering). Where it first enters the smoothed mask it meets a surface of opacity 0.8, which is lit by
    Lambert's law and darker the farther away it is.

    Args:
        image: (D, H, W); axes longer than 128 are averaged down.
        mask: mask or instance ids of the same shape.
        size: width and height of a panel in pixels. With a mask there are two panels: the signal alone, and both.
        azimuth: angle of view in degrees about the D axis, which points up.
        elevation: angle of view in degrees above the (H, W) plane.
        voxel_size: µm along D, H, W; cubic voxels if None.

    Returns:
        a PNG file. A constant image or an empty mask is said in it.

    Raises:
        InvalidInputError: shapes that do not fit (names both), NaN, or a size below 16.
        MissingDependencyError: pillow is not installed.
    """
    if size < 16:
        raise InvalidInputError(f"size={size!r}, expected at least 16 pixels")
    volume = as_image(image, ndims=(3,))
    sizes = check_voxel_size(voxel_size, 3)
    gray = normalize(volume, 50, 99.8)
    labels = np.zeros(volume.shape, bool) if mask is None else as_labels(mask, volume, "mask") > 0
    messages = [] if gray.max() > 0 else ["the signal is constant"]
    messages += [] if mask is None or labels.any() else ["the mask is empty"]
    extent = np.array(volume.shape) * sizes
    half = extent / np.linalg.norm(extent)
    fields = _fields(gray, labels, sizes)
    view = _view(azimuth, elevation)
    behind, front = _box(half, view, size)
    panels = list(zip(*_cast(fields, half, view, size), strict=True))[: 1 if mask is None else 2]
    pictures = [_compose(light, opacity, (behind, front)) for light, opacity in panels]
    return _encode(pictures, messages)


def _fields(gray: NDArray[np.float32], labels: NDArray[np.bool_], sizes: Sequence[float]) -> torch.Tensor:
    """Signal, smoothed mask and its gradient as one tensor (1, 5, D, H, W)."""
    from scipy import ndimage

    signal, small_sizes = shrink(gray, sizes, _MAX_SIDE)
    smooth = ndimage.gaussian_filter(shrink(labels.astype(np.float32), sizes, _MAX_SIDE)[0], 0.7)
    if labels.any():
        smooth = smooth * max(1.0, 1.5 * _LEVEL / float(smooth.max()))
    # a border of zeros makes a gradient along an axis of one voxel possible, and closes the surface
    padded = np.pad(np.stack([signal, smooth]), ((0, 0), (1, 1), (1, 1), (1, 1)))
    gradient = np.stack(np.gradient(ndimage.gaussian_filter(padded[1], 0.8), *small_sizes))
    return torch.from_numpy(np.concatenate([padded, gradient])[None].astype(np.float32))


def _view(azimuth: float, elevation: float) -> NDArray[np.float64]:
    """Rotation whose columns are the camera's right, down and forward in volume axes (D, H, W); D points up."""
    a, e = np.deg2rad([azimuth, elevation])
    right = np.array([0, -np.sin(a), np.cos(a)])
    forward = np.array([-np.sin(e), np.cos(e) * np.cos(a), np.cos(e) * np.sin(a)])
    return np.stack([right, np.cross(right, forward), forward], axis=1)


def _cast(
    fields: torch.Tensor, half: NDArray[np.float64], view: NDArray[np.float64], size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """March front to back along the rays that meet the volume.

    Returns:
        without and with the mask: light (2, size, size, 3) that comes from the volume, and how much of the background
        it hides, (2, size, size).
    """
    radius = float(np.linalg.norm(half))
    rotation, box = torch.from_numpy(view).float(), torch.from_numpy(half).float()
    axis = torch.linspace(-radius, radius, size)
    origins = axis[None, :, None] * rotation[:, 0] + axis[:, None, None] * rotation[:, 1]
    near, far = _span(origins, rotation[:, 2], box)
    rays = far > near
    # a border of one voxel was added on each side
    scale = torch.tensor([(n - 2) / n for n in fields.shape[2:]]) / box
    light, opacity = torch.zeros(2, size, size, 3), torch.zeros(2, size, size)
    light[:, rays], opacity[:, rays] = _march(fields, origins[rays], near[rays], far[rays], rotation, scale, radius)
    return light.numpy(), opacity.numpy()


def _span(origins: torch.Tensor, forward: torch.Tensor, box: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where rays enter and leave the box [-box, box], by its three pairs of planes; far < near for those that miss."""
    direction = torch.where(forward.abs() < 1e-6, 1e-6, forward)
    ends = torch.stack([(-box - origins) / direction, (box - origins) / direction])
    return ends.amin(0).amax(-1), ends.amax(0).amin(-1)


def _march(
    fields: torch.Tensor,
    origins: torch.Tensor,
    near: torch.Tensor,
    far: torch.Tensor,
    rotation: torch.Tensor,
    scale: torch.Tensor,
    radius: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Light (2, N, 3) and opacity (2, N) of N rays, without and with the mask; lengths in the units of the box."""
    step = 2 * radius / _STEPS
    clear, glow = torch.ones(2, len(near)), torch.zeros(2, len(near))
    hit, at_surface, previous = torch.full_like(near, torch.inf), torch.zeros_like(near), torch.zeros_like(near)
    for slab in torch.arange(0, float((far - near).max()) + step, step).split(_SLAB):
        depths = near + slab[:, None]
        samples = _sample(fields[:, :2], (origins + depths[..., None] * rotation[:, 2]) * scale)
        for depth, signal, inside in zip(depths, *samples, strict=True):
            entered = (inside >= _LEVEL) & hit.isinf()
            back = ((inside - _LEVEL) / (inside - previous).clamp_min(1e-6)).clamp(0, 1) * step
            hit = torch.where(entered, depth - back, hit)
            at_surface = torch.where(entered, clear[1], at_surface)
            clear[1, entered] *= 1 - _SURFACE_OPACITY
            alpha = 1 - torch.exp(-_DENSITY * signal**2 * step / (2 * radius))
            glow += clear * alpha * signal
            clear *= 1 - alpha
            previous = inside
    points = (origins + hit.nan_to_num(posinf=0.0)[:, None] * rotation[:, 2]) * scale
    surface = _shade(_sample(fields[:, 2:], points[None])[:, 0].T, hit, rotation, radius)
    light = _blue(glow)
    light[1] += (_SURFACE_OPACITY * at_surface)[:, None] * surface
    return light, 1 - clear


def _sample(fields: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Interpolate fields (1, C, D, H, W) at points (T, N, 3) given as (d, h, w) in [-1, 1] -> (C, T, N)."""
    grid = points.flip(-1)[None, None]
    return torch.nn.functional.grid_sample(fields, grid, padding_mode="zeros", align_corners=False)[0, :, 0]


def _blue(glow: torch.Tensor) -> torch.Tensor:
    """Color (..., N, 3) of the signal: its blue, whiter where it is strong."""
    blue, white = torch.from_numpy(colors.rgb(colors.SIGNAL)), torch.tensor([0.85, 0.93, 1.0])
    strength = glow.clamp(0, 1)[..., None]
    return 1.6 * strength * (blue + 0.2 * strength * (white - blue))


def _shade(gradient: torch.Tensor, hit: torch.Tensor, rotation: torch.Tensor, radius: float) -> torch.Tensor:
    """Color (N, 3) of the surface with that gradient: ambient, diffuse and specular light, darker with depth."""
    normal = -torch.nn.functional.normalize(gradient, dim=-1)
    light = torch.nn.functional.normalize(rotation @ torch.tensor(_LIGHT), dim=0)
    middle = torch.nn.functional.normalize(light - rotation[:, 2], dim=0)
    diffuse, specular = (normal @ light).clamp_min(0), (normal @ middle).clamp_min(0) ** 40
    fade = 1 - 0.55 * (hit.nan_to_num(posinf=0.0) / radius + 1).clamp(0, 2) / 2
    red = torch.from_numpy(colors.rgb(colors.PREDICTION))
    return ((0.35 + 0.95 * diffuse)[:, None] * red + 0.3 * specular[:, None]) * fade[:, None]


def _box(
    half: NDArray[np.float64], view: NDArray[np.float64], size: int
) -> tuple[list[list[tuple[float, float]]], list[list[tuple[float, float]]]]:
    """The edges of the volume in pixels: those that meet the farthest corner, and the others."""
    corners = {key: (np.array(key) * 2 - 1) * half for key in np.ndindex(2, 2, 2)}
    far = max(corners, key=lambda key: float(corners[key] @ view[:, 2]))
    scale = (size - 1) / 2 / np.linalg.norm(half)
    pixel = {key: tuple((corner @ view[:, :2]) * scale + (size - 1) / 2) for key, corner in corners.items()}
    behind: list[Any] = []
    front: list[Any] = []
    for a in corners:
        for b in corners:
            if a < b and sum(i != j for i, j in zip(a, b, strict=True)) == 1:
                (behind if far in (a, b) else front).append([pixel[a], pixel[b]])
    return behind, front


def _compose(
    light: NDArray[np.float32], opacity: NDArray[np.float32], edges: tuple[list[Any], list[Any]]
) -> NDArray[np.uint8]:
    """Put the light (S, S, 3) between the far and the near edges of the box."""
    pil: Any = require("PIL.Image", extra="viz")
    draw: Any = require("PIL.ImageDraw", extra="viz")
    stage = pil.new("RGB", light.shape[1::-1], colors.DARK)
    pen = draw.Draw(stage)
    for edge in edges[0]:
        pen.line(edge, fill="#3a4763", width=1)
    picture = np.asarray(stage, dtype=np.float32) / 255 * (1 - opacity[..., None]) + light
    stage = pil.fromarray((np.clip(picture, 0, 1) * 255).round().astype(np.uint8))
    pen = draw.Draw(stage, "RGBA")
    for edge in edges[1]:
        pen.line(edge, fill=(147, 160, 184, 110), width=1)
    return np.asarray(stage)


def _encode(pictures: list[NDArray[np.uint8]], messages: list[str]) -> bytes:
    """Put pictures side by side, name their colors, write the messages below, and encode as PNG."""
    pil: Any = require("PIL.Image", extra="viz")
    draw: Any = require("PIL.ImageDraw", extra="viz")
    size = len(pictures[0])
    font = require("PIL.ImageFont", extra="viz").load_default(max(11, size // 40))
    stage = pil.fromarray(np.concatenate(pictures, axis=1))
    pen = draw.Draw(stage)
    pen.text((12, 10), "signal", fill=colors.SIGNAL, font=font)
    if len(pictures) == 2:
        pen.text((size + 12, 10), "signal and mask", fill=colors.PREDICTION, font=font)
    pen.text((12, size - 12), "; ".join(messages), fill="#dbe4f3", font=font, anchor="ls")
    stream = io.BytesIO()
    stage.save(stream, format="PNG")
    return stream.getvalue()
