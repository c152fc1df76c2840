"""Sums of overlapping windows over the planes that are not finished, in a ring of as many planes as a window has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from voxel_ext.inferers.block_plan import Tile
from voxel_ext.inferers.windows import WindowGrid


@dataclass
class FinishedPlane:
    """One plane of a tile.

    Attributes:
        z: which.
        values: by target, (C, h, w) float32; no targets where there was no window at all.
        covered: (h, w) bool, where there was a window; None: everywhere, or nowhere.
    """

    z: int
    values: dict[str, torch.Tensor]
    covered: torch.Tensor | None


class PlaneAccumulator:
    """Weighted sums over the open planes of a tile: out(v) = sum_i w(v - p_i) f_i(v) / sum_i w(v - p_i).

    Windows come layer by layer, z ascending; before a layer is added, :meth:`take` the planes before it. Each voxel's
    sum is made in the same order, by the same operations, whichever plane is the first.

    Args:
        grid: the windows.
        tile: which voxels of the plane are summed.
        planes: the first one that is summed, and the one after the last.
        channels: by target.
        weight: (d, h, w) of a window, or None for 1 everywhere.
        device: of the sums.
    """

    def __init__(
        self,
        grid: WindowGrid,
        tile: Tile,
        planes: tuple[int, int],
        channels: Mapping[str, int],
        weight: torch.Tensor | None,
        device: torch.device,
    ) -> None:
        self.grid, self.tile, self.weight = grid, tile, weight
        self.next, self.stop = planes
        self._depth = min(grid.roi_size[0], planes[1] - planes[0])
        shape = (self._depth, tile.y[1] - tile.y[0], tile.x[1] - tile.x[0])
        self._sums = {name: torch.zeros((count, *shape), device=device) for name, count in channels.items()}
        self._weights = torch.zeros(shape, device=device)

    def add(self, start: tuple[int, int, int], values: Mapping[str, torch.Tensor]) -> None:
        """Add a window.

        Args:
            start: z, y, x of it in the padded volume.
            values: by target, (C, d, h, w) float32.
        """
        places = [one - before for one, before in zip(start, self.grid.before, strict=True)]
        # planes before the first one belong to another task
        spans = ((self.next, self.stop), self.tile.y, self.tile.x)
        lows = [max(place, span[0]) for place, span in zip(places, spans, strict=True)]
        ends = zip(places, self.grid.roi_size, spans, strict=True)
        highs = [min(place + roi, span[1]) for place, roi, span in ends]
        plane = tuple(slice(lows[i] - spans[i][0], highs[i] - spans[i][0]) for i in (1, 2))
        for low, high, slot in self._ring(lows[0], highs[0]):
            bounds = zip((low, *lows[1:]), (high, *highs[1:]), places, strict=True)
            inner = tuple(slice(a - place, b - place) for a, b, place in bounds)
            target = (slice(slot, slot + high - low), *plane)
            weight = 1.0 if self.weight is None else self.weight[inner]
            self._weights[target] += weight
            for name, window in values.items():
                part = window[(slice(None), *inner)]
                self._sums[name][(slice(None), *target)] += part if self.weight is None else part * weight

    def take(self, before: int) -> Iterator[FinishedPlane]:
        """Take out the planes that no later window reaches.

        Args:
            before: planes before this one, which is where the next layer begins.

        Yields:
            the planes, ascending.
        """
        while self.next < min(before, self.stop):
            slot = self.next % self._depth
            weights = self._weights[slot]
            covered = weights > 0
            if bool(covered.any()):
                everywhere = bool(covered.all())
                divisor = weights if everywhere else weights.masked_fill(~covered, 1.0)
                means = {name: sums[:, slot] / divisor for name, sums in self._sums.items()}
                yield FinishedPlane(self.next, means, None if everywhere else covered)
                self._weights[slot] = 0
                for sums in self._sums.values():
                    sums[:, slot] = 0
            else:
                yield FinishedPlane(self.next, {}, None)
            self.next += 1

    def _ring(self, low: int, high: int) -> list[tuple[int, int, int]]:
        """Cut a run of planes where the ring begins anew: first plane, plane after the last, slot."""
        slot = low % self._depth
        middle = min(high, low + self._depth - slot)
        parts = [(low, middle, slot), (middle, high, 0)]
        return [part for part in parts if part[0] < part[1]]
