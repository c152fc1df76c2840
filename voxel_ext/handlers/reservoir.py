"""Keep a few of many, each with the same probability."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

Kept = TypeVar("Kept")


class Reservoir(list[Kept]):
    """A list of at most ``size`` of all that comes, each kept with the same probability, whatever their number.

    Reservoir sampling, Vitter 1985, "Random Sampling with a Reservoir", algorithm R. The same ones are kept every time.

    Args:
        size: how many to keep; 0 for none.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self._seen = 0
        self._random = random.Random(0)

    def offer(self, make: Callable[[], Kept]) -> None:
        """Keep the next one, or not.

        Args:
            make: makes what is kept; called only then.
        """
        place = self._seen if self._seen < self.size else self._random.randint(0, self._seen)
        self._seen += 1
        if place < self.size:
            self[place : place + 1] = [make()]
