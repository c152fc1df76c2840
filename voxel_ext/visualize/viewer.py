"""The slices of a volume as pictures inside HTML, to be stepped through by a slider."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import require
from voxel_ext.visualize import colors
from voxel_ext.visualize.arrays import normalize

_MAX_SIDE = 384
_MAX_FRAMES = 96


def viewer_frames(
    image: NDArray[np.float32], masks: Mapping[str, NDArray[np.int32]], voxel_size: Sequence[float]
) -> dict[str, Any]:
    """Encode the slices of a volume and of its masks as separate layers.

    Args:
        image: (D, H, W) or (H, W).
        masks: ``"truth"`` and/or ``"prediction"`` -> ids of the same shape.
        voxel_size: edge lengths along the axes of ``image``.

    Returns:
        ``slices``: the indices of at most 96 evenly spaced slices; ``start``: the position of the fullest of them;
        ``width`` and ``height`` in pixels of the screen's shape; ``image``: a JPEG per slice as a data URL;
        ``truth`` and ``prediction``: likewise a PNG that is transparent but for the tinted and outlined objects.

    Raises:
        MissingDependencyError: pillow is not installed.
    """
    gray = normalize(image).reshape((-1, *image.shape[-2:]))
    layers = {name: labels.reshape(gray.shape) for name, labels in masks.items()}
    count = min(len(gray), _MAX_FRAMES)
    slices = [int((i + 0.5) * len(gray) / count) for i in range(count)]
    step = -(-max(gray.shape[1:]) // _MAX_SIDE)
    filled = np.array([sum(int((labels[i] > 0).sum()) for labels in layers.values()) for i in slices])
    frames: dict[str, Any] = {
        "slices": slices,
        "start": int(filled.argmax()) if filled.any() else count // 2,
        "width": gray.shape[2] * voxel_size[-1],
        "height": gray.shape[1] * voxel_size[-2],
        "image": [_jpeg(gray[i, ::step, ::step]) for i in slices],
    }
    for name, color in (("truth", colors.TRUTH), ("prediction", colors.PREDICTION)):
        if name in layers:
            frames[name] = [_layer(layers[name][i, ::step, ::step], color) for i in slices]
    return frames


def data_url(content: bytes, kind: str) -> str:
    """Return a picture as a ``data:`` URL; ``kind`` is ``"png"`` or ``"jpeg"``."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _jpeg(gray: NDArray[np.float32]) -> str:
    pil: Any = require("PIL.Image", extra="viz")
    stream = io.BytesIO()
    pil.fromarray((gray * 255).round().astype(np.uint8)).save(stream, format="JPEG", quality=82)
    return data_url(stream.getvalue(), "jpeg")


def _layer(labels: NDArray[np.int32], color: str) -> str:
    """A palette of three: nothing, the tint, the outline."""
    pil: Any = require("PIL.Image", extra="viz")
    picture = pil.fromarray((labels > 0).astype(np.uint8) + colors.outline(labels).astype(np.uint8))
    picture.putpalette([0, 0, 0] + 2 * [int(v) for v in (colors.rgb(color) * 255).round()])
    stream = io.BytesIO()
    picture.save(stream, format="PNG", transparency=bytes([0, 80, 230]), optimize=True)
    return data_url(stream.getvalue(), "png")
