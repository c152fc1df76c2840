"""Base of the random transforms that interpolate: how scalars and vectors are resampled is set once, per key."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.utils import convert_to_tensor

from voxel_ext.transforms.spatial.deformation import MODES
from voxel_ext.transforms.vector.base import RandVectorTransform
from voxel_ext.transforms.vector.components import (
    KINDS,
    array_like,
    device_of,
    field_like,
    field_tensor,
    voxel_sizes,
)
from voxel_ext.transforms.vector.resample import PADDING_MODES, SourceMap, move_scalars, move_vectors


def resample_image(img: NdarrayOrTensor, source: SourceMap, mode: str, padding_mode: str) -> NdarrayOrTensor:
    """Take a tensor, MetaTensor or NumPy array (C, D, H, W) through a map, see :func:`move_scalars`."""
    result = move_scalars(convert_to_tensor(img, track_meta=False), source, mode, padding_mode)
    return array_like(result, img, keep_type=mode == "nearest")


def resample_field(
    field: NdarrayOrTensor,
    source: SourceMap,
    kind: str,
    oriented: bool,
    mode: str,
    component_order: str,
    voxel_size: Sequence[float],
) -> NdarrayOrTensor:
    """Take a tensor, MetaTensor or NumPy array (3, D, H, W) through a map, see :func:`move_vectors`."""
    result = move_vectors(field_tensor(field, component_order), source, kind, oriented, mode, voxel_size)
    return field_like(result, field, component_order)


class RandResampledTransform(RandVectorTransform):
    """Base of the transforms that resample: a subclass draws, and gives the map in :meth:`source`.

    Args:
        keys: scalar images and labels (C, D, H, W).
        vector_keys: vector fields (3, D, H, W), float, components in physical space.
        component_order: "zyx" or "xyz", one for all vector keys or one each.
        oriented: whether n and -n differ, one for all vector keys or one each.
        prob: probability of doing anything.
        mode: of scalars, "bilinear" (gives float32) or "nearest" (labels; keeps the type), one for all ``keys`` or one
            each.
        padding_mode: what comes into scalars from outside, "zeros", "border" or "reflection", one for all or one each.
            Vectors from outside are zero.
        vector_mode: "bilinear" or "nearest", one for all vector keys or one each.
        kind: "normal" or "direction", one for all vector keys or one each.
        voxel_size: (z, y, x) in any unit, so that turns are turns in physical space; None for equal.
        allow_missing_keys: do not complain about a key that is not there.

    Raises:
        InvalidInputError: an unknown option, a probability outside [0, 1], a voxel size that is not positive.
    """

    def __init__(
        self,
        keys: KeysCollection,
        vector_keys: KeysCollection,
        component_order: str | Sequence[str],
        oriented: bool | Sequence[bool],
        prob: float,
        *,
        mode: str | Sequence[str] = "bilinear",
        padding_mode: str | Sequence[str] = "zeros",
        vector_mode: str | Sequence[str] = "bilinear",
        kind: str | Sequence[str] = "normal",
        voxel_size: float | Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, vector_keys, component_order, oriented, prob, allow_missing_keys)
        self.mode = self.per_scalar_key("mode", mode, MODES)
        self.padding_mode = self.per_scalar_key("padding_mode", padding_mode, PADDING_MODES)
        self.vector_mode = self.per_vector_key("vector_mode", vector_mode, MODES)
        self.kind = self.per_vector_key("kind", kind, KINDS)
        self.voxel_size = voxel_sizes(voxel_size)
        self._sources: dict[torch.device, SourceMap] = {}

    def source(self, device: torch.device) -> SourceMap:
        """Return the map drawn last, on a device."""
        raise NotImplementedError

    def __call__(self, data: Any) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the items at the keys moved alike; see the base class."""
        try:
            return super().__call__(data)
        finally:
            self._sources.clear()

    def move_scalars(self, img: NdarrayOrTensor, key: Hashable) -> NdarrayOrTensor:
        """Resample a scalar image, see :func:`voxel_ext.transforms.vector.resample.move_scalars`."""
        return resample_image(img, self._source(img), self.mode[key], self.padding_mode[key])

    def move_vectors(self, field: NdarrayOrTensor, key: Hashable) -> NdarrayOrTensor:
        """Resample a vector field, see :func:`voxel_ext.transforms.vector.resample.move_vectors`."""
        return resample_field(
            field,
            self._source(field),
            self.kind[key],
            self.oriented[key],
            self.vector_mode[key],
            self.component_order[key],
            self.voxel_size,
        )

    def _source(self, img: NdarrayOrTensor) -> SourceMap:
        device = device_of(img)
        if device not in self._sources:
            self._sources[device] = self.source(device)
        return self._sources[device]
