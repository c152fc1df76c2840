"""From an image and its labels to the arrays of neuron segmentation: crop, resampling, noise, weights."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.neuron_sources import Size, Volume
from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.transforms.label.instance_gaps import instances_to_sparse_labels
from voxel_ext.transforms.label.sparse_labels import sparse_label_weights


@dataclass(frozen=True)
class NeuronSettings:
    """How a volume becomes training data; see :func:`prepare_neurons` for the meaning of the fields.

    Raises:
        InvalidInputError: a field is out of range.
    """

    label_kind: str = "sparse"
    crop: tuple[tuple[int, int], ...] | None = None
    voxel_size: Size | None = None
    source_voxel_size: Size | None = None
    transpose_xy: bool = False
    signal_to_noise_reduction: float = 1.0
    channel: int | None = None
    weight_foreground: float = 5.0
    weight_gap: float = 20.0
    scale_xy: float = 0.36
    scale_z: float = 1.0
    scale_gap: bool = True
    gap_width: int = 1
    background_distance: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_option("label_kind", self.label_kind, ("sparse", "instances"))
        for name, size in (("voxel_size", self.voxel_size), ("source_voxel_size", self.source_voxel_size)):
            if size is not None and (len(size) != 3 or not all(_is_number(s) and s > 0 for s in size)):
                raise InvalidInputError(f"{name}={size!r}; expected three positive numbers (z, y, x) in micrometers")
        if not _is_number(self.signal_to_noise_reduction) or self.signal_to_noise_reduction < 1:
            raise InvalidInputError(
                f"signal_to_noise_reduction={self.signal_to_noise_reduction!r}; expected a number of at least 1"
            )
        if not isinstance(self.seed, Integral) or self.seed < 0:
            raise InvalidInputError(f"seed={self.seed!r}; expected an integer of at least 0")
        if self.crop is not None and not _is_box(self.crop):
            raise InvalidInputError(
                f"crop={self.crop!r}; expected ((z0, z1), (y0, y1), (x0, x1)) with 0 <= start < stop"
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_box(crop: Any) -> bool:
    pairs = isinstance(crop, Sequence) and len(crop) == 3 and all(len(pair) == 2 for pair in crop)
    return pairs and all(isinstance(v, Integral) for pair in crop for v in pair) and all(0 <= a < b for a, b in crop)


def prepare_volume(
    image: Volume, label: Volume, settings: NeuronSettings, name: str = ""
) -> tuple[dict[str, NDArray], Size | None]:
    """Turn an image and its label volume into the arrays of a prepared file.

    Args:
        image: the image.
        label: its labels, of the same shape.
        settings: how.
        name: of the volume; each has its own noise.

    Returns:
        ``raw``, ``label``, ``weight`` and perhaps ``instances``, each (D, H, W); and the voxel size, if known.

    Raises:
        InvalidInputError: names the file: shapes that differ, labels out of range, values that are not finite, a crop
            outside of the volume, an unknown voxel size.
    """
    if image.array.shape != label.array.shape:
        raise InvalidInputError(
            f"{image.source} has shape {image.array.shape} (z, y, x) but {label.source} has {label.array.shape}; "
            "expected the same"
        )
    if not np.isfinite(image.array).all():
        raise InvalidInputError(f"{image.source} has NaN or infinite values; repair or leave out the file")
    labels = _whole(label)
    raw, labels = (_cut(array, settings, image.source) for array in (image.array, labels))
    size = settings.source_voxel_size or _turned(image.voxel_size, settings)
    noise = estimate_noise(raw)
    if settings.voxel_size is not None:
        if size is None:
            raise InvalidInputError(f"{image.source} does not tell its voxel size; give source_voxel_size (z, y, x)")
        raw, labels = resample(raw, size, settings.voxel_size, 1), resample(labels, size, settings.voxel_size, 0)
        size = settings.voxel_size
    if settings.signal_to_noise_reduction != 1:
        random = np.random.default_rng([settings.seed, zlib.crc32(name.encode())])
        raw = reduce_signal_to_noise(raw, settings.signal_to_noise_reduction, noise, random)
    try:
        return {"raw": raw, **label_arrays(labels, settings)}, size
    except InvalidInputError as error:
        raise InvalidInputError(f"{label.source}: {error}") from error


def _whole(label: Volume) -> NDArray:
    """Labels as integers."""
    values = label.array
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or not np.array_equal(values, np.rint(values)):
            raise InvalidInputError(f"{label.source} has values that are not whole; expected labels")
        values = values.astype(np.int64)
    return values.astype(np.uint8) if values.dtype.kind == "b" else values


def _cut(array: NDArray, settings: NeuronSettings, source: str) -> NDArray:
    """Crop, then transpose."""
    if settings.crop is not None:
        if any(stop > length for (_, stop), length in zip(settings.crop, array.shape, strict=True)):
            raise InvalidInputError(f"crop={settings.crop} is outside of {source} with shape {array.shape} (z, y, x)")
        array = array[tuple(slice(*pair) for pair in settings.crop)]
    return array.transpose(0, 2, 1) if settings.transpose_xy else array


def _turned(size: Size | None, settings: NeuronSettings) -> Size | None:
    return (size[0], size[2], size[1]) if size is not None and settings.transpose_xy else size


def label_arrays(labels: NDArray, settings: NeuronSettings) -> dict[str, NDArray]:
    """The datasets that are made from the labels alone.

    Args:
        labels: (D, H, W) integers, of the kind that the settings say.
        settings: how.

    Raises:
        InvalidInputError: as ``sparse_label_weights`` and ``instances_to_sparse_labels``.
    """
    dense = {}
    if settings.label_kind == "instances":
        sparse = instances_to_sparse_labels(labels, settings.gap_width, settings.background_distance)
        largest = int(labels.max())
        dense["instances"] = labels.astype(
            next((kind for kind in (np.uint16, np.int32) if largest <= np.iinfo(kind).max), np.int64)
        )
        labels = sparse
    target, weight = sparse_label_weights(
        labels, settings.weight_foreground, settings.weight_gap, settings.scale_xy, settings.scale_z, settings.scale_gap
    )
    return {"label": target, "weight": weight, **dense}


def resample(array: NDArray, source: Size, target: Size, order: int) -> NDArray:
    """Resample a volume to another voxel size; the border of the volume stays where it is.

    Args:
        array: (D, H, W).
        source: its voxel size (z, y, x).
        target: the wanted one; the result has round(length * source / target) voxels, at least 1, along each axis.
        order: 1 for images (linear), 0 for labels (nearest).
    """
    from scipy.ndimage import zoom

    shape = [max(round(n * s / t), 1) for n, s, t in zip(array.shape, source, target, strict=True)]
    if tuple(shape) == array.shape:
        return array
    factors = [new / old for new, old in zip(shape, array.shape, strict=True)]
    if order == 0:
        return zoom(array, factors, order=0, mode="nearest", grid_mode=True)
    values = zoom(array.astype(np.float32), factors, order=order, mode="nearest", grid_mode=True)
    return _as_type(values, array.dtype)


def estimate_noise(image: NDArray) -> float:
    """Standard deviation of an image's background: its median minus its 16th percentile (one sigma of a Gaussian)."""
    median, low = np.percentile(image, (50, 16))
    return float(median - low)


def reduce_signal_to_noise(image: NDArray, factor: float, noise: float, random: np.random.Generator) -> NDArray:
    """Divide the contrast of an image by a factor and add Gaussian noise; its median stays.

    v' = (v - median) / factor + median + noise n, n from the standard normal distribution; rounded and clipped for
    integer images.

    Args:
        image: any shape.
        factor: 1 or more.
        noise: standard deviation; see :func:`estimate_noise`.
        random: source of the noise.
    """
    median = float(np.median(image))
    added = noise * random.standard_normal(image.shape, dtype=np.float32)
    return _as_type((image.astype(np.float32) - median) / factor + median + added, image.dtype)


def _as_type(values: NDArray, dtype: np.dtype) -> NDArray:
    if dtype.kind not in "iu":
        return values.astype(np.float32)
    limits = np.iinfo(dtype)
    return np.rint(np.clip(values.astype(np.float64), limits.min, limits.max)).astype(dtype)
