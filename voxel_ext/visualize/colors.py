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
# of true instances, over the predicted ones that have a color each
TRUE_OUTLINE = "#ffffff"
# instances repeat their colors beyond this; a palette picture has room for a tint and an outline of each
INSTANCE_COLORS = 120


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


def instance_palette() -> NDArray[np.float32]:
    """Return 120 colors (120, 3) in [0, 1], neighbors in the list far apart: hues in steps of the golden angle."""
    import colorsys

    steps = range(INSTANCE_COLORS)
    # three tiers of lightness tell colors of similar hue apart
    lights = [(0.62, 0.5, 0.74)[i % 3] for i in steps]
    return np.array([colorsys.hls_to_rgb((i * 0.618034) % 1, lights[i], 0.85) for i in steps], dtype=np.float32)


def instance_slots(labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return, for instance ids of any shape, the row of :func:`instance_palette` plus 1; 0 where the id is 0 or less.

    The color of an instance depends on its id alone, so that it is the same in all pictures.
    """
    return np.where(labels > 0, (labels - 1) % INSTANCE_COLORS + 1, 0)


def overlay_instances(picture: NDArray[np.float32], labels: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return ``picture`` (H, W, 3) with each object of ``labels`` (H, W) tinted and outlined in its own color."""
    palette = np.concatenate([np.zeros((1, 3), np.float32), instance_palette()])
    tint = palette[instance_slots(labels)]
    opacity = np.where(outline(labels), 0.95, np.where(labels > 0, 0.5, 0.0))[..., None].astype(np.float32)
    return (1 - opacity) * picture + opacity * tint
