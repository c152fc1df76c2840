"""The colors that mean the same in every picture, and the blending of masks into gray images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIGNAL = "#4f9cff"
PREDICTION = "#ef4444"
TRUTH = "#22c55e"
AGREEMENT = "#cbd5e1"
FALSE_POSITIVE = "#f59e0b"
FALSE_NEGATIVE = "#a855f7"
# readable on a white as well as on a dark page
NEUTRAL = "#7c8796"
# background of 3D views, in both color schemes
DARK = "#0d1321"


def rgb(color: str) -> NDArray[np.float32]:
    """Return ``"#rrggbb"`` as three numbers in [0, 1]."""
    return np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)], dtype=np.float32)


def outline(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Mark the pixels of each object that touch another object or the background.

    Args:
        labels: (H, W) ids, 0 or less is background.
    """
    padded = np.pad(labels, 1, mode="edge")
    center = padded[1:-1, 1:-1]
    border = np.zeros(center.shape, dtype=bool)
    for neighbor in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        border |= neighbor != center
    return border & (center > 0)


def blend(
    picture: NDArray[np.float32], where: NDArray[np.bool_], color: str, opacity: float = 1.0
) -> NDArray[np.float32]:
    """Return ``picture`` (H, W, 3) in [0, 1] with ``color`` laid over the pixels ``where`` (H, W)."""
    result = picture.copy()
    result[where] = (1 - opacity) * picture[where] + opacity * rgb(color)
    return result


def overlay(picture: NDArray[np.float32], labels: NDArray[np.integer], color: str) -> NDArray[np.float32]:
    """Return ``picture`` (H, W, 3) with the objects of ``labels`` (H, W) tinted and outlined in ``color``."""
    return blend(blend(picture, labels > 0, color, 0.35), outline(labels), color, 0.9)
