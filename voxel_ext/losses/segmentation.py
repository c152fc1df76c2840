"""The segmentation losses by name, safe under mixed precision, with certain background left out on request."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from monai.losses import DiceLoss
from monai.utils import convert_to_tensor
from torch import nn
from torch.nn.modules.loss import _Loss

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.losses.boundary import BoundaryWeightedDiceLoss

LOSSES = ("dice", "bce", "weighted_bce", "boundary_weighted_dice")

# sigmoid(CERTAIN) is exactly 0 in float32, and so is its cross entropy with 0
CERTAIN = -1e4


class SegmentationLoss(_Loss):
    """A loss on logits, computed in float32, that checks its target and can leave out certain background.

    With ``certain_background`` p, a voxel of true background whose predicted probability of background exceeds p does
    not contribute: its logit is replaced by one whose terms in the sums are exactly 0, without gradient. A loss that is
    a mean over voxels then becomes the mean over the voxels that were kept (0 if none was).

    Args:
        loss: maps logits and target (B, C, ...) to a scalar; a loss of the Dice family, or ``BCEWithLogitsLoss``.
        certain_background: p in (0, 1), or None to keep every voxel.

    Raises:
        InvalidInputError: ``certain_background`` is not in (0, 1).
    """

    def __init__(self, loss: _Loss, certain_background: float | None = None) -> None:
        super().__init__()
        if certain_background is not None and not 0 < certain_background < 1:
            raise InvalidInputError(
                f"certain_background={certain_background!r} is not valid; expected a probability between 0 and 1, "
                "or none to keep every voxel"
            )
        self.loss = loss
        self.certain_background = certain_background

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Compute the loss.

        Args:
            logits: (B, C, ...) before the sigmoid, of any floating type.
            target: (B, C, ...), 1 in the foreground, 0 elsewhere, or a probability between.

        Raises:
            InvalidInputError: the shapes differ, or a value of the target is outside [0, 1].
        """
        logits, target = (convert_to_tensor(x, track_meta=False, dtype=torch.float32) for x in (logits, target))
        check_target(logits, target)
        if self.certain_background is None:
            return self.loss(logits, target)
        keep = (target > 0) | (torch.sigmoid(-logits.detach()) <= self.certain_background)
        value = self.loss(torch.where(keep, logits, CERTAIN), target)
        if isinstance(self.loss, nn.BCEWithLogitsLoss):
            value = value * (keep.numel() / keep.sum().clamp(min=1))
        return value


def check_target(logits: torch.Tensor, target: torch.Tensor) -> None:
    """Refuse a target that does not fit the logits.

    Args:
        logits: (B, C, ...).
        target: (B, C, ...).

    Raises:
        InvalidInputError: the shapes differ, or a value of the target is outside [0, 1] or NaN.
    """
    if logits.shape != target.shape:
        raise InvalidInputError(
            f"the network's output has shape {tuple(logits.shape)} and the label {tuple(target.shape)}; "
            "expected the same (batch, channel, spatial axes)"
        )
    low, high = torch.stack(torch.aminmax(target)).tolist()
    if not (low >= 0 and high <= 1):
        raise InvalidInputError(
            f"the label has values from {low:g} to {high:g}; expected 0 for background and 1 for foreground. "
            "Instance ids are made binary by MONAI's AsDiscreted(keys='label', threshold=0.5)"
        )


def positive_class_weight(labels: Iterable[Any]) -> float:
    """Compute the weight of the foreground that balances it with the background.

    It is (1 - f) / f with f the fraction of foreground voxels (above 0) in all labels together.

    Args:
        labels: arrays or tensors of any shape, binary or of instance ids; consumed one by one.

    Raises:
        InvalidInputError: there is no foreground or no background at all.
    """
    foreground = voxels = 0
    for label in labels:
        foreground += int((label > 0).sum())
        voxels += math.prod(label.shape)
    if foreground in (0, voxels):
        raise InvalidInputError(
            f"{foreground} of the {voxels} label voxels are foreground (above 0), which leaves nothing to balance; "
            "check the labels, or use a loss without a class weight"
        )
    return (voxels - foreground) / foreground


def segmentation_loss(
    name: str = "dice",
    positive_weight: float | None = None,
    boundary_weight: float = 10.0,
    boundary_thickness: int = 1,
    certain_background: float | None = None,
) -> SegmentationLoss:
    """Build a segmentation loss by name, for ``_target_`` in a config.

    With p = sigmoid(logits), t the truth:

    - ``"dice"``: 1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1), summed over the batch (MONAI's ``DiceLoss``).
    - ``"bce"``: binary cross entropy, mean over voxels (torch).
    - ``"weighted_bce"``: the same with the foreground's term multiplied by ``positive_weight``.
    - ``"boundary_weighted_dice"``: see :class:`BoundaryWeightedDiceLoss`.

    Args:
        name: one of the above.
        positive_weight: for ``weighted_bce``, see :func:`positive_class_weight`.
        boundary_weight: for ``boundary_weighted_dice``.
        boundary_thickness: for ``boundary_weighted_dice``, in voxels.
        certain_background: leave out voxels of true background whose predicted probability of background exceeds this,
            see :class:`SegmentationLoss`; None to keep every voxel.

    Raises:
        InvalidInputError: the name is not known, a setting is not valid, or ``positive_weight`` is missing.
    """
    check_option("loss_name", name, LOSSES)
    loss: _Loss
    if name == "dice":
        loss = DiceLoss(sigmoid=True, batch=True, smooth_nr=1, smooth_dr=1)
    elif name == "bce":
        loss = nn.BCEWithLogitsLoss()
    elif name == "weighted_bce":
        if positive_weight is None or not 0 < positive_weight < math.inf:
            raise InvalidInputError(
                f"loss_name='weighted_bce' needs positive_weight, a number above 0, but it is {positive_weight!r}; "
                "compute it from the training labels by voxel_ext.losses.positive_class_weight"
            )
        loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(float(positive_weight)))
    else:
        loss = BoundaryWeightedDiceLoss(boundary_weight, boundary_thickness)
    return SegmentationLoss(loss, certain_background)
