"""Agreement of two instance segmentations: detection scores, panoptic quality, Rand error, variation of information."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from voxel_ext.errors import InvalidInputError
from voxel_ext.metrics.instance_detection import instance_iou

# 0.5, 0.55, ..., 0.95, each the float nearest to it, so that an IoU of 11/20 reaches 0.55
IOU_THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))


@dataclass(frozen=True)
class InstanceScores:
    """Counts of found and missed instances at each IoU threshold, and the scores that follow from them.

    Where there are no instances, predicted or true, every score is NaN, since there is nothing to judge; where there is
    any, a score whose denominator is 0 is 0.

    Args:
        thresholds: least IoU of a match, (T,) float64.
        true_positives: matched pairs, (T,) int64.
        false_positives: predicted instances without a partner, (T,) int64.
        false_negatives: true instances without a partner, (T,) int64.
    """

    thresholds: torch.Tensor
    true_positives: torch.Tensor
    false_positives: torch.Tensor
    false_negatives: torch.Tensor

    @property
    def average_precision(self) -> torch.Tensor:
        """TP / (TP + FP + FN) at each threshold (T,), the "average precision" of the 2018 Data Science Bowl."""
        return self._ratio(1, 1, 1)

    @property
    def f1(self) -> torch.Tensor:
        """2 TP / (2 TP + FP + FN) at each threshold (T,)."""
        return self._ratio(2, 1, 1)

    @property
    def precision(self) -> torch.Tensor:
        """TP / (TP + FP) at each threshold (T,)."""
        return self._ratio(1, 1, 0)

    @property
    def recall(self) -> torch.Tensor:
        """TP / (TP + FN) at each threshold (T,)."""
        return self._ratio(1, 0, 1)

    def _ratio(self, found: int, extra: int, missed: int) -> torch.Tensor:
        tp, fp, fn = self.true_positives, self.false_positives, self.false_negatives
        ratio = (found * tp).double() / (found * tp + extra * fp + missed * fn).clamp(min=1)
        return torch.where(tp + fp + fn > 0, ratio, torch.nan)


def instance_scores(
    pred: torch.Tensor,
    truth: torch.Tensor,
    thresholds: Sequence[float] = IOU_THRESHOLDS,
    ignore_label: int | None = None,
) -> InstanceScores:
    """Match predicted and true instances one to one and count, as StarDist and the 2018 Data Science Bowl do.

    At each threshold as many pairs as possible with at least that IoU are matched (Hopcroft and Karp 1973); above 0.5
    no instance has more than one possible partner. Only pairs that overlap take memory.

    Args:
        pred: predicted instance ids, any shape, 0 for background.
        truth: true instance ids of the same shape.
        thresholds: least IoU of a match, in (0, 1].
        ignore_label: voxels with this true id are left out of truth and prediction; None for none.

    Raises:
        InvalidInputError: the shapes differ, an id is negative (and not ``ignore_label``) or not an integer, or a
            threshold is not in (0, 1].
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    levels = check_thresholds(thresholds)
    pred, truth = kept_voxels(pred, truth, ignore_label)
    true_of_pair, pred_of_pair, iou = instance_iou(pred, truth)
    n_true, n_pred = (len(torch.unique(ids[ids > 0])) for ids in (truth, pred))
    rows, columns = (torch.unique(ids, return_inverse=True)[1].cpu().numpy() for ids in (true_of_pair, pred_of_pair))
    overlaps = iou.cpu().numpy()
    found = []
    for level in levels:
        reached = overlaps >= level
        if not reached.any():
            found.append(0)
            continue
        graph = csr_array((reached[reached], (rows[reached], columns[reached])), shape=(n_true, n_pred))
        found.append(int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum()))
    tp = torch.tensor(found, dtype=torch.int64)
    return InstanceScores(torch.tensor(levels, dtype=torch.float64), tp, n_pred - tp, n_true - tp)


def panoptic_quality(
    pred: torch.Tensor, truth: torch.Tensor, ignore_label: int | None = None
) -> tuple[float, float, float]:
    """Compute the panoptic quality of one class (Kirillov et al. 2019).

    With the pairs of IoU above 0.5 as matches: segmentation quality SQ is the mean IoU of the matches, recognition
    quality RQ is TP / (TP + FP / 2 + FN / 2), and PQ = SQ RQ. As MONAI's ``compute_panoptic_quality``, without its
    constant in the denominators and its mask in memory for each instance.

    Args:
        pred: predicted instance ids, any shape, 0 for background.
        truth: true instance ids of the same shape.
        ignore_label: voxels with this true id are left out; None for none.

    Returns:
        PQ, SQ and RQ. Without matches 0, without any instances NaN.

    Raises:
        InvalidInputError: as :func:`instance_scores`.
    """
    pred, truth = kept_voxels(pred, truth, ignore_label)
    iou = instance_iou(pred, truth)[2]
    matched = iou[iou > 0.5]
    instances = sum(len(torch.unique(ids[ids > 0])) for ids in (truth, pred))
    if not instances:
        return (float("nan"),) * 3
    if not len(matched):
        return 0.0, 0.0, 0.0
    segmentation, recognition = float(matched.mean()), 2 * len(matched) / instances
    return segmentation * recognition, segmentation, recognition


def kept_voxels(pred: torch.Tensor, truth: torch.Tensor, ignore_label: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ids of the voxels whose true id is not ``ignore_label``, (n,) each.

    Raises:
        InvalidInputError: the shapes differ.
    """
    if pred.shape != truth.shape:
        raise InvalidInputError(
            f"the predicted instances have shape {tuple(pred.shape)} and the true ones {tuple(truth.shape)}; "
            "expected the same"
        )
    # torch has few operations for unsigned integers
    pred, truth = (ids.flatten() if ids.is_floating_point() else ids.flatten().to(torch.int64) for ids in (pred, truth))
    if ignore_label is None:
        return pred, truth
    kept = truth != ignore_label
    return pred[kept], truth[kept]


def check_thresholds(thresholds: Sequence[float] | float) -> list[float]:
    """Return IoU thresholds as a list.

    Raises:
        InvalidInputError: there is none, or one is not in (0, 1].
    """
    levels = [float(level) for level in (thresholds if isinstance(thresholds, Sequence) else [thresholds])]
    if not levels or not all(0 < level <= 1 for level in levels):
        raise InvalidInputError(f"thresholds={levels} is not valid; expected IoUs above 0, at most 1")
    return levels
