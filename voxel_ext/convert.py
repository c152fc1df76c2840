"""Turning a checkpoint of pytorch-3dunet into a bundle's weight file and the settings of its network."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voxel_ext.errors import CheckpointError, InvalidInputError, check_sizes
from voxel_ext.files import atomic_path
from voxel_ext.handlers.weights import load_state, read_checkpoint, save_checkpoint
from voxel_ext.networks.blocks.unet3d_settings import FLAVORS, check_layer_order
from voxel_ext.networks.nets.unet3d_factory import unet3d_network

logger = logging.getLogger(__name__)

_SCALARS: list[Any] = [
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
    (np.dtype, "numpy.dtype"),
    *(type(np.dtype(kind)) for kind in ("bool", "float16", "float32", "float64", "int32", "int64")),
]
"""What a pickled NumPy number is made of: checkpoints hold the best validation score as one."""


@dataclass(frozen=True)
class UNet3DSettings:
    """Settings of a network, by the names of :func:`~voxel_ext.networks.nets.unet3d_factory.unet3d_network`."""

    architecture: str
    in_channels: int
    out_channels: int
    f_maps: list[int]
    num_levels: int
    num_groups: int
    layer_order: str
    kernel_size: list[int]
    pool_size: list[int]
    flavor: str


def convert_checkpoint(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    layer_order: str | None = None,
    num_groups: int | None = None,
    pool_size: int | Sequence[int] | None = None,
    flavor: str | None = None,
) -> UNet3DSettings:
    """Turn a checkpoint of pytorch-3dunet into a bundle's weight file and a config overlay with its settings.

    Writes ``target``, a plain state dict, and beside it a file of the same name with the suffix ``.json``.
    What the parameters show is taken from them: architecture, channels, levels, kernel, and where the norm stands. What
    they do not show is an argument, and must be what the network was trained with.

    Args:
        source: a ``.pytorch`` file of wolny/pytorch-3dunet or flavell-lab/pytorch-3dunet, or a bare state dict.
        target: the weight file to write.
        layer_order: layers of each convolution, e.g. ``"gcr"``, the default of pytorch-3dunet. Where the norm does
            not stand before the convolution there is no default, since the activation is not known.
        num_groups: groups of the group norms; default 8, that of pytorch-3dunet.
        pool_size: of the poolings, one number or along (z, y, x); default 2, or (1, 2, 2) where the kernel is flat.
        flavor: of a plain U-Net, which sets the slope of LeakyReLU; default ``"flavell"``. Of a residual network it is
            seen in the parameters.

    Returns:
        The settings.

    Raises:
        MissingDataError: there is no such file.
        CheckpointError: the file is unreadable, would execute code to be read, or holds another network.
        InvalidInputError: an argument is not valid or contradicts the parameters.
        OSError: the files cannot be written.
    """
    source, target = Path(source), Path(target)
    overlay = target.with_suffix(".json")
    if overlay == target or target.resolve() == source.resolve():
        raise InvalidInputError(
            f"the output {target} is not valid: it must be another file than the input, and not end with .json, "
            "which is the name of the settings file beside it; choose a name such as model.pt"
        )
    weights = read_state_dict(source)
    settings = infer_settings(weights, str(source), layer_order, num_groups, pool_size, flavor)
    weights = _adapt(weights, settings)
    network = unet3d_network(**asdict(settings))
    load_state(weights, network, source=str(source))
    # each file takes its place when both are whole
    with atomic_path(overlay) as temporary:
        temporary.write_text(json.dumps(asdict(settings), indent=4) + "\n", encoding="utf-8")
        save_checkpoint(target, network.state_dict())
    logger.info("weights: %s; settings: %s", target, overlay)
    return settings


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Read the network's parameters of a ``.pytorch`` file without executing pickled code.

    Args:
        path: a dictionary with ``model_state_dict``, or a bare state dict; names may start with ``module.``.

    Returns:
        The tensors by name, in the order of the file.

    Raises:
        MissingDataError: there is no such file.
        CheckpointError: the file is unreadable, would execute code to be read, or holds no state dict.
    """
    with torch.serialization.safe_globals(_SCALARS):
        content = read_checkpoint(path)
    weights = content.get("model_state_dict", content)
    named = isinstance(weights, Mapping) and all(isinstance(name, str) for name in weights)
    if not named or not weights or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        found = ", ".join(map(repr, list(content)[:6])) or "nothing"
        raise CheckpointError(
            f"{path} holds no network weights (found {found}); expected a dictionary with model_state_dict, "
            "or a state dict of tensors"
        )
    return {name.removeprefix("module."): value for name, value in weights.items()}


