"""Mean, standard deviation and range of more numbers than fit in memory, in one pass."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Moments:
    """Count, mean, sum of squared deviations, least and greatest of some numbers; ``a + b`` is that of both together.

    The sum is that of Chan, Golub and LeVeque (1979), which loses no precision where the mean is large.

    Args:
        count: how many numbers.
        mean: their mean.
        deviations: sum of their squared deviations from the mean.
        low: the least.
        high: the greatest.
    """

    count: int = 0
    mean: float = 0.0
    deviations: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    @classmethod
    def of(cls, values: NDArray) -> Moments:
        """Return the moments of an array of any shape, in float64."""
        if values.size == 0:
            return cls()
        numbers = np.array(values, dtype=np.float64).ravel()
        mean = float(numbers.mean())
        numbers -= mean
        return cls(numbers.size, mean, float(numbers @ numbers), float(values.min()), float(values.max()))

    def __add__(self, other: Moments) -> Moments:
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        shift = other.mean - self.mean
        return Moments(
            count,
            self.mean + shift * other.count / count,
            self.deviations + other.deviations + shift**2 * self.count * other.count / count,
            min(self.low, other.low),
            max(self.high, other.high),
        )

    @property
    def std(self) -> float:
        """The standard deviation, as NumPy's ``std`` with ``ddof=0``."""
        return math.sqrt(self.deviations / self.count) if self.count else 0.0

    def as_dict(self) -> dict[str, float]:
        """The fields by name."""
        return asdict(self)
