"""Feature vectors of the cells of a worm for matching, from images, positions, or both."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.networks.blocks.cell_attention import CellAttentionBlock

FUSIONS = ("attention", "concatenate")


def normalize_positions(positions: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    """Shift the valid cells of each worm to mean 0 and scale each axis to standard deviation 1.

    Args:
        positions: (B, N, 3) in any unit.
        valid: (B, N) bool; None for all.

    Returns:
        (B, N, 3) float32; 0 where not valid.
    """
    positions = positions.float()
    if valid is None:
        valid = torch.ones(positions.shape[:2], dtype=torch.bool, device=positions.device)
    weight = valid[..., None].float()
    count = weight.sum(1, keepdim=True).clamp_min(1)
    positions = torch.where(valid[..., None], positions, 0.0)
    centered = (positions - positions.sum(1, keepdim=True) / count) * weight
    deviation = (centered.square().sum(1, keepdim=True) / count).sqrt()
    return centered / deviation.clamp_min(1e-6)


class PositionEncoding(nn.Module):
    """Normalized positions (B, N, 3) to (B, N, width): sines and cosines at octaves, then a small network.

    Args:
        width: number of features.
        octaves: number of frequencies per axis, from 0.7 rad per standard deviation upwards.
    """

    frequencies: torch.Tensor  # for TorchScript, which needs it evaluated: no postponed annotations in this file

    def __init__(self, width: int, octaves: int = 6) -> None:
        super().__init__()
        self.register_buffer("frequencies", 0.7 * 2.0 ** torch.arange(octaves), persistent=False)
        self.layers = nn.Sequential(nn.Linear(3 + 6 * octaves, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        """Encode (B, N, 3) as (B, N, width)."""
        angles = (positions[..., None] * self.frequencies).flatten(-2)
        return self.layers(torch.cat([positions, angles.sin(), angles.cos()], -1))


class MatchingNet(nn.Module):
    """Feature vectors of the cells of worms; cells of the same name get similar ones.

    With ``fusion="attention"`` every cube goes through the ``encoder``; the position of its cell, encoded, is added;
    attention layers let the cells of a worm see each other; a linear layer gives the features. Without attention and
    positions the features are the encoder's own, as in https://github.com/ChengYuChuan/MA_FeatureLearning.

    With ``fusion="concatenate"`` attention sees the positions only. Its features p and the encoder's features c, each
    scaled to length 1, are joined as (√w p, √(1 - w) c) with a learned weight w, so that squared distances and cosines
    are the weighted sums of those of the two parts, and either part can be trained, or used, without the other.

    Args:
        encoder: network of single cubes, (N, C, S, S, S) -> (N, F), with an attribute ``out_features``; None for a
            network of positions alone.
        positions: whether the network takes positions.
        out_features: length of the features; the encoder's own where nothing follows it. With "concatenate" the
            encoder's are part of them.
        attention_layers: number of transformer layers over the cells of a worm.
        attention_width: their width, see :class:`~voxel_ext.networks.blocks.RelativeAttention`.
        attention_heads: their heads.
        fusion: "attention" or "concatenate", for a network that has both inputs.
        dropout: in the attention layers.
        input_dropout: probabilities, in training, that a batch comes without its cubes, and without its positions, so
            that one network serves with either alone; only for a network that has both.
        normalize: scale the features to length sqrt(out_features), so that each has a mean square of 1.
        chunk_size: cubes that go through the encoder at once; 0 for all. Bounds the memory in evaluation, keeps buffers
            small in training, where batch statistics are those of a chunk.
        recompute: in training, keep no activations of the encoder but compute each chunk again in the backward pass.
            Memory then does not grow with the number of cells; a step takes about a third longer, and running
            statistics of batch normalization are updated twice.

    Raises:
        InvalidInputError: neither encoder nor positions; an encoder without ``out_features``, or, to be joined, with as
            many as ``out_features`` or more; an unknown fusion; probabilities out of range, or for a network that does
            not have both inputs.
    """

    def __init__(
        self,
        encoder: nn.Module | None = None,
        positions: bool = True,
        out_features: int = 256,
        attention_layers: int = 4,
        attention_width: int = 96,
        attention_heads: int = 4,
        fusion: str = "attention",
        dropout: float = 0.0,
        input_dropout: Sequence[float] = (0.0, 0.0),
        normalize: bool = True,
        chunk_size: int = 128,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        check_option("fusion", fusion, FUSIONS)
        _check_inputs(encoder, positions, input_dropout)
        self.takes_cubes = encoder is not None
        self.takes_positions = positions
        self.normalize = normalize
        self.chunk_size = chunk_size
        self.recompute = recompute
        self.input_dropout = tuple(float(value) for value in input_dropout)
        self.bare = not positions and attention_layers == 0
        self.joined = fusion == "concatenate" and encoder is not None and positions
        features = int(getattr(encoder, "out_features", 0))
        if self.joined and features >= out_features:
            raise InvalidInputError(
                f"the encoder has {features} features; to be joined with those of positions it must have fewer than "
                f"out_features={out_features}"
            )
        self.out_features = features if self.bare else out_features
        self.encoder: nn.Module = nn.Identity() if encoder is None else encoder
        width = attention_width
        between = self.takes_cubes and not self.bare and not self.joined
        self.from_encoder: nn.Module = nn.Identity()
        if between:
            self.from_encoder = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, width))
        self.no_cubes = nn.Parameter(torch.zeros(width if between else 0))
        self.from_positions: nn.Module = PositionEncoding(width) if positions else nn.Identity()
        self.no_positions = nn.Parameter(torch.zeros(width if positions and not self.joined else 0))
        self.balance = nn.Parameter(torch.zeros(1 if self.joined else 0))
        self.attention = nn.ModuleList(
            [CellAttentionBlock(width, attention_heads, dropout=dropout) for _ in range(attention_layers)]
        )
        self.head: nn.Module = nn.Identity()
        if not self.bare:
            length = out_features - features if self.joined else out_features
            self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, length))

    def forward(
        self,
        cubes: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        valid: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compute the features of all cells.

        Args:
            cubes: (B, N, C, S, S, S), B worms of N cells; or (N, C, S, S, S), the cells of one worm, whose features are
                returned without the axis B. None if the network is to do without.
            positions: (B, N, 3) or (N, 3), (z, y, x) in voxels; None if the network is to do without.
            valid: (B, N) or (N,) bool, False for missing cells, whose features mean nothing; None for all.

        Returns:
            (B, N, out_features) float32, or (N, out_features).

        Raises:
            InvalidInputError: no input at all, or the shapes do not fit each other.
        """
        single = cubes.dim() == 5 if cubes is not None else positions is not None and positions.dim() == 2
        if single:
            cubes = None if cubes is None else cubes[None]
            positions = None if positions is None else positions[None]
            valid = None if valid is None else valid[None]
        if not torch.jit.is_tracing():  # a trace cannot record the checks
            self._check(cubes, positions, valid)
        cubes, positions = self._drop(cubes, positions)
        if self.joined:
            features = self._join(cubes, positions, valid)
        else:
            features = self._features(cubes, positions, valid).float()
        if self.normalize:
            features = F.normalize(features, dim=-1) * self.out_features**0.5
        return features[0] if single else features

    def _drop(
        self, cubes: torch.Tensor | None, positions: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Leave one of two inputs out at random, in training."""
        if not self.training or cubes is None or positions is None or sum(self.input_dropout) == 0:
            return cubes, positions
        drawn = float(torch.rand(1))
        if drawn < self.input_dropout[0]:
            return None, positions
        if drawn < self.input_dropout[0] + self.input_dropout[1]:
            return cubes, None
        return cubes, positions

    def _features(
        self, cubes: torch.Tensor | None, positions: torch.Tensor | None, valid: torch.Tensor | None
    ) -> torch.Tensor:
        features: torch.Tensor = self.no_cubes
        if self.takes_cubes and cubes is not None:
            features = self.from_encoder(self._encode(cubes))
        if self.bare:
            return features
        places = None if positions is None or not self.takes_positions else normalize_positions(positions, valid)
        if self.takes_positions:
            added = self.no_positions if places is None else self.from_positions(places)
            features = features + added if self.takes_cubes else added
        for block in self.attention:
            features = block(features, places, valid)
        return self.head(features)

    def _join(
        self, cubes: torch.Tensor | None, positions: torch.Tensor | None, valid: torch.Tensor | None
    ) -> torch.Tensor:
        """Features of the positions and of the cubes side by side; zero for the part that is not there."""
        weight = torch.sigmoid(self.balance)
        parts: list[torch.Tensor] = []
        if positions is not None:
            places = normalize_positions(positions, valid)
            seen = self.from_positions(places)
            for block in self.attention:
                seen = block(seen, places, valid)
            parts.append(F.normalize(self.head(seen).float(), dim=-1) * weight.sqrt())
        if cubes is not None:
            parts.append(F.normalize(self._encode(cubes).float(), dim=-1) * (1 - weight).sqrt())
        features = torch.cat(parts, -1)
        lacking = self.out_features - features.shape[-1]
        if lacking == 0:
            return features
        return F.pad(features, (0, lacking) if cubes is None else (lacking, 0))

    def _encode(self, cubes: torch.Tensor) -> torch.Tensor:
        """Encode (B, N, C, S, S, S) as (B, N, F)."""
        flat = cubes.flatten(0, 1)
        chunked = self.chunk_size > 0
        if not torch.jit.is_scripting():  # a recorded graph has no loop, so one chunk
            chunked = chunked and not (torch.jit.is_tracing() or torch.compiler.is_exporting())
        parts = flat.split(self.chunk_size) if chunked else [flat]
        features: list[torch.Tensor] = []
        for part in parts:
            if torch.jit.is_scripting() or not (self.training and self.recompute):
                features.append(self.encoder(part))
            else:
                features.append(checkpoint(self.encoder, part, use_reentrant=False))
        return torch.cat(features).view(cubes.shape[0], cubes.shape[1], -1)

    def _check(self, cubes: torch.Tensor | None, positions: torch.Tensor | None, valid: torch.Tensor | None) -> None:
        usable = (cubes is not None and self.takes_cubes) or (positions is not None and self.takes_positions)
        if not usable:
            taken = ("cubes" if self.takes_cubes else "") + (" positions" if self.takes_positions else "")
            raise InvalidInputError(f"no input for the network; it takes: {taken}")
        if cubes is not None and cubes.dim() != 6:
            raise InvalidInputError(f"cubes of shape {list(cubes.shape)}: expected (B, N, C, S, S, S)")
        if positions is not None:
            if positions.dim() != 3 or positions.shape[2] != 3:
                raise InvalidInputError(f"positions of shape {list(positions.shape)}: expected (B, N, 3)")
            if cubes is not None and positions.shape[:2] != cubes.shape[:2]:
                raise InvalidInputError(
                    f"positions of shape {list(positions.shape)} do not fit cubes of shape {list(cubes.shape)}"
                )
        if valid is not None:
            cells = (
                positions.shape[:2] if positions is not None else cubes.shape[:2] if cubes is not None else valid.shape
            )
            if valid.shape != cells:
                raise InvalidInputError(f"valid of shape {list(valid.shape)}: expected {list(cells)}")


class MultiLevelMatchingNet(nn.Module):
    """Features of the cells on several levels of an encoder, to be matched by a weighted sum of their costs.

    Args:
        encoder: network with ``level_features``: cubes (N, C, S, S, S) to a list of (N, F), such as
            :class:`~voxel_ext.networks.nets.GroupEncoder` with ``feature_levels``.
        normalize: scale the features of each level to a mean square of 1.
        chunk_size: see :class:`MatchingNet`.
        recompute: see :class:`MatchingNet`.
    """

    takes_cubes = True
    takes_positions = False

    def __init__(
        self, encoder: nn.Module, normalize: bool = True, chunk_size: int = 128, recompute: bool = False
    ) -> None:
        super().__init__()
        self.encoder: Any = encoder
        self.normalize = normalize
        self.chunk_size = chunk_size
        self.recompute = recompute

    def forward(
        self,
        cubes: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        valid: torch.Tensor | None = None,
    ) -> list[torch.Tensor]:
        """Compute the features of all cells on all levels.

        Args:
            cubes: (B, N, C, S, S, S), or (N, C, S, S, S).
            positions: not used.
            valid: not used.

        Returns:
            for each level (B, N, F), or (N, F), float32.

        Raises:
            InvalidInputError: no cubes, or of another number of axes.
        """
        if cubes is None:
            raise InvalidInputError("no input for the network; it takes: cubes")
        if cubes.dim() != 5 and cubes.dim() != 6:
            raise InvalidInputError(
                f"cubes of shape {list(cubes.shape)}: expected (B, N, C, S, S, S) or (N, C, S, S, S)"
            )
        flat = cubes.flatten(0, -5)
        parts: list[list[torch.Tensor]] = []
        for part in flat.split(self.chunk_size if self.chunk_size > 0 else flat.shape[0]):
            if torch.jit.is_scripting():
                parts.append(self.encoder.level_features(part))
            elif self.training and self.recompute:
                parts.append(checkpoint(self.encoder.level_features, part, use_reentrant=False))
            else:
                parts.append(self.encoder.level_features(part))
        levels: list[torch.Tensor] = []
        for i in range(len(parts[0])):
            level = torch.cat([part[i] for part in parts]).float()
            if self.normalize:
                level = F.normalize(level, dim=-1) * level.shape[-1] ** 0.5
            levels.append(level.view(list(cubes.shape[:-4]) + [-1]))  # noqa: RUF005 - for TorchScript
        return levels


def _check_inputs(encoder: nn.Module | None, positions: bool, input_dropout: Sequence[float]) -> None:
    if encoder is None and not positions:
        raise InvalidInputError("a MatchingNet needs an encoder of cubes, positions, or both")
    if len(input_dropout) != 2 or min(input_dropout) < 0 or sum(input_dropout) > 1:
        raise InvalidInputError(
            f"input_dropout={list(input_dropout)}: expected two probabilities whose sum is at most 1"
        )
    if sum(input_dropout) > 0 and (encoder is None or not positions):
        raise InvalidInputError(
            f"input_dropout={list(input_dropout)} is for a network of cubes and positions; this one has only one"
        )
    if encoder is not None and not isinstance(getattr(encoder, "out_features", None), int):
        raise InvalidInputError(
            f"the encoder {type(encoder).__name__} has no attribute out_features, the length of its features"
        )
