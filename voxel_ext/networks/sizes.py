"""What a network asks of its input's size and of its own."""

from __future__ import annotations

from torch import nn

from voxel_ext.errors import InvalidInputError


def nearest_sizes(size: list[int], stride: int) -> tuple[list[int], list[int]]:
    """Return the nearest smaller and larger sizes whose axes are positive multiples of ``stride`` (TorchScript)."""
    smaller: list[int] = []
    larger: list[int] = []
    for voxels in size:
        smaller.append(max(voxels // stride, 1) * stride)
        larger.append(max((voxels + stride - 1) // stride, 1) * stride)
    return smaller, larger


def check_input_shape(shape: list[int], in_channels: int) -> None:
    """Refuse an input with another number of axes or channels than a network takes (usable inside TorchScript).

    Args:
        shape: of the input.
        in_channels: channels that the network takes.

    Raises:
        InvalidInputError: names the shape. A scripted network raises ``torch.jit.Error`` with the same text.
    """
    if len(shape) != 5 or shape[1] != in_channels:
        raise InvalidInputError(
            f"an input of shape {shape} does not fit; expected (B, C, D, H, W) with {in_channels} channels"
        )


def check_spatial_size(size: list[int], stride: int) -> None:
    """Refuse a spatial size that a network with poolings cannot restore (usable inside TorchScript).

    Args:
        size: voxels along each spatial axis, e.g. ``[64, 64, 64]``.
        stride: product of the network's poolings along an axis, 2 ** (depth - 1) for a U-Net.

    Raises:
        InvalidInputError: an axis is not a positive multiple of ``stride``; names the size, the stride and the nearest
            sizes that fit. A scripted network raises ``torch.jit.Error`` with the same text.
    """
    fits = True
    for voxels in size:
        fits = fits and voxels > 0 and voxels % stride == 0
    if not fits:
        smaller, larger = nearest_sizes(size, stride)
        raise InvalidInputError(
            f"an input of spatial size {size} does not fit a network of stride {stride}: every axis must be a "
            f"multiple of {stride}. The nearest sizes that fit are {smaller} and {larger}; "
            "crop or pad to one of them, or lower the network's depth"
        )


def check_parameter_count(network: nn.Module, minimum: int = 0, maximum: int = 30_000_000) -> int:
    """Count the trainable parameters and refuse a network outside the limits.

    Args:
        network: any module.
        minimum: the fewest parameters allowed (config value ``min_params``).
        maximum: the most parameters allowed (config value ``max_params``), 30 million as in the original.

    Returns:
        The number of trainable parameters.

    Raises:
        InvalidInputError: the count is outside [minimum, maximum].
    """
    count = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    if minimum <= count <= maximum:
        return count
    raise InvalidInputError(
        f"{type(network).__name__} has {count:,} trainable parameters, outside the limits [{minimum:,}, {maximum:,}]; "
        "change the network (depth, start_channels, num_stacks, kernel_size) or the limits (min_params, max_params)"
    )


def check_network_arguments(spatial_dims: int, kernel_size: int, **counts: int) -> None:
    """Refuse arguments that no network here can be built from.

    Args:
        spatial_dims: 2 or 3.
        kernel_size: 3, 5 or 7.
        counts: what must be an integer of at least 1, by the name the user wrote, e.g. ``depth=4``.

    Raises:
        InvalidInputError: names the argument, its value and what is valid.
    """
    for name, value, choices in (("spatial_dims", spatial_dims, (2, 3)), ("kernel_size", kernel_size, (3, 5, 7))):
        if value not in choices:
            raise InvalidInputError(f"{name}={value!r} is not valid; expected one of {', '.join(map(str, choices))}")
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidInputError(f"{name}={value!r} is not valid; expected an integer of at least 1")
