"""Two random views of the same image, for self-supervised learning."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.transforms import Randomizable, Transform, apply_transform

from voxel_ext.errors import InvalidInputError

VIEWS = ("view1", "view2")
"""Items with the two views."""


class TwoViewsd(Randomizable, Transform):
    """Apply a random transform twice to the same image and keep both results beside it.

    Args:
        transform: of a dictionary, draws anew at every call; it sees the image under ``key`` and nothing else.
        key: item with the image.
        view_keys: two names of the results.
        seed: None for other views each time; a number for views that depend on it and on ``seed_keys`` alone, so that
            a validation is the same at any time.
        seed_keys: items that tell objects apart, whole numbers.

    Raises:
        InvalidInputError: not two different names for the views, or a negative seed.
    """

    def __init__(
        self,
        transform: Callable[[dict[Hashable, Any]], Mapping[Hashable, Any]],
        key: Hashable = "image",
        view_keys: Sequence[Hashable] = VIEWS,
        seed: int | None = None,
        seed_keys: Sequence[Hashable] = ("id", "chunk"),
    ) -> None:
        if len(view_keys) != 2 or isinstance(view_keys, str) or view_keys[0] == view_keys[1]:
            raise InvalidInputError(f"view_keys={view_keys!r}; expected two different names")
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
            raise InvalidInputError(f"seed={seed!r}; expected None or a whole number of at least 0")
        self.transform = transform
        self.key = key
        self.view_keys = tuple(view_keys)
        self.seed = seed
        self.seed_keys = tuple(seed_keys)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> TwoViewsd:
        """Draw from another seed from now on, unless the views depend on a seed of their own."""
        super().set_random_state(seed, state)
        if isinstance(self.transform, Randomizable):
            self.transform.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with both views.

        Raises:
            InvalidInputError: an item is missing.
        """
        needed = (self.key, *(self.seed_keys if self.seed is not None else ()))
        missing = [key for key in needed if key not in data]
        if missing:
            raise InvalidInputError(f"the item has no {missing[0]!r}; its keys are {sorted(map(str, data))}")
        if self.seed is not None:
            own = np.random.SeedSequence([self.seed, *(int(data[key]) for key in self.seed_keys)])
            self.set_random_state(int(own.generate_state(1)[0]))
        result = dict(data)
        for name in self.view_keys:
            view: Any = apply_transform(self.transform, {self.key: data[self.key]}, map_items=False)
            result[name] = view[self.key]
        return result


TwoViewsD = TwoViewsDict = TwoViewsd
