"""A data set of the patches of a regular grid over volumes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import Dataset
from monai.transforms import SpatialCrop
from monai.utils import ensure_tuple
from tqdm.auto import tqdm

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.spatial.patch_filter import PatchFilter, PatchFound, common_spatial_shape, describe_volume
from voxel_ext.transforms.spatial.patch_sampling import grid_patches


class GridPatches(Dataset):
    """All patches of a regular grid that are labeled enough, as the ``FilterSliceBuilder`` of pytorch-3dunet has them.

    Unlike MONAI's ``GridPatchDataset`` it has a length and gives each patch by its index, so that loaders can shuffle
    it and samplers can divide it among processes. The patches are chosen when it is made, the same in every process;
    ``patches`` lists them as (index of the volume, slices (z, y, x)), volume by volume, x running fastest.

    Args:
        data: the volumes: a data set or list of dictionaries, each item the same whenever asked for, since the place
            of the patches is remembered. Every patch asks for its volume: keep them in memory by ``CacheDataset``.
        keys: items (C, D, H, W) of a volume that a patch has; others are left out.
        patch_size: at most the volumes', see ``ReflectPadd`` for smaller ones.
        stride: step from one patch to the next, at most the patch size, the last one flush with the border; None for
            half the patch size, rounded down.
        transform: applied to every patch, e.g. the augmentation.
        labeled_key: item (1, D, H, W) that tells which voxels are labeled; None to take all patches.
        ignore_value: the value of voxels that are not labeled.
        min_labeled: a patch is taken if more than this share of its voxels is labeled; 0.6 as in pytorch-3dunet.
        slack: a patch with less is taken with this probability; 0.01 as in pytorch-3dunet.
        instance_key: item (1, D, H, W) with instance ids, 0 for background; None to take any number.
        min_instances: a patch needs at least so many different ids, without exception.
        seed: of the exceptions that ``slack`` makes.
        progress: show a progress bar while the patches are chosen.

    Raises:
        InvalidInputError: there is no volume; no patch of a volume is labeled enough (tells the best one); items are
            missing or of different shapes; as ``grid_patches`` and ``PatchFilter``.
    """

    def __init__(
        self,
        data: Sequence[Mapping[Hashable, Any]],
        keys: KeysCollection,
        patch_size: Sequence[int],
        stride: Sequence[int] | int | None = None,
        transform: Sequence[Callable] | Callable | None = None,
        labeled_key: str | None = None,
        ignore_value: float = 0,
        min_labeled: float = 0.6,
        slack: float = 0.01,
        instance_key: str | None = None,
        min_instances: int = 0,
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        super().__init__(data, transform)
        self.keys, self.patch_size = ensure_tuple(keys), tuple(patch_size)
        self.stride = tuple(max(size // 2, 1) for size in self.patch_size) if stride is None else stride
        self.filter = PatchFilter(labeled_key, ignore_value, min_labeled, slack, instance_key, min_instances)
        if not len(data):
            raise InvalidInputError("there are no volumes to take patches from")
        random = np.random.RandomState(seed)
        self.patches: list[tuple[int, tuple[slice, ...]]] = []
        with tqdm(range(len(data)), "choosing patches", unit="volume", disable=not progress) as indices:
            for index in indices:
                self.patches += [(index, window) for window in self._choose(data[index], random)]

    def _choose(self, volume: Mapping[Hashable, Any], random: np.random.RandomState) -> list[tuple[slice, ...]]:
        """The patches of one volume that are accepted."""
        shape = common_spatial_shape(volume, [*self.keys, *self.filter.keys])
        grid = grid_patches(shape, self.patch_size, self.stride)
        maps = self.filter.maps(volume)
        judged = [self.filter.judge(maps, window, random) for window in grid]
        chosen = [window for window, (accepted, _) in zip(grid, judged, strict=True) if accepted]
        if not chosen:
            best = max((found for _, found in judged), default=PatchFound())
            raise InvalidInputError(
                f"none of the {len(grid)} patches {self.patch_size} of {describe_volume(volume[self.keys[0]])}, "
                f"{self.stride} apart, {self.filter.explain(best)}. Lower min_labeled or min_instances"
            )
        return chosen

    def __len__(self) -> int:
        return len(self.patches)

    def _transform(self, index: int) -> Any:
        number, window = self.patches[index]
        volume, crop = self.data[number], SpatialCrop(roi_slices=list(window))
        # copies: the volume may be a cached one, and transforms may write
        return self.transform({key: crop(volume[key]).clone() for key in self.keys})
