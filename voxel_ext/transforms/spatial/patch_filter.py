"""Which patches are worth training on: those that are labeled enough, with enough instances."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from monai.utils import convert_data_type
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError


class PatchMaps(NamedTuple):
    """What of a volume decides on its patches, (D, H, W) each; None if it does not matter."""

    labeled: NDArray | None
    ids: NDArray | None


class PatchFound(NamedTuple):
    """What is in a patch: instances, as far as they matter, and the labeled share of its voxels. More is better."""

    instances: int = -1
    share: float = -1.0


@dataclass(frozen=True)
class PatchFilter:
    """The condition of pytorch-3dunet's ``FilterSliceBuilder``, and a least number of instances.

    Args:
        labeled_key: item (1, D, H, W) that tells which voxels are labeled: those that are not ``ignore_value``, e.g.
            the weight or the label; None to accept any share.
        ignore_value: the value of voxels that are not labeled.
        min_labeled: a patch is accepted if more than this share of its voxels is labeled; 0.6 as in pytorch-3dunet.
        slack: a patch with less is accepted with this probability; 0.01 as in pytorch-3dunet.
        instance_key: item (1, D, H, W) with instance ids, 0 for background; None to accept any number.
        min_instances: a patch needs at least so many different ids, without exception.

    Raises:
        InvalidInputError: a number is out of range, or ``min_instances`` is given without ``instance_key``.
    """

    labeled_key: str | None = None
    ignore_value: float = 0
    min_labeled: float = 0.6
    slack: float = 0.01
    instance_key: str | None = None
    min_instances: int = 0

    def __post_init__(self) -> None:
        check_count("min_instances", self.min_instances, 0)
        for name, value in (("min_labeled", self.min_labeled), ("slack", self.slack)):
            if not isinstance(value, Real) or not 0 <= value <= 1:
                raise InvalidInputError(f"{name}={value!r}; expected a number from 0 to 1")
        if self.min_instances and self.instance_key is None:
            raise InvalidInputError(f"min_instances={self.min_instances} needs instance_key")

    @property
    def keys(self) -> list[str]:
        """The items that are looked at."""
        return [key for key in (self.labeled_key, self.instance_key) if key is not None]

    def maps(self, data: Mapping[Hashable, Any]) -> PatchMaps:
        """Take what matters from the items of a volume."""
        values = first_channel(data, self.labeled_key)
        ids = first_channel(data, self.instance_key) if self.min_instances else None
        return PatchMaps(None if values is None else values != self.ignore_value, ids)

    def judge(
        self, maps: PatchMaps, window: tuple[slice, ...], random: np.random.RandomState
    ) -> tuple[bool, PatchFound]:
        """Tell whether a patch is accepted, and what is in it.

        Args:
            maps: of the volume.
            window: the patch.
            random: source of the random number for a patch that is labeled too little.
        """
        size = math.prod(part.stop - part.start for part in window)
        share = 1.0 if maps.labeled is None else int(np.count_nonzero(maps.labeled[window])) / size
        enough = maps.labeled is None or share > self.min_labeled or random.random_sample() < self.slack
        if maps.ids is None:
            return bool(enough), PatchFound(0, share)
        count = int(np.count_nonzero(np.unique(maps.ids[window])))
        return bool(enough) and count >= self.min_instances, PatchFound(min(count, self.min_instances), share)

    def explain(self, best: PatchFound) -> str:
        """Say in words what was wanted and what the best patch has."""
        wanted = [f"more than {self.min_labeled:g} of it labeled"] if self.labeled_key is not None else []
        wanted += [f"{self.min_instances} instances"] if self.min_instances else []
        count = f" and {best.instances} instances" if self.min_instances else ""
        return f"has {' and '.join(wanted)}; the best has a labeled share of {best.share:.3g}{count}"


def check_count(name: str, value: Any, least: int) -> None:
    """Refuse what is not an integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InvalidInputError(f"{name}={value!r}; expected an integer of at least {least}")


def first_channel(data: Mapping[Hashable, Any], key: str | None) -> NDArray | None:
    """The first channel of an item (C, D, H, W); None without a key."""
    return None if key is None else convert_data_type(data[key], np.ndarray)[0][0]


def common_spatial_shape(data: Mapping[Hashable, Any], keys: Iterable[Hashable]) -> tuple[int, ...]:
    """Give the spatial shape that items (C, D, H, W) have in common.

    Args:
        data: the items.
        keys: of those to compare.

    Raises:
        InvalidInputError: one is missing, or they differ.
    """
    shapes = {}
    for key in keys:
        if key not in data:
            raise InvalidInputError(f"there is no item {key!r} among {sorted(map(str, data))}")
        shapes[key] = tuple(data[key].shape[1:])
    if len(set(shapes.values())) != 1:
        raise InvalidInputError(f"the items to crop have different spatial shapes: {shapes}")
    return next(iter(shapes.values()))


def describe_volume(image: Any) -> str:
    """Name the file of an item (C, D, H, W) that was loaded by MONAI, and its spatial shape."""
    file = getattr(image, "meta", {}).get("filename_or_obj")
    return f"{file or 'a volume'} with shape {tuple(image.shape[1:])}"
