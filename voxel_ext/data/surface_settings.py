"""How a volume becomes training data of a network that predicts sheets and normals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from voxel_ext.data.surface_sources import SOURCES, three_numbers
from voxel_ext.data.vector_codes import VECTOR_DTYPES
from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.targets import COMPONENT_ORDERS
from voxel_ext.transforms.surface.normals_from_mask import MASK_METHODS, check_mask_options
from voxel_ext.transforms.surface.normals_from_mesh import MESH_METHODS, check_mesh_options
from voxel_ext.transforms.surface.orientation import check_reference

MASK_DISTANCE, MESH_DISTANCE = 8.0, 2.0
"""Defaults of ``max_distance``."""

MESH_UNITS = ("voxel", "micrometer")

Size = tuple[float, float, float]


@dataclass(frozen=True)
class SurfaceSettings:
    """How a volume becomes training data; see :func:`prepare_surfaces` for the meaning of the fields.

    Raises:
        InvalidInputError: a field is unknown or out of range.
    """

    source: str = "mask"
    method: str | None = None
    sigma: float = 2.0
    band: float = 0
    max_distance: float | None = None
    reference: Any = None
    ignore_value: int | None = None
    component_order: str = "xyz"
    mesh_unit: str = "voxel"
    scale: Any = 1.0
    offset: Size = (0.0, 0.0, 0.0)
    voxel_size: Size | None = None
    crop: tuple[tuple[int, int], ...] | None = None
    normals_dtype: str = "uint16"
    chunks: tuple[int, int, int] = (64, 64, 64)

    def __post_init__(self) -> None:
        check_option("source", self.source, SOURCES)
        check_option("component_order", self.component_order, COMPONENT_ORDERS)
        check_option("mesh_unit", self.mesh_unit, MESH_UNITS)
        three_numbers("scale", self.scale)
        three_numbers("offset", self.offset)
        if self.reference is not None:
            check_reference(self.reference)
        check_option("normals_dtype", self.normals_dtype, VECTOR_DTYPES)
        if self.source == "mask":
            check_mask_options(self.sigma, self.method_name, self.band, self.distance)
        else:
            check_mesh_options(self.method_name, self.distance)
        if self.ignore_value is not None and not (_is_integer(self.ignore_value) and 2 <= self.ignore_value <= 255):
            raise InvalidInputError(f"ignore_value={self.ignore_value!r}; expected None or an integer from 2 to 255")
        if self.voxel_size is not None and (
            len(self.voxel_size) != 3
            or not all(isinstance(size, Real) and 0 < size < math.inf for size in self.voxel_size)
        ):
            raise InvalidInputError(f"voxel_size={self.voxel_size!r}; expected three positive numbers (z, y, x)")
        if len(self.chunks) != 3 or not all(_is_integer(length) and length > 0 for length in self.chunks):
            raise InvalidInputError(f"chunks={self.chunks!r}; expected three positive integers (z, y, x)")
        if self.crop is not None and not _is_box(self.crop):
            raise InvalidInputError(
                f"crop={self.crop!r}; expected ((z0, z1), (y0, y1), (x0, x1)) with 0 <= start < stop"
            )

    @property
    def method_name(self) -> str:
        """The method, by default the first of the source's."""
        return self.method or (MASK_METHODS if self.source == "mask" else MESH_METHODS)[0]

    @property
    def distance(self) -> float:
        """``max_distance``, by default the source's."""
        default = MASK_DISTANCE if self.source == "mask" else MESH_DISTANCE
        return default if self.max_distance is None else self.max_distance


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_box(crop: Any) -> bool:
    pairs = len(crop) == 3 and all(len(pair) == 2 for pair in crop)
    return pairs and all(_is_integer(v) for pair in crop for v in pair) and all(0 <= a < b for a, b in crop)
