"""Finding the patches of a label volume that are labeled enough."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from voxel_ext.data.label_scan import LabelBits, scan_label
from voxel_ext.data.lazy_volume import LazyVolume, open_volume
from voxel_ext.data.patch_cache import read_cached_positions, write_cached_positions
from voxel_ext.data.patch_counts import PatchGrid, as_positions, count_patches
from voxel_ext.data.scheduling import block_scheduler
from voxel_ext.errors import InvalidInputError, check_option, check_sizes

logger = logging.getLogger(__name__)

RATIOS = ("patch", "bounding_box")


class PatchIndex:
    """Finds the patches of a volume that are labeled enough, reading every stored chunk of the label once.

    Candidates start at the low corner of the bounding box of all labeled voxels (or where the last patch starts that
    fits into the volume, if that is before) and follow by ``stride``, as long as they start inside that box and end
    inside the volume: a patch may reach beyond the box, never beyond the volume.
    A candidate is valid if

    - the bounding box of its own labeled voxels has at least ``min_bbox_percent`` of the patch's volume, and
    - its labeled voxels are at least ``min_labeled_ratio`` of the voxels of the patch, or of that bounding box.

    Voxels are labeled if they are neither 0 nor ``ignore_label``. While reading, one bit a voxel is kept, compressed
    and only of blocks that have labeled voxels: in memory up to 64 MiB, then in a temporary file. The patches are
    counted afterwards, as many rows along z at a time as fit in 128 MiB.

    Args:
        patch_size: voxels (z, y, x), or one number for all axes.
        stride: step from one candidate to the next; None for half the patch size, rounded down.
        min_bbox_percent: a share, 0 to 1; 0.95 as in the tool for papyrus sheets that this is for. 0 takes all.
        min_labeled_ratio: a share, 0 to 1; 0.07 likewise. 0 takes all.
        ratio_of: "patch", or "bounding_box" as that tool's manual words it.
        ignore_label: a value that does not count as labeled.
        num_workers: processes that read; 0 for this one.
        scheduler: see ``block_scheduler``.
        progress: show a bar.

    Raises:
        InvalidInputError: a setting is not as described; names it.
    """

    def __init__(
        self,
        patch_size: Sequence[int] | int,
        stride: Sequence[int] | int | None = None,
        min_bbox_percent: float = 0.95,
        min_labeled_ratio: float = 0.07,
        ratio_of: str = "patch",
        ignore_label: float | None = None,
        num_workers: int = 0,
        scheduler: str | None = None,
        progress: bool = True,
    ) -> None:
        self.patch_size = check_sizes("patch_size", patch_size)
        half = tuple(max(size // 2, 1) for size in self.patch_size)
        self.stride = half if stride is None else check_sizes("stride", stride)
        self.min_bbox_percent = _share("min_bbox_percent", min_bbox_percent)
        self.min_labeled_ratio = _share("min_labeled_ratio", min_labeled_ratio)
        self.ratio_of = check_option("ratio_of", ratio_of, RATIOS)
        if ignore_label is not None and not isinstance(ignore_label, Real):
            raise InvalidInputError(f"ignore_label={ignore_label!r}; expected a number, or None for no such value")
        self.ignore_label = ignore_label
        self.progress = progress
        self._scheduler = block_scheduler(scheduler, num_workers)

    def find(self, volume: LazyVolume | Any, cache: str | os.PathLike[str] | None = None) -> np.ndarray:
        """Find the valid patches of a label.

        Args:
            volume: the label, one channel; a volume or anything that ``open_volume`` takes.
            cache: JSON file with the positions, used if it was made with the same settings from the same label (see
                ``LazyVolume.fingerprint``). A stale or damaged one is replaced, and a warning says why.

        Returns:
            (N, 3) int64, the starts (z, y, x) of the patches in voxels, sorted, N > 0.

        Raises:
            InvalidInputError: more than one channel; the volume is smaller than a patch; no voxel is labeled; no
                candidate is valid (names the best ones and the thresholds); as ``open_volume``.
            MissingDataError: as ``open_volume``.
            OSError: the cache cannot be written.
        """
        volume = volume if isinstance(volume, LazyVolume) else open_volume(volume, name="label")
        last = self._last_start(volume)
        if cache is None:
            return self._search(volume, last)
        fingerprint = self._fingerprint(volume)
        positions = read_cached_positions(cache, fingerprint, last)
        if positions is None:
            positions = self._search(volume, last)
            write_cached_positions(cache, fingerprint, positions)
        return positions

    def _last_start(self, volume: LazyVolume) -> tuple[int, ...]:
        """The largest possible start of a patch."""
        if volume.shape[0] != 1:
            raise InvalidInputError(
                f"{volume.address} has {volume.shape[0]} channels, shape {volume.shape} (C, D, H, W); expected a label "
                "of one channel"
            )
        last = tuple(length - size for length, size in zip(volume.spatial_shape, self.patch_size, strict=True))
        if min(last) < 0:
            raise InvalidInputError(
                f"{volume.address} has the shape {volume.spatial_shape} (z, y, x), smaller than a patch of "
                f"{self.patch_size}; choose a smaller patch_size or leave this volume out"
            )
        return last

    def _fingerprint(self, volume: LazyVolume) -> dict[str, Any]:
        names = ("patch_size", "stride", "min_bbox_percent", "min_labeled_ratio", "ratio_of", "ignore_label")
        return {"label": volume.fingerprint(), **{name: getattr(self, name) for name in names}}

    def _search(self, volume: LazyVolume, last: tuple[int, ...]) -> np.ndarray:
        with scan_label(volume, self.ignore_label, self._scheduler, self.progress) as bits:
            grid = self._grid(volume, bits, last)
            best = _Best()
            found = [np.empty((0, 3), np.int64)]
            with tqdm(total=grid.counts[0], desc="choosing patches", unit="row", disable=not self.progress) as bar:
                for rows, labeled, boxes in count_patches(bits, grid):
                    share, ratio = self._shares(labeled, boxes)
                    valid = (share >= self.min_bbox_percent) & (ratio >= self.min_labeled_ratio)
                    found.append(as_positions(valid, rows))
                    best.update(share, ratio, rows)
                    bar.update(rows.counts[0])
        positions = np.concatenate(found)
        if not len(positions):
            raise InvalidInputError(self._nothing_valid(volume, grid, best))
        logger.info("%s: %d of %d patches are labeled enough", volume.address, len(positions), math.prod(grid.counts))
        return positions

    def _grid(self, volume: LazyVolume, bits: LabelBits, last: tuple[int, ...]) -> PatchGrid:
        """All candidates."""
        box = bits.bounding_box()
        if box is None:
            ignored = "" if self.ignore_label is None else f" or the ignored {self.ignore_label}"
            raise InvalidInputError(f"{volume.address} has no labeled voxel: all are 0{ignored}")
        high = tuple(map(int, box[1]))
        # a label that begins less than a patch before the volume's end has its first patch at that end
        low = tuple(min(int(first), end) for first, end in zip(box[0], last, strict=True))
        ends = [min(high[axis] - 1, last[axis]) for axis in range(3)]
        counts = tuple((end - start) // step + 1 for start, end, step in zip(low, ends, self.stride, strict=True))
        return PatchGrid(low, self.stride, self.patch_size, counts)

    def _shares(self, labeled: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The bounding box's share of the patch, and the share of labeled voxels; the latter 0 where none is."""
        size = math.prod(self.patch_size)
        whole = size if self.ratio_of == "patch" else np.maximum(boxes, 1)
        return boxes / size, labeled / whole

    def _nothing_valid(self, volume: LazyVolume, grid: PatchGrid, best: _Best) -> str:
        ratio, other_share, ratio_at = best.ratio
        share, other_ratio, share_at = best.share
        return (
            f"{volume.address}: none of {math.prod(grid.counts)} patches of {self.patch_size} (z, y, x) has a labeled "
            f"ratio (of the {self.ratio_of}) of at least min_labeled_ratio={self.min_labeled_ratio} and a bounding box "
            f"of at least min_bbox_percent={self.min_bbox_percent} of the patch. Best labeled ratio {ratio:.4g} at "
            f"{ratio_at} (bounding box there {other_share:.4g}); best bounding box {share:.4g} at {share_at} (labeled "
            f"ratio there {other_ratio:.4g}). Lower the thresholds or choose another patch_size"
        )


