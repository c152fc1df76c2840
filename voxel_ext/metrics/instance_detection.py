"""Overlap of predicted and true instances, and the fraction of true instances that were found."""

from __future__ import annotations

import torch
from monai.metrics import CumulativeIterationMetric
from monai.utils import convert_to_tensor

from voxel_ext.errors import InvalidInputError


def instance_iou(pred: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute the intersection over union of every pair of instances that share a voxel.

    IoU(p, t) = |p ∩ t| / (|p| + |t| - |p ∩ t|), from a contingency table of the overlapping pairs only, so that memory
    does not grow with the product of the numbers of instances.

    Args:
        pred: predicted instance ids, any shape, 0 for background. Ids may be large and need not be consecutive.
        truth: true instance ids of the same shape.

    Returns:
        Three tensors with one entry per pair, ordered by true and then predicted id: the true id, the predicted id
        (int64), and the IoU (float64).

    Raises:
        InvalidInputError: the shapes differ, or an id is negative or not an integer.
    """
    if pred.shape != truth.shape:
        raise InvalidInputError(
            f"the predicted instances have shape {tuple(pred.shape)} and the true ones {tuple(truth.shape)}; "
            "expected the same"
        )
    pred, truth = _whole(pred, "predicted"), _whole(truth, "true")
    pred_ids, pred_sizes = torch.unique(pred[pred > 0], return_counts=True)
    true_ids, true_sizes = torch.unique(truth[truth > 0], return_counts=True)
    both = (pred > 0) & (truth > 0)
    codes = torch.searchsorted(true_ids, truth[both]) * len(pred_ids) + torch.searchsorted(pred_ids, pred[both])
    codes, overlaps = torch.unique(codes, return_counts=True)
    t, p = torch.div(codes, len(pred_ids), rounding_mode="floor"), codes % len(pred_ids)
    iou = overlaps / (true_sizes[t] + pred_sizes[p] - overlaps).double()
    return true_ids[t], pred_ids[p], iou


def best_instance_iou(pred: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Compute, for each true instance, the best intersection over union with any predicted instance.

    Args:
        pred: predicted instance ids, any shape, 0 for background.
        truth: true instance ids of the same shape.

    Returns:
        Tensor (number of true instances,), float64, in ascending order of the true ids; 0 where nothing overlaps.

    Raises:
        InvalidInputError: as :func:`instance_iou`.
    """
    true_of_pair, _, iou = instance_iou(pred, truth)
    truth = _whole(truth, "true")
    true_ids = torch.unique(truth[truth > 0])
    best = torch.zeros(len(true_ids), dtype=torch.float64, device=iou.device)
    return best.scatter_reduce(0, torch.searchsorted(true_ids, true_of_pair), iou, "amax")


class InstanceDetectionRate(CumulativeIterationMetric):
    """Fraction of the true instances that were found, averaged over volumes.

    A true instance is found if a predicted instance reaches the IoU ``threshold`` with it. Above 0.5 a match is unique
    (two true instances cannot both share more than half of the union with one prediction); at 0.5 exactly, one
    prediction that joins two instances of equal size counts for both.

    Called with instance ids (B, 1, ...), or lists of (1, ...), as MONAI's metrics and ``IgniteMetricHandler`` do. The
    buffer has one value per volume, NaN for a volume without true instances.

    Args:
        threshold: the least IoU that counts as found (0.5 by default).

    Raises:
        InvalidInputError: the threshold is not in (0, 1].
    """

    def __init__(self, threshold: float = 0.5) -> None:
        super().__init__()
        if not 0 < threshold <= 1:
            raise InvalidInputError(f"threshold={threshold!r} is not valid; expected an IoU above 0, at most 1")
        self.threshold = threshold

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:  # type: ignore[override]
        """Compute the detection rate of each volume: ids (B, 1, ...) twice to (B, 1)."""
        if y is None:
            raise InvalidInputError("InstanceDetectionRate needs the true instances, y, as well as y_pred")
        for name, ids in (("y_pred", y_pred), ("y", y)):
            if ids.ndim < 3 or ids.shape[1] != 1:
                raise InvalidInputError(f"{name} has shape {tuple(ids.shape)}; expected instance ids (B, 1, ...)")
        pred, truth = (convert_to_tensor(ids, track_meta=False) for ids in (y_pred, y))
        found = [best_instance_iou(p, t.to(p.device)) >= self.threshold for p, t in zip(pred, truth, strict=True)]
        return torch.stack([one.float().mean() for one in found])[:, None]

    def aggregate(self) -> torch.Tensor:
        """Return the mean over volumes that have true instances (every volume weighs the same), or NaN if none has.

        Raises:
            InvalidInputError: nothing was measured since the last reset.
        """
        rates = self.get_buffer()
        if rates is None:
            raise InvalidInputError("InstanceDetectionRate has nothing to aggregate; call it with y_pred and y first")
        return rates.nanmean()


def _whole(ids: torch.Tensor, name: str) -> torch.Tensor:
    """Return instance ids as int64, or refuse them."""
    whole = ids.to(torch.int64)
    if ids.is_floating_point() and not torch.equal(whole.to(ids.dtype), ids):
        raise InvalidInputError(
            f"the {name} instances have values that are not integers; expected instance ids, "
            "for example from voxel_ext.transforms.ConnectedComponentsd"
        )
    if whole.numel() and whole.min() < 0:
        raise InvalidInputError(
            f"the {name} instances have the id {int(whole.min())}; expected 0 for background, or more"
        )
    return whole
