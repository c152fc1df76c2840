"""Self-attention over the cells of a worm, which sees where the cells lie relative to each other."""

import torch
import torch.nn.functional as F
from torch import nn

from voxel_ext.errors import InvalidInputError

LONGEST = (12.0, 12.0, 3.0)
"""Longest wave along (z, y, x), in standard deviations of the cells' positions along that axis."""
SHORTEST = (1.0, 1.0, 0.1)
"""Shortest wave: about two nuclei wide in a worm whose 558 nuclei spread by 16, 20 and 390 voxels."""


def wave_numbers(number: int) -> torch.Tensor:
    """Angular frequencies (3, number), geometrically spaced from the longest to the shortest wave of each axis."""
    longest, shortest = torch.tensor(LONGEST)[:, None], torch.tensor(SHORTEST)[:, None]
    share = torch.linspace(0, 1, number)[None]
    return 2 * torch.pi / (longest ** (1 - share) * shortest**share)


class RelativeAttention(nn.Module):
    """Multi-head self-attention whose weights depend on the difference of two cells' positions.

    Queries and keys are turned by angles proportional to the cell's coordinates (rotary embedding; Su et al. 2021,
    RoFormer, eq. 14, here with three coordinates), so that their product depends on the positions by their difference
    only. Memory stays linear in the number of cells where torch has a fused kernel.

    Args:
        width: number of features, divisible by ``heads``; ``width / heads`` divisible by 6 for the three axes.
        heads: number of attention heads.

    Raises:
        InvalidInputError: the width does not divide so.
    """

    waves: torch.Tensor  # for TorchScript, which needs it evaluated: no postponed annotations in this file

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        if width % heads or (width // heads) % 6:
            raise InvalidInputError(
                f"attention_width={width} with attention_heads={heads}: each head needs a multiple of 6 features, "
                f"e.g. attention_width={heads * 24}"
            )
        self.heads = heads
        self.project = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.register_buffer("waves", wave_numbers(width // heads // 6), persistent=False)

    def forward(
        self, features: torch.Tensor, positions: torch.Tensor | None = None, valid: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Let every cell look at all valid ones.

        Args:
            features: (B, N, width).
            positions: (B, N, 3), normalized; None leaves the positions out.
            valid: (B, N) bool, False for cells that nobody may look at.

        Returns:
            (B, N, width).
        """
        batch, cells, width = features.shape
        projected = self.project(features).view(batch, cells, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = projected[0], projected[1], projected[2]
        if positions is not None:
            angles = (positions[..., None] * self.waves).flatten(-2)[:, None]
            angles = torch.cat([angles, angles], -1)
            cosine, sine = angles.cos().to(query.dtype), angles.sin().to(query.dtype)
            query, key = _turn(query, cosine, sine), _turn(key, cosine, sine)
        mask = None if valid is None else valid[:, None, None, :]
        if valid is not None and not torch.jit.is_tracing() and bool(valid.all()):
            mask = None  # kernels without a mask are faster; a trace would leave it out for ever
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.merge(seen.transpose(1, 2).reshape(batch, cells, width))


def _turn(pairs: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    first, second = pairs.chunk(2, -1)
    return pairs * cosine + torch.cat([-second, first], -1) * sine


class CellAttentionBlock(nn.Module):
    """A transformer layer (normalization first; Xiong et al. 2020) over the cells of a worm.

    Args:
        width: number of features, see :class:`RelativeAttention`.
        heads: number of attention heads.
        expansion: width of the hidden layer of the per-cell network, relative to ``width``.
        dropout: of the per-cell network's hidden layer.
    """

    def __init__(self, width: int, heads: int = 4, expansion: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.first_norm = nn.LayerNorm(width)
        self.attention = RelativeAttention(width, heads)
        self.second_norm = nn.LayerNorm(width)
        self.per_cell = nn.Sequential(
            nn.Linear(width, expansion * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(expansion * width, width),
        )

    def forward(
        self, features: torch.Tensor, positions: torch.Tensor | None = None, valid: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Refine (B, N, width) features; arguments as in :meth:`RelativeAttention.forward`."""
        features = features + self.attention(self.first_norm(features), positions, valid)
        return features + self.per_cell(self.second_norm(features))
