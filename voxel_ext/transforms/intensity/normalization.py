"""Normalizing intensities by the statistics of a whole volume, so that all its patches are treated alike."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from monai.config import NdarrayOrTensor

from voxel_ext.errors import InvalidInputError, check_option

NORMALIZATION_MODES = ("zscore", "ct", "minmax", "none")


def normalize_intensity(
    img: NdarrayOrTensor,
    mode: str = "zscore",
    mean: float = 0.0,
    std: float = 1.0,
    lower: float | None = None,
    upper: float | None = None,
) -> NdarrayOrTensor:
    """Normalize intensities.

    "zscore": (x - mean) / std. "ct": the same after clipping to [lower, upper]. "minmax": (x - lower) / (upper - lower)
    clipped to [0, 1]. "none": x.

    Args:
        img: any shape.
        mode: one of the above.
        mean: of the intensities; for "ct" of the clipped ones.
        std: their standard deviation.
        lower: for "ct" and "minmax".
        upper: for "ct" and "minmax".

    Returns:
        float32 of the type and on the device of ``img``.

    Raises:
        InvalidInputError: as :class:`IntensityNormalization`.
    """
    return IntensityNormalization(mode, mean, std, lower, upper)(img)


@dataclass(frozen=True)
class IntensityNormalization:
    """Normalize intensities; see :func:`normalize_intensity` for the modes. Picklable.

    Args:
        mode: "zscore", "ct", "minmax" or "none".
        mean: see :func:`normalize_intensity`.
        std: see :func:`normalize_intensity`.
        lower: see :func:`normalize_intensity`.
        upper: see :func:`normalize_intensity`.

    Raises:
        InvalidInputError: an unknown mode, a value that is not a finite number, a standard deviation that is not
            positive, or, where the mode needs them, bounds that are missing or do not ascend.
    """

    mode: str = "zscore"
    mean: float = 0.0
    std: float = 1.0
    lower: float | None = None
    upper: float | None = None

    def __post_init__(self) -> None:
        check_option("mode of normalization", self.mode, NORMALIZATION_MODES)
        for name in ("mean", "std", "lower", "upper"):
            value = getattr(self, name)
            if value is None and name in ("lower", "upper"):
                continue
            if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
                raise InvalidInputError(f"{name}={value!r} of the normalization; expected a finite number")
            object.__setattr__(self, name, float(value))  # NumPy's float64 would make the result float64
        if not self.std > 0:
            raise InvalidInputError(f"std={self.std!r} of the normalization; expected a positive number")
        if self.mode in ("ct", "minmax") and (self.lower is None or self.upper is None or self.lower >= self.upper):
            raise InvalidInputError(
                f"lower={self.lower!r} and upper={self.upper!r}; the normalization {self.mode!r} needs two ascending "
                "numbers"
            )

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return the image normalized, float32.

        Args:
            img: any shape.
        """
        values: Any = img.to(torch.float32) if isinstance(img, torch.Tensor) else np.asarray(img).astype(np.float32)
        if self.mode == "none":
            return values
        if self.lower is not None and self.upper is not None:
            if self.mode == "minmax":
                return ((values - self.lower) / (self.upper - self.lower)).clip(0, 1)
            if self.mode == "ct":
                values = values.clip(self.lower, self.upper)
        return (values - self.mean) / self.std

    def as_dict(self) -> dict[str, Any]:
        """Return the settings, for JSON; ``IntensityNormalization(**settings)`` is the same again."""
        return asdict(self)
