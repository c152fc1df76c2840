"""Outputs of converted checkpoints beside those of pytorch-3dunet: the greatest absolute difference of the logits.

``--original-3dunet`` is a checkout of flavell-lab/pytorch-3dunet, ``--upstream-3dunet`` one of wolny/pytorch-3dunet.
Each network has random parameters, is saved as a ``.pytorch`` file, converted, and both are given the same random
images.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import types
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from benchmarks.harness import Row
from benchmarks.unet3d_originals import original_models
from voxel_ext.convert import convert_checkpoint
from voxel_ext.handlers.weights import load_weights
from voxel_ext.networks.nets.unet3d_factory import unet3d_network

ORDERS = ("gcr", "cge", "gce", "bcr", "crg", "gcl")
SIZES = ((8, 12, 16), (9, 13, 11), (4, 5, 7), (6, 23, 9))
EVEN_SIZES = ((8, 12, 16), (4, 4, 8), (12, 24, 8))
"""The transposed convolutions of flavell-lab's release refuse sizes that are not multiples of the poolings."""

GOAL = "below 1e-5"


def run(arguments: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    folders = {"flavell": ("--original-3dunet", arguments.original_3dunet)}
    folders["wolny"] = ("--upstream-3dunet", arguments.upstream_3dunet)
    for flavor, (option, folder) in folders.items():
        if not folder:
            sys.stderr.write(f"unet3d_parity: no networks of {flavor}, which needs {option}\n")
            continue
        with original_models(folder) as models:
            rows += list(_rows(models, flavor))
    return rows


def _rows(models: types.ModuleType, flavor: str) -> Iterator[Row]:
    """Compare all networks of one release."""
    for name in ("UNet3D", "ResidualUNet3D", "ResidualUNetSE3D", "UNet2D", "ResidualUNet2D"):
        if not hasattr(models, name):
            continue
        sizes = EVEN_SIZES if (flavor, name) == ("flavell", "ResidualUNet3D") else SIZES
        worst = max(difference(models, name, flavor, order, size) for order, size in itertools.product(ORDERS, sizes))
        what = f"{name} of {flavor}, orders {', '.join(ORDERS)}, {len(sizes)} sizes"
        yield Row("unet3d_parity", what, worst, unit="", goal=GOAL)
    worst = difference(models, "UNet3D", flavor, "gcr", (17, 32, 40), f_maps=64, num_groups=16)
    yield Row("unet3d_parity", f"UNet3D of {flavor}, f_maps 64, 16 groups, 17 x 32 x 40", worst, unit="", goal=GOAL)


def difference(
    models: types.ModuleType,
    name: str,
    flavor: str,
    order: str,
    size: tuple[int, ...],
    f_maps: int | tuple[int, ...] = (8, 16, 32),
    num_groups: int = 4,
) -> float:
    """Return the greatest absolute difference of the logits of one network and one image."""
    torch.manual_seed(0)
    original = getattr(models, name)(
        in_channels=2,
        out_channels=3,
        f_maps=f_maps,
        layer_order=order,
        num_groups=num_groups,
        is_segmentation=False,
    )
    randomize(original).eval()
    image = torch.randn(1, 2, 1, *size[1:]) if name.endswith("2D") else torch.randn(1, 2, *size)
    flat = name.endswith("2D") and flavor == "wolny"
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        source, target = Path(folder) / "best_checkpoint.pytorch", Path(folder) / "model.pt"
        torch.save({"model_state_dict": original.state_dict()}, source)
        settings = convert_checkpoint(source, target, order, num_groups, flavor=flavor)
        network = load_weights(target, unet3d_network(**asdict(settings))).eval()
        expected = original(image.squeeze(2)).unsqueeze(2) if flat else original(image)
        return float((network(image) - expected).abs().max())


def randomize(network: nn.Module) -> nn.Module:
    """Draw also what starts as 0 and 1: the parameters and statistics of the norms."""
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif "norm." in name and value.is_floating_point():
            value.normal_(1 if name.endswith("weight") else 0, 0.2)
    return network
