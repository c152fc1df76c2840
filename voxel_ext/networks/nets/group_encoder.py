"""Feature encoder on a rotation group: a cube to a vector by which the same cell is found again."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.blocks.group_descriptor import GroupDescriptor, pool_elements
from voxel_ext.networks.nets.group_trunk import GroupTrunk
from voxel_ext.networks.sizes import check_network_arguments


class GroupEncoder(nn.Module):
    """Feature encoder on a rotation group, or plain: cubes (B, in_channels, S, S, S) to features (B, out_features).

    :class:`~voxel_ext.networks.nets.group_trunk.GroupTrunk`, whose lowest map becomes vectors d(g), one per group
    element, by :class:`~voxel_ext.networks.blocks.group_descriptor.GroupDescriptor`, and then

        feature = MLP(pool over g of d(g))    with pool_group="before",
        feature = pool over g of MLP(d(g))    with pool_group="after",

    where MLP is Linear, ReLU, Dropout, Linear. With ``mode="invariant"`` and ``mode="oriented"`` the feature is the
    same for every turn of the cube by an element of the group, exactly (in training mode but for the dropout);
    ``"oriented"`` keeps the spatial layout. ``mode="grid"`` is not invariant.

    With ``divider=4, depth=3`` and the defaults otherwise there are 5.03 million parameters without a group, 6.73 with
    V, 11.27 with T4, 18.07 with S4; 4.46 of them in the MLP, for the 4³ grid, the others nearly in proportion to |G|.

    Args:
        group: name of a rotation group, or None for a plain CNN.
        in_channels: channels of the cubes.
        out_features: features of a cube; without ``mlp`` not used.
        mode: ``"grid"``, ``"invariant"`` or ``"oriented"``.
        mlp: without, the pooled vectors themselves are the feature.
        hidden: features between the two linear layers.
        mlp_dropout: rate of the dropout between them.
        grid: voxels of the grid along each axis.
        spatial_pooling: ``"mean"``, ``"max"`` or ``"mean+max"``, of ``mode="invariant"``.
        group_pooling: ``"max"`` or ``"mean"``.
        pool_group: ``"before"`` or ``"after"`` the MLP.
        normalize: scale every feature vector to Euclidean length 1.
        feature_levels: levels of the trunk, 0 the topmost, whose pooled vectors :meth:`level_features` returns too.
        trunk: further arguments of :class:`~voxel_ext.networks.nets.group_trunk.GroupTrunk`: ``depth``, ``divider``,
            ``features``, ``kernel_size``, ``norm``, ``activation``, ``dropout``, ``dropout_kind``, ``dilated``,
            ``pooling``, ``input_pooling``.

    Attributes:
        out_features: length of a feature.
        stride: each spatial axis of the cubes must be a multiple of it.

    Raises:
        InvalidInputError: an argument is not valid.
    """

    feature_levels: list[int]  # for TorchScript, which needs it evaluated: no postponed annotations in this file

    def __init__(
        self,
        group: str | None = None,
        in_channels: int = 1,
        out_features: int = 256,
        mode: str = "grid",
        mlp: bool = True,
        hidden: int = 1024,
        mlp_dropout: float = 0.5,
        grid: int = 4,
        spatial_pooling: str = "mean",
        group_pooling: str = "max",
        pool_group: str = "before",
        normalize: bool = False,
        feature_levels: Sequence[int] = (),
        **trunk: Any,
    ) -> None:
        super().__init__()
        check_network_arguments(3, 3, out_features=out_features, hidden=hidden)
        if not 0 <= mlp_dropout < 1:
            raise InvalidInputError(f"mlp_dropout={mlp_dropout!r} is not valid; expected a rate in [0, 1)")
        self.trunk = GroupTrunk(group, in_channels, **trunk)
        self.stride = self.trunk.stride
        self.normalize = normalize
        self.group_pooling = group_pooling
        channels = self.trunk.channels
        self.feature_levels = checked_levels(feature_levels, len(channels))

        def descriptor(level: int, pool: str) -> GroupDescriptor:
            return GroupDescriptor(group, channels[level], mode, grid, spatial_pooling, group_pooling, pool)

        self.descriptor = descriptor(-1, pool_group)
        self.level_descriptors = nn.ModuleList(descriptor(level, "before") for level in self.feature_levels)
        self.out_features = out_features if mlp else self.descriptor.length
        self.mlp: nn.Module = nn.Identity()
        if mlp:
            layers = [nn.Linear(self.descriptor.length, hidden), nn.ReLU(), nn.Dropout(mlp_dropout)]
            self.mlp = nn.Sequential(*layers, nn.Linear(hidden, out_features))

    def _feature(self, lowest: torch.Tensor) -> torch.Tensor:
        return self._scaled(pool_elements(self.mlp(self.descriptor(lowest)), self.group_pooling))

    def _scaled(self, feature: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(feature, dim=1) if self.normalize else feature

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map cubes (B, in_channels, S, S, S) to features (B, out_features).

        Raises:
            InvalidInputError: the input has another number of axes or channels, or a spatial axis is not a multiple of
                ``stride``.
        """
        return self._feature(self.trunk(x)[-1])

    @torch.jit.export
    def level_features(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Map cubes (B, in_channels, S, S, S) to several features each, for matching on several levels at once.

        Returns:
            For each of ``feature_levels`` the level's map pooled to (B, length), as ``mode`` has it and without an MLP;
            last the result of ``forward``, (B, out_features).

        Raises:
            InvalidInputError: as for ``forward``.
        """
        maps = self.trunk(x)
        features: list[torch.Tensor] = []
        for index, descriptor in enumerate(self.level_descriptors):
            features.append(self._scaled(descriptor(maps[self.feature_levels[index]]).squeeze(1)))
        features.append(self._feature(maps[-1]))
        return features


def checked_levels(levels: Sequence[int], depth: int) -> list[int]:
    """Return ``levels`` as a list if each is a level of a network of ``depth`` levels.

    Raises:
        InvalidInputError: one is not.
    """
    for level in levels:
        if isinstance(level, bool) or not isinstance(level, int) or not 0 <= level < depth:
            raise InvalidInputError(
                f"feature_levels={list(levels)} is not valid for a network of {depth} levels: {level!r} is none of "
                f"0 to {depth - 1}"
            )
    return list(levels)
