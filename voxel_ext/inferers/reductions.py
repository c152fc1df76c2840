"""What turns the channels of a prediction into classes or masks before they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch

from voxel_ext.errors import InvalidInputError

EXPECTED = "expected None, 'argmax', 'threshold' (0.5), 'threshold:0.3', or a number, the threshold"


@dataclass(frozen=True)
class Reduction:
    """The index of the largest channel, or which channels are above a threshold.

    Args:
        threshold: of the mask; None for the index of the largest channel (of equal ones, the first).
    """

    threshold: float | None = None

    def __str__(self) -> str:
        return "argmax" if self.threshold is None else f"threshold:{self.threshold:g}"

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Reduce values.

        Args:
            values: (C, ...) predictions.

        Returns:
            (1, ...) int64 indices of channels, or (C, ...) bool: above the threshold.
        """
        return values.argmax(0, keepdim=True) if self.threshold is None else values > self.threshold


def read_reduction(value: Any, place: str = "reductions") -> Reduction | None:
    """Read a reduction as configs give it.

    Args:
        value: None or "none", "argmax", "threshold" (0.5), "threshold:0.3", or a number, the threshold.
        place: what it sets, for the message.

    Raises:
        InvalidInputError: anything else.
    """
    if value is None or value == "none":
        return None
    if value == "argmax":
        return Reduction()
    if isinstance(value, Real) and not isinstance(value, bool):
        return Reduction(float(value))
    if isinstance(value, str) and value.partition(":")[0] == "threshold":
        text = value.partition(":")[2]
        try:
            return Reduction(float(text) if ":" in value else 0.5)
        except ValueError as error:
            raise InvalidInputError(f"{place}={value!r}: {text!r} is not a number; {EXPECTED}") from error
    raise InvalidInputError(f"{place}={value!r}; {EXPECTED}")
