"""Which nuclei of a worm's shape model are those of the head's neurons, and where they lie in a volume of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.synthetic.worm.alignment import push_apart
from voxel_ext.synthetic.worm.shape_model import WormShapeModel

Array = NDArray[np.float64]

_CLASSES = """
ADA ADE ADF ADL AFD AIA AIB AIM AIN AIY AIZ ALA ASE ASG ASH ASI ASJ ASK AUA AVA AVB AVD AVE AVG AVH AVJ AVK
AVL AWA AWB AWC BAG CEP FLP I1 I2 I3 I4 I5 I6 IL1 IL2 M1 M2 M3 M4 M5 MC MI NSM OLL OLQ RIA RIB RIC RID RIF RIG
RIH RIM RIP RIR RIS RIV RMD RME RMG SAA SAB SIA SIB SMB SMD URA URB URX URY DA1 DB1 DB2 DD1 GLR AMSH
"""

HEAD_CLASSES = frozenset(_CLASSES.split())
"""Neuron classes of the head and the pharynx of hatched larvae (White et al. 1986, doi:10.1098/rstb.1986.0056), with
the motor neurons of the retrovesicular ganglion (DA1, DB1, DB2, DD1), and two classes of glia among the neurons of the
head (GLR, AMSH): together 184 cells of the packaged shape model."""

POSITIONS_WITHIN = ("", "L", "R", "D", "V", "DL", "DR", "VL", "VR")  # what follows the class in a cell's name
FILLED = np.array([0.72, 0.6, 0.82])  # part of the volume's (z, y, x) between the outermost mean centers
RADIUS, SIZE, CELLS = 3.5, (64, 120, 284), 184  # median radius in voxels at that size and number of cells
LOWEST_RADIUS = 2.2  # voxels; such a nucleus has about 40
HIGHEST_FILLING = 0.25  # of the part between the outermost centers; nuclei can then be kept apart
SPACING = 2.1  # least distance of two centers over the radius
TURN = np.radians([6.0, 2.0, 2.0])  # standard deviations of roll (about x), yaw (about z) and pitch (about y)
STRETCH, SHIFT = 0.03, 0.015  # of the scale, and of the shift over the size of the volume


def head_cells(names: Iterable[str]) -> list[str]:
    """The names of cells of the head: one of `HEAD_CLASSES`, then nothing, L, R, D, V, DL, DR, VL or VR.

    Muscles, hypodermis, gut, other glia, the pharynx's muscles, glands and marginal cells (MC1 to MC3), and the neurons
    of the nerve cord and the tail are none of them.

    Args:
        names: names of cells, in capitals.

    Returns:
        those of the head, in the given order.
    """
    known = {head + end for head in HEAD_CLASSES for end in POSITIONS_WITHIN}
    return [name for name in names if name in known]


def choose_cells(model: WormShapeModel, count: int) -> NDArray[np.int64]:
    """Rows of the ``count`` cells of the head whose mean positions are nearest to the nose, sorted by name.

    Raises:
        InvalidInputError: the model has fewer of them.
    """
    rows = {name: row for row, name in enumerate(model.names)}
    head = sorted(head_cells(model.names), key=lambda name: (-model.mean[rows[name], 2], name))
    if len(head) < count:
        raise InvalidInputError(f"cells={count}: the shape model has {len(head)} cells of the head; ask for no more.")
    return np.array([rows[name] for name in sorted(head[:count])])


def nucleus_radius(size: Sequence[int], count: int) -> float:
    """Median radius in voxels: 3.5 at (64, 120, 284) with 184 cells, in proportion to the room per cell; at least 2.2.

    Raises:
        InvalidInputError: so many nuclei do not fit.
    """
    room = np.prod(size) / count / (np.prod(SIZE) / CELLS)
    radius = max(RADIUS * float(np.cbrt(room)), LOWEST_RADIUS)
    filling = count * 4 / 3 * np.pi * radius**3 / float(np.prod(FILLED * size))
    if filling > HIGHEST_FILLING or 4 * radius > min(size):
        raise InvalidInputError(
            f"size={tuple(size)} is too small for {count} nuclei with a radius of {radius:.2f} voxels; choose a larger "
            "size or fewer cells."
        )
    return radius


def draw_centers(
    rng: np.random.Generator,
    model: WormShapeModel,
    rows: NDArray[np.int64],
    size: Sequence[int],
    radius: float,
    shape_noise: float,
    pose_noise: float,
    bend: float,
    roll: int,
) -> Array:
    """Centers of the nuclei of one animal.

    The drawn worm is centered on its chosen cells, bent, turned, and mapped to the volume by a fixed scale per axis
    that makes the model's mean worm fill it up to a margin; then the nuclei are moved apart and into the volume.

    Args:
        rng: source of randomness.
        model: the shape model.
        rows: (N,) of the cells in it.
        size: (Z, Y, X) of the volume.
        radius: of the nuclei in voxels.
        shape_noise: factor on the deviations of the shape from the mean worm.
        pose_noise: factor on the turns, stretches and shifts.
        bend: standard deviation of the angle, in radians, between the body axis at the ends and in the middle.
        roll: 0 or 180 degrees about x.

    Returns:
        (N, 3) (z, y, x) in voxels.
    """
    from scipy.spatial.transform import Rotation

    mean = model.mean[rows]
    extent = np.maximum(mean.max(axis=0) - mean.min(axis=0), 1.0)
    scale = FILLED * size / extent
    middle = (mean.max(axis=0) + mean.min(axis=0)) / 2
    drawn = model.draw(rng, shape_noise)[rows]
    drawn += mean.mean(axis=0) - drawn.mean(axis=0) - middle
    angles = bend * rng.standard_normal(2)
    bent = bend_axis(drawn, float(extent[2]) / 2, angles[0], angles[1])
    about_x, about_z, about_y = rng.standard_normal(3) * TURN * pose_noise + [np.radians(roll), 0, 0]
    turn = Rotation.from_euler("xyz", [about_x, about_y, about_z]).as_matrix()[::-1, ::-1]  # of (z, y, x)
    stretch = np.exp(rng.standard_normal(3) * STRETCH * pose_noise)
    shift = rng.standard_normal(3) * SHIFT * pose_noise
    centers = bent @ turn.T * scale * stretch + (0.5 + shift) * size - 0.5
    return keep_apart(centers, radius, size)


def bend_axis(positions: Array, half_length: float, even: float, odd: float) -> Array:
    """Bend the x axis within the x-y plane without changing its length.

    The axis has at arc length s = x, in units of ``half_length``, the angle even s + odd (s^2 - 1/3); a point beside it
    stays at its distance on the normal.

    Args:
        positions: (N, 3) (z, y, x), the axis along x through the origin.
        half_length: half the length of the body.
        even: angle in radians at s = 1 of a bend to one side.
        odd: the same of a bend like an S, of which the mean is taken away.

    Returns:
        (N, 3) positions.
    """
    s = np.linspace(-2, 2, 801)
    angle = even * s + odd * (s**2 - 1 / 3)
    step = (s[1] - s[0]) * half_length
    walked = [np.concatenate([[0], np.cumsum((f[1:] + f[:-1]) / 2 * step)]) for f in (np.sin(angle), np.cos(angle))]
    y, x = (path - path[len(s) // 2] for path in walked)
    at = np.clip(positions[:, 2] / half_length, s[0], s[-1])
    beyond = positions[:, 2] - at * half_length
    here = even * at + odd * (at**2 - 1 / 3)
    side = positions[:, 1]
    return np.stack(
        [
            positions[:, 0],
            np.interp(at, s, y) + side * np.cos(here) + beyond * np.sin(here),
            np.interp(at, s, x) - side * np.sin(here) + beyond * np.cos(here),
        ],
        axis=1,
    )


def keep_apart(centers: Array, radius: float, size: Sequence[int], rounds: int = 20) -> Array:
    """Move centers at least a radius away from the faces of the volume, and apart by 2.1 radii."""
    low, high = np.full(3, radius), np.array(size) - 1 - radius
    spacing = np.full(len(centers), SPACING * radius)
    for _ in range(rounds):
        inside = np.clip(centers, low, high)
        centers = push_apart(inside, spacing)
        if (centers >= low).all() and (centers <= high).all():
            break
    return np.clip(centers, low, high)
