"""The nearest sheet of every voxel: its number, its distance and its normal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxel_ext.synthetic.sheets.defects import Contact, Gap, contacts_in, gaps_in, local_grid, window
from voxel_ext.synthetic.sheets.geometry import Field
from voxel_ext.synthetic.sheets.ripples import Array, Position, grid

SLAB = 1 << 15  # voxels evaluated at once, so that the arrays stay in the cache


@dataclass(frozen=True)
class Nearest:
    """The nearest sheet of every voxel of a box.

    Args:
        sheet: (D, H, W) its number.
        distance: (D, H, W) to it in voxels, negative below it.
        present: (D, H, W) False where there is no such sheet, or it has a hole.
        normals: (3, D, H, W) unit vectors (z, y, x) along the gradient.
    """

    sheet: NDArray[np.int32]
    distance: NDArray[np.float32]
    present: NDArray[np.bool_]
    normals: NDArray[np.float32]


@dataclass(frozen=True)
class Stack:
    """Sheets k = lowest, lowest + 1, …: the level sets psi_k(x) = phi(x) - k * spacing - b_k(x) = 0.

    b_k is 0 but in the contacts of the sheet. To first order, the distance to sheet k is psi_k / |grad psi_k|.

    Args:
        field: phi.
        spacing: of the sheets, in units of phi.
        thickness: of the sheets, in voxels.
        touching: share of the cells that have a contact.
        gaps: share of the cells that have a gap.
        keys: of the random numbers of contacts and of gaps.
    """

    field: Field
    spacing: float
    thickness: float
    touching: float
    gaps: float
    keys: tuple[int, int]

    def contacts(self, box: Sequence[slice]) -> list[Contact]:
        """Return the contacts that a box may meet."""
        return contacts_in(box, self.keys[0], self.touching, self.field, self.spacing, self.thickness)

    def holes(self, box: Sequence[slice]) -> list[Gap]:
        """Return the gaps that a box may meet."""
        return gaps_in(box, self.keys[1], self.gaps, self.field, self.spacing, self.thickness)

    def evaluate(self, sheet: int, position: Position, contacts: Sequence[Contact]) -> tuple[Array, list[Array]]:
        """Return psi of a sheet and its gradient at any positions, given the contacts there."""
        value, gradient = self.field.evaluate(position)
        value -= sheet * self.spacing
        for contact in contacts:
            _displace(value, gradient, contact, np.full(value.shape, sheet), position)
        return value, gradient

    def nearest(self, box: Sequence[slice]) -> Nearest:
        """Return the nearest sheet of every voxel in a box."""
        shape = [part.stop - part.start for part in box]
        result = Nearest(
            np.empty(shape, np.int32),
            np.empty(shape, np.float32),
            np.empty(shape, bool),
            np.empty((3, *shape), np.float32),
        )
        contacts, holes = self.contacts(box), self.holes(box)
        planes = max(1, SLAB // (shape[1] * shape[2]))
        for first in range(0, shape[0], planes):
            inner = (slice(first, min(first + planes, shape[0])), slice(0, shape[1]), slice(0, shape[2]))
            part = (slice(box[0].start + inner[0].start, box[0].start + inner[0].stop), *box[1:])
            self._fill(result, inner, part, contacts, holes)
        return result

    def _fill(
        self,
        result: Nearest,
        inner: tuple[slice, ...],
        box: tuple[slice, ...],
        contacts: Sequence[Contact],
        holes: Sequence[Gap],
    ) -> None:
        value, gradient = self.field.evaluate(grid(box))
        sheet = np.rint(value / self.spacing)
        offset = value - sheet * self.spacing
        number = sheet.astype(np.int32)
        for contact in contacts:
            part = window(contact.center, contact.radius, box)
            if part is not None:
                self._press(
                    contact, local_grid(box, part), value[part], number[part], offset[part], [g[part] for g in gradient]
                )
        steepness = _norm(gradient)
        result.sheet[inner] = number
        result.distance[inner] = offset / steepness
        for component, normal in zip(gradient, result.normals, strict=True):
            normal[inner] = component / steepness
        present = number >= self.field.lowest
        for hole in holes:
            part = window(hole.center, hole.radius, box)
            if part is not None:
                present[part] &= (number[part] != hole.sheet) | ~hole.covers(local_grid(box, part))
        result.present[inner] = present

    def _press(
        self,
        contact: Contact,
        position: Position,
        value: Array,
        number: NDArray[np.int32],
        offset: Array,
        gradient: Sequence[Array],
    ) -> None:
        """Choose between the sheets below and above again, where a contact moves them; views are changed in place."""
        lower = np.floor(value / self.spacing).astype(np.int32)
        candidates = []
        for sheet in (lower, lower + 1):
            psi, slope = value - sheet * self.spacing, [component.copy() for component in gradient]
            _displace(psi, slope, contact, sheet, position)
            candidates.append((psi, slope, np.abs(psi) / _norm(slope)))
        (psi_low, slope_low, away_low), (psi_up, slope_up, away_up) = candidates
        up = away_up < away_low
        number[...] = lower + up
        offset[...] = np.where(up, psi_up, psi_low)
        for component, low, high in zip(gradient, slope_low, slope_up, strict=True):
            component[...] = np.where(up, high, low)


def _displace(
    psi: Array, gradient: Sequence[Array], contact: Contact, sheet: NDArray[np.int32], position: Position
) -> None:
    """Subtract what a contact adds to the sheets with these numbers, in place."""
    sign = contact.sign(sheet)
    displacement, slope = contact.displacement(position)
    psi -= sign * displacement
    for component, change in zip(gradient, slope, strict=True):
        component -= sign * change


def _norm(gradient: Sequence[Array]) -> Array:
    square = gradient[0] * gradient[0]
    square += gradient[1] * gradient[1]
    square += gradient[2] * gradient[2]
    return np.sqrt(square)
