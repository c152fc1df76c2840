"""Chamfer distance of point clouds, with bounded memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.utils import LossReduction, convert_to_tensor
from torch.nn.modules.loss import _Loss

from voxel_ext.errors import InvalidInputError, check_option

SEARCHES = ("chunked", "tree")
"""All distances, a chunk at a time, on any device; or a k-d tree per cloud, on the CPU."""

# distances held at once: on the CPU as many as its cache holds, elsewhere enough to keep the device busy
CPU_CHUNK = 2**19
DEVICE_CHUNK = 2**24


class ChamferLoss(_Loss):
    """Symmetric Chamfer distance of point clouds (Fan et al. 2017, "A Point Set Generation Network").

    w1 mean_i min_j |p_i - t_j|² + w2 mean_j min_i |t_j - p_i|², over the points p of the prediction and t of the
    target. The pairs are searched without a gradient, so that no more than ``chunk`` distances are held at once; only
    those of the pairs have one, which is the gradient of the whole.

    Args:
        squared: squared distances; if not, distances, whose gradient is 0 where two points agree.
        weights: (w1, w2), of prediction to target and of target to prediction.
        reduction: over the batch, ``"mean"``, ``"sum"`` or ``"none"``.
        search: a key of :data:`SEARCHES`. On the CPU a tree is several times faster, except while all predicted points
            lie close together and far from the target.
        chunk: distances held at once by ``"chunked"``, at least one row; None for 2^19 on the CPU, 2^24 elsewhere.

    Raises:
        InvalidInputError: a setting is not valid.
    """

    def __init__(
        self,
        squared: bool = True,
        weights: Sequence[float] = (1.0, 1.0),
        reduction: str = "mean",
        search: str = "chunked",
        chunk: int | None = None,
    ) -> None:
        super().__init__(reduction=LossReduction(check_option("reduction", reduction, list(LossReduction))).value)
        if len(weights) != 2 or not all(0 <= w < math.inf for w in weights) or not any(weights):
            raise InvalidInputError(
                f"weights={weights!r} are not valid; expected two numbers of at least 0, of prediction to target and "
                "of target to prediction, and one of them above 0"
            )
        self.squared = squared
        self.weights = (float(weights[0]), float(weights[1]))
        self.search = check_option("search", search, SEARCHES)
        self.chunk = _checked_chunk(chunk)

    def forward(
        self,
        prediction: torch.Tensor,
        target: torch.Tensor,
        prediction_mask: torch.Tensor | None = None,
        target_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compute the loss, in float32 (in float64 where an input is).

        Args:
            prediction: (B, N, 3).
            target: (B, M, 3).
            prediction_mask: (B, N), points that count where not 0, the others being padding; None for all.
            target_mask: (B, M), likewise.

        Returns:
            a scalar, or (B,) for the reduction ``"none"``, in units of the coordinates, squared if ``squared``.

        Raises:
            InvalidInputError: a shape does not fit, or a cloud has no points that count.
        """
        prediction, target = paired_clouds(prediction, target)
        prediction_mask = _checked_mask("prediction_mask", prediction_mask, prediction)
        target_mask = _checked_mask("target_mask", target_mask, target)
        # padding may be anything, NaN included
        prediction, target = _without_padding(prediction, prediction_mask), _without_padding(target, target_mask)
        loss = prediction.new_zeros(len(prediction))
        with torch.autocast(prediction.device.type, enabled=False):
            if self.weights[0]:
                loss = loss + self.weights[0] * self._one_way(prediction, target, prediction_mask, target_mask)
            if self.weights[1]:
                loss = loss + self.weights[1] * self._one_way(target, prediction, target_mask, prediction_mask)
        return reduced(loss, self.reduction)

    def _one_way(
        self,
        points: torch.Tensor,
        others: torch.Tensor,
        mask: torch.Tensor | None,
        others_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the mean distance of ``points`` to the nearest of ``others``, (B,)."""
        index = nearest_points(points, others, others_mask, search=self.search, chunk=self.chunk)
        distance = pair_distance(points, others.gather(1, index[..., None].expand(-1, -1, 3)), self.squared)
        return distance.mean(1) if mask is None else (distance * mask).sum(1) / mask.sum(1)


@torch.no_grad()
def nearest_points(
    points: torch.Tensor,
    others: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    search: str = "chunked",
    chunk: int | None = None,
) -> torch.Tensor:
    """Find the nearest of ``others`` to each of ``points``, from the differences of their coordinates.

    Args:
        points: (B, N, 3).
        others: (B, M, 3).
        mask: (B, M), those of ``others`` that can be found where not 0, at least one per cloud; None for all.
        search: see :class:`ChamferLoss`.
        chunk: see :class:`ChamferLoss`.

    Returns:
        (B, N) int64, indices into ``others``.

    Raises:
        InvalidInputError: a shape does not fit, a cloud has no points that count, or a setting is not valid.
    """
    points, others = paired_clouds(points, others)
    mask = _checked_mask("mask", mask, others)
    if check_option("search", search, SEARCHES) == "tree":
        return _nearest_by_tree(points, others, mask)
    chunk = _checked_chunk(chunk) or (CPU_CHUNK if points.device.type == "cpu" else DEVICE_CHUNK)
    return _nearest_by_chunks(points, others, mask, rows=max(1, chunk // (len(others) * others.shape[1])))


def _nearest_by_chunks(
    points: torch.Tensor, others: torch.Tensor, mask: torch.Tensor | None, rows: int
) -> torch.Tensor:
    """Search ``rows`` points of each cloud at a time, always in the same memory, so that it is not fragmented."""
    found = torch.empty(points.shape[:2], dtype=torch.long, device=points.device)
    squares = points.new_empty(len(points), min(rows, points.shape[1]), others.shape[1])
    difference = torch.empty_like(squares)
    columns = others.mT.contiguous()
    for start in range(0, points.shape[1], rows):
        part = points[:, start : start + rows]
        total, step = squares[:, : part.shape[1]], difference[:, : part.shape[1]]
        torch.sub(part[:, :, :1], columns[:, :1], out=total).square_()
        for axis in (1, 2):
            torch.sub(part[:, :, axis : axis + 1], columns[:, axis : axis + 1], out=step)
            total.addcmul_(step, step)
        if mask is not None:
            total.masked_fill_(~mask[:, None], math.inf)
        found[:, start : start + rows] = total.argmin(-1)
    return found


def _nearest_by_tree(points: torch.Tensor, others: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    from scipy.spatial import cKDTree

    # SciPy refuses what is not finite; the distances of such points are not finite in any pair
    points, others = (x.nan_to_num(0, 0, 0) for x in (points, others))
    found = []
    for index, (queries, cloud) in enumerate(zip(points.cpu().numpy(), others.cpu(), strict=True)):
        kept = torch.arange(len(cloud)) if mask is None else mask[index].cpu().nonzero()[:, 0]
        tree = cKDTree(cloud[kept].numpy(), balanced_tree=False, compact_nodes=False)
        found.append(kept[torch.from_numpy(tree.query(queries)[1])])
    return torch.stack(found).to(points.device)


def paired_clouds(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two batches of clouds (B, N, 3) and (B, M, 3) on one device and in one type, float32 or float64.

    Raises:
        InvalidInputError: a shape does not fit.
    """
    prediction, target = (convert_to_tensor(x, track_meta=False) for x in (prediction, target))
    shapes = tuple(prediction.shape), tuple(target.shape)
    fits = all(len(shape) == 3 and shape[2] == 3 and shape[1] > 0 for shape in shapes)
    if not fits or shapes[0][0] != shapes[1][0]:
        raise InvalidInputError(
            f"the point clouds have shapes {shapes[0]} and {shapes[1]}; expected (B, N, 3) and (B, M, 3) with N and M "
            "of at least 1"
        )
    dtype = torch.promote_types(torch.promote_types(prediction.dtype, target.dtype), torch.float32)
    return prediction.to(dtype), target.to(prediction.device, dtype)


def pair_distance(first: torch.Tensor, second: torch.Tensor, squared: bool) -> torch.Tensor:
    """Return the distances (...) of points (..., 3), or their squares; the gradient is 0 where two points agree."""
    difference = first - second
    return difference.square().sum(-1) if squared else torch.linalg.vector_norm(difference, dim=-1)


def reduced(loss: torch.Tensor, reduction: str) -> torch.Tensor:
    """Return the mean or the sum of losses (B,), or the losses themselves for ``"none"``."""
    if reduction == LossReduction.NONE.value:
        return loss
    return loss.mean() if reduction == LossReduction.MEAN.value else loss.sum()


def _checked_chunk(chunk: int | None) -> int | None:
    if chunk is not None and chunk < 1:
        raise InvalidInputError(f"chunk={chunk} is not valid; expected a number of distances of at least 1, or None")
    return chunk


def _checked_mask(name: str, mask: torch.Tensor | None, points: torch.Tensor) -> torch.Tensor | None:
    """Return the mask as boolean (B, N) on the points' device."""
    if mask is None:
        return None
    if mask.shape != points.shape[:2]:
        raise InvalidInputError(
            f"{name} has shape {tuple(mask.shape)}; expected {tuple(points.shape[:2])}, one value per point"
        )
    mask = convert_to_tensor(mask, track_meta=False).to(points.device) != 0
    empty = ~mask.any(1)
    if empty.any():
        raise InvalidInputError(f"{name} leaves no point of the cloud {int(empty.nonzero()[0, 0])} of the batch")
    return mask


def _without_padding(points: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return points if mask is None else torch.where(mask[..., None], points, 0)
