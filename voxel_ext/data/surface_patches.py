"""Patches of volumes with the targets of a multi-task network, as a dataset for training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from voxel_ext.data.lazy_volume import LazyVolume
from voxel_ext.data.surface_volumes import SurfaceVolume, read_surface_volumes
from voxel_ext.data.vector_codes import decode_vectors
from voxel_ext.errors import InvalidInputError, check_counts
from voxel_ext.targets import Target

__all__ = ["SurfacePatchDataset", "SurfaceVolume", "read_surface_volumes"]

Patch = tuple[int, Sequence[int]]
"""Number of a volume, and the first voxel (z, y, x) of a patch, which may lie outside."""


class SurfacePatchDataset(Dataset):
    """Patches of images, normalized, with their targets; read from the files when they are asked for.

    An item is a dict with

    - ``image``: (C, d, h, w) float32, normalized; what lies outside of the volume is mirrored at its border voxels;
    - every target under its name, float32:
      with one channel and sigmoid (1, d, h, w), 1 where the stored value is not 0;
      with softmax (1, d, h, w) class indices, of targets stored with one channel per class that of the largest value;
      vectors (3, d, h, w) with the components (z, y, x), 0 where unknown; any other (C, d, h, w) as stored.
      The value ``ignore_label`` is kept in all but vectors, which are 0 outside of the volume; the others are
      ``ignore_label`` there, or 0 if there is none;
    - ``name`` of the volume and ``position``, (3,) the patch's first voxel (z, y, x).

    Picklable, also for worker processes that are spawned.

    Args:
        patches: (number of the volume, first voxel (z, y, x)); patches may reach over the border of the volume.
        volumes: the volumes.
        targets: the targets to load, by name.
        patch_size: (d, h, w) in voxels.
        normalizations: one per volume, such as ``IntensityNormalization``.
        transform: what to do with an item; None for nothing.
        ignore_label: value of voxels without a label; None if there is none.
        dilate_label: grow the labels of targets with one channel and sigmoid by as many steps to the 6 neighbors.
            Voxels with ``ignore_label`` stay as they are, but labels grow across them.

    Raises:
        InvalidInputError: a patch of a volume that does not exist or outside of its volume; a size that is not three
            positive numbers, another number of normalizations, a target that a volume lacks, a negative
            ``dilate_label``.
    """

    def __init__(
        self,
        patches: Sequence[Patch],
        volumes: Sequence[SurfaceVolume],
        targets: Mapping[str, Target],
        patch_size: Sequence[int],
        normalizations: Sequence[Callable[[Any], Any]],
        transform: Callable[[dict[str, Any]], Any] | None = None,
        ignore_label: float | None = None,
        dilate_label: int = 0,
    ) -> None:
        self.patch_size = tuple(patch_size)
        if len(self.patch_size) != 3 or not all(isinstance(n, Integral) and n > 0 for n in self.patch_size):
            raise InvalidInputError(f"patch_size={patch_size!r}; expected three positive whole numbers (z, y, x)")
        check_counts({}, dilate_label=dilate_label)
        if len(normalizations) != len(volumes):
            raise InvalidInputError(
                f"{len(normalizations)} normalizations for {len(volumes)} volumes; expected as many"
            )
        self.volumes, self.targets, self.normalizations = list(volumes), dict(targets), list(normalizations)
        self.transform, self.ignore_label, self.dilate_label = transform, ignore_label, int(dilate_label)
        for volume in self.volumes:
            missing = [name for name in self.targets if name not in volume.targets]
            if missing:
                raise InvalidInputError(
                    f"volume {volume.name!r} lacks the targets {missing}; it has {[*volume.targets]}"
                )
        self._patches = self._checked(patches)

    def _checked(self, patches: Sequence[Patch]) -> NDArray[np.int64]:
        """The patches as (N, 4): volume, z, y, x."""
        table = np.asarray([(number, *start) for number, start in patches], dtype=np.int64).reshape(-1, 4)
        for row in table:
            if not 0 <= row[0] < len(self.volumes):
                raise InvalidInputError(f"a patch of volume {row[0]}; there are {len(self.volumes)}")
            volume = self.volumes[row[0]]
            shape = volume.input.spatial_shape
            if (row[1:] >= shape).any() or (row[1:] + self.patch_size <= 0).any():
                raise InvalidInputError(
                    f"the patch of size {self.patch_size} at {row[1:].tolist()} (z, y, x) lies outside of volume "
                    f"{volume.name!r} with shape {shape}"
                )
        return table

    def __len__(self) -> int:
        return len(self._patches)

    def __getitem__(self, index: int) -> Any:
        """Read an item.

        Args:
            index: of the patch.

        Raises:
            InvalidInputError: a part of a file cannot be read; class indices out of range.
        """
        number, *start = self._patches[index].tolist()
        volume = self.volumes[number]
        image = self.normalizations[number](_read_mirrored(volume.input, start, self.patch_size))
        item: dict[str, Any] = {"image": torch.as_tensor(image, dtype=torch.float32)}
        for name, target in self.targets.items():
            item[name] = torch.from_numpy(self._load(volume, target, start))
        item["name"], item["position"] = volume.name, torch.tensor(start)
        return item if self.transform is None else self.transform(item)

    def _load(self, volume: SurfaceVolume, target: Target, start: Sequence[int]) -> NDArray[np.float32]:
        stored = volume.targets[target.name]
        if target.is_vector:
            order = volume.component_orders.get(target.name, target.component_order)
            return _read_padded(stored, start, self.patch_size, lambda part: decode_vectors(part, order), 0)
        outside = 0 if self.ignore_label is None else self.ignore_label
        if target.activation == "softmax":
            return _read_padded(
                stored, start, self.patch_size, lambda part: self._classes(part, target, volume), outside
            )
        if target.channels != 1 or target.activation != "sigmoid":
            return _read_padded(stored, start, self.patch_size, lambda part: part, outside)
        margin = self.dilate_label
        wide_start = [first - margin for first in start]
        wide_size = [length + 2 * margin for length in self.patch_size]
        mask = self._dilated(_read_padded(stored, wide_start, wide_size, self._mask, outside))
        inner = tuple(slice(margin, margin + length) for length in self.patch_size)
        return np.ascontiguousarray(mask[(slice(None), *inner)])

    def _mask(self, part: NDArray) -> NDArray[np.float32]:
        mask = (part != 0).astype(np.float32)
        if self.ignore_label is not None:
            mask[part == self.ignore_label] = self.ignore_label
        return mask

    def _dilated(self, mask: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.dilate_label == 0:
            return mask
        from scipy.ndimage import binary_dilation

        ignored = np.zeros(mask.shape, bool) if self.ignore_label is None else mask == self.ignore_label
        grown = binary_dilation((mask[0] != 0) & ~ignored[0], iterations=self.dilate_label)[None]
        return np.where(ignored, mask, grown).astype(np.float32)

    def _classes(self, part: NDArray, target: Target, volume: SurfaceVolume) -> NDArray[np.float32]:
        """Class indices (1, d, h, w) of a part as stored."""
        ignored = np.zeros(part.shape[1:], bool)
        if self.ignore_label is not None:
            ignored = (part == self.ignore_label).all(axis=0)
        classes = (part[0] if part.shape[0] == 1 else part.argmax(axis=0)).astype(np.float32)
        wrong = ((classes < 0) | (classes >= target.channels) | (classes != np.rint(classes))) & ~ignored
        if wrong.any():
            raise InvalidInputError(
                f"volume {volume.name!r}, {target.name} ({volume.targets[target.name].address}) has the class index "
                f"{classes[wrong][0]:g}; expected 0 to {target.channels - 1}, or ignore_label={self.ignore_label}"
            )
        if self.ignore_label is not None:
            classes[ignored] = self.ignore_label
        return classes[None]


def _read_mirrored(volume: LazyVolume, start: Sequence[int], size: Sequence[int]) -> NDArray:
    """Read a box of a volume that goes on beyond its border as in ``numpy.pad`` with mode "reflect"."""
    index = []
    for first, count, length in zip(start, size, volume.spatial_shape, strict=True):
        period = max(2 * (length - 1), 1)
        place = np.arange(first, first + count) % period
        index.append(np.minimum(place, period - place) if length > 1 else np.zeros(count, int))
    box = [slice(int(place.min()), int(place.max()) + 1) for place in index]
    values = volume.read(box)
    for axis, (place, part) in enumerate(zip(index, box, strict=True), start=1):
        if not np.array_equal(place, np.arange(part.start, part.stop)):
            values = values.take(place - part.start, axis=axis)
    return values


def _read_padded(
    volume: LazyVolume, start: Sequence[int], size: Sequence[int], convert: Callable[[NDArray], NDArray], outside: float
) -> NDArray[np.float32]:
    """Read a box of a volume, convert what was read, and put a value where the box reaches over the border."""
    box, widths = [], [(0, 0)]
    for first, count, length in zip(start, size, volume.spatial_shape, strict=True):
        box.append(slice(min(max(first, 0), length), max(min(first + count, length), 0)))
        widths.append((max(-first, 0), max(first + count - length, 0)))
    values = np.asarray(convert(volume.read(box)), dtype=np.float32)
    return np.pad(values, widths, constant_values=outside) if any(map(any, widths)) else values
