"""The losses of voxel-wise classification and regression by name, with voxels left out on request."""

from __future__ import annotations

import math
from typing import Any

import torch
from monai.losses import DiceLoss, GeneralizedDiceLoss
from torch import nn
from torch.nn.modules.loss import _Loss

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.losses.masked import MaskedLoss
from voxel_ext.losses.pixel_wise import PixelWiseCrossEntropyLoss, class_indices, class_weight_tensor
from voxel_ext.losses.segmentation import check_target
from voxel_ext.losses.weighted import WeightedCrossEntropyLoss, WeightedSmoothL1Loss

# what each loss takes besides ignore_index and skip_last_channel
SETTINGS: dict[str, tuple[str, ...]] = {
    "pixel_wise_cross_entropy": ("class_weights", "reduction"),
    "cross_entropy": ("class_weights",),
    "weighted_cross_entropy": (),
    "bce": ("positive_weight",),
    "dice": ("class_weights", "softmax"),
    "bce_dice": ("alpha", "beta"),
    "generalized_dice": ("softmax",),
    "mse": (),
    "l1": (),
    "smooth_l1": ("smooth_l1_beta",),
    "weighted_smooth_l1": ("threshold", "threshold_weight", "apply_below", "smooth_l1_beta"),
}


class BCEDiceLoss(_Loss):
    """alpha * binary cross entropy (mean over voxels) + beta * Dice loss, both of sigmoid(logits).

    MONAI's ``DiceCELoss`` uses the softmax's cross entropy as soon as there are several channels; this one treats
    channels as independent, as affinities and boundaries are.

    Args:
        alpha: weight of the cross entropy, at least 0.
        beta: weight of the Dice loss, at least 0.

    Raises:
        InvalidInputError: a weight is negative or not finite.
    """

    def __init__(self, alpha: float = 1.0, beta: float = 1.0) -> None:
        super().__init__()
        for name, value in (("alpha", alpha), ("beta", beta)):
            if not 0 <= value < math.inf:
                raise InvalidInputError(f"{name}={value!r} is not valid; expected a number of at least 0")
        self.alpha = alpha
        self.beta = beta
        self.bce = nn.BCEWithLogitsLoss()
        self.dice = _dice()

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Compute the loss of logits and target (B, C, ...)."""
        return self.alpha * self.bce(logits, target) + self.beta * self.dice(logits, target)


class _CheckedLoss(_Loss):
    """A loss of logits (B, C, ...) that refuses a target out of range, which it would take without complaint."""

    def __init__(self, loss: nn.Module, softmax: bool) -> None:
        super().__init__()
        self.loss = loss
        self.softmax = softmax

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Compute the loss; the target has class indices (B, 1, ...) with softmax, or the shape of the logits."""
        if self.softmax:
            target = class_indices(target, logits, None)[:, None]
        else:
            check_target(logits, target)
        return self.loss(logits, target)


