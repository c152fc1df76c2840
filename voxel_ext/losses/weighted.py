"""Losses that derive weights from the prediction or from the target."""

from __future__ import annotations

import math

import torch
from monai.utils import convert_to_tensor
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses.pixel_wise import class_indices

# a class that is predicted nowhere would otherwise weigh infinitely much
LEAST_SUM = 1e-6


class WeightedCrossEntropyLoss(_Loss):
    """Cross entropy with class weights from the prediction (Sudre et al. 2017, arXiv:1707.03237).

    With p = softmax(logits), the weight of class c is k(c) = sum_v (1 - p(v, c)) / sum_v p(v, c) over the voxels of the
    batch that are not ignored, taken as a constant in the gradient. The loss is
    -sum_v k(t(v)) log p(v, t(v)) / sum_v k(t(v)), as torch's ``cross_entropy`` with these weights. If every voxel is
    ignored, loss and gradient are 0.

    Args:
        ignore_index: class index of voxels that contribute neither to the loss nor to the weights (torch's default).
    """

    def __init__(self, ignore_index: int = -100) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Compute the loss, in float32.

        Args:
            logits: (B, C, ...) before the softmax.
            target: class indices (B, ...) or (B, 1, ...).

        Raises:
            InvalidInputError: the shape of the target does not fit, or a value is not a class index.
        """
        logits = convert_to_tensor(logits, track_meta=False).float()
        target = convert_to_tensor(target, track_meta=False).to(logits.device)
        target = class_indices(target, logits, self.ignore_index)
        kept = target != self.ignore_index
        with torch.autocast(logits.device.type, enabled=False):
            log_p = F.log_softmax(logits, dim=1)
            weights = self._class_weights(log_p.detach(), kept)
            losses = F.nll_loss(log_p, target, weights, ignore_index=self.ignore_index, reduction="none")
            total = (weights[target.where(kept, 0)] * kept).sum()
            return losses.sum() / torch.where(total > 0, total, 1)

    @staticmethod
    def _class_weights(log_p: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Return sum(1 - p) / sum(p) of each class over the kept voxels."""
        axes = [0, *range(2, log_p.ndim)]
        sums = (log_p.exp() * kept[:, None]).sum(axes)
        return (kept.sum() - sums).clamp(min=0) / sums.clamp(min=LEAST_SUM)


class WeightedSmoothL1Loss(_Loss):
    """Smooth L1 loss in which voxels with a target below (or not below) a threshold weigh more, or less.

    The mean over all elements of w(t) smooth_l1(x, t), with w = ``weight`` where t < ``threshold`` (where
    t >= ``threshold`` without ``apply_below``) and 1 elsewhere; smooth_l1 is (x - t)^2 / (2 beta) for |x - t| < beta
    and |x - t| - beta / 2 beyond (Girshick 2015).

    Args:
        threshold: in the target's units.
        weight: above 0.
        apply_below: weight the voxels below the threshold, or else the others.
        beta: in the target's units (torch's default).

    Raises:
        InvalidInputError: a number is not finite, or ``weight`` or ``beta`` not above 0.
    """

    def __init__(self, threshold: float, weight: float, apply_below: bool = True, beta: float = 1.0) -> None:
        super().__init__()
        if not math.isfinite(threshold):
            raise InvalidInputError(f"threshold={threshold!r} is not valid; expected a finite number")
        for name, value in (("weight", weight), ("beta", beta)):
            if not 0 < value < math.inf:
                raise InvalidInputError(f"{name}={value!r} is not valid; expected a number above 0")
        self.threshold = threshold
        self.weight = weight
        self.apply_below = apply_below
        self.beta = beta

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Compute the loss, in float32.

        Args:
            prediction: any shape.
            target: of the same shape.

        Raises:
            InvalidInputError: the shapes differ.
        """
        if prediction.shape != target.shape:
            raise InvalidInputError(
                f"the prediction has shape {tuple(prediction.shape)} and the target {tuple(target.shape)}; "
                "expected the same"
            )
        prediction, target = prediction.float(), target.float()
        weighted = (target < self.threshold) == self.apply_below
        losses = F.smooth_l1_loss(prediction, target, reduction="none", beta=self.beta)
        return (losses * torch.where(weighted, self.weight, 1.0)).mean()
