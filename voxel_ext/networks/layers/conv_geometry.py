"""Sizes, strides and paddings with which a convolution stays equivariant."""

from __future__ import annotations

from collections.abc import Sequence

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.networks.groups import AXES, RotationGroup

Triple = tuple[int, int, int]


def check_at_least(least: int, **values: int | Sequence[int]) -> None:
    """Refuse settings with a number below ``least``.

    Args:
        least: the smallest valid number.
        values: one number or several, by the name of the setting.

    Raises:
        InvalidInputError: names the setting and its value.
    """
    for name, value in values.items():
        if min((value,) if isinstance(value, int) else value) < least:
            raise InvalidInputError(f"{name}={value}: expected at least {least}.")


def resolve_padding(
    group: RotationGroup, padding: int | Sequence[int] | str, kernel_size: Triple, stride: Triple, dilation: Triple
) -> Triple:
    """Expand a padding to (z, y, x).

    Args:
        group: the group, which must keep it.
        padding: voxels on each side, or ``"same"``.
        kernel_size: (kz, ky, kx).
        stride: (z, y, x).
        dilation: (z, y, x).

    Raises:
        InvalidInputError: if the group does not keep it, or ``"same"`` is not the same on both sides.
    """
    if not isinstance(padding, str):
        return group.check_axes("padding", padding)
    check_option("padding", padding, ("same",))
    spans = [step * (size - 1) for step, size in zip(dilation, kernel_size, strict=True)]
    if any(span % 2 for span in spans) or stride != (1, 1, 1):
        raise InvalidInputError(
            "padding='same' needs stride 1 and equal padding on both sides, so dilation·(kernel_size - 1) even; got "
            f"stride={stride}, dilation={dilation}, kernel_size={kernel_size}. Give a number instead."
        )
    return spans[0] // 2, spans[1] // 2, spans[2] // 2


def uneven_axis(
    group: RotationGroup, size: Sequence[int], kernel_size: Triple, stride: Triple, padding: Triple, dilation: Triple
) -> str | None:
    """Name the first axis along which a strided convolution of this size is not equivariant.

    The places of the kernel are symmetric about the centre, as a group that reverses the axis needs, only if
    size + 2·padding - dilation·(kernel - 1) - 1 is a multiple of the stride.

    Args:
        group: the group.
        size: (D, H, W).
        kernel_size: (kz, ky, kx).
        stride: (z, y, x).
        padding: (z, y, x).
        dilation: (z, y, x).

    Returns:
        ``"z"``, ``"y"``, ``"x"`` or None.
    """
    for axis, flipped in enumerate(group.flipped_axes):
        span = size[axis] + 2 * padding[axis] - dilation[axis] * (kernel_size[axis] - 1) - 1
        if flipped and span % stride[axis]:
            return AXES[axis]
    return None
