"""Vector fields as arrays: their components' order, what counts as known, and unit length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.config import NdarrayOrTensor
from monai.utils import convert_to_dst_type, convert_to_tensor

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.targets import COMPONENT_ORDERS

KINDS = ("normal", "direction")


def check_volume(img: NdarrayOrTensor, name: str = "the image") -> None:
    """Check that an array is (C, D, H, W).

    Raises:
        InvalidInputError: another number of axes; names the array and its shape.
    """
    if img.ndim != 4:
        raise InvalidInputError(f"{name} has the shape {tuple(img.shape)}; expected (C, D, H, W)")


def check_field(field: NdarrayOrTensor, name: str = "the vector field") -> None:
    """Check that an array is a vector field: (3, D, H, W) of a float type.

    Raises:
        InvalidInputError: another shape, or a type that is not float, as the codes on disk have.
    """
    if field.ndim != 4 or field.shape[0] != 3:
        raise InvalidInputError(
            f"{name} has the shape {tuple(field.shape)}; expected (3, D, H, W), a vector's components first"
        )
    floating = field.is_floating_point() if isinstance(field, torch.Tensor) else field.dtype.kind == "f"
    if not floating:
        raise InvalidInputError(
            f"{name} has the type {field.dtype}; expected float vectors: decode what is stored as whole numbers first"
        )


def field_tensor(field: NdarrayOrTensor, component_order: str = "zyx") -> torch.Tensor:
    """Return a vector field as a plain tensor with its components in the order z, y, x.

    Args:
        field: (3, D, H, W) float, tensor, MetaTensor or NumPy array.
        component_order: that of ``field``, "zyx" or "xyz".

    Raises:
        InvalidInputError: another shape or type, or an unknown order.
    """
    check_field(field)
    check_option("component_order", component_order, COMPONENT_ORDERS)
    tensor = convert_to_tensor(field, track_meta=False)
    return tensor.flip(0) if component_order == "xyz" else tensor


def field_like(tensor: torch.Tensor, field: NdarrayOrTensor, component_order: str = "zyx") -> NdarrayOrTensor:
    """Undo :func:`field_tensor`: components back in their order, and the kind of array that ``field`` is.

    Args:
        tensor: (3, D, H, W), components z, y, x; its type is kept.
        field: what the result is to resemble: tensor, MetaTensor (whose meta data, affine included, is copied) or
            NumPy array, on its device.
        component_order: that of the result.
    """
    return array_like(tensor.flip(0) if component_order == "xyz" else tensor, field)


def array_like(tensor: torch.Tensor, img: NdarrayOrTensor, keep_type: bool = False) -> NdarrayOrTensor:
    """Return a tensor as the kind of array that ``img`` is, contiguous.

    Args:
        tensor: what to return.
        img: tensor, MetaTensor (whose meta data, affine included, is copied) or NumPy array.
        keep_type: whether the result has the type of ``img``'s numbers, or of the tensor's.
    """
    tensor = tensor.contiguous()
    if keep_type:
        return convert_to_dst_type(tensor, img)[0]
    wanted: Any = tensor.dtype if isinstance(img, torch.Tensor) else tensor.cpu().numpy().dtype
    return convert_to_dst_type(tensor, img, dtype=wanted)[0]


def device_of(img: NdarrayOrTensor) -> torch.device:
    """Where an array lies: a tensor's device, the CPU for NumPy."""
    return img.device if isinstance(img, torch.Tensor) else torch.device("cpu")


def known_voxels(field: torch.Tensor) -> torch.Tensor:
    """Where a field is known: the vectors that are not zero.

    Args:
        field: (3, D, H, W).

    Returns:
        (D, H, W) bool.
    """
    return (field != 0).any(0)


def unit_vectors(field: torch.Tensor, smallest: float = 0.0) -> torch.Tensor:
    """Give vectors unit length; the zero vector stays zero.

    Args:
        field: (3, ...) float.
        smallest: vectors at most this long become zero.
    """
    length = field.norm(dim=0, keepdim=True)
    return torch.where(length > smallest, field / length.clamp(min=torch.finfo(field.dtype).tiny), 0.0)


def three_numbers(name: str, value: float | Sequence[float], lowest: float = 0.0) -> tuple[float, float, float]:
    """Expand a setting to (z, y, x).

    Args:
        name: what the value sets, for the message.
        value: one number for all axes, or three.
        lowest: smallest valid number.

    Raises:
        InvalidInputError: not one or three finite numbers of at least ``lowest``.
    """
    values = tuple(value) if isinstance(value, Sequence) else (value,) * 3
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in values)
    if len(values) != 3 or not numbers or not all(lowest <= one < float("inf") for one in values):
        raise InvalidInputError(
            f"{name}={value!r}; expected one number or three (z, y, x), finite and at least {lowest:g}"
        )
    return float(values[0]), float(values[1]), float(values[2])


def voxel_sizes(value: float | Sequence[float] | None) -> tuple[float, float, float]:
    """Return a voxel size (z, y, x), (1, 1, 1) for None.

    Raises:
        InvalidInputError: not three positive numbers.
    """
    sizes = (1.0, 1.0, 1.0) if value is None else three_numbers("voxel_size", value)
    if min(sizes) <= 0:
        raise InvalidInputError(f"voxel_size={value!r}; expected positive numbers (z, y, x)")
    return sizes
