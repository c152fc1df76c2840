"""The cost of matching each cell of one worm with each of another, from their features."""

from __future__ import annotations

import torch
from monai.utils import convert_to_tensor

from voxel_ext.errors import InvalidInputError, check_option

DISTANCES = ("mse", "l1", "cosine")

# numbers that torch.cdist may hold at once for the L1 distance (128 MiB of float32; its backward on CUDA needs them)
L1_BUDGET = 2**25


def feature_cost(a: torch.Tensor, b: torch.Tensor, distance: str = "mse", chunk: int | None = None) -> torch.Tensor:
    """Compute the distance of every feature vector of ``a`` to every one of ``b``, in float32 under autocast too.

    - ``"mse"``: |a - b|² / F, by |a|² - 2ab + |b|² of centered features in float64, which keeps it accurate for near
      pairs (in float16 the same expansion is off by about half).
    - ``"l1"``: sum |a - b| / F, in chunks of rows, forward and backward.
    - ``"cosine"``: 1 - a·b / (|a| |b|), in [0, 2]; 1 where a vector is zero.

    Args:
        a: (..., N, F), any floating type.
        b: (..., M, F), the same leading axes and F.
        distance: one of the above.
        chunk: rows of ``a`` at a time for ``"l1"``; None for as many as need 128 MiB.

    Returns:
        (..., N, M), float32, or float64 if both inputs are.

    Raises:
        InvalidInputError: the distance is not known, the shapes do not fit, or ``chunk`` is below 1.
    """
    check_option("distance", distance, DISTANCES)
    a, b = (convert_to_tensor(x, track_meta=False) for x in (a, b))
    if a.ndim < 2 or a.ndim != b.ndim or a.shape[:-2] != b.shape[:-2] or a.shape[-1] != b.shape[-1]:
        raise InvalidInputError(
            f"the features have shapes {tuple(a.shape)} and {tuple(b.shape)}; expected (..., N, F) and (..., M, F) "
            "with the same leading axes and the same number of features F"
        )
    if 0 in a.shape or 0 in b.shape:
        raise InvalidInputError(f"the features {tuple(a.shape)} and {tuple(b.shape)} are empty; expected cells")
    dtype = torch.float64 if a.dtype == b.dtype == torch.float64 else torch.float32
    with torch.autocast(a.device.type, enabled=False):
        if distance == "l1":
            return _l1(a.to(dtype), b.to(dtype), chunk)
        cost = _mse(a.double(), b.double()) if distance == "mse" else 1 - _unit(a.double()) @ _unit(b.double()).mT
        return cost.clamp(min=0).to(dtype)


def _mse(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference by expansion around the common center, where cancellation is least."""
    # without NaN and infinity, so that these stay in the rows and columns of the cells that they are from
    center = torch.cat([a, b], dim=-2).detach().nan_to_num(0, 0, 0).mean(dim=-2, keepdim=True)
    a, b = a - center, b - center
    squares = a.square().sum(-1)[..., :, None] + b.square().sum(-1)[..., None, :]
    return (squares - 2 * a @ b.mT) / a.shape[-1]


def _unit(x: torch.Tensor) -> torch.Tensor:
    """Return x / |x|; a zero vector stays zero, with a finite gradient."""
    norm = x.norm(dim=-1, keepdim=True)
    return x / torch.where(norm > 0, norm, 1)


def _l1(a: torch.Tensor, b: torch.Tensor, chunk: int | None) -> torch.Tensor:
    """Return the mean absolute difference, a few rows of ``a`` at a time (each has a backward of its own)."""
    if chunk is not None and chunk < 1:
        raise InvalidInputError(f"chunk={chunk} is not valid; expected a number of rows of at least 1, or none")
    rows = chunk or max(1, L1_BUDGET // (b.numel() or 1))
    parts = [torch.cdist(part, b, p=1.0) for part in a.split(rows, dim=-2)]
    return torch.cat(parts, dim=-2) / a.shape[-1]