class _Best:
    """The patches with the largest ratio and with the largest bounding box: value, the other value, start.

    The larger other value decides between equal ones.
    """

    def __init__(self) -> None:
        self.ratio: tuple[float, float, tuple[int, ...]] = (-1.0, -1.0, ())
        self.share: tuple[float, float, tuple[int, ...]] = (-1.0, -1.0, ())

    def update(self, share: np.ndarray, ratio: np.ndarray, grid: PatchGrid) -> None:
        """Look at further patches."""
        self.ratio = max(self.ratio, _largest(ratio, share, grid), key=lambda item: item[:2])
        self.share = max(self.share, _largest(share, ratio, grid), key=lambda item: item[:2])


def _largest(values: np.ndarray, others: np.ndarray, grid: PatchGrid) -> tuple[float, float, tuple[int, ...]]:
    at = np.unravel_index(np.argmax(np.where(values == values.max(), others, -1)), values.shape)
    start = tuple(o + int(k) * s for o, k, s in zip(grid.origin, at, grid.stride, strict=True))
    return float(values[at]), float(others[at]), start


def _share(name: str, value: float) -> float:
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value <= 1:
        raise InvalidInputError(f"{name}={value!r}; expected a share between 0 and 1 (0.95 for 95 percent)")
    return float(value)
