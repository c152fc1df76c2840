"""Matching networks by their settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.networks.nets.group_encoder import GroupEncoder
from voxel_ext.networks.nets.matching import MatchingNet, MultiLevelMatchingNet

INPUTS = ("both", "cubes", "positions")


def matching_network(
    inputs: str = "both",
    group: str | None = "C2:x",
    feature_mode: str = "oriented",
    feature_levels: Sequence[int] = (),
    out_features: int = 256,
    attention_layers: int = 4,
    attention_width: int = 96,
    attention_heads: int = 4,
    fusion: str = "concatenate",
    input_dropout: Sequence[float] = (0.0, 0.0),
    normalize: bool = True,
    chunk_size: int = 128,
    recompute: bool = False,
    **encoder: Any,
) -> nn.Module:
    """Build the network that gives the cells of a worm their features.

    Args:
        inputs: "cubes" for a network of cubes alone, "positions" for one of positions alone, or "both".
        group: rotation group of the encoder, None for a plain one.
        feature_mode: ``mode`` of :class:`~voxel_ext.networks.nets.GroupEncoder`.
        feature_levels: levels whose features are matched besides the last, for inputs="cubes" without attention.
        out_features: length of the features, also of the encoder's where it ends in an MLP; of a network of both inputs
            with fusion="concatenate" the encoder has half of them.
        attention_layers: see :class:`~voxel_ext.networks.nets.MatchingNet`, as all that follow.
        attention_width: width of the attention layers.
        attention_heads: their heads.
        fusion: how a network of both inputs joins them.
        input_dropout: probabilities of a batch without cubes, and without positions; for inputs="both", not used else.
        normalize: scale the features.
        chunk_size: cubes that are encoded at once.
        recompute: save memory in training.
        encoder: further arguments of :class:`~voxel_ext.networks.nets.GroupEncoder`.

    Raises:
        InvalidInputError: unknown inputs, levels together with attention or positions, or as the networks say.
    """
    check_option("inputs", inputs, INPUTS)
    if inputs != "both":
        input_dropout = (0.0, 0.0)
    cubes = None
    if inputs != "positions":
        length = out_features // 2 if inputs == "both" and fusion == "concatenate" else out_features
        cubes = GroupEncoder(group, out_features=length, mode=feature_mode, feature_levels=feature_levels, **encoder)
    if feature_levels:
        if inputs != "cubes" or attention_layers:
            raise InvalidInputError(
                f"feature_levels={list(feature_levels)} go with inputs='cubes' and attention_layers=0, "
                f"not with inputs={inputs!r} and attention_layers={attention_layers}"
            )
        assert cubes is not None
        return MultiLevelMatchingNet(cubes, normalize, chunk_size, recompute)
    return MatchingNet(
        cubes,
        inputs != "cubes",
        out_features,
        attention_layers,
        attention_width,
        attention_heads,
        fusion,
        input_dropout=input_dropout,
        normalize=normalize,
        chunk_size=chunk_size,
        recompute=recompute,
    )
