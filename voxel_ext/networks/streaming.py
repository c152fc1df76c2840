"""The last decoder of a 3D U-Net slab by slab, so that memory stays a fraction of what a forward pass needs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeGuard, cast

import torch
from torch import nn
from torch.nn import functional

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.blocks.unet3d_blocks import DecoderLevel, DoubleConv, EncoderLevel
from voxel_ext.networks.nets.unet3d import UNet3D

Reader = Callable[[int, int], torch.Tensor]
"""Gives the slices [start, stop) along z of a (1, C, D, H, W) tensor that need not exist as a whole."""
Step = Callable[[torch.Tensor], torch.Tensor]
"""Maps a slab to one of the same size, voxel by voxel."""
_ROWS_AT_ONCE = 4096
"""Voxels that are added up in single precision at a time."""


@torch.no_grad()  # as a decorator, it leaves the caller's gradient mode as it is between two slabs
def stream_features(network: UNet3D, image: torch.Tensor, slab: int = 8) -> Iterator[tuple[slice, torch.Tensor]]:
    """Compute ``network.features(image)`` in slabs of slices.

    At full resolution only two maps with the first level's number of channels are held at a time (three where a group
    norm follows the convolution): neither the joined input of the last decoder nor its normalized copies are made as a
    whole. Statistics of the normalization are those of the whole volume, so the result is that of the forward pass up
    to rounding. It has no gradient.

    Args:
        network: in evaluation mode.
        image: (1, C, D, H, W), on the network's device.
        slab: slices to compute at a time; fewer need less memory.

    Yields:
        the place of the slab along z and the features (1, F, d, H, W) there, to be used with ``network.final_conv``.

    Raises:
        InvalidInputError: with the first slab: the network is in training mode, or not a U-Net of double convolutions;
            the batch is not 1; the image has other channels or is too small for the network.
    """
    _check(network, image, slab)
    maps = [_first_encoder(network, image, slab)]
    for encoder in network.encoders[1:]:
        maps.append(encoder(maps[-1]))
    for decoder in network.decoders[:-1]:
        below = maps.pop()
        maps.append(decoder(maps.pop(), below))
        del below
    yield from _last_decoder(network, maps, slab)


def final_logits(network: UNet3D, rows: torch.Tensor) -> torch.Tensor:
    """Apply the final 1 x 1 x 1 convolution to the features of some voxels.

    Args:
        network: its ``final_conv``.
        rows: (n, F) features, channels last.

    Returns:
        logits (n, K).
    """
    return functional.linear(rows, network.final_conv.weight.flatten(1), network.final_conv.bias)


def can_stream(network: nn.Module) -> TypeGuard[UNet3D]:
    """Tell whether :func:`stream_features` knows this kind of network: a U-Net of double convolutions."""
    return isinstance(network, UNet3D) and all(
        isinstance(level.basic_module, DoubleConv) for level in (*network.encoders, *network.decoders)
    )


def _check(network: nn.Module, image: torch.Tensor, slab: int) -> None:
    if not can_stream(network):
        raise InvalidInputError(f"{type(network).__name__} cannot be computed in slabs; expected a UNet3D")
    if network.training:
        raise InvalidInputError("the network is in training mode; slabs are for evaluation, call network.eval() first")
    if image.ndim != 5 or image.shape[0] != 1:
        raise InvalidInputError(f"the image has the shape {tuple(image.shape)}; expected (1, C, D, H, W)")
    if slab < 1:
        raise InvalidInputError(f"slab={slab}: expected at least one slice")
    network._check_input(image)


def _layers(level: nn.Module) -> tuple[nn.Sequential, nn.Sequential]:
    """The two convolutions of a level, each with its normalization and activation."""
    first, second = cast(DoubleConv, cast(EncoderLevel | DecoderLevel, level).basic_module)
    return cast(nn.Sequential, first), cast(nn.Sequential, second)


def _first_encoder(network: UNet3D, image: torch.Tensor, slab: int) -> torch.Tensor:
    first, second = _layers(network.encoders[0])
    depth = image.shape[2]
    inner = _single_conv(first, _slices_of(image), depth, slab)
    return _single_conv(second, _slices_of(inner), depth, slab)


def _last_decoder(network: UNet3D, maps: list[torch.Tensor], slab: int) -> Iterator[tuple[slice, torch.Tensor]]:
    """The last decoder of the skip and the coarser map, which are taken out of ``maps`` to be given free early."""
    first, second = _layers(network.decoders[-1])
    depth = maps[0].shape[2]
    inner = _single_conv(first, _joined(maps.pop(0), maps.pop()), depth, slab)
    yield from _stream_conv(second, _slices_of(inner), depth, slab)


def _slices_of(tensor: torch.Tensor) -> Reader:
    return lambda start, stop: tensor[:, :, start:stop]


def _joined(skip: torch.Tensor, below: torch.Tensor) -> Reader:
    """The skip connection and the coarser map, brought to its size by nearest neighbors, side by side."""
    depth, height, width = skip.shape[2:]
    # the source slice of each slice, as functional.interpolate rounds it
    numbers = torch.arange(below.shape[2], dtype=torch.float32)[None, None]
    source = functional.interpolate(numbers, size=depth, mode="nearest")[0, 0].long().tolist()

    channels = skip.shape[1]

    def read(start: int, stop: int) -> torch.Tensor:
        shape = (1, channels + below.shape[1], stop - start, height, width)
        part = torch.empty(shape, dtype=skip.dtype, device=skip.device, memory_format=torch.channels_last_3d)
        part[:, :channels] = skip[:, :, start:stop]
        for place, z in enumerate(source[start:stop]):
            part[:, channels:, place] = functional.interpolate(below[:, :, z], size=(height, width), mode="nearest")
        return part

    return read


def _single_conv(layer: nn.Sequential, read: Reader, depth: int, slab: int) -> torch.Tensor:
    """The whole output of a layer whose input is read in slabs."""
    parts = _stream_conv(layer, read, depth, slab)
    place, part = next(parts)
    shape = (1, part.shape[1], depth, *part.shape[3:])
    # a slab of slices is one piece of memory in this layout
    whole = torch.empty(shape, dtype=part.dtype, device=part.device, memory_format=torch.channels_last_3d)
    whole[:, :, place] = part
    for place, part in parts:
        whole[:, :, place] = part
    return whole


def _stream_conv(layer: nn.Sequential, read: Reader, depth: int, slab: int) -> Iterator[tuple[slice, torch.Tensor]]:
    """The slabs of a layer of normalization, convolution and activation in any order."""
    modules = list(layer)
    conv = next(module for module in modules if isinstance(module, nn.Conv3d))
    at = modules.index(conv)
    before, after = modules[:at], modules[at + 1 :]
    if any(isinstance(module, nn.GroupNorm) for module in after):
        read_output = _slices_of(_single_conv(nn.Sequential(*before, conv), read, depth, slab))
    else:
        prepared = partial(_read_through, _pointwise(before, read, depth, slab), read)
        read_output = partial(_convolved, conv, prepared, depth)
    steps = _pointwise(after, read_output, depth, slab)
    for start in range(0, depth, slab):
        stop = min(start + slab, depth)
        yield slice(start, stop), _read_through(steps, read_output, start, stop)


def _convolved(conv: nn.Conv3d, read: Reader, depth: int, start: int, stop: int) -> torch.Tensor:
    """The slices [start, stop) of a convolution that keeps the size, of the slices it needs and zeros outside."""
    halo, *padding = (size // 2 for size in conv.kernel_size)
    low, high = max(start - halo, 0), min(stop + halo, depth)
    part = read(low, high)
    missing = (low - (start - halo), (stop + halo) - high)
    if any(missing):
        part = functional.pad(part, (0, 0, 0, 0, *missing))
    return functional.conv3d(part, conv.weight, conv.bias, padding=(0, *padding))


def _pointwise(modules: Sequence[nn.Module], read: Reader, depth: int, slab: int) -> list[Step]:
    """Modules without spatial extent as steps of a slab, group normalization with the statistics of the whole input."""
    steps: list[Step] = []
    for module in modules:
        if isinstance(module, nn.GroupNorm):
            scale, shift = _group_affine(module, partial(_read_through, list(steps), read), depth, slab)
            steps.append(partial(_affine, scale, shift))
        else:
            steps.append(_out_of_place(module))
    return steps


def _read_through(steps: Sequence[Step], read: Reader, start: int, stop: int) -> torch.Tensor:
    part = read(start, stop)
    for step in steps:
        part = step(part)
    return part


def _affine(scale: torch.Tensor, shift: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    dtype = torch.promote_types(part.dtype, torch.float32)
    return torch.addcmul(shift.to(dtype), part.to(dtype), scale.to(dtype)).to(part.dtype)


def _out_of_place(module: nn.Module) -> nn.Module:
    """The module itself, or an in-place activation as one that leaves what it reads."""
    if not getattr(module, "inplace", False):
        return module
    activation: Any = copy.copy(module)
    activation.inplace = False
    return activation


def _group_affine(norm: nn.GroupNorm, read: Reader, depth: int, slab: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Factor and offset per channel (1, C, 1, 1, 1) that group normalization comes to (Wu and He 2018, eq. 1)."""
    sums = torch.zeros(2, norm.num_channels, dtype=torch.float64)
    voxels = 0
    for start in range(0, depth, slab):
        part = read(start, min(start + slab, depth))
        voxels += part[0, 0].numel()
        rows = part.movedim(1, -1).flatten(0, -2)
        # short sums in the map's own precision, added up in double precision
        for chunk in rows.split(_ROWS_AT_ONCE if part.device.type == "cpu" else len(rows)):
            chunk = chunk.to(torch.promote_types(chunk.dtype, torch.float32))
            sums += torch.stack((chunk.sum(0), chunk.square().sum(0))).to(sums)
    mean, square = sums.view(2, norm.num_groups, -1).mean(2) / voxels
    mean, square = mean.to(norm.weight.device), square.to(norm.weight.device)
    deviation = ((square - mean.square()).clamp(min=0) + norm.eps).sqrt()
    per_channel = norm.num_channels // norm.num_groups
    scale = (norm.weight / deviation.repeat_interleave(per_channel)).view(1, -1, 1, 1, 1)
    return scale, norm.bias.view(1, -1, 1, 1, 1) - mean.repeat_interleave(per_channel).view(1, -1, 1, 1, 1) * scale
