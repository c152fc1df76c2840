"""Where bodies lie in a volume: not nearer to each other than a gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from voxel_ext.synthetic.mitochondria.bodies import Raster

POSITIONS = 1000  # tried for each drawn body
MIN_VISIBLE = 0.3  # share of a body that the border of the volume leaves, at least
MARGIN = 1  # voxels between a body that lies inside and the border
PROBES = 256  # voxels of a body that are looked up first


@dataclass
class Space:
    """A volume that is filled body by body.

    Args:
        size: (Z, Y, X) in voxels.
        voxel_size: (z, y, x) in nm.
        gap: lowest distance in nm of the centers of voxels of two bodies.
        cut: whether the border of the volume may cut a body.
    """

    size: tuple[int, ...]
    voxel_size: tuple[float, ...]
    gap: float
    cut: bool
    taken: NDArray[np.bool_] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.taken = np.zeros(self.size, dtype=bool)

    def find(self, rng: np.random.Generator, raster: Raster) -> NDArray[np.int64] | None:
        """Find a voxel for the origin of a body where it is far enough from all others; None if none was found."""
        inside = np.argwhere(raster.mask) + raster.start
        limits = self._limits(inside)
        if limits is None:
            return None
        lowest, highest = limits
        probes = inside[:: max(1, len(inside) // PROBES)]
        for origin in rng.integers(lowest, highest, size=(POSITIONS, 3), endpoint=True):
            if self._is_free(probes + origin) and self._is_free(inside + origin) and self._is_whole(raster, origin):
                return origin
        return None

    def window(self, raster: Raster, origin: NDArray[np.int64]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Slices of the volume, and of the raster, that a body whose origin is in a voxel covers."""
        first = raster.start + origin
        low = np.maximum(first, 0)
        high = np.minimum(first + raster.mask.shape, self.size)
        volume = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        part = tuple(slice(int(a), int(b)) for a, b in zip(low - first, high - first, strict=True))
        return volume, part

    def holds(self, raster: Raster, origin: NDArray[np.int64]) -> bool:
        """Whether the whole box of a body whose origin is in a voxel lies in the volume."""
        first = raster.start + origin
        return bool((first >= 0).all() and (first + raster.mask.shape <= self.size).all())

    def take(self, raster: Raster, origin: NDArray[np.int64]) -> None:
        """Mark the voxels of a body, and those nearer to it than the gap."""
        from scipy.ndimage import distance_transform_edt

        reach = np.ceil(self.gap / np.array(self.voxel_size)).astype(int)
        near = np.pad(raster.mask, [(int(r), int(r)) for r in reach])
        if self.gap:
            near = distance_transform_edt(~near, sampling=self.voxel_size) < self.gap
        volume, part = self.window(Raster(raster.start - reach, near, raster.distance), origin)
        self.taken[volume] |= near[part]

    def _limits(self, inside: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """Lowest and highest voxel of the origin; None if the body does not fit."""
        size = np.array(self.size)
        if self.cut:
            return np.zeros(3, dtype=np.int64), size - 1
        if not len(inside):
            return None
        lowest, highest = MARGIN - inside.min(axis=0), size - 1 - MARGIN - inside.max(axis=0)
        return (lowest, highest) if (lowest <= highest).all() else None

    def _is_free(self, voxels: NDArray[np.int64]) -> bool:
        """Whether enough of these voxels are in the volume, and none of them is taken."""
        if self.cut:
            seen = ((voxels >= 0) & (voxels < self.size)).all(axis=1)
            if seen.mean() < MIN_VISIBLE:
                return False
            voxels = voxels[seen]
        z, y, x = voxels.T
        return not self.taken[z, y, x].any()

    def _is_whole(self, raster: Raster, origin: NDArray[np.int64]) -> bool:
        return not self.cut or is_connected(raster.mask[self.window(raster, origin)[1]])


def is_connected(mask: NDArray[np.bool_]) -> bool:
    """Whether there is exactly one part of voxels that share faces."""
    from scipy.ndimage import label

    return int(label(mask)[1]) == 1


def share_out(rng: np.random.Generator, total: int, names: Sequence[str]) -> dict[str, int]:
    """Share a number out among classes as evenly as possible; which ones get one more is random."""
    counts = dict.fromkeys(names, total // len(names))
    for index in rng.permutation(len(names))[: total % len(names)]:
        counts[names[int(index)]] += 1
    return counts
