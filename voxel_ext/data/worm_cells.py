"""Single cubes of prepared worms, e.g. for an autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable
from torch.utils.data import Dataset

from voxel_ext.data.worm_store import WormStore
from voxel_ext.errors import InvalidInputError


class WormCellDataset(Dataset, Randomizable):
    """The cells of some worms, one by one; those that are missing are left out.

    An item is a dictionary of ``image`` and ``label``, both the normalized cube (C, S, S, S) float32, ``cell`` (int,
    slot, which is Aligned_No - 1) and ``worm`` (int, place in the store), put through ``transform``. What is random in
    an item depends on the seed and its index alone, whatever was drawn before it and by which process.

    Args:
        store: the worms.
        length: so many cells, drawn at random, none twice before all have come (and without ``fresh`` none twice at
            all); None for all in order.
        transform: of an item; a MONAI transform, which is given its own random state for each item.
        seed: of all draws.
        fresh: whether ``set_random_state`` (MONAI's loaders and ``EpochSeedHandler`` call it, every epoch) changes the
            seed, for training; False for the same cells turned the same way each time, for validation.

    Raises:
        InvalidInputError: no worm has a cell, or ``length`` is below 1.
    """

    def __init__(
        self,
        store: WormStore,
        length: int | None = None,
        transform: Callable[[dict[str, Any]], Any] | None = None,
        seed: int = 0,
        fresh: bool = True,
    ) -> None:
        if length is not None and (isinstance(length, bool) or not isinstance(length, int) or length < 1):
            raise InvalidInputError(f"length={length!r}: expected a number of cells of at least 1, or None for all")
        self.store = store
        self.cells = [
            (worm, int(cell)) for worm, header in enumerate(store.headers) for cell in np.flatnonzero(header.valid)
        ]
        if not self.cells:
            raise InvalidInputError(
                f"all cells of the {len(store)} worms are missing; the first of these is {store.files[0]}"
            )
        self.length = length if length is None or fresh else min(length, len(self.cells))
        self.transform = transform
        self.fresh = fresh
        self.seed = seed
        self._order = self._drawn()

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> WormCellDataset:
        """Draw from another seed from now on, if the data set is ``fresh``."""
        if seed is not None and self.fresh:
            self.seed = int(seed)
            self._order = self._drawn()
        return self

    def __len__(self) -> int:
        return len(self.cells) if self.length is None else self.length

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        worm, cell = self.cells[index if self._order is None else self._order[index % len(self.cells)]]
        # copied, so that a transform in place of the one leaves the other
        cube = self.store.cubes(worm, np.array([cell]), np.array([True]))[0]
        item = {
            "image": torch.from_numpy(cube.copy()),
            "label": torch.from_numpy(cube.copy()),
            "cell": cell,
            "worm": worm,
        }
        if self.transform is None:
            return item
        if isinstance(self.transform, Randomizable):
            own = np.random.SeedSequence([self.seed, index]).generate_state(1)[0]
            self.transform.set_random_state(seed=int(own))
        return self.transform(item)

    def _drawn(self) -> np.ndarray | None:
        return None if self.length is None else np.random.default_rng(self.seed).permutation(len(self.cells))
