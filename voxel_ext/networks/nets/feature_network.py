"""The features of objects by a trained siamese network."""

import torch
from torch import nn

from voxel_ext.errors import check_option
from voxel_ext.networks.groups import rotation_group
from voxel_ext.networks.nets.tensor_network import take_state_of_network

FEATURE_LAYERS = ("encoder", "projector")
"""What of a :class:`~voxel_ext.networks.nets.SimSiam` can be the feature of an object."""


class FeatureNetwork(nn.Module):
    """The features of objects by a trained :class:`~voxel_ext.networks.nets.SimSiam`, whose state dict it has.

    Args:
        network: the trained one.
        layer: "encoder" for the encoder's output, as is usual, or "projector" for the projector's. Never the
            predictor's.
        turns: the mean over the 24 rotations of the cube, so that the features are the same however an object is
            turned by right angles; takes 24 times as long.

    Raises:
        InvalidInputError: another layer.
    """

    turns: list[tuple[list[int], list[int]]]  # for TorchScript: no postponed annotations in this file

    def __init__(self, network: nn.Module, layer: str = "encoder", turns: bool = False) -> None:
        super().__init__()
        check_option("feature_layer", layer, FEATURE_LAYERS)
        self.network = network
        self.layer = layer
        group = rotation_group("S4")
        self.turns = [group.turned_axes(element) for element in range(1, group.order)] if turns else []
        take_state_of_network(self)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the features (B, L) of images (B, C, S, S, S).

        Raises:
            InvalidInputError: images of another number of axes or channels.
        """
        total = self._features(image)
        for order, flips in self.turns:
            axes = [0, 1] + [2 + axis for axis in order]
            total = total + self._features(image.permute(axes).flip([2 + axis for axis in flips]))
        return total / (1 + len(self.turns))

    def _features(self, image: torch.Tensor) -> torch.Tensor:
        return self.network.encode(image) if self.layer == "encoder" else self.network.project(image)  # type: ignore[operator]
