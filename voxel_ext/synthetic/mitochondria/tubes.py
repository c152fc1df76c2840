"""Tubes about curved and branching medial lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from voxel_ext.synthetic.mitochondria.solids import Array, Points

FILLET = 0.5  # reach of the round transition between two branches, over the radius of the trunk


@dataclass(frozen=True)
class Path:
    """A medial line: points joined by straight segments, with a radius at each point that changes linearly between.

    Args:
        points: (N, 3) (z, y, x).
        radii: (N,).
    """

    points: Points
    radii: Points

    def field(self, z: Array, y: Array, x: Array) -> Array:
        """Lowest distance from a segment less the radius at its nearest point."""
        lowest = np.full(np.broadcast_shapes(z.shape, y.shape, x.shape), np.inf, dtype=np.float32)
        points, radii = self.points.astype(np.float32), self.radii.astype(np.float32)
        for (a, b), (first, last) in zip(pairwise(points), pairwise(radii), strict=True):
            direction = b - a
            dz, dy, dx = z - a[0], y - a[1], x - a[2]
            along = (dz * direction[0] + dy * direction[1] + dx * direction[2]) / np.dot(direction, direction)
            np.clip(along, 0, 1, out=along)
            for offset, component in zip((dz, dy, dx), direction, strict=True):
                offset -= along * component
                np.square(offset, out=offset)
            dz += dy
            dz += dx
            np.sqrt(dz, out=dz)
            dz -= first + along * (last - first)
            np.minimum(lowest, dz, out=lowest)
        return lowest

    @property
    def length(self) -> float:
        """Length of the line."""
        return float(np.linalg.norm(np.diff(self.points, axis=0), axis=1).sum())

    @property
    def tube_volume(self) -> float:
        """Volume between the ends: frustums of cones, pi h (r^2 + r s + s^2) / 3 each."""
        heights = np.linalg.norm(np.diff(self.points, axis=0), axis=1)
        r, s = self.radii[:-1], self.radii[1:]
        return float((np.pi / 3 * heights * (r * r + r * s + s * s)).sum())


@dataclass(frozen=True)
class Tubes:
    """Tubes about one medial line or several, the first of which is the trunk that the others begin on.

    Args:
        paths: the medial lines.
    """

    paths: Sequence[Path]
    exact = False

    @property
    def volume(self) -> float:
        """Sum of the tubes and their round ends, less what the branches share with the trunk."""
        trunk, *branches = self.paths
        ends = [trunk.radii[0], trunk.radii[-1], *(branch.radii[-1] for branch in branches)]
        total = sum(path.tube_volume for path in self.paths) + 2 / 3 * np.pi * sum(end**3 for end in ends)
        return float(total - sum(np.pi * branch.radii[0] ** 2 * trunk.radii.mean() for branch in branches))

    @property
    def thinnest(self) -> float:
        """The lowest radius."""
        return float(min(path.radii.min() for path in self.paths))

    def field(self, z: Array, y: Array, x: Array) -> Array:
        """Lowest distance from a tube, smoothed where branches meet: min(f, g) - (k - |f - g|)_+^2 / 4 k."""
        result = self.paths[0].field(z, y, x)
        for path in self.paths[1:]:
            other = path.field(z, y, x)
            near = np.maximum(FILLET - np.abs(result - other), 0)
            result = np.minimum(result, other) - near * near * np.float32(0.25 / FILLET)
        return result

    def balls(self) -> tuple[Points, Points]:
        """Balls at the points of the medial lines."""
        points, radii = (np.concatenate([getattr(path, name) for path in self.paths]) for name in ("points", "radii"))
        return points, radii + (FILLET / 4 if len(self.paths) > 1 else 0.0)

    def lengths(self) -> dict[str, float]:
        """``radius`` of the trunk (mean) and ``axis_length`` of all medial lines together."""
        return {"radius": 1.0, "axis_length": sum(path.length for path in self.paths)}
