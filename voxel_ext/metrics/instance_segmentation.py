"""Scores of instance segmentations, as MONAI metrics."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from monai.utils import convert_to_tensor

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.metrics.instance_scores import IOU_THRESHOLDS, check_thresholds, instance_scores, panoptic_quality
from voxel_ext.metrics.partition import adapted_rand_error, variation_of_information


class InstanceMetric(CumulativeIterationMetric):
    """Base of the metrics of instance ids; a subclass gives the values of one volume by :meth:`score`.

    Called with instance ids (B, 1, ...), or lists of (1, ...), predicted and true, 0 for background, as MONAI's metrics
    and ``IgniteMetricHandler`` do, e.g. with ``from_engine(["pred_instances", "instances"])``. The buffer has a row for
    each volume, float64, NaN where a volume has nothing to judge.

    Args:
        ignore_label: voxels with this true id are left out of truth and prediction; None for none.
    """

    def __init__(self, ignore_label: int | None = None) -> None:
        super().__init__()
        self.ignore_label = ignore_label

    @abstractmethod
    def score(self, pred: torch.Tensor, truth: torch.Tensor) -> Sequence[float]:
        """Return the row of the buffer of one volume.

        Args:
            pred: (C, ...), ids in one channel unless the subclass says otherwise.
            truth: (1, ...), true ids.
        """

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        """Compute the rows of volumes (B, C, ...) and (B, 1, ...)."""
        if y is None:
            raise InvalidInputError(f"{type(self).__name__} needs the true instances, y, as well as y_pred")
        self._check_shapes(y_pred, y)
        pred, truth = (convert_to_tensor(ids, track_meta=False).detach() for ids in (y_pred, y))
        rows = [self.score(p, t.to(p.device)) for p, t in zip(pred, truth, strict=True)]
        return torch.tensor(rows, dtype=torch.float64, device=pred.device)

    def _check_shapes(self, pred: torch.Tensor, truth: torch.Tensor) -> None:
        _check_ids("y_pred", pred)
        _check_ids("y", truth)

    def _buffer(self) -> torch.Tensor:
        buffer = self.get_buffer()
        if buffer is None:
            raise InvalidInputError(f"{type(self).__name__} has nothing to aggregate; call it with y_pred and y first")
        return buffer

    def aggregate(self) -> torch.Tensor:
        """Return the mean over volumes that had something to judge (each weighs the same), or NaN if none had.

        Raises:
            InvalidInputError: nothing was measured since the last reset.
        """
        return self._buffer()[:, 0].nanmean()


class InstanceAveragePrecision(InstanceMetric):
    """Score of the detection of instances, averaged over IoU thresholds, then over volumes.

    At each threshold TP / (TP + FP + FN) of :func:`instance_scores`, which also says what holds for empty volumes: NaN
    where neither truth nor prediction has an instance, 0 where only one of them has. The buffer has a column for each
    threshold.

    Args:
        thresholds: least IoU of a match, one or several (0.5, 0.55, ..., 0.95).
        score_name: ``"average_precision"``, ``"f1"``, ``"precision"`` or ``"recall"``.
        ignore_label: voxels with this true id are left out; None for none.

    Raises:
        InvalidInputError: a threshold is not in (0, 1], or the score is not known.
    """

    def __init__(
        self,
        thresholds: Sequence[float] | float = IOU_THRESHOLDS,
        score_name: str = "average_precision",
        ignore_label: int | None = None,
    ) -> None:
        super().__init__(ignore_label)
        self.thresholds = check_thresholds(thresholds)
        self.score_name = check_option("score_name", score_name, ("average_precision", "f1", "precision", "recall"))

    def score(self, pred: torch.Tensor, truth: torch.Tensor) -> list[float]:
        """Return the score at each threshold of ids (1, ...)."""
        scores = instance_scores(pred, truth, self.thresholds, self.ignore_label)
        return getattr(scores, self.score_name).tolist()

    def aggregate(self) -> torch.Tensor:
        """Return the mean over thresholds and volumes (each weighs the same), or NaN if no volume had instances.

        Raises:
            InvalidInputError: nothing was measured since the last reset.
        """
        return self.per_threshold().mean()

    def per_threshold(self) -> torch.Tensor:
        """Return the mean over volumes at each threshold, (T,) float64.

        Raises:
            InvalidInputError: nothing was measured since the last reset.
        """
        return self._buffer().nanmean(0)


class PanopticQuality(InstanceMetric):
    """Panoptic quality, see :func:`panoptic_quality`, averaged over volumes.

    The columns of the buffer are panoptic, segmentation and recognition quality. MONAI's ``PanopticQualityMetric``
    needs a class for each voxel besides the instance, and memory that grows with instances times voxels.

    Args:
        ignore_label: voxels with this true id are left out; None for none.
    """

    def score(self, pred: torch.Tensor, truth: torch.Tensor) -> tuple[float, float, float]:
        """Return PQ, SQ and RQ of ids (1, ...)."""
        return panoptic_quality(pred, truth, self.ignore_label)


class AdaptedRandError(InstanceMetric):
    """Adapted Rand error, see :func:`adapted_rand_error`, averaged over volumes; lower is better.

    Args:
        ignore_background: leave out the voxels of true background (scikit-image's default).
        ignore_label: leave out the voxels with this true id, too; None for none.
    """

    def __init__(self, ignore_background: bool = True, ignore_label: int | None = None) -> None:
        super().__init__(ignore_label)
        self.ignore_background = ignore_background

    def score(self, pred: torch.Tensor, truth: torch.Tensor) -> list[float]:
        """Return the error of ids (1, ...)."""
        return [adapted_rand_error(pred, truth, self.ignore_background, self.ignore_label)]


class VariationOfInformation(InstanceMetric):
    """Variation of information in bits, see :func:`variation_of_information`, averaged over volumes; lower is better.

    The columns of the buffer are the sum, the split term and the merge term.

    Args:
        ignore_background: leave out the voxels of true background (False as in scikit-image).
        ignore_label: leave out the voxels with this true id, too; None for none.
    """

    def __init__(self, ignore_background: bool = False, ignore_label: int | None = None) -> None:
        super().__init__(ignore_label)
        self.ignore_background = ignore_background

    def score(self, pred: torch.Tensor, truth: torch.Tensor) -> list[float]:
        """Return sum, split and merge term of ids (1, ...)."""
        split, merge = variation_of_information(pred, truth, self.ignore_background, self.ignore_label)
        return [split + merge, split, merge]


class BoundaryAveragePrecision(InstanceAveragePrecision):
    """Average precision of the instances between predicted boundaries.

    The connected components (faces as neighbors) of the voxels with a boundary probability of at most ``threshold`` are
    the predicted instances. With several thresholds, the best average precision of a volume counts, as in
    wolny/pytorch-3dunet: an upper bound for choosing networks by, not a result. Called with probabilities (B, C, ...)
    and true ids (B, 1, ...).

    Args:
        threshold: boundary probability above which a voxel is boundary, one or several.
        iou_thresholds: least IoU of a match (0.5, 0.55, ..., 0.95).
        channel: the channel of the prediction that is the boundary.
        minimum_size: smaller components are left out, in voxels.
        ignore_label: voxels with this true id are left out; None for none.

    Raises:
        InvalidInputError: a threshold is not in [0, 1), or a size or channel is negative.
    """

    def __init__(
        self,
        threshold: Sequence[float] | float = 0.5,
        iou_thresholds: Sequence[float] | float = IOU_THRESHOLDS,
        channel: int = 0,
        minimum_size: int = 0,
        ignore_label: int | None = None,
    ) -> None:
        super().__init__(iou_thresholds, "average_precision", ignore_label)
        self.boundary_thresholds = [float(p) for p in (threshold if isinstance(threshold, Sequence) else [threshold])]
        if not self.boundary_thresholds or not all(0 <= p < 1 for p in self.boundary_thresholds):
            raise InvalidInputError(f"threshold={threshold!r} is not valid; expected probabilities from 0 to below 1")
        for name, value in (("channel", channel), ("minimum_size", minimum_size)):
            if value < 0:
                raise InvalidInputError(f"{name}={value} is not valid; expected 0 or more")
        self.channel = channel
        self.minimum_size = minimum_size

    def score(self, pred: torch.Tensor, truth: torch.Tensor) -> list[float]:
        """Return the average precision at each IoU threshold, of boundary probabilities (C, ...) and ids (1, ...)."""
        boundary = pred[self.channel].float()
        low, high = torch.stack(torch.aminmax(boundary)).tolist()
        if not (low >= 0 and high <= 1):
            raise InvalidInputError(
                f"the boundary map has values from {low:g} to {high:g}; expected probabilities, apply a sigmoid first"
            )
        scores = [
            super(BoundaryAveragePrecision, self).score(self._segments(boundary, level)[None], truth)
            for level in self.boundary_thresholds
        ]
        # NaN, nothing predicted and nothing there, is as good as it gets
        return max(scores, key=lambda score: math.inf if math.isnan(score[0]) else sum(score))

    def _segments(self, boundary: torch.Tensor, level: float) -> torch.Tensor:
        from skimage.measure import label

        ids = torch.from_numpy(label((boundary <= level).cpu().numpy(), connectivity=1)).to(boundary.device)
        sizes = torch.bincount(ids.flatten())
        return torch.where(sizes[ids] >= self.minimum_size, ids, 0)

    def _check_shapes(self, pred: torch.Tensor, truth: torch.Tensor) -> None:
        _check_ids("y", truth)
        if pred.shape[2:] != truth.shape[2:] or pred.shape[1] <= self.channel:
            raise InvalidInputError(
                f"y_pred has shape {tuple(pred.shape)} and y {tuple(truth.shape)}; expected the same spatial axes, and "
                f"more than {self.channel} channels in y_pred (channel={self.channel})"
            )


def _check_ids(name: str, ids: torch.Tensor) -> None:
    if ids.ndim < 3 or ids.shape[1] != 1:
        raise InvalidInputError(f"{name} has shape {tuple(ids.shape)}; expected instance ids (B, 1, ...)")
