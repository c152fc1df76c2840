"""From dense instance ids to labels that mark neurons, background and the gaps between touching neurons."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.label.neighbors import shifted_views, taxicab_distance

UNLABELED, NEURON, BACKGROUND, GAP = 0, 1, 2, 3
"""The values of a sparse label volume."""


def instances_to_sparse_labels(
    instances: NDArray, gap_width: int = 1, background_distance: int | None = None
) -> NDArray:
    """Turn dense instance ids into sparse labels: neurons 1, background 2, gaps between neurons 3.

    A gap is every voxel that has two different instances within ``gap_width`` steps (of one voxel along one axis),
    itself included. With ``gap_width=1`` these are the voxels on both sides of a contact, and background between two
    neurons that is one voxel wide. A neuron that is too thin may become all gap.

    Args:
        instances: (D, H, W) integers, 0 for background.
        gap_width: steps; 0 for no gaps.
        background_distance: label background only within so many steps of a neuron, and leave the rest unlabeled (0);
            None labels all of it.

    Returns:
        (D, H, W) uint8.

    Raises:
        InvalidInputError: not three axes, not whole numbers from 0 on, no instance, or a width that is no integer of at
            least 0 (a distance: 1).
    """
    _check_instances(instances)
    _check_steps("gap_width", gap_width, 0)
    labels = np.where(instances > 0, NEURON, BACKGROUND).astype(np.uint8)
    labels[_touching(instances, gap_width)] = GAP
    if background_distance is not None:
        _check_steps("background_distance", background_distance, 1)
        far = taxicab_distance(instances > 0, (1, 1, 1)) > background_distance
        labels[far & (labels == BACKGROUND)] = UNLABELED
    return labels


def _check_instances(instances: NDArray) -> None:
    if instances.ndim != 3 or instances.dtype.kind not in "iu":
        raise InvalidInputError(
            f"instance ids of shape {instances.shape} and data type {instances.dtype}; expected (D, H, W) integers"
        )
    if instances.size == 0 or instances.min() < 0 or instances.max() == 0:
        values = f"from {instances.min()} to {instances.max()}" if instances.size else "none"
        raise InvalidInputError(f"instance ids: {values}; expected 0 for background and at least one id from 1 on")


def _check_steps(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InvalidInputError(f"{name}={value!r}; expected an integer of at least {least}")


def _touching(instances: NDArray, steps: int) -> NDArray:
    """The voxels with two different instances within some steps."""
    none = np.iinfo(instances.dtype).max
    if instances.max() == none:
        instances = instances.astype(np.int64)
        none = np.iinfo(np.int64).max
    highest, lowest = instances.copy(), np.where(instances > 0, instances, none)
    for _ in range(steps):
        highest, lowest = _spread(highest, np.maximum), _spread(lowest, np.minimum)
    return (highest > lowest) & (lowest != none)


def _spread(values: NDArray, reduce: Any) -> NDArray:
    """The maximum or minimum over every voxel and its 6 neighbors."""
    result = values.copy()
    for axis in range(values.ndim):
        lower, upper = shifted_views(values.ndim, axis)
        result[lower] = reduce(result[lower], values[upper])
        result[upper] = reduce(result[upper], values[lower])
    return result
