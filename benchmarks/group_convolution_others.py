"""The original group convolution and escnn's as modules that take what ours take, and a measure fair to all."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import types
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from voxel_ext.errors import MissingDataError
from voxel_ext.networks.groups import rotation_group


def original_layer(folder: str, group: str, elements: int, in_channels: int, out_channels: int) -> nn.Module:
    """Build the original's group convolution, (B, Cin, elements, D, H, W) to (B, Cout, |G|, D, H, W).

    The noise that it multiplies its weights by, in evaluation too, is taken away.
    """
    package = os.path.join(folder, "GUNet", "src_GUNet")
    if not os.path.isdir(package):
        raise MissingDataError(f"{folder} has no folder GUNet/src_GUNet; expected a checkout of MA_FeatureLearning")
    if "c_unet" not in sys.modules:
        alias = types.ModuleType("c_unet")  # the name by which the package imports itself
        alias.__path__ = [package]
        sys.modules["c_unet"] = alias
        _stand_in("torchvision.transforms.functional")  # imported by it, but never used
        _stand_in("einops", rearrange=None)
    layer = importlib.import_module("c_unet.layers.gconvs").Gconv3d(group, elements, in_channels, out_channels)
    layer.dropout = nn.Identity()
    return layer


def _stand_in(name: str, **content: Any) -> None:
    """Put empty modules in the place of one that is not installed."""
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
        return
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        module = types.ModuleType(".".join(parts[:count]))
        module.__dict__.update(content)
        sys.modules.setdefault(module.__name__, module)
        if count > 1:
            setattr(sys.modules[".".join(parts[: count - 1])], parts[count - 1], module)


class EscnnLayer(nn.Module):
    """escnn's convolution between regular fields of the octahedral group, on maps (B, C, 24, D, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        from escnn import gspaces
        from escnn import nn as enn

        space = gspaces.octaOnR3()
        self.field = enn.FieldType(space, [space.regular_repr] * channels)
        self.conv = enn.R3Conv(self.field, self.field, 3, padding=1, initialize=False)
        nn.init.normal_(self.conv.weights)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve."""
        return self.conv(self.field(x.flatten(1, 2))).tensor.view_as(x)


def escnn_layer(channels: int) -> nn.Module | None:
    """Build escnn's octahedral regular convolution, or return None where escnn is not installed."""
    try:
        importlib.import_module("escnn")
    except ImportError:
        return None
    return EscnnLayer(channels)


def equivariance_error(module: nn.Module, group: str, size: int = 9) -> float:
    """Worst |f(g·x) - g·f(x)| / |f(x)| over the elements g, whatever order the module has its elements in.

    The slots of the group axis of f(x) are put into the order that fits f(g·x) best, for each g. Two unrelated maps
    have about 1.4.
    """
    turns = rotation_group(group)
    module.eval()
    x = torch.randn(1, 1, size, size, size, generator=torch.Generator().manual_seed(0))
    worst = 0.0
    with torch.no_grad():
        reference = module(x)
        norm = float(reference.norm())
        for element in range(turns.order):
            found = module(turns.act(x, element)).transpose(0, 2).flatten(1)
            turned = turns.act(reference.flatten(1, 2), element).view_as(reference).transpose(0, 2).flatten(1)
            squares = torch.stack([(found - one).square().sum(1) for one in turned]).double().numpy()
            worst = max(worst, float(squares[linear_sum_assignment(squares)].sum()) ** 0.5 / norm)
    return worst
