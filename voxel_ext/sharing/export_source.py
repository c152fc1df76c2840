"""A bundle's network with its weights and inputs for it, as exporting it needs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from voxel_ext.errors import VoxelExtError
from voxel_ext.sharing.bundle import METADATA, Bundle

INPUT = "image"
"""Name of the network's input in the metadata."""


@dataclass(frozen=True)
class Source:
    """A network with its weights, and what MONAI's commands need to build it again.

    Attributes:
        network: in evaluation mode, on the CPU.
        inputs: two random ones, (B, C, z, y, x) or as the metadata have it.
        axes: those of the input whose size is free, with a name for each.
        arguments: of ``ckpt_export`` and ``onnx_export``, all but the format's own.
    """

    network: nn.Module
    inputs: list[torch.Tensor]
    axes: dict[int, str]
    arguments: dict[str, Any]


def build_source(
    bundle: Bundle, weights: Path, variants: Sequence[str], overrides: Mapping[str, Any], plain: Path
) -> Source:
    """Build the network of a bundle with its weights.

    Args:
        bundle: the bundle; must have a network.
        weights: the weight file.
        variants: names of overlays.
        overrides: further config values by id.
        plain: where the weights are also saved as a plain state dict, which MONAI's commands read.

    Raises:
        MissingDataError: there are no weights.
        CheckpointError: the weights cannot be read, or are of another network.
        InvalidInputError: the config cannot be used.
    """
    from monai.bundle import ConfigParser

    from voxel_ext.handlers.weights import load_weights

    files = [str(bundle.configs["inference"]), *(str(bundle.variants[name]) for name in variants)]
    values = {"bundle_root": str(bundle.root), "ckpt_dir": str(weights.parent), **overrides}
    parser = ConfigParser()
    parser.read_config(files)
    parser.read_meta(str(bundle.root / METADATA))
    parser.update(values)
    assert bundle.network_id is not None
    network: nn.Module = load_weights(weights, _parsed(parser, bundle.network_id)).cpu().eval()
    torch.save(network.state_dict(), plain)
    arguments = {
        "net_id": bundle.network_id,
        "ckpt_file": str(plain),
        "config_file": files,
        "meta_file": str(bundle.root / METADATA),
        **values,
    }
    inputs, axes = _inputs(parser[f"_meta_#network_data_format#inputs#{INPUT}"])
    return Source(network, inputs, axes, arguments)


def _parsed(parser: Any, network_id: str) -> nn.Module:
    """Build the network; an error inside the config comes out as itself."""
    from voxel_ext.workflow import root_cause

    try:
        return parser.get_parsed_content(network_id)
    except Exception as error:  # the config parser wraps whatever a config's code raises
        reason = root_cause(error)
        if isinstance(reason, VoxelExtError | OSError):
            raise reason from error
        raise


def _inputs(described: Mapping[str, Any]) -> tuple[list[torch.Tensor], dict[int, str]]:
    """Two inputs of different batch sizes, and of different sizes along the axes that the metadata leave free."""
    from monai.bundle.scripts import _get_fake_spatial_shape

    shape = described["spatial_shape"]
    axes = {0: "batch"} | {2 + axis: f"size{axis}" for axis, size in enumerate(shape) if isinstance(size, str)}
    sizes = (_get_fake_spatial_shape(shape, n=n, any=16 * n) for n in (2, 3))
    generator = torch.Generator().manual_seed(0)
    channels = described["num_channels"]
    inputs = [
        torch.rand(batch, channels, *size, generator=generator) for batch, size in zip((2, 3), sizes, strict=True)
    ]
    return inputs, axes


def run(network: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor) -> torch.Tensor:
    """Return the network's output for an image, without gradients."""
    with torch.no_grad():
        return network(image)
