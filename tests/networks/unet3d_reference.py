"""Parameters and images given by formulas, and the outputs that pytorch-3dunet has for them (unet3d_reference.json).

Write that file again, in the repository's root, with checkouts of flavell-lab/pytorch-3dunet and wolny/pytorch-3dunet:

    PYTHONPATH=. python tests/networks/unet3d_reference.py FLAVELL WOLNY
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

FILE = Path(__file__).with_suffix(".json")
ORDERS = ("gcr", "cge", "gce", "bcr", "crg", "gcl")
CLASSES = {
    "UNet3D": "unet3d",
    "ResidualUNet3D": "residual_unet3d",
    "ResidualUNetSE3D": "residual_unet_se3d",
    "UNet2D": "unet3d",
    "ResidualUNet2D": "residual_unet3d",
}
SETTINGS: dict[str, Any] = {"in_channels": 2, "out_channels": 3, "f_maps": [8, 16, 24], "num_groups": 4}
STORED = 12


def fill(network: nn.Module) -> nn.Module:
    """Set every parameter by a formula of its name and the index of its element; evaluation mode, double precision.

    Element i of a tensor whose name has the hash h is sin(0.37 i + h), scaled to variance 1 / (2 fan-in) for weights,
    1 + sin / 4 for scales and variances of norms, sin / 4 for the rest. 2D and flat 3D kernels become the same.
    """
    network.double().eval()
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if not value.is_floating_point():
                continue
            start = sum(ord(letter) * (place + 1) for place, letter in enumerate(name)) % 1000 / 7
            wave = torch.sin(0.37 * torch.arange(value.numel(), dtype=torch.float64) + start).reshape(value.shape)
            if value.ndim > 1:
                wave /= math.sqrt(value[0].numel())
            elif name.endswith(("norm.weight", "running_var")):
                wave = 1 + wave / 4
            else:
                wave /= 4
            value.copy_(wave)
    return network


def image(size: list[int]) -> torch.Tensor:
    """Return an image (1, 2, *size) in double precision, by a formula of the voxel's index."""
    shape = (1, 2, *size)
    return torch.cos(0.011 * torch.arange(math.prod(shape), dtype=torch.float64) ** 1.5).reshape(shape)


def digest(output: torch.Tensor) -> torch.Tensor:
    """Return a few values spread over an output, and its mean and standard deviation."""
    flat = output.detach().flatten()
    picked = flat[torch.linspace(0, len(flat) - 1, STORED).long()]
    return torch.cat((picked, flat.mean()[None], flat.std()[None]))


def cases(models: Any, flavor: str) -> list[dict[str, Any]]:
    """Run the networks of one release."""
    found = []
    for name in (name for name in CLASSES if hasattr(models, name)):
        size = [8, 12, 16] if (flavor, name) == ("flavell", "ResidualUNet3D") else [9, 13, 11]
        if name.endswith("2D"):
            size = [13, 11] if flavor == "wolny" else [1, 13, 11]
        for order in ORDERS[:2] if name.endswith("2D") else ORDERS:
            network = fill(getattr(models, name)(layer_order=order, is_segmentation=False, **SETTINGS))
            values = [float(f"{value:.9g}") for value in digest(network(image(size)))]
            found.append({"class": name, "flavor": flavor, "layer_order": order, "size": size, "values": values})
    return found


def main() -> None:
    """Write the file from two checkouts."""
    from benchmarks.unet3d_originals import original_models

    lines = []
    for flavor, folder in zip(("flavell", "wolny"), sys.argv[1:3], strict=True):
        with original_models(folder) as models:
            lines += [json.dumps(case) for case in cases(models, flavor)]
    FILE.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
