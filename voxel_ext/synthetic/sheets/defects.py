"""Where neighboring sheets touch, and where a sheet has a hole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxel_ext.synthetic.sheets.cells import cell_rng, cells_of
from voxel_ext.synthetic.sheets.geometry import Field
from voxel_ext.synthetic.sheets.ripples import Array, Position, Ripples, draw_texture, grid

CONTACT_CELL, CONTACT_SPACINGS = 48, 4  # edge in voxels of the cells that contacts lie in, and in spacings, at least
CONTACT_RADIUS = (0.36, 0.49)  # over the edge
PRESSED = (0.6, 0.85)  # distance of touching sheets over their thickness
GAP_CELL, GAP_LENGTH, GAP_REACH = 40, (4.0, 12.0), 16.0  # edge, half length, and that with the fraying, in voxels
GAP_ASPECT = (0.3, 1.0)  # width of a hole over its length
FRAY, FRAY_WAVELENGTH = 0.15, (8.0, 20.0)


@dataclass(frozen=True)
class Contact:
    """A ball in which sheet ``lower`` is moved up and the next one down by h G(x), G = (1 - |x - c|^4 / R^4)^3.

    Args:
        center: (3,) c.
        radius: R, in voxels; G is 0 from there on, and twice continuously differentiable.
        lower: number of the lower sheet.
        height: h, in units of phi.
    """

    center: Array
    radius: float
    lower: int
    height: float

    def displacement(self, position: Position) -> tuple[Array, list[Array]]:
        """Return h G(x) and its gradient, three arrays along z, y and x."""
        offsets = [(axis - c) / self.radius for axis, c in zip(position, self.center, strict=True)]
        square = np.minimum(offsets[0] ** 2 + offsets[1] ** 2 + offsets[2] ** 2, 1.0)
        rest = 1 - square * square
        slope = (-12 * self.height / self.radius) * square * (rest * rest)
        return self.height * (rest * rest * rest), [slope * offset for offset in offsets]

    def sign(self, sheet: NDArray[np.int32] | int) -> NDArray[np.int64]:
        """1 for the sheet that is moved up, -1 for that moved down, 0 for all others."""
        return np.equal(sheet, self.lower).astype(np.int64) - np.equal(sheet, self.lower + 1)


@dataclass(frozen=True)
class Gap:
    """A frayed elliptic hole in one sheet: |M (x - c)|^2 + fray(x) < 1.

    Args:
        center: (3,) c, on the sheet.
        matrix: (3, 3) M.
        fray: a small function of position.
        sheet: number of the sheet.
        radius: in voxels, of a ball that the hole is in.
    """

    center: Array
    matrix: Array
    fray: Ripples
    sheet: int
    radius: float

    def covers(self, position: Position) -> NDArray[np.bool_]:
        """Whether positions are in the hole, if they are on the sheet."""
        offsets = [axis - c for axis, c in zip(position, self.center, strict=True)]
        form = self.fray.value(position)
        for row in self.matrix:
            along = row[0] * offsets[0] + row[1] * offsets[1] + row[2] * offsets[2]
            form += along * along
        return (form < 1) & (offsets[0] ** 2 + offsets[1] ** 2 + offsets[2] ** 2 < self.radius**2)


def window(center: Array, radius: float, box: Sequence[slice]) -> tuple[slice, ...] | None:
    """Return the voxels of a box that may be in a ball, as slices of the box; None if there are none."""
    parts = []
    for c, part in zip(center, box, strict=True):
        start, stop = max(int(np.ceil(c - radius)), part.start), min(int(np.floor(c + radius)) + 1, part.stop)
        if start >= stop:
            return None
        parts.append(slice(start - part.start, stop - part.start))
    return tuple(parts)


def moved(box: Sequence[slice], inner: Sequence[slice]) -> tuple[slice, ...]:
    """Return a part of a box, given as slices of the box, as slices of the volume."""
    return tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(box, inner, strict=True))


def contacts_in(
    box: Sequence[slice], key: int, share: float, field: Field, spacing: float, thickness: float
) -> list[Contact]:
    """Return the contacts that a box may meet.

    Args:
        box: of voxels.
        key: of the random numbers.
        share: probability of one in a cell; each lies within its cell, so that none meets another.
        field: of the sheets.
        spacing: of the sheets in units of phi.
        thickness: of the sheets in voxels.
    """
    found = []
    edge = max(CONTACT_CELL, int(np.ceil(CONTACT_SPACINGS * spacing)))
    for rng, cell in _chosen(box, key, share, edge):
        radius = edge * rng.uniform(*CONTACT_RADIUS)
        center = np.array(cell) * edge + rng.uniform(radius, edge - radius, 3)
        value, slope = _at(field, center)
        pressed = rng.uniform(*PRESSED)
        height = (spacing - pressed * thickness * np.linalg.norm(slope)) / 2
        lower = int(np.floor(value / spacing))
        usable = height > 0 and lower >= field.lowest and field.is_clear(center, radius)
        if usable and window(center, radius, box) is not None:
            found.append(Contact(center, radius, lower, float(height)))
    return found


def gaps_in(box: Sequence[slice], key: int, share: float, field: Field, spacing: float, thickness: float) -> list[Gap]:
    """Return the gaps that a box may meet; see :func:`contacts_in`. They may lie across the borders of cells."""
    found = []
    radius = GAP_REACH + thickness
    reach = int(np.ceil(radius + spacing))
    near = [slice(part.start - reach, part.stop + reach) for part in box]
    for rng, cell in _chosen(near, key, share, GAP_CELL):
        center = (np.array(cell) + rng.uniform(size=3)) * GAP_CELL
        value, slope = _at(field, center)
        sheet = int(np.rint(value / spacing))
        steepness = float(np.linalg.norm(slope))
        away = (value - sheet * spacing) / steepness
        center -= away * slope / steepness
        gap = Gap(center, _ellipse(rng, slope / steepness, thickness + spacing), _fray(rng), sheet, radius)
        usable = abs(away) <= spacing and sheet >= field.lowest and field.is_clear(center, radius)
        if usable and window(center, radius, box) is not None:
            found.append(gap)
    return found


def _ellipse(rng: np.random.Generator, normal: Array, depth: float) -> Array:
    """The matrix M of a hole whose half axes are two random ones in the sheet, and its depth along the normal."""
    length = rng.uniform(*GAP_LENGTH)
    width = length * rng.uniform(*GAP_ASPECT)
    along = rng.standard_normal(3)
    along -= (along @ normal) * normal
    along /= np.linalg.norm(along)
    return np.stack([along / length, np.cross(normal, along) / width, normal / depth])


def _fray(rng: np.random.Generator) -> Ripples:
    texture = draw_texture(rng, 4, FRAY_WAVELENGTH)
    return Ripples(texture.amplitudes * FRAY, texture.vectors, texture.phases)


def local_grid(box: Sequence[slice], inner: Sequence[slice]) -> Position:
    """Coordinates of a part of a box that is given as slices of the box."""
    return grid(moved(box, inner))


def _chosen(
    box: Sequence[slice], key: int, share: float, edge: int
) -> Iterator[tuple[np.random.Generator, tuple[int, ...]]]:
    for cell in cells_of(box, edge):
        rng = cell_rng(key, cell)
        if rng.uniform() < share:
            yield rng, cell


def _at(field: Field, point: Array) -> tuple[float, Array]:
    z, y, x = point[:, None]
    value, gradient = field.evaluate((z, y, x))
    return float(value[0]), np.concatenate(gradient)
