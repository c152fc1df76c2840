"""Reading what the windows of one layer see, once per plane, ahead of the network."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.utils import convert_to_tensor
from numpy.typing import NDArray

from voxel_ext.data.lazy_volume import LazyVolume
from voxel_ext.data.workers import results_in_order
from voxel_ext.errors import InvalidInputError
from voxel_ext.inferers.windows import WindowGrid


@dataclass
class Layer:
    """Windows with the same z and what they see.

    Attributes:
        start: z of the windows in the padded volume.
        columns: y and x of those that are not empty, in the padded volume.
        corner: y and x of the region in the padded volume.
        region: (C, d, h, w) float32; None if all windows are empty.
    """

    start: int
    columns: list[tuple[int, int]]
    corner: tuple[int, int]
    region: torch.Tensor | None

    def window(self, column: tuple[int, int], roi_size: Sequence[int]) -> torch.Tensor:
        """One window, (C, *roi_size)."""
        assert self.region is not None
        y, x = column[0] - self.corner[0], column[1] - self.corner[1]
        return self.region[:, :, y : y + roi_size[1], x : x + roi_size[2]]


class PlaneReader:
    """Reads runs of planes of a part of a volume; planes that were just read are not read again.

    Rows of chunks are read whole, so that a chunk is read once if the runs ascend.

    Args:
        volume: the volume.
        box: slices along y and x.
    """

    def __init__(self, volume: LazyVolume, box: tuple[slice, slice]) -> None:
        self.volume, self.box = volume, box
        self._first = 0
        self._planes: NDArray | None = None

    def read(self, first: int, stop: int) -> NDArray:
        """Read planes ``first`` to ``stop`` (exclusive) as (C, d, h, w) of the stored type; not to be changed."""
        kept = self._planes
        if kept is not None and self._first <= first < self._first + kept.shape[1]:
            kept = kept[:, first - self._first :]
        else:
            kept = None
        have = first + (kept.shape[1] if kept is not None else 0)
        if have < stop:
            new = self.volume.read((slice(have, self._whole_chunks(stop, stop - first)), *self.box))
            kept = new if kept is None else np.concatenate([kept, new], 1)
        assert kept is not None
        self._first, self._planes = first, kept
        return kept[:, : stop - first]

    def _whole_chunks(self, stop: int, depth: int) -> int:
        """The end of the row of chunks, unless these are much thicker than a window."""
        chunks = self.volume.chunks
        step = chunks[0] if chunks is not None and chunks[0] <= 2 * depth else 1
        return min(-(-stop // step) * step, self.volume.spatial_shape[0])


class RegionReader:
    """Reads the regions of layers of windows.

    Args:
        grid: of all windows.
        columns: y and x of the layer's windows, in the padded volume.
        volume: the input.
        mask: windows without a voxel other than 0 in it are empty; None for no mask.
        minimum_intensity: windows without a voxel above it are empty; None for no minimum.
        transform: applied to each region (C, d, h, w) before padding, or None.
        padding_mode: see ``windows.PADDING_MODES``.
        cval: value for "constant" padding.
    """

    def __init__(
        self,
        grid: WindowGrid,
        columns: list[tuple[int, int]],
        volume: LazyVolume,
        mask: LazyVolume | None = None,
        minimum_intensity: float | None = None,
        transform: Callable[[Any], Any] | None = None,
        padding_mode: str = "constant",
        cval: float = 0.0,
    ) -> None:
        self.grid, self.columns = grid, columns
        self.address, self.minimum_intensity, self.transform = volume.address, minimum_intensity, transform
        self.padding_mode, self.cval = padding_mode, cval
        self.corner = (min(y for y, _ in columns), min(x for _, x in columns))
        far = (max(y for y, _ in columns), max(x for _, x in columns))
        self._box = tuple(self._inside(1 + i, self.corner[i], far[i]) for i in range(2))
        self._image = PlaneReader(volume, self._box)  # type: ignore[arg-type]
        self._mask = PlaneReader(mask, self._box) if mask is not None else None  # type: ignore[arg-type]

    def read(self, start: int) -> Layer:
        """Read the layer of windows that begins at ``start`` of the padded volume."""
        columns, planes = self.columns, self._inside(0, start, start)
        if self._mask is not None:
            columns = self._occupied(columns, self._mask.read(planes.start, planes.stop) != 0)
        if not columns:
            return Layer(start, [], self.corner, None)
        values = self._image.read(planes.start, planes.stop)
        if self.minimum_intensity is not None:
            columns = self._occupied(columns, values > self.minimum_intensity)
        region = self._padded(self._transformed(values)) if columns else None
        return Layer(start, columns, self.corner, region)

    def layers(self, starts: Sequence[int], prefetch: int) -> Generator[Layer]:
        """Read layers in turn, up to ``prefetch`` of them ahead in a thread."""
        if prefetch < 1:
            yield from map(self.read, starts)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="read") as thread:
            yield from results_in_order(thread, self.read, starts, prefetch)

    def _inside(self, axis: int, first: int, last: int) -> slice:
        """The part of the volume that windows at ``first`` to ``last`` of an axis of the padded volume see."""
        before, roi = self.grid.before[axis], self.grid.roi_size[axis]
        return slice(max(first - before, 0), min(last - before + roi, self.grid.size[axis]))

    def _occupied(self, columns: list[tuple[int, int]], found: NDArray) -> list[tuple[int, int]]:
        """Those columns in whose windows anything was found; ``found`` is (C, d, h, w) bool."""
        flat = np.asarray(found.any((0, 1)))
        kept = []
        for y, x in columns:
            rows, row = self._inside(1, y, y), self._inside(2, x, x)
            corner = self._box[0].start, self._box[1].start
            if flat[rows.start - corner[0] : rows.stop - corner[0], row.start - corner[1] : row.stop - corner[1]].any():
                kept.append((y, x))
        return kept

    def _transformed(self, values: NDArray) -> torch.Tensor:
        """(C, d, h, w) float32."""
        if self.transform is None:
            return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
        changed = convert_to_tensor(self.transform(values.astype(np.float32)), track_meta=False)
        if changed.shape != values.shape:
            raise InvalidInputError(
                f"the transform made {tuple(changed.shape)} of a region {tuple(values.shape)} of {self.address}; "
                "expected the same shape (C, d, h, w)"
            )
        return changed.to("cpu", torch.float32)

    def _padded(self, region: torch.Tensor) -> torch.Tensor:
        sizes = zip(reversed(self.grid.before), reversed(self.grid.after), strict=True)
        pad = [size for pair in sizes for size in pair]
        if not any(pad):
            return region
        more = {"value": self.cval} if self.padding_mode == "constant" else {}
        return torch.nn.functional.pad(region[None], pad, mode=self.padding_mode, **more)[0]
