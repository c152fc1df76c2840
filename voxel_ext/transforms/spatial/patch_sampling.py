"""Which parts of a volume to train on: a regular grid, or random crops that hold enough labeled voxels."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from copy import deepcopy
from numbers import Integral
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import dense_patch_slices
from monai.transforms import MapTransform, Randomizable, SpatialCrop
from monai.transforms.traits import MultiSampleTrait
from monai.utils import ensure_tuple_rep
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.spatial.patch_filter import (
    PatchFilter,
    PatchFound,
    PatchMaps,
    check_count,
    common_spatial_shape,
    describe_volume,
    first_channel,
)


def grid_patches(
    shape: Sequence[int], patch_size: Sequence[int], stride: Sequence[int] | int
) -> list[tuple[slice, ...]]:
    """List the patches of a regular grid; the last one along each axis is flush with the border (MONAI's grid).

    Args:
        shape: (D, H, W) of the volume.
        patch_size: of the patches; at most the volume's, see ``ReflectPadd`` for smaller volumes.
        stride: step from one patch to the next, at most the patch size, so that every voxel is in a patch.

    Returns:
        slices (z, y, x) per patch, x running fastest.

    Raises:
        InvalidInputError: not one positive integer per axis, a patch larger than the volume, a stride larger than the
            patch.
    """
    steps = tuple(ensure_tuple_rep(stride, len(shape))) if isinstance(stride, int) else tuple(stride)
    for name, values in (("shape", tuple(shape)), ("patch_size", tuple(patch_size)), ("stride", steps)):
        if len(values) != len(shape) or not all(_is_positive(value) for value in values):
            raise InvalidInputError(f"{name}={values}; expected {len(shape)} positive integers")
    _check_fits(shape, patch_size)
    if any(step > size for step, size in zip(steps, patch_size, strict=True)):
        raise InvalidInputError(
            f"stride={steps} is larger than patch_size={tuple(patch_size)}; voxels between them would be left out"
        )
    return dense_patch_slices(tuple(shape), tuple(patch_size), steps)


def _is_positive(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) > 0


def _check_fits(shape: Sequence[int], patch_size: Sequence[int]) -> None:
    if any(size > length for size, length in zip(patch_size, shape, strict=True)):
        raise InvalidInputError(
            f"the patch {tuple(patch_size)} is larger than the volume {tuple(shape)}; pad the volume by ReflectPadd "
            "before, or choose a smaller patch"
        )


class WindowSampler:
    """Draw windows whose center is a voxel with a probability proportional to its weight, shifted into the volume.

    MONAI's ``RandWeightedCrop`` draws only among the voxels that are at least half a window away from the border, so
    that weights near the border count for nothing, and draws uniformly if all others are zero.

    Args:
        weight: (D, H, W), 0 or more.
        size: of the window, at most the volume's.

    Raises:
        InvalidInputError: a window larger than the volume; negative or non-finite weights; all weights are 0.
    """

    def __init__(self, weight: NDArray, size: Sequence[int]) -> None:
        _check_fits(weight.shape, size)
        self.shape, self.size = weight.shape, tuple(size)
        # float64: a float32 sum of millions of voxels would give the last ones no share
        self.sums = np.cumsum(weight, dtype=np.float64)
        if not np.isfinite(self.sums[-1]) or weight.min() < 0:
            raise InvalidInputError("the weight map for the patch centers has negative or non-finite values")
        if self.sums[-1] == 0:
            raise InvalidInputError("the weight map for the patch centers is 0 everywhere; no patch can be drawn")

    def draw(self, random: np.random.RandomState) -> tuple[slice, ...]:
        """Draw one window."""
        index = np.searchsorted(self.sums, random.random_sample() * self.sums[-1], side="right")
        index = min(int(index), int(np.searchsorted(self.sums, self.sums[-1])))  # rounded up to the sum of all
        center = np.unravel_index(index, self.shape)
        starts = (c - n // 2 for c, n in zip(center, self.size, strict=True))
        limits = zip(starts, self.size, self.shape, strict=True)
        return tuple(slice(s, s + n) for s, n in ((int(np.clip(a, 0, m - n)), n) for a, n, m in limits))


def draw_uniform_window(shape: Sequence[int], size: Sequence[int], random: np.random.RandomState) -> tuple[slice, ...]:
    """Draw one window, each position inside the volume equally likely.

    Args:
        shape: of the volume.
        size: of the window.
        random: source of the random numbers.

    Raises:
        InvalidInputError: a window larger than the volume.
    """
    _check_fits(shape, size)
    starts = [int(random.randint(0, m - n + 1)) for m, n in zip(shape, size, strict=True)]
    return tuple(slice(start, start + n) for start, n in zip(starts, size, strict=True))


class RandAcceptedCropd(Randomizable, MapTransform, MultiSampleTrait):
    """Crop random windows, and redraw each until enough of it is labeled and enough instances are in it.

    Args:
        keys: items (C, D, H, W) to crop at the same place.
        spatial_size: of the windows.
        center_key: item (1, D, H, W) with the weight of every voxel as a center, see :class:`WindowSampler`; None for
            windows at uniformly random places.
        labeled_key: item (1, D, H, W) that tells which voxels are labeled: those that are not ``ignore_value``, e.g.
            the weight or the label; None to accept any share.
        ignore_value: the value of voxels that are not labeled.
        min_labeled: a window is accepted if more than this share of its voxels is labeled; 0.6 as in pytorch-3dunet.
        slack: a window with less is accepted with this probability; 0.01 as in pytorch-3dunet.
        instance_key: item (1, D, H, W) with instance ids, 0 for background; None to accept any number.
        min_instances: a window needs at least so many different ids, without exception.
        num_samples: windows per volume.
        max_tries: draws per window.
        allow_missing_keys: do not complain about a key to crop that is not there.

    Raises:
        InvalidInputError: a number is out of range, or ``min_instances`` is given without ``instance_key``.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spatial_size: Sequence[int],
        center_key: str | None = None,
        labeled_key: str | None = None,
        ignore_value: float = 0,
        min_labeled: float = 0.6,
        slack: float = 0.01,
        instance_key: str | None = None,
        min_instances: int = 0,
        num_samples: int = 1,
        max_tries: int = 100,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.spatial_size, self.center_key = tuple(spatial_size), center_key
        self.filter = PatchFilter(labeled_key, ignore_value, min_labeled, slack, instance_key, min_instances)
        self.num_samples, self.max_tries = num_samples, max_tries
        self.windows: list[tuple[slice, ...]] = []
        check_count("num_samples", num_samples, 1)
        check_count("max_tries", max_tries, 1)
        if not all(_is_positive(size) for size in self.spatial_size):
            raise InvalidInputError(f"spatial_size={self.spatial_size}; expected positive integers")

    def randomize(self, data: Mapping[Hashable, Any]) -> None:
        """Draw the windows of one volume.

        Args:
            data: has the items named by the keys.

        Raises:
            InvalidInputError: no window was accepted after ``max_tries`` draws (tells the best), an item is missing or
                of another shape, or as :class:`WindowSampler`.
        """
        shape = self._spatial_shape(data)
        _check_fits(shape, self.spatial_size)
        weight, maps = first_channel(data, self.center_key), self.filter.maps(data)
        sampler = None if weight is None else WindowSampler(weight, self.spatial_size)
        self.windows = [self._draw(data, shape, sampler, maps) for _ in range(self.num_samples)]

    def _draw(
        self, data: Mapping[Hashable, Any], shape: tuple[int, ...], sampler: WindowSampler | None, maps: PatchMaps
    ) -> tuple[slice, ...]:
        """One accepted window."""
        best = PatchFound()
        for _ in range(self.max_tries):
            window = sampler.draw(self.R) if sampler else draw_uniform_window(shape, self.spatial_size, self.R)
            accepted, found = self.filter.judge(maps, window, self.R)
            if accepted:
                return window
            best = max(best, found)
        volume = describe_volume(data[next(iter(self.key_iterator(data)))])
        raise InvalidInputError(
            f"none of {self.max_tries} windows {self.spatial_size} of {volume} {self.filter.explain(best)}. "
            "Lower min_labeled or min_instances, raise max_tries, or draw the centers by center_key"
        )

    def _spatial_shape(self, data: Mapping[Hashable, Any]) -> tuple[int, ...]:
        others = [] if self.center_key is None else [self.center_key]
        shape = common_spatial_shape(data, [*self.key_iterator(data), *others, *self.filter.keys])
        if len(shape) != len(self.spatial_size):
            raise InvalidInputError(f"spatial_size={self.spatial_size} for volumes of spatial shape {shape}")
        return shape

    def __call__(self, data: Mapping[Hashable, Any]) -> list[dict[Hashable, Any]]:
        """Return ``num_samples`` dictionaries with the cropped items; other items are copied.

        Raises:
            InvalidInputError: as :meth:`randomize`.
        """
        self.randomize(data)
        cropped = set(self.key_iterator(data))
        results: list[dict[Hashable, Any]] = []
        for window in self.windows:
            crop = SpatialCrop(roi_slices=list(window))
            results.append({k: crop(v) if k in cropped else deepcopy(v) for k, v in data.items()})
        return results
