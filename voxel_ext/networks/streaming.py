"""The last decoder of a 3D U-Net slab by slab, so that memory stays a fraction of what a forward pass needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.blocks.unet3d_blocks import DoubleConv
from voxel_ext.networks.nets.unet3d import UNet3D

Reader = Callable[[int, int], torch.Tensor]
"""Gives the slices [start, stop) along z of a (1, C, D, H, W) tensor that need not exist as a whole."""


def stream_features(network: UNet3D, image: torch.Tensor, slab: int = 8) -> Iterator[tuple[slice, torch.Tensor]]:
    """Compute ``network.features(image)`` in slabs of slices.

    At full resolution only two maps with the first level's number of channels are held at a time: neither the joined
    input of the last decoder nor its normalized copies are made as a whole. Statistics of the normalization are those
    of the whole volume, so the result is that of the forward pass up to rounding.

    Args:
        network: in evaluation mode.
        image: (1, C, D, H, W), all on the network's device.
        slab: slices to compute at a time; fewer need less memory.

    Yields:
        the place of the slab along z and the features (1, F, d, H, W) there, to be used with ``network.final_conv``.

    Raises:
        InvalidInputError: the network is in training mode, not a U-Net of double convolutions, or the batch is not 1.
    """
    _check(network, image, slab)
    with torch.no_grad():
        skips = [_first_encoder(network, image, slab)]
        for encoder in network.encoders[1:]:
            skips.append(encoder(skips[-1]))
        below = skips.pop()
        for decoder in network.decoders[:-1]:
            below = decoder(skips.pop(), below)
        yield from _last_decoder(network, skips, below, slab)


def can_stream(network: nn.Module) -> bool:
    """Tell whether :func:`stream_features` knows this kind of network: a U-Net of double convolutions."""
    return isinstance(network, UNet3D) and all(isinstance(d.basic_module, DoubleConv) for d in network.decoders)


def _check(network: nn.Module, image: torch.Tensor, slab: int) -> None:
    if not can_stream(network):
        raise InvalidInputError(f"{type(network).__name__} cannot be computed in slabs; expected a UNet3D")
    if network.training:
        raise InvalidInputError("the network is in training mode; slabs are for evaluation, call network.eval() first")
    if image.ndim != 5 or image.shape[0] != 1:
        raise InvalidInputError(f"the image has the shape {tuple(image.shape)}; expected (1, C, D, H, W)")
    if slab < 1:
        raise InvalidInputError(f"slab={slab}: expected at least one slice")


def _first_encoder(network: UNet3D, image: torch.Tensor, slab: int) -> torch.Tensor:
    first, second = network.encoders[0].basic_module
    depth = image.shape[2]
    inner = _single_conv(first, _slices_of(image), depth, slab)
    return _single_conv(second, _slices_of(inner), depth, slab)


def _last_decoder(
    network: UNet3D, skips: list[torch.Tensor], below: torch.Tensor, slab: int
) -> Iterator[tuple[slice, torch.Tensor]]:
    first, second = network.decoders[-1].basic_module
    skip = skips.pop()
    depth = skip.shape[2]
    inner = _single_conv(first, _joined(skip, below), depth, slab)
    del skip, below
    yield from _stream_conv(second, _slices_of(inner), depth, slab)


def _slices_of(tensor: torch.Tensor) -> Reader:
    return lambda start, stop: tensor[:, :, start:stop]


def _joined(skip: torch.Tensor, below: torch.Tensor) -> Reader:
    """The skip connection and the coarser map, brought to its size by nearest neighbors, side by side."""
    depth, height, width = skip.shape[2:]
    # the source slice of each slice, as functional.interpolate rounds it
    numbers = torch.arange(below.shape[2], dtype=torch.float32)[None, None]
    source = functional.interpolate(numbers, size=depth, mode="nearest")[0, 0].long().tolist()

    def read(start: int, stop: int) -> torch.Tensor:
        first, last = source[start], source[stop - 1] + 1
        planes = functional.interpolate(below[:, :, first:last], size=(last - first, height, width), mode="nearest")
        chosen = [source[z] - first for z in range(start, stop)]
        return torch.cat((skip[:, :, start:stop], planes[:, :, chosen]), dim=1)

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
    at = next(i for i, module in enumerate(modules) if isinstance(module, nn.Conv3d))
    before, conv, after = modules[:at], modules[at], modules[at + 1 :]
    prepare = _pointwise(before, read, depth, slab)
    halo = conv.padding[0]

    def convolved(start: int, stop: int) -> torch.Tensor:
        low, high = max(start - halo, 0), min(stop + halo, depth)
        part = prepare(read(low, high))
        missing = (low - (start - halo), (stop + halo) - high)
        if any(missing):
            part = functional.pad(part, (0, 0, 0, 0, missing[0], missing[1]))
        return functional.conv3d(part, conv.weight, conv.bias, padding=(0, *conv.padding[1:]))

    if any(isinstance(module, nn.GroupNorm) for module in after):
        whole = _single_conv(nn.Sequential(*before, conv), read, depth, slab)
        read_output: Reader = _slices_of(whole)
    else:
        read_output = convolved
    finish = _pointwise(after, read_output, depth, slab)
    for start in range(0, depth, slab):
        stop = min(start + slab, depth)
        yield slice(start, stop), finish(read_output(start, stop))


def _pointwise(modules: list[nn.Module], read: Reader, depth: int, slab: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """What modules without spatial extent do to a slab, group normalization by the statistics of the whole input."""
    steps: list[Callable[[torch.Tensor], torch.Tensor]] = []

    def apply(part: torch.Tensor, count: int) -> torch.Tensor:
        for step in steps[:count]:
            part = step(part)
        return part

    for module in modules:
        if isinstance(module, nn.GroupNorm):
            done = len(steps)
            scale, shift = _group_affine(module, lambda a, b, n=done: apply(read(a, b), n), depth, slab)
            steps.append(lambda part, s=scale, t=shift: torch.addcmul(t.to(part.dtype), part, s.to(part.dtype)))
        else:
            steps.append(_out_of_place(module))
    return lambda part: apply(part, len(steps))


def _out_of_place(module: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """The module itself, or an in-place activation as one that leaves what it reads."""
    if not getattr(module, "inplace", False):
        return module
    if isinstance(module, nn.LeakyReLU):
        return lambda part: functional.leaky_relu(part, module.negative_slope)
    return functional.elu if isinstance(module, nn.ELU) else functional.relu


def _group_affine(norm: nn.GroupNorm, read: Reader, depth: int, slab: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Factor and offset per channel (1, C, 1, 1, 1) that group normalization comes to (Wu and He 2018, eq. 1)."""
    total = torch.zeros(norm.num_channels, dtype=torch.float64)
    squares = torch.zeros_like(total)
    voxels = 0
    for start in range(0, depth, slab):
        part = read(start, min(start + slab, depth)).float()
        voxels += part[0, 0].numel()
        total = total.to(part.device) + part.sum((0, 2, 3, 4), dtype=torch.float64)
        squares = (
            squares.to(part.device) + torch.linalg.vector_norm(part, dim=(0, 2, 3, 4), dtype=torch.float64).square()
        )
    grouped = total.view(norm.num_groups, -1).mean(1) / voxels
    variance = squares.view(norm.num_groups, -1).mean(1) / voxels - grouped.square()
    per_channel = norm.num_channels // norm.num_groups
    deviation = (variance.clamp(min=0) + norm.eps).rsqrt().repeat_interleave(per_channel)
    scale = deviation * (norm.weight.double() if norm.weight is not None else 1)
    shift = (norm.bias.double() if norm.bias is not None else 0) - grouped.repeat_interleave(per_channel) * scale
    return tuple(value.float().view(1, -1, 1, 1, 1) for value in (scale, shift))  # type: ignore[return-value]
