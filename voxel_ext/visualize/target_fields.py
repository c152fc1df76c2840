"""The targets of a multi-task network in the form in which they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.targets import Target


@dataclass(frozen=True)
class ShownTarget:
    """Truth and prediction of one target of a volume.

    Vectors are (3, D, H, W) with components (z, y, x), zero where unknown. Masks and classes are ids (D, H, W), 0 is
    background; of a mask with several channels k + 1 where channel k is the strongest of those that are set. Values
    are (D, H, W) floats.

    Args:
        target: what it is.
        truth: in that form, or None.
        prediction: in that form, or None.

    Raises:
        InvalidInputError: there is neither of them, or an array has another form or another size than the other.
    """

    target: Target
    truth: NDArray | None = None
    prediction: NDArray | None = None

    def __post_init__(self) -> None:
        if not self.layers:
            raise InvalidInputError(f"target {self.target.name!r} has neither a truth nor a prediction to draw")
        ndim = 4 if self.target.kind == "vectors" else 3
        for layer, array in self.layers.items():
            if array.ndim != ndim or (ndim == 4 and len(array) != 3):
                expected = "(3, D, H, W)" if ndim == 4 else "(D, H, W)"
                raise InvalidInputError(
                    f"the {layer} of target {self.target.name!r} has shape {array.shape}, expected {expected}"
                )
        if len({array.shape for array in self.layers.values()}) > 1:
            shapes = " and ".join(f"the {layer} {array.shape}" for layer, array in self.layers.items())
            raise InvalidInputError(f"of target {self.target.name!r} {shapes} must have the same shape")

    @property
    def layers(self) -> dict[str, NDArray]:
        """``"truth"`` and/or ``"prediction"`` -> array."""
        found = {"truth": self.truth, "prediction": self.prediction}
        return {name: array for name, array in found.items() if array is not None}

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """(D, H, W)."""
        return next(iter(self.layers.values())).shape[-3:]

    @property
    def colored_ids(self) -> bool:
        """Whether it has ids, each of its own color: classes, or a mask of several channels."""
        return self.target.kind == "classes" or (self.target.kind == "mask" and self.target.channels > 1)


def shown_truth(target: Target, array: NDArray, ignore_label: float | None = None) -> NDArray:
    """Turn a truth into what is drawn.

    Args:
        target: what it is.
        array: as in a batch, see ``MultiTaskLoss``: vectors (3, D, H, W), class indices (1, D, H, W), else
            (C, D, H, W).
        ignore_label: value of masks, classes and values where nothing is known, which is drawn as background.

    Returns:
        see :class:`ShownTarget`.

    Raises:
        InvalidInputError: the number of channels does not fit.
    """
    _check_channels(target, array, (1,) if target.kind == "classes" else (target.channels,), "truth")
    if target.kind == "vectors":
        return array.astype(np.float32)
    known = array if ignore_label is None else np.where(array == ignore_label, 0, array)
    if target.kind == "values":
        return known[0].astype(np.float32)
    return _ids(known[0]) if target.kind == "classes" else _strongest(known, 0.0)


def shown_prediction(target: Target, array: NDArray) -> NDArray:
    """Turn a prediction into what is drawn.

    Args:
        target: what it is.
        array: (C, D, H, W) with the target's activation applied, as ``ActivateTargetsd`` gives it. A mask is where it
            is above 0.5, or above 0 if the activation is none.

    Returns:
        see :class:`ShownTarget`.

    Raises:
        InvalidInputError: the number of channels does not fit.
    """
    _check_channels(target, array, (target.channels,), "prediction")
    if target.kind == "vectors":
        return array.astype(np.float32)
    if target.kind == "classes":
        return _ids(array.argmax(axis=0))
    return array[0].astype(np.float32) if target.kind == "values" else _strongest(array, mask_threshold(target))


def shown_channels(array: NDArray) -> NDArray:
    """Return the ids (D, H, W) of channels (C, D, H, W) that are set where they are not 0."""
    return _strongest(array, 0.0)


def mask_threshold(target: Target) -> float:
    """What a predicted mask is above: 0.5 of a sigmoid, 0 otherwise."""
    return 0.5 if target.activation == "sigmoid" else 0.0


def central_box(shape: Sequence[int], max_size: int, center: Sequence[int] | None = None) -> tuple[slice, ...]:
    """Return a box of at most ``max_size`` voxels along each axis.

    Args:
        shape: (D, H, W) of the volume; where it has not more voxels than ``max_size``, all are in the box.
        max_size: in voxels.
        center: (z, y, x) of the box, which is moved where it would reach outside; None for the middle.

    Raises:
        InvalidInputError: ``max_size`` is below 1.
    """
    if max_size < 1:
        raise InvalidInputError(f"max_size={max_size}, expected at least 1")
    box = []
    for length, middle in zip(shape, [n // 2 for n in shape] if center is None else center, strict=True):
        size = min(length, max_size)
        start = min(max(int(middle) - size // 2, 0), length - size)
        box.append(slice(start, start + size))
    return tuple(box)


def _check_channels(target: Target, array: NDArray, expected: Sequence[int], what: str) -> None:
    if array.ndim != 4 or len(array) not in expected:
        raise InvalidInputError(
            f"the {what} of target {target.name!r} has shape {array.shape}; expected ({expected[0]}, D, H, W)"
        )


def _strongest(channels: NDArray, threshold: float) -> NDArray:
    """0 where no channel is above the threshold, else the number of the strongest from 1 on."""
    if len(channels) == 1:
        return (channels[0] > threshold).astype(np.uint8)
    return _ids(np.where((channels > threshold).any(axis=0), channels.argmax(axis=0) + 1, 0))


def _ids(labels: NDArray) -> NDArray:
    return np.maximum(labels, 0).astype(np.uint16)