def neuron_loss(
    name: str = "pixel_wise_cross_entropy",
    ignore_index: int | None = None,
    skip_last_channel: bool = False,
    **settings: Any,
) -> _Loss:
    """Build a loss by name, for ``_target_`` in a config.

    Every loss is called with logits (B, C, ...) and a target, or ``(target, weight)``. Only
    ``pixel_wise_cross_entropy`` uses the weights as they are; the others leave out voxels that weigh 0.

    - ``"pixel_wise_cross_entropy"``: :class:`PixelWiseCrossEntropyLoss`; settings ``class_weights``, ``reduction``.
    - ``"cross_entropy"``: torch's, of class indices (B, 1, ...) or (B, ...); ``class_weights``, one per class.
    - ``"weighted_cross_entropy"``: :class:`WeightedCrossEntropyLoss`.
    - ``"bce"``: torch's ``BCEWithLogitsLoss``; ``positive_weight``, of the voxels with target 1 (1).
    - ``"dice"``: MONAI's ``DiceLoss`` with squared denominator (Milletari et al. 2016); ``class_weights``, ``softmax``.
    - ``"generalized_dice"``: MONAI's ``GeneralizedDiceLoss`` (Sudre et al. 2017); ``softmax``.
    - ``"bce_dice"``: :class:`BCEDiceLoss`; ``alpha``, ``beta`` (1 each).
    - ``"mse"``, ``"l1"``: torch's. ``"smooth_l1"``: torch's; ``smooth_l1_beta`` (1), in the target's units.
    - ``"weighted_smooth_l1"``: :class:`WeightedSmoothL1Loss`; ``threshold`` and ``threshold_weight`` (both needed),
      ``apply_below`` (True), ``smooth_l1_beta`` (1).

    With ``softmax`` the target has class indices (B, 1, ...), without (default) as many channels as the logits.

    Args:
        name: one of the above.
        ignore_index: value of the target at voxels that do not count; see :class:`MaskedLoss`.
        skip_last_channel: remove the last channel of the target; not for ``pixel_wise_cross_entropy``.
        settings: of that loss; None is the default.

    Raises:
        InvalidInputError: the name is not known, a setting is not one of that loss, is missing or is not valid.
    """
    check_option("loss_name", name, SETTINGS)
    given = {key: value for key, value in settings.items() if value is not None}
    wrong = [key for key in given if key not in SETTINGS[name]]
    if skip_last_channel and name == "pixel_wise_cross_entropy":
        wrong.append("skip_last_channel")
    if wrong:
        raise InvalidInputError(
            f"loss_name={name!r} does not take {', '.join(wrong)}; its settings are "
            f"{', '.join(SETTINGS[name]) or 'none'}"
        )
    if name == "pixel_wise_cross_entropy":
        return PixelWiseCrossEntropyLoss(ignore_index=ignore_index, **given)
    if name in ("cross_entropy", "weighted_cross_entropy"):
        weights = class_weight_tensor(given.get("class_weights"))
        loss: nn.Module = WeightedCrossEntropyLoss() if name.startswith("weighted") else nn.CrossEntropyLoss(weights)
    elif name in ("bce", "dice", "generalized_dice", "bce_dice"):
        loss = _CheckedLoss(_probability_loss(name, given), given.get("softmax", False))
    else:
        loss = _regression_loss(name, given)
    return MaskedLoss(loss, ignore_index, skip_last_channel)


def _probability_loss(name: str, given: dict[str, Any]) -> nn.Module:
    """Build a loss on probabilities of independent channels, or of a softmax."""
    softmax = given.get("softmax", False)
    if name == "bce_dice":
        return BCEDiceLoss(**given)
    if name == "dice":
        return _dice(softmax, class_weight_tensor(given.get("class_weights")))
    if name == "generalized_dice":
        return GeneralizedDiceLoss(sigmoid=not softmax, softmax=softmax, to_onehot_y=softmax, batch=True)
    positive_weight = given.get("positive_weight", 1.0)
    if not 0 < positive_weight < math.inf:
        raise InvalidInputError(f"positive_weight={positive_weight!r} is not valid; expected a number above 0")
    return nn.BCEWithLogitsLoss(pos_weight=torch.tensor(float(positive_weight)))


def _dice(softmax: bool = False, class_weights: torch.Tensor | None = None) -> DiceLoss:
    """Build the Dice loss with sums over the batch and squares in the denominator."""
    return DiceLoss(
        sigmoid=not softmax,
        softmax=softmax,
        to_onehot_y=softmax,
        squared_pred=True,
        batch=True,
        smooth_nr=1e-6,
        smooth_dr=1e-6,
        weight=class_weights,
    )


def _regression_loss(name: str, given: dict[str, Any]) -> nn.Module:
    """Build a loss on differences from a target."""
    beta = given.get("smooth_l1_beta", 1.0)
    if name == "mse":
        return nn.MSELoss()
    if name == "l1":
        return nn.L1Loss()
    if name == "smooth_l1":
        return nn.SmoothL1Loss(beta=beta)
    if "threshold" not in given or "threshold_weight" not in given:
        raise InvalidInputError("loss_name='weighted_smooth_l1' needs threshold and threshold_weight")
    return WeightedSmoothL1Loss(given["threshold"], given["threshold_weight"], given.get("apply_below", True), beta)
