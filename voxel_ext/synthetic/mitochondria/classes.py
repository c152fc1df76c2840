"""The six classes of shape, and random solids of each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from voxel_ext.synthetic.mitochondria.solids import Plate, Points, Profile, Rod, Solid, Spheroid, Torus
from voxel_ext.synthetic.mitochondria.tubes import Path, Tubes

ASPECT = (0.75, 1.5)  # polar over equatorial radius of a spheroid
ROD_LENGTH = (5.0, 10.0)  # between the centers of the round ends, over the radius
TUBE_LENGTH, TUBE_TURN = (9.0, 14.0), (130.0, 230.0)  # over the radius; in degrees
TRUNK_LENGTH, TRUNK_TURN = (9.0, 12.0), (0.0, 50.0)
BRANCHES, BRANCH_LENGTH, BRANCH_RADIUS, BRANCH_ANGLE = (2, 3), (5.0, 7.5), (0.75, 0.95), (55.0, 85.0)
RING_RADIUS, RING_STRETCH = (2.1, 3.2), (1.0, 1.15)
DISC_RADIUS, DISC_STRETCH, DISC_SLOPE = (3.8, 5.5), (1.0, 1.35), 0.6
THINNEST = 0.18
"""Lower bound of the thinnest part of any solid over the radius of the ball of the same volume."""


def draw_profile(rng: np.random.Generator, spread: float, numbers: tuple[int, ...]) -> Profile:
    """Draw a profile of which the amplitudes are together at most ``spread``."""
    shares = rng.uniform(0.3, 1.0, len(numbers))
    amplitudes = spread * shares / shares.sum() * rng.uniform(0.5, 1.0)
    phases = rng.uniform(0, 2 * np.pi, len(numbers))
    return Profile(tuple(amplitudes.tolist()), numbers, tuple(phases.tolist()))


def draw_spheroid(rng: np.random.Generator, spread: float) -> Solid:
    """Draw a spheroid, between oblate and prolate."""
    return Spheroid(float(np.exp(rng.uniform(*np.log(ASPECT)))))


def draw_rod(rng: np.random.Generator, spread: float) -> Solid:
    """Draw a straight rod."""
    return Rod(float(rng.uniform(*ROD_LENGTH)), draw_profile(rng, spread, (1, 2)))


def draw_donut(rng: np.random.Generator, spread: float) -> Solid:
    """Draw a torus."""
    profile = draw_profile(rng, spread, (1, 2, 3))
    return Torus(float(rng.uniform(*RING_RADIUS)), profile, float(rng.uniform(*RING_STRETCH)))


def draw_sheet(rng: np.random.Generator, spread: float) -> Solid:
    """Draw a flattened, slightly bent sheet."""
    radius, stretch = float(rng.uniform(*DISC_RADIUS)), float(rng.uniform(*DISC_STRETCH))
    slopes = rng.uniform(-DISC_SLOPE, DISC_SLOPE, 2) / (2 * radius)
    return Plate(radius, stretch, (float(slopes[0] / stretch), float(slopes[1] * stretch)))


def draw_curved_tube(rng: np.random.Generator, spread: float) -> Solid:
    """Draw a tube bent to an open C or U, slightly out of its plane."""
    length, turn = rng.uniform(*TUBE_LENGTH), np.deg2rad(rng.uniform(*TUBE_TURN))
    return Tubes((_centered(_arc(rng, length, turn, 20, draw_profile(rng, spread, (1, 2)))),))


def draw_branched(rng: np.random.Generator, spread: float) -> Solid:
    """Draw a slightly bent trunk with two or three branches, one after the other on different sides."""
    turn = np.deg2rad(rng.uniform(*TRUNK_TURN))
    trunk = _centered(_arc(rng, rng.uniform(*TRUNK_LENGTH), turn, 10, draw_profile(rng, spread, (1, 2))))
    count = int(rng.integers(*BRANCHES, endpoint=True))
    places = (np.arange(count) + rng.uniform(0.35, 0.65, count)) / count
    azimuth = rng.uniform(0, 2 * np.pi) + np.arange(count) * 2 * np.pi / count + rng.uniform(-0.3, 0.3, count)
    branches = [_branch(rng, trunk, p, a, spread) for p, a in zip(places, azimuth, strict=True)]
    return Tubes((trunk, *branches))


def _arc(rng: np.random.Generator, length: float, turn: float, segments: int, profile: Profile) -> Path:
    """A line of this length that turns by this angle in the y-x plane, unevenly, and swings out of it along z."""
    u = (np.arange(segments) + 0.5) / segments
    angle = turn * (u + 0.05 * np.sin(2 * np.pi * u + rng.uniform(0, 2 * np.pi)))
    lift = rng.uniform(-0.35, 0.35) * np.cos(np.pi * u + rng.uniform(0, 2 * np.pi))
    steps = np.stack([np.sin(lift), np.cos(lift) * np.sin(angle), np.cos(lift) * np.cos(angle)], axis=1)
    points = np.concatenate([np.zeros((1, 3)), np.cumsum(steps, axis=0) * (length / segments)])
    return Path(points, profile(np.linspace(0, 1, segments + 1)))


def _centered(path: Path) -> Path:
    """The same line with the middle of its bounding box at the origin."""
    return Path(path.points - (path.points.min(axis=0) + path.points.max(axis=0)) / 2, path.radii)


def _branch(rng: np.random.Generator, trunk: Path, place: float, azimuth: float, spread: float) -> Path:
    """A line from the trunk at a place from 0 to 1, leaving at an angle and bending further away from it."""
    index = int(np.clip(round(place * (len(trunk.points) - 1)), 1, len(trunk.points) - 2))
    along = _unit(trunk.points[index + 1] - trunk.points[index - 1])
    first = _unit(np.cross(along, [1.0, 0.0, 0.0]))  # a trunk never runs along z
    side = np.cos(azimuth) * first + np.sin(azimuth) * np.cross(along, first)
    segments = 6
    tilt = np.deg2rad(rng.uniform(*BRANCH_ANGLE)) + np.linspace(0, rng.uniform(0, 0.3), segments)
    outward = along if place > 0.5 else -along  # away from the other branches
    steps = np.cos(tilt)[:, None] * outward + np.sin(tilt)[:, None] * side
    step = rng.uniform(*BRANCH_LENGTH) / segments
    points = trunk.points[index] + np.concatenate([np.zeros((1, 3)), np.cumsum(steps, axis=0) * step])
    radii = rng.uniform(*BRANCH_RADIUS) * draw_profile(rng, spread, (1, 2))(np.linspace(0, 1, segments + 1))
    return Path(points, radii)


def _unit(vector: Points) -> Points:
    return vector / np.linalg.norm(vector)


DRAW: dict[str, Callable[[np.random.Generator, float], Solid]] = {
    "spheroid": draw_spheroid,
    "rod": draw_rod,
    "curved_tube": draw_curved_tube,
    "branched": draw_branched,
    "donut": draw_donut,
    "sheet": draw_sheet,
}
"""The function that draws a solid of each class: of a source of randomness and of the spread of the radius."""

CLASSES = tuple(DRAW)
"""Names of the classes."""
