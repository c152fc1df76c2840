"""Taking scalar images and vector fields through a smooth map of space, and turning the vectors by its Jacobian."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from voxel_ext.errors import check_option
from voxel_ext.transforms.spatial.deformation import MODES, resample
from voxel_ext.transforms.vector.components import KINDS, known_voxels, unit_vectors

PADDING_MODES = ("zeros", "border", "reflection")

# vectors whose mean is shorter cancel each other: there is no direction to give
_CANCELED = 1e-3
# points whose eight neighbors are gathered together
_POINTS_AT_ONCE = 2**18


@dataclass(frozen=True, eq=False)
class SourceMap:
    """Where every voxel y of the output comes from in the input, g(y) = A (y - c) + c + t + u(y).

    Its Jacobian is G = A + ∂u/∂y, that of the forward map J = G⁻¹.

    Attributes:
        points: (3, D, H, W) float32, g in voxels of the input.
        inside: (D, H, W) bool, whether that is inside the input, whose voxels reach half a voxel beyond their centers.
        linear: A, (3, 3) float32, in voxels.
        displacement: u, (3, D, H, W) in voxels; None for an affine map. Differentiated by central differences.
    """

    points: torch.Tensor
    inside: torch.Tensor
    linear: torch.Tensor
    displacement: torch.Tensor | None = None

    def column(self, axis: int) -> torch.Tensor:
        """Return ∂g/∂y of one axis, (3, 1, 1, 1) or (3, D, H, W)."""
        constant = self.linear[:, axis].view(3, 1, 1, 1)
        if self.displacement is None or self.displacement.shape[axis + 1] < 2:
            return constant
        order = min(2, self.displacement.shape[axis + 1] - 1)
        return constant + torch.gradient(self.displacement, dim=axis + 1, edge_order=order)[0]


def within(points: torch.Tensor) -> torch.Tensor:
    """Whether points (3, D, H, W) lie in the voxels of a volume of that shape, (D, H, W) bool."""
    lines = zip(points, points.shape[1:], strict=True)
    return torch.stack([(line >= -0.5) & (line < size - 0.5) for line, size in lines]).all(0)


def move_scalars(
    img: torch.Tensor, source: SourceMap, mode: str = "bilinear", padding_mode: str = "zeros"
) -> torch.Tensor:
    """Take a scalar image through a map, f'(y) = f(g(y)).

    Args:
        img: (C, D, H, W).
        source: the map, on the image's device.
        mode: "bilinear" (linear along each axis) gives float32, "nearest" keeps the values and their type.
        padding_mode: what comes in from outside: "zeros", "border" (the nearest voxel) or "reflection" (about the
            outer faces of the volume).

    Returns:
        (C, D, H, W).

    Raises:
        InvalidInputError: unknown mode or padding.
    """
    check_option("padding_mode", padding_mode, PADDING_MODES)
    if padding_mode == "zeros":
        return resample(img, source.points, source.inside, mode)
    points = source.points
    if padding_mode == "reflection":
        sizes = torch.tensor(img.shape[1:], device=points.device, dtype=points.dtype).view(3, 1, 1, 1)
        around = (points + 0.5).remainder(2 * sizes)
        points = torch.minimum(around, 2 * sizes - around) - 0.5
    return resample(img, points, torch.ones_like(source.inside), mode)


def move_vectors(
    field: torch.Tensor,
    source: SourceMap,
    kind: str = "normal",
    oriented: bool = True,
    mode: str = "bilinear",
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
) -> torch.Tensor:
    r"""Take a vector field through a map, and its vectors with it.

    With J = G⁻¹ the Jacobian of the forward map, in physical space :math:`J = S G^{-1} S^{-1}`, S = diag(voxel size):

    .. math:: n'(y) = J^{-T} n(g(y)) / |\cdot|, \qquad v'(y) = J v(g(y)) / |\cdot|

    for normals and directions. A voxel is known where the voxel nearest to g(y) is, so that a mask moved with "nearest"
    covers the same voxels. In between, "bilinear" is the mean of the known ones of the eight neighbors, with the usual
    weights, and then of unit length; unknown neighbors do not bias it. Of an unoriented field the neighbors are first
    given the sign that agrees with the nearest one (to second order in their angles this is the principal axis of the
    mean of n nᵀ, without an eigenvalue problem per voxel); the result's sign is arbitrary. Where the mean vanishes the
    result is unknown.

    Args:
        field: (3, D, H, W) float, components z, y, x in physical space, unit length there; zero where unknown.
        source: the map, on the field's device.
        kind: "normal" or "direction".
        oriented: whether n and -n differ.
        mode: "bilinear" or "nearest" (the nearest voxel's vector).
        voxel_size: (z, y, x), in any unit.

    Returns:
        (3, D, H, W) float32: unit vectors, and zero where unknown or from outside.

    Raises:
        InvalidInputError: unknown kind or mode.
    """
    check_option("kind", kind, KINDS)
    check_option("mode", mode, MODES)
    units = unit_vectors(field.float())
    if mode == "nearest":
        moved = resample(units, source.points, source.inside, "nearest")
    else:
        moved = _mean(units, source, oriented)
    sizes = torch.as_tensor(voxel_size, dtype=moved.dtype, device=moved.device).view(3, 1, 1, 1)
    if kind == "normal":
        return unit_vectors(_turn_normals(moved * sizes, source) / sizes)
    return unit_vectors(_turn_directions(moved / sizes, source) * sizes)


def _mean(units: torch.Tensor, source: SourceMap, oriented: bool) -> torch.Tensor:
    known = resample(known_voxels(units)[None], source.points, source.inside, "nearest")
    if oriented:
        # zero vectors add nothing to the sum, whose length does not matter: a mean over the known voxels
        total = resample(units, source.points, source.inside, "bilinear")
    else:
        total = _aligned_sum(units, source.points, source.inside)
    return unit_vectors(torch.where(known, total, 0.0), _CANCELED)


def _aligned_sum(units: torch.Tensor, points: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Weighted sum of the eight neighbors, each with the sign that agrees with the nearest, slab by slab."""
    nearest = resample(units, points, inside, "nearest")
    flat = units.flatten(1)
    total = torch.zeros_like(nearest)
    step = max(1, _POINTS_AT_ONCE // max(1, points[0, 0].numel()))
    for start in range(0, points.shape[1], step):
        slab = slice(start, start + step)
        lower = points[:, slab].floor()
        fraction = points[:, slab] - lower
        for corner in itertools.product((0, 1), repeat=3):
            index = torch.zeros(lower.shape[1:], dtype=torch.long, device=units.device)
            weight = torch.ones_like(fraction[0])
            for axis, (bit, size) in enumerate(zip(corner, units.shape[1:], strict=True)):
                index = index * size + (lower[axis] + bit).clamp_(0, size - 1).long()
                weight = weight * (fraction[axis] if bit else 1 - fraction[axis])
            value = flat.index_select(1, index.flatten()).view(3, *index.shape)
            opposed = (value * nearest[:, slab]).sum(0) < 0
            total[:, slab] += value * torch.where(opposed, -weight, weight)
    return total


def _turn_normals(normals: torch.Tensor, source: SourceMap) -> torch.Tensor:
    """Gᵀ n = J⁻ᵀ n."""
    return torch.stack([(source.column(axis) * normals).sum(0) for axis in range(3)])


def _turn_directions(vectors: torch.Tensor, source: SourceMap) -> torch.Tensor:
    """G⁻¹ v = J v but for a positive factor, by Cramer's rule."""
    z, y, x = (source.column(axis) for axis in range(3))
    yx, xz, zy = (torch.linalg.cross(*pair, dim=0) for pair in ((y, x), (x, z), (z, y)))
    sign = (z * yx).sum(0).sign()
    return torch.stack([(one * vectors).sum(0) * sign for one in (yx, xz, zy)])