def infer_settings(
    weights: Mapping[str, torch.Tensor],
    source: str,
    layer_order: str | None = None,
    num_groups: int | None = None,
    pool_size: int | Sequence[int] | None = None,
    flavor: str | None = None,
) -> UNet3DSettings:
    """Infer the settings of a network from its parameters; see :func:`convert_checkpoint` for the arguments.

    Raises:
        CheckpointError: the parameters are not those of a network of pytorch-3dunet; ``source`` is in the message.
        InvalidInputError: an argument is not valid or contradicts the parameters.
    """
    entrance = _entrance(weights, source)
    residual = "SingleConv" not in entrance
    f_maps = _level_channels(weights, "conv2.conv.weight" if residual else "SingleConv2.conv.weight")
    last = f"encoders.0.basic_module.{'conv2' if residual else 'SingleConv2'}.conv.weight"
    kernel = list(weights[last].shape[2:])
    kernel = [1, *kernel] if len(kernel) == 2 else kernel
    if pool_size is None:
        pool_size = (1, 2, 2) if kernel[0] == 1 else 2
    if num_groups is None:
        num_groups = 8
        if any(".groupnorm." in name for name in weights):
            logger.warning(
                "%s does not show num_groups; took 8, the default of pytorch-3dunet (option num_groups)", source
            )
    excitation = any(".se_module." in name for name in weights)
    return UNet3DSettings(
        architecture=("residual_unet_se3d" if excitation else "residual_unet3d") if residual else "unet3d",
        in_channels=int(weights[entrance].shape[1]),
        out_channels=int(weights["final_conv.weight"].shape[0]),
        f_maps=f_maps,
        num_levels=len(f_maps),
        num_groups=num_groups,
        layer_order=_layer_order(weights, source, layer_order),
        kernel_size=kernel,
        pool_size=list(check_sizes("pool_size", pool_size)),
        flavor=_residual_flavor(weights, source, flavor) if residual else flavor or "flavell",
    )


def _entrance(weights: Mapping[str, torch.Tensor], source: str) -> str:
    """Name the first convolution, whose input is the image."""
    block = "encoders.0.basic_module"
    names = [f"{block}.{name}.weight" for name in ("SingleConv1.conv", "conv1.conv", "conv1", "conv2.conv")]
    found = next((name for name in names if name in weights), None)
    second = f"{block}.{'SingleConv2' if found and 'SingleConv1' in found else 'conv2'}.conv.weight"
    if found is None or second not in weights or "final_conv.weight" not in weights:
        raise CheckpointError(
            f"{source} is not a network of pytorch-3dunet: expected parameters such as {names[0]} and "
            f"final_conv.weight, found {', '.join(list(weights)[:4])}, ..."
        )
    return found


def _level_channels(weights: Mapping[str, torch.Tensor], convolution: str) -> list[int]:
    """Return the channels that a convolution in each level of the encoder gives."""
    channels: list[int] = []
    while (name := f"encoders.{len(channels)}.basic_module.{convolution}") in weights:
        channels.append(int(weights[name].shape[0]))
    return channels


def _visible_order(weights: Mapping[str, torch.Tensor]) -> str:
    """Return the letters c, g, b of a convolution's layers, in their order.

    A norm before the convolution has the channels of its input, one behind it those of its output; where the two are
    equal in all convolutions, the order is that of the names in the file.
    """
    letters = {"conv": "c", "groupnorm": "g", "batchnorm": "b"}
    blocks: dict[str, list[str]] = {}
    for name in weights:
        block, _, layer = name.removesuffix(".weight").rpartition(".")
        if name.endswith(".weight") and layer in letters and "se_module" not in name:
            blocks.setdefault(block, []).append(layer)
    for block, layers in blocks.items():
        after, before = weights[f"{block}.conv.weight"].shape[:2]
        if after != before:
            places = {layer: int(weights[f"{block}.{layer}.weight"].shape[0] != before) * 2 for layer in layers}
            places["conv"] = 1
            return "".join(letters[layer] for layer in sorted(layers, key=places.__getitem__))
    return "".join(letters[layer] for layer in next(iter(blocks.values())))


def _layer_order(weights: Mapping[str, torch.Tensor], source: str, given: str | None) -> str:
    """Return the order given, or the default of pytorch-3dunet, if it fits what the parameters show."""
    visible = _visible_order(weights)
    if given is None and visible == "gc":
        logger.warning("%s does not show the activation; took layer_order='gcr', the default of pytorch-3dunet", source)
        return "gcr"
    if given is None:
        examples = f"{visible}r or {visible}e" if visible == "c" else f"{visible}r, {visible}e or cr{visible[1:]}"
        raise InvalidInputError(
            f"{source} has layers in the order {visible!r} (c convolution, g group norm, b batch norm) and does not "
            f"show its activation; give layer_order with the one it was trained with, for example {examples}"
        )
    if "".join(letter for letter in check_layer_order(given) if letter in "cgb") != visible:
        raise InvalidInputError(
            f"layer_order={given!r} contradicts {source}, whose layers are in the order {visible!r} "
            "(c convolution, g group norm, b batch norm); give the order it was trained with"
        )
    return given


def _residual_flavor(weights: Mapping[str, torch.Tensor], source: str, given: str | None) -> str:
    """Name the release of a residual network, which its parameters show."""
    if "encoders.0.basic_module.conv1.conv.weight" in weights:
        found = "flavell"
    else:
        found = "wolny" if any(".upsample.conv_transposed." in name for name in weights) else "wolny-1.4"
    if given not in (None, found):
        raise InvalidInputError(f"flavor={given!r} contradicts {source}, which is of flavor {found!r}; leave it out")
    return found


def _adapt(weights: Mapping[str, torch.Tensor], settings: UNet3DSettings) -> dict[str, torch.Tensor]:
    """Make 2D kernels flat 3D ones, and add the bias 0 that releases 1.6.2 to 1.8.0 lack in transposed convolutions."""
    adapted = {name: value.unsqueeze(2) if value.ndim == 4 else value for name, value in weights.items()}
    if settings.architecture != "unet3d" and not FLAVORS[settings.flavor].interpolated:
        for name, value in weights.items():
            if name.endswith(".upsample.weight"):
                adapted.setdefault(name.removesuffix("weight") + "bias", value.new_zeros(value.shape[1]))
    return adapted
