"""From labels that mark a part of a volume (neuron, background, gap) to a target and a weight for every voxel."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from numbers import Real
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_data_type, convert_to_dst_type
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.label.instance_gaps import BACKGROUND, GAP, NEURON, UNLABELED
from voxel_ext.transforms.label.neighbors import count_neighbors, taxicab_distance


def sparse_label_weights(
    labels: NDArray,
    weight_foreground: float = 5.0,
    weight_gap: float = 20.0,
    scale_xy: float = 0.36,
    scale_z: float = 1.0,
    scale_gap: bool = True,
) -> tuple[NDArray, NDArray]:
    """Turn sparse labels into a training target and the weight of every voxel.

    ========  ==============================  ======  ======================================================
    label     meaning                         target  weight
    ========  ==============================  ======  ======================================================
    0         not labeled                     0       0
    1         neuron                          1       ``weight_foreground``
    2         background                      0       max(1, ``weight_foreground`` 2^-d); d, the taxicab
                                                      distance to the nearest neuron, counts ``scale_z`` for a
                                                      step along z and ``scale_xy`` for one along y or x
    3         gap between touching neurons    0       ``weight_gap`` (1 + number of the 6 neighbors that are
                                                      neurons), or ``weight_gap`` without ``scale_gap``
    ========  ==============================  ======  ======================================================

    So the weight of the background is halved every 1 / scale voxels, and never below 1.

    Args:
        labels: (D, H, W), whole numbers 0 to 3.
        weight_foreground: weight of a neuron; with the next one as in the published SegmentationNet.
        weight_gap: weight of a gap.
        scale_xy: 1 / (voxels along y or x in which the background's weight is halved); as SegmentationTools.jl.
        scale_z: likewise along z.
        scale_gap: whether a gap voxel weighs more the more neuron voxels it touches.

    Returns:
        the target, (D, H, W) uint8, and the weight, (D, H, W) float32.

    Raises:
        InvalidInputError: not three axes, another label (lists them), no voxel is labeled, no neuron; an argument is
            not a finite number, or is out of range.
    """
    _check_weights(weight_foreground, weight_gap, scale_xy, scale_z)
    check_sparse_labels(labels)
    neuron = labels == NEURON
    distance = taxicab_distance(neuron, (scale_z, scale_xy, scale_xy))
    background = np.maximum(weight_foreground * np.exp2(-distance), 1.0)
    gap = weight_gap * (1 + count_neighbors(neuron)) if scale_gap else np.full(labels.shape, float(weight_gap))
    weight = np.select([neuron, labels == BACKGROUND, labels == GAP], [float(weight_foreground), background, gap], 0.0)
    return neuron.astype(np.uint8), weight.astype(np.float32)


def _check_weights(weight_foreground: float, weight_gap: float, scale_xy: float, scale_z: float) -> None:
    least = {"weight_foreground": 1, "weight_gap": 0, "scale_xy": 0, "scale_z": 0}
    values = {
        "weight_foreground": weight_foreground,
        "weight_gap": weight_gap,
        "scale_xy": scale_xy,
        "scale_z": scale_z,
    }
    for name, value in values.items():
        number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value < least[name]:
            raise InvalidInputError(f"{name}={value!r}; expected a finite number of at least {least[name]}")


def check_sparse_labels(labels: NDArray) -> None:
    """Refuse what cannot be a sparse label volume.

    Args:
        labels: (D, H, W).

    Raises:
        InvalidInputError: not three axes, another label than 0 to 3 (lists them), nothing is labeled, no neuron.
    """
    if labels.ndim != 3:
        raise InvalidInputError(f"sparse labels of shape {labels.shape}; expected (D, H, W)")
    there = np.unique(labels)
    wrong = there[~np.isin(there, (UNLABELED, NEURON, BACKGROUND, GAP))]
    if wrong.size:
        listed = ", ".join(f"{value:g}" for value in wrong[:10]) + (", …" if wrong.size > 10 else "")
        raise InvalidInputError(
            f"sparse labels have the values {listed}; expected 0 (not labeled), 1 (neuron), 2 (background) and 3 (gap) "
            "only. If they are instance ids, convert them by instances_to_sparse_labels (label_kind='instances')"
        )
    if there.tolist() in ([], [UNLABELED]):
        raise InvalidInputError("no voxel is labeled, all weights would be 0: the sparse labels are 0 everywhere")
    if NEURON not in there:
        raise InvalidInputError(f"there is no neuron: the sparse labels have the values {there.tolist()} but no 1")


class SparseLabelWeights(Transform):
    """Turn sparse labels (1, D, H, W) into a target and a weight, each (1, D, H, W); see :func:`sparse_label_weights`.

    Type, device and metadata of the input are kept.

    Args:
        weight_foreground: weight of a neuron.
        weight_gap: weight of a gap.
        scale_xy: 1 / (voxels along y or x in which the background's weight is halved).
        scale_z: likewise along z.
        scale_gap: whether a gap voxel weighs more the more neuron voxels it touches.

    Raises:
        InvalidInputError: an argument is not a finite number, or is out of range.
    """

    def __init__(
        self,
        weight_foreground: float = 5.0,
        weight_gap: float = 20.0,
        scale_xy: float = 0.36,
        scale_z: float = 1.0,
        scale_gap: bool = True,
    ) -> None:
        _check_weights(weight_foreground, weight_gap, scale_xy, scale_z)
        self.options = (weight_foreground, weight_gap, scale_xy, scale_z, scale_gap)

    def __call__(self, img: NdarrayOrTensor) -> tuple[NdarrayOrTensor, NdarrayOrTensor]:
        """Return the target (uint8) and the weight (float32) of sparse labels (1, D, H, W).

        Raises:
            InvalidInputError: another shape; or as :func:`sparse_label_weights`.
        """
        labels = convert_data_type(img, np.ndarray)[0]
        if labels.ndim != 4 or labels.shape[0] != 1:
            raise InvalidInputError(f"sparse labels of shape {labels.shape}; expected (1, D, H, W)")
        target, weight = sparse_label_weights(labels[0], *self.options)
        types: tuple[Any, Any] = (np.uint8, np.float32)
        if isinstance(img, torch.Tensor):
            types = (torch.uint8, torch.float32)
        first = convert_to_dst_type(target[None], img, dtype=types[0])[0]
        return first, convert_to_dst_type(weight[None], img, dtype=types[1])[0]


class SparseLabelWeightsd(MapTransform):
    """Dictionary version of :class:`SparseLabelWeights`: the item becomes the target, the weight is a new item.

    Args:
        keys: the item with sparse labels (1, D, H, W).
        weight_key: the item to write the weight to.
        weight_foreground: weight of a neuron.
        weight_gap: weight of a gap.
        scale_xy: 1 / (voxels along y or x in which the background's weight is halved).
        scale_z: likewise along z.
        scale_gap: whether a gap voxel weighs more the more neuron voxels it touches.
        allow_missing_keys: do not complain if the item is not there.

    Raises:
        InvalidInputError: more than one key; an argument is not a finite number, or is out of range.
    """

    def __init__(
        self,
        keys: KeysCollection = "label",
        weight_key: str = "weight",
        weight_foreground: float = 5.0,
        weight_gap: float = 20.0,
        scale_xy: float = 0.36,
        scale_z: float = 1.0,
        scale_gap: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) != 1:
            raise InvalidInputError(f"keys={self.keys}; expected one key, since there is one weight_key")
        self.weight_key = weight_key
        self.transform = SparseLabelWeights(weight_foreground, weight_gap, scale_xy, scale_z, scale_gap)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the target and the weight.

        Raises:
            InvalidInputError: as :class:`SparseLabelWeights`.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            result[key], result[self.weight_key] = self.transform(result[key])
        return result
