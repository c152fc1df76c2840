"""Rotation groups of the cubic grid and their exact action on volumes and feature maps.

An element g is a signed permutation matrix M of the (z, y, x) coordinates measured from the centre of the volume. It
acts on a volume by (g f)(p) = f(M⁻¹ p): what lay at p comes to lie at M p. On a feature map with a group axis it also
moves the group axis, (g F)(r, p) = F(g⁻¹ r, M⁻¹ p), as what a group convolution gives for a turned input does. Both are
permutations of voxels: nothing is interpolated.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch

from voxel_ext.errors import InvalidInputError, check_option

AXES = "zyx"
GROUP_NAMES = (
    "V",
    "T4",
    "S4",
    "Oh",
    *(f"{kind}{axis}" for kind in ("C2", "C4", "D4") for axis in ("", ":z", ":y", ":x")),
)


@dataclass(frozen=True, eq=False)
class RotationGroup:
    """A finite group of rotations (and for Oh reflections) that map the cubic grid to itself.

    Attributes:
        name: ``"V"``, ``"T4"``, ``"S4"``, ``"Oh"``, or a cyclic or dihedral group with its axis, e.g. ``"C4:z"``.
        matrices: (|G|, 3, 3) int64, acting on (z, y, x) columns; element 0 is the identity.
        cayley: (|G|, |G|) int64, ``cayley[g, h]`` is the index of g·h (first h, then g).
        inverse: (|G|,) int64, index of the inverse of each element.
    """

    name: str
    matrices: torch.Tensor
    cayley: torch.Tensor
    inverse: torch.Tensor

    @property
    def order(self) -> int:
        """Number of elements |G|."""
        return len(self.matrices)

    @property
    def flipped_axes(self) -> tuple[bool, bool, bool]:
        """For each of (z, y, x): whether some element reverses it."""
        flipped = (self.matrices < 0).any(dim=2).any(dim=0).tolist()
        return flipped[0], flipped[1], flipped[2]

    def act(self, tensor: torch.Tensor, element: int, spatial_dims: int = 3) -> torch.Tensor:
        """Turn the last three axes by one element, (g f)(p) = f(M⁻¹ p).

        Args:
            tensor: (..., D, H, W) of any type; the sizes may differ and then change places with their axes.
            element: index of g, 0 to |G| - 1.
            spatial_dims: number of trailing axes to turn; only 3.

        Returns:
            the turned tensor, of the permuted shape.

        Raises:
            InvalidInputError: for an unknown element, too few axes, or ``spatial_dims`` other than 3.
        """
        if spatial_dims != 3:
            raise InvalidInputError(f"spatial_dims={spatial_dims}: the elements of {self.name} turn three axes; use 3.")
        if tensor.dim() < 3:
            raise InvalidInputError(f"act expects a tensor (..., D, H, W), got the shape {tuple(tensor.shape)}.")
        first = tensor.dim() - 3
        source, flips = self.turned_axes(element)
        turned = tensor.permute(*range(first), *(first + axis for axis in source))
        return turned.flip([first + axis for axis in flips]) if flips else turned

    def turned_axes(self, element: int) -> tuple[list[int], list[int]]:
        """Say how an element turns a volume: ``volume.permute(order).flip(flips)``.

        Args:
            element: index of g, 0 to |G| - 1.

        Returns:
            the order of the axes, and which of them are then reversed.

        Raises:
            InvalidInputError: for an unknown element.
        """
        rows = self.matrices[self._checked(element)].tolist()
        order = [[abs(value) for value in row].index(1) for row in rows]
        return order, [axis for axis, row in enumerate(rows) if row[order[axis]] < 0]

    def act_features(self, tensor: torch.Tensor, element: int) -> torch.Tensor:
        """Turn a feature map with a group axis, (g F)(r, p) = F(g⁻¹ r, M⁻¹ p).

        Args:
            tensor: (B, C, |G|, D, H, W).
            element: index of g, 0 to |G| - 1.

        Returns:
            the turned map, (B, C, |G|, D', H', W').

        Raises:
            InvalidInputError: for an unknown element or another shape.
        """
        if tensor.dim() != 6 or tensor.shape[2] != self.order:
            raise InvalidInputError(
                f"act_features of {self.name} expects (B, C, {self.order}, D, H, W), got {tuple(tensor.shape)}."
            )
        permutation = self.cayley[self.inverse[self._checked(element)]]
        return self.act(tensor.index_select(2, permutation.to(tensor.device)), element)

    def grid_permutation(self, kernel_size: int | Sequence[int]) -> torch.Tensor:
        """Where each voxel of a turned kernel comes from.

        Args:
            kernel_size: k or (kz, ky, kx).

        Returns:
            (|G|, kz·ky·kx) int64 with ``act(w, g).flatten() == w.flatten()[permutation[g]]``.

        Raises:
            InvalidInputError: if the group exchanges axes along which the kernel has different sizes.
        """
        size = self.check_axes("kernel_size", kernel_size)
        grid = torch.arange(size[0] * size[1] * size[2]).reshape(size)
        return torch.stack([self.act(grid, element).flatten() for element in range(self.order)])

    def check_axes(self, name: str, value: int | Sequence[int]) -> tuple[int, int, int]:
        """Expand a setting to (z, y, x) and check that the group allows it.

        Args:
            name: what the value sets, for the message.
            value: one number for all axes, or three.

        Returns:
            the value per axis.

        Raises:
            InvalidInputError: if there are not three, or they differ along axes that the group exchanges.
        """
        values = tuple(value) if isinstance(value, Sequence) else (value,) * 3
        if len(values) != 3 or not all(isinstance(item, int) for item in values):
            raise InvalidInputError(f"{name}={value!r}: expected one whole number or three (z, y, x).")
        exchanged = self.matrices.abs().amax(dim=0)
        for first, second in itertools.combinations(range(3), 2):
            if exchanged[first, second] and values[first] != values[second]:
                raise InvalidInputError(
                    f"{name}={values} differs along {AXES[first]} and {AXES[second]}, which the group {self.name} "
                    "exchanges; use equal values there, or a group that keeps these axes."
                )
        return values[0], values[1], values[2]

    def _checked(self, element: int) -> int:
        if not 0 <= element < self.order:
            raise InvalidInputError(f"element={element}: the group {self.name} has the elements 0 to {self.order - 1}.")
        return int(element)


def rotation_group(name: str | RotationGroup) -> RotationGroup:
    """Return a rotation group by name; equal names give the same object.

    Args:
        name: ``"V"`` (half turns, 4 elements), ``"T4"`` (tetrahedron, 12), ``"S4"`` (all rotations of the cube, 24),
            ``"Oh"`` (with reflections, 48); about one axis ``"C2"`` (2), ``"C4"`` (4), ``"D4"`` (8), with the axis
            after a colon, e.g. ``"C2:x"``, the roll of a worm; without it the axis is z. A group is returned as it is.

    Raises:
        InvalidInputError: for another name.
    """
    if isinstance(name, RotationGroup):
        return name
    check_option("group", name, GROUP_NAMES)
    return _build(f"{name}:z" if name in ("C2", "C4", "D4") else name)


@cache
def _build(name: str) -> RotationGroup:
    belongs = _membership(name)
    elements = [matrix for matrix in _signed_permutations() if belongs(matrix)]
    matrices = torch.stack(elements)
    products = torch.einsum("gij,hjk->ghik", matrices, matrices)
    cayley = (products[:, :, None] == matrices).all(dim=(3, 4)).long().argmax(dim=2)
    return RotationGroup(name, matrices, cayley, inverse=(cayley == 0).long().argmax(dim=1))


def _signed_permutations() -> list[torch.Tensor]:
    """All 48 matrices of Oh, the identity first. Weights depend on this order: it must not change."""
    identity = torch.eye(3, dtype=torch.int64)
    return [
        identity[list(order)] * torch.tensor(signs)[:, None]
        for order in itertools.permutations(range(3))
        for signs in itertools.product((1, -1), repeat=3)
    ]


def _membership(name: str) -> Callable[[torch.Tensor], bool]:
    """Which matrices of Oh belong to a group."""

    def determinant(matrix: torch.Tensor) -> int:
        return round(float(torch.linalg.det(matrix.double())))

    kind, _, axis_name = name.partition(":")
    if axis_name:
        axis = AXES.index(axis_name)
        if kind == "D4":
            return lambda matrix: determinant(matrix) == 1 and abs(int(matrix[axis, axis])) == 1
        if kind == "C4":
            return lambda matrix: determinant(matrix) == 1 and int(matrix[axis, axis]) == 1
        return lambda matrix: (
            determinant(matrix) == 1 and bool((matrix.diag() * matrix.diag()).all()) and int(matrix[axis, axis]) == 1
        )
    return {
        "V": lambda matrix: determinant(matrix) == 1 and bool(matrix.diag().all()),
        "T4": lambda matrix: determinant(matrix) == 1 and determinant(matrix.abs()) == 1,
        "S4": lambda matrix: determinant(matrix) == 1,
        "Oh": lambda matrix: True,
    }[kind]
