"""Threads and random streams that leave the result independent of how many threads there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import TracebackType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")
Result = TypeVar("Result")

SLABS = 16  # pieces of a volume with a random stream each, whatever the number of threads


class Workers:
    """An ordered map over threads; with one thread it works in the calling one.

    Args:
        threads: number of threads.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results of ``function``, in the order of ``items``."""
        return map(function, items) if self._pool is None else self._pool.map(function, items)

    def run(self, function: Callable[[Item], None], items: Iterable[Item]) -> None:
        """Call ``function`` with every item and wait."""
        for _ in self.map(function, items):
            pass


def slabs(length: int, pieces: int = SLABS) -> list[slice]:
    """Cut ``length`` items into at most ``pieces`` slices of nearly the same length, none of them empty."""
    edges = np.linspace(0, length, min(pieces, length) + 1).astype(int).tolist()
    return [slice(start, stop) for start, stop in pairwise(edges)]


def fast_normal(rng: np.random.Generator, out: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fill ``out`` (2, ...) with standard normal numbers by pairs (Box and Muller 1958).

    √(−2 ln u) (cos 2πv, sin 2πv); about three times as fast as ``Generator.standard_normal``, since NumPy's single
    precision logarithm, sine and cosine are vectorized. No number is beyond 5.8.

    Args:
        rng: source of randomness.
        out: contiguous single precision array (2, ...), overwritten.

    Returns:
        ``out``.
    """
    rng.random(out=out, dtype=np.float32)
    first, second = out
    np.subtract(1, first, out=first)  # (0, 1]
    np.log(first, out=first)
    first *= -2
    radius = np.sqrt(first)
    second *= np.float32(2 * np.pi)
    np.cos(second, out=first)
    np.sin(second, out=second)
    out *= radius
    return out
