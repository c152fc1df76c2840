"""A 3D U-Net by name, for configs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from voxel_ext.errors import check_option
from voxel_ext.networks.nets.unet3d import ResidualUNet3D, ResidualUNetSE3D, UNet3D

UNET3D_ARCHITECTURES = {
    "unet3d": UNet3D,
    "residual_unet3d": ResidualUNet3D,
    "residual_unet_se3d": ResidualUNetSE3D,
}
"""Networks of :func:`unet3d_network`."""


def unet3d_network(
    architecture: str = "unet3d",
    in_channels: int = 1,
    out_channels: int = 2,
    f_maps: int | Sequence[int] | None = None,
    num_levels: int | None = None,
    num_groups: int | None = None,
    layer_order: str | None = None,
    kernel_size: int | Sequence[int] | None = None,
    pool_size: int | Sequence[int] | None = None,
    dropout: float | None = None,
    flavor: str | None = None,
) -> nn.Module:
    """Build a 3D U-Net by name, for ``_target_`` in a config. An argument that is None has the network's own default.

    Args:
        architecture: ``"unet3d"`` for :class:`UNet3D`, ``"residual_unet3d"`` for :class:`ResidualUNet3D`,
            ``"residual_unet_se3d"`` for :class:`ResidualUNetSE3D`.
        in_channels: channels of the image.
        out_channels: channels of the logits.
        f_maps: channels of the levels, or of the first; 64.
        num_levels: levels, where ``f_maps`` is one number; 4, of the residual networks 5.
        num_groups: groups of the group norms; 8.
        layer_order: layers of each convolution; ``"gcr"``.
        kernel_size: of the convolutions, one number or along (z, y, x); 3.
        pool_size: of the poolings, one number or along (z, y, x); 2.
        dropout: rate of the letters d and D in ``layer_order``; 0.1.
        flavor: the release of pytorch-3dunet whose checkpoints load; ``"flavell"``, of the last network ``"wolny"``.

    Returns:
        The network, in training mode.

    Raises:
        InvalidInputError: the architecture is not known, or an argument is not valid.
    """
    check_option("architecture", architecture, UNET3D_ARCHITECTURES)
    optional: dict[str, Any] = {
        "f_maps": f_maps,
        "num_levels": num_levels,
        "num_groups": num_groups,
        "layer_order": layer_order,
        "kernel_size": kernel_size,
        "pool_size": pool_size,
        "dropout": dropout,
        "flavor": flavor,
    }
    given = {name: value for name, value in optional.items() if value is not None}
    return UNET3D_ARCHITECTURES[architecture](in_channels, out_channels, **given)
