"""Take the first points of a point cloud."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform
from numpy.typing import ArrayLike

from voxel_ext.errors import InvalidInputError


class FirstPointsd(MapTransform):
    """Take the first points of clouds (P, 3), the same ones each time.

    Where points were drawn one by one at random, or farthest first, the first of them are such a sample themselves.

    Args:
        keys: of the clouds, arrays or tensors.
        count: how many, at most P.
        allow_missing_keys: skip keys that an item does not have.

    Raises:
        InvalidInputError: ``count`` is no integer of at least 1.
    """

    def __init__(self, keys: KeysCollection, count: int, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise InvalidInputError(f"the number of points {count!r} is not valid; expected an integer of at least 1")
        self.count = count

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, ArrayLike]:
        """Return the item with fewer points.

        Args:
            data: an item with clouds (P, 3).

        Raises:
            InvalidInputError: a cloud has fewer points than asked for.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            if len(result[key]) < self.count:
                raise InvalidInputError(
                    f"{key!r} has {len(result[key])} points, and {self.count} are asked for; ask for fewer, or prepare "
                    "clouds of more"
                )
            result[key] = result[key][: self.count]
        return result
