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
    image: NDArray[np.float32],
    masks: Mapping[str, NDArray[np.int32]],
    voxel_size: Sequence[float],
    instances: bool = False,
) -> dict[str, Any]:
    """Encode the slices of a volume and of its masks as separate layers.

    Args:
        image: (D, H, W) or (H, W).
        masks: ``"truth"`` and/or ``"prediction"`` -> ids of the same shape.
        voxel_size: edge lengths along the axes of ``image``.
        instances: each object of the prediction has its own color, and of the truth there are white outlines.

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
        "image": [jpeg_url(gray[i, ::step, ::step]) for i in slices],
    }
    for name, color in (("truth", colors.TRUTH), ("prediction", colors.PREDICTION)):
        if name in layers:
            cuts = [layers[name][i, ::step, ::step] for i in slices]
            frames[name] = [_instance_layer(cut, name) if instances else _layer(cut, color) for cut in cuts]
    return frames


def data_url(content: bytes, kind: str) -> str:
    """Return a picture as a ``data:`` URL; ``kind`` is ``"png"`` or ``"jpeg"``."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def jpeg_url(picture: NDArray[np.float32]) -> str:
    """Return a picture (H, W) or (H, W, 3) in [0, 1] as the ``data:`` URL of a JPEG file.

    Raises:
        MissingDependencyError: pillow is not installed.
    """
    pil: Any = require("PIL.Image", extra="viz")
    stream = io.BytesIO()
    pil.fromarray((picture * 255).round().astype(np.uint8)).save(stream, format="JPEG", quality=82)
    return data_url(stream.getvalue(), "jpeg")


def _layer(labels: NDArray[np.int32], color: str) -> str:
    """A palette of three: nothing, the tint, the outline."""
    indices = (labels > 0).astype(np.uint8) + colors.outline(labels).astype(np.uint8)
    return _palette_png(indices, np.stack(2 * [colors.rgb(color)]), [80, 230])


def _instance_layer(labels: NDArray[np.int32], name: str) -> str:
    """Predictions: a tint and an outline for each color. Truth: white outlines alone."""
    border = colors.outline(labels)
    if name == "truth":
        return _palette_png(border.astype(np.uint8), colors.rgb(colors.TRUE_OUTLINE)[None], [235])
    count = colors.INSTANCE_COLORS
    indices = (colors.instance_slots(labels) + count * border).astype(np.uint8)
    return _palette_png(indices, np.tile(colors.instance_palette(), (2, 1)), count * [150] + count * [250])


def _palette_png(indices: NDArray[np.uint8], palette: NDArray[np.float32], opacities: Sequence[int]) -> str:
    """A picture whose index 0 is transparent, and the others the rows of the palette."""
    pil: Any = require("PIL.Image", extra="viz")
    picture = pil.fromarray(indices)
    picture.putpalette([0, 0, 0, *(palette * 255).round().astype(int).ravel().tolist()])
    stream = io.BytesIO()
    picture.save(stream, format="PNG", transparency=bytes([0, *opacities]), optimize=True)
    return data_url(stream.getvalue(), "png")
