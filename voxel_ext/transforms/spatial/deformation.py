"""Resampling a volume once through an affine map and a smooth B-spline displacement, on any device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError, check_option

MODES = ("bilinear", "nearest")

# how far the domain of the spline reaches beyond the outermost voxel faces, in voxels (as in ITK)
_MARGIN = 0.125
# points whose splines are evaluated together: few enough for a CPU's cache, many enough for a GPU
_POINTS_AT_ONCE = {"cpu": 2**16, "cuda": 2**23}


def quadratic_basis(positions: torch.Tensor, size: int, count: int) -> torch.Tensor:
    r"""Values of the quadratic B-splines of one axis, :math:`\beta_i(p) = \beta(u(p) - i + 1/2)`.

    u is the position in cells: the axis is cut into ``count - 2`` equal cells, from 0.625 voxels before the center of
    its first voxel to as much after that of its last (the grid of ITK's ``BSplineTransformInitializer``), and
    β(r) = (max(3/2 - ``|r|``, 0)² - 3 max(1/2 - ``|r|``, 0)²) / 2. Inside, they sum to 1.

    Args:
        positions: (...) in voxels, 0 at the center of the first.
        size: length of the axis in voxels.
        count: number of control points.

    Returns:
        (count, ...).
    """
    cells = (positions + 0.5 + _MARGIN) * ((count - 2) / (size + 2 * _MARGIN))
    centers = torch.arange(count, device=positions.device, dtype=positions.dtype) - 0.5
    distance = (cells[None] - centers.view(-1, *[1] * positions.dim())).abs_()
    outer, inner = (1.5 - distance).clamp_(min=0), (0.5 - distance).clamp_(min=0)
    return outer.square_().sub_(inner.square_(), alpha=3).mul_(0.5)


@dataclass(frozen=True, eq=False)
class Deformation:
    """A map from every voxel of the output to a point of the input: first affine, then a B-spline displacement.

    With q = A p + t the input point is q + Σ c_ijk β_i(q_z) β_j(q_y) β_k(q_x), in ITK's terms the composite of a
    ``BSplineTransform`` of order 2 and an ``AffineTransform``. As images see it, the volume is displaced first and then
    turned. A point q outside the volume has no displacement and so no source.

    Args:
        shape: (D, H, W) of the volume.
        matrix: (3, 4), [A | t] on positions (z, y, x) in voxels.
        coefficients: c in voxels, (3, nz, ny, nx): component (z, y, x), then control points; at least 3 along each
            axis, the grid described at :func:`quadratic_basis`. None for no displacement.

    Raises:
        InvalidInputError: a shape that is not as above, or values that are not finite.
    """

    shape: tuple[int, int, int]
    matrix: NDArray[np.float64]
    coefficients: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise InvalidInputError(f"a deformation of shape {tuple(self.shape)}; expected (D, H, W)")
        if np.shape(self.matrix) != (3, 4) or not np.isfinite(self.matrix).all():
            raise InvalidInputError(f"matrix of shape {np.shape(self.matrix)}; expected (3, 4), finite")
        if self.coefficients is not None:
            found = np.shape(self.coefficients)
            if len(found) != 4 or found[0] != 3 or min(found[1:]) < 3 or not np.isfinite(self.coefficients).all():
                raise InvalidInputError(
                    f"coefficients of shape {found}; expected (3, nz, ny, nx), finite, at least 3 along each axis"
                )

    def source(self, device: torch.device | str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
        """Return where every voxel comes from.

        Args:
            device: where to compute.

        Returns:
            points: (3, D, H, W) float32, positions (z, y, x) in voxels of the input.
            inside: (D, H, W) bool, whether that is inside the input, whose voxels reach half a voxel beyond their
                centers.
        """
        device = torch.device(device)
        depth, height, width = self.shape
        points = torch.empty((3, *self.shape), device=device)
        inside = torch.empty(self.shape, dtype=torch.bool, device=device)
        step = max(1, _POINTS_AT_ONCE.get(device.type, 2**16) // (height * width))
        for start in range(0, depth, step):
            slab = slice(start, min(start + step, depth))
            affine = self._affine(slab, device)
            points[:, slab] = affine
            inside[slab] = True
            if self.coefficients is not None:
                inside[slab] = _within(affine, self.shape, 0.5 + _MARGIN)
                points[:, slab] += self.displacement(affine)
            inside[slab] &= _within(points[:, slab], self.shape, 0.5)
        return points, inside

    def displacement(self, positions: torch.Tensor) -> torch.Tensor:
        """Return the B-spline displacement at positions inside the volume.

        Args:
            positions: (3, ...) float, (z, y, x) in voxels.

        Returns:
            (3, ...), zero without coefficients.
        """
        if self.coefficients is None:
            return torch.zeros_like(positions)
        _, nz, ny, nx = self.coefficients.shape
        z, y, x = (
            quadratic_basis(line.reshape(-1), size, count)
            for line, size, count in zip(positions, self.shape, (nz, ny, nx), strict=True)
        )
        across = (z[:, None] * y[None]).view(nz * ny, -1)
        weights = torch.as_tensor(self.coefficients, dtype=positions.dtype, device=positions.device)
        lines = weights.permute(0, 3, 1, 2).reshape(3 * nx, nz * ny) @ across
        return (lines.view(3, nx, -1) * x).sum(1).view(positions.shape)

    def _affine(self, slab: slice, device: torch.device) -> torch.Tensor:
        """Return A p + t, (3, d, H, W), of the voxels of some slices."""
        z, y, x = (torch.arange(size, device=device, dtype=torch.float32) for size in self.shape)
        rows = self.matrix.tolist()
        plane = [row[1] * y[:, None] + row[2] * x for row in rows]
        return torch.stack(
            [flat + (row[0] * z[slab] + row[3])[:, None, None] for flat, row in zip(plane, rows, strict=True)]
        )


def _within(points: torch.Tensor, shape: Sequence[int], margin: float) -> torch.Tensor:
    """Whether points (3, ...) are at most ``margin`` voxels outside the centers of the outermost voxels."""
    inside = torch.ones(points.shape[1:], dtype=torch.bool, device=points.device)
    for line, size in zip(points, shape, strict=True):
        inside &= (line >= -margin) & (line < size - 1 + margin)
    return inside


def resample(
    img: torch.Tensor,
    points: torch.Tensor,
    inside: torch.Tensor,
    mode: str = "bilinear",
    fill: torch.Tensor | float = 0,
) -> torch.Tensor:
    """Take an image's values at the points of :meth:`Deformation.source`, all channels at once.

    Args:
        img: (C, D, H, W).
        points: (3, d, h, w), positions (z, y, x) in voxels, on the image's device.
        inside: (d, h, w) bool; the other voxels are filled.
        mode: "bilinear" (linear along each axis; the outer half of a border voxel has that voxel's value) or "nearest".
        fill: one value, or (C,) for one per channel.

    Returns:
        (C, d, h, w); float32 if "bilinear", of the image's own type if "nearest".

    Raises:
        InvalidInputError: unknown mode, or an image that does not have four axes.
    """
    check_option("mode", mode, MODES)
    if img.dim() != 4:
        raise InvalidInputError(f"an image of shape {tuple(img.shape)} cannot be resampled; expected (C, D, H, W)")
    values = _nearest(img, points) if mode == "nearest" else _linear(img.float(), points)
    fill = torch.as_tensor(fill, dtype=values.dtype, device=values.device)
    return torch.where(inside, values, fill.reshape(-1, 1, 1, 1))


def _linear(img: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    scaled = [2 * line / max(size - 1, 1) - 1 for line, size in zip(points, img.shape[1:], strict=True)]
    grid = torch.stack(scaled[::-1], -1)[None]
    return torch.nn.functional.grid_sample(img[None], grid, mode="bilinear", padding_mode="border", align_corners=True)[
        0
    ]


def _nearest(img: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    index = torch.zeros(points.shape[1:], dtype=torch.long, device=points.device)
    for line, size in zip(points, img.shape[1:], strict=True):
        index = index * size + (line + 0.5).floor_().clamp_(0, size - 1).long()
    return img.flatten(1)[:, index.flatten()].view(-1, *index.shape)
