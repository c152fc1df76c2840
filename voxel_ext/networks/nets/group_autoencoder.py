"""Autoencoder on a rotation group, for pre-training."""

from __future__ import annotations

from typing import Any

import torch

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.nets.group_unet import GroupUNet


class GroupAutoEncoder(GroupUNet):
    """Autoencoder on a rotation group, or plain: (B, in_channels, D, H, W) to (B, out_channels, D, H, W).

    :class:`~voxel_ext.networks.nets.group_unet.GroupUNet` whose decoder sees by default only the lowest map, the code,
    so that the code must carry the cell; with ``skips`` the task can be solved by copying. The
    submodule ``trunk`` is the same as that of :class:`~voxel_ext.networks.nets.group_encoder.GroupEncoder`, so its
    weights can be taken over. With a group, code and output turn with the image, exactly.

    Args:
        group: name of a rotation group, or None for a plain CNN.
        in_channels: channels of the image.
        out_channels: channels of the output.
        skips: join each level of the encoder with that of the decoder.
        unet: further arguments of :class:`~voxel_ext.networks.nets.group_unet.GroupUNet` and
            :class:`~voxel_ext.networks.nets.group_trunk.GroupTrunk`, e.g. ``depth``, ``divider``, ``input_pooling``.

    Raises:
        InvalidInputError: an argument is not valid.
    """

    def __init__(
        self, group: str | None = None, in_channels: int = 1, out_channels: int = 1, skips: bool = False, **unet: Any
    ) -> None:
        super().__init__(group, in_channels, out_channels, skips, **unet)

    @torch.jit.export
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Map an image (B, in_channels, D, H, W) to its code, the lowest map of the trunk.

        Returns:
            (B, channels[-1], |G|, D / stride, H / stride, W / stride), without the axis |G| for a plain CNN.

        Raises:
            InvalidInputError: as for ``forward``.
        """
        return self.trunk(x)[-1]

    @torch.jit.export
    def decode(self, code: torch.Tensor) -> torch.Tensor:
        """Map a code, see :meth:`encode`, to the image (B, out_channels, D, H, W).

        Raises:
            InvalidInputError: the network has skips, so the code alone is not enough.
        """
        if self.decoder.skips:
            raise InvalidInputError("decode needs a network built with skips=False; this one has skips=True")
        return self.head(self.decoder([code]))
