"""MONAI's losses by name, with voxels left out where that is possible."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import monai.losses
import torch
from torch import nn

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.losses.masked import MaskedLoss

VOXELWISE_LOSSES = (
    "AsymmetricUnifiedFocalLoss",
    "DiceCELoss",
    "DiceFocalLoss",
    "DiceLoss",
    "FocalLoss",
    "GeneralizedDiceFocalLoss",
    "GeneralizedDiceLoss",
    "GeneralizedWassersteinDiceLoss",
    "MCCLoss",
    "TverskyLoss",
)
"""Losses of MONAI that treat voxels alike, so that some can be left out."""

WHOLE_IMAGE_LOSSES = (
    "BoundaryLoss",
    "GlobalMutualInformationLoss",
    "HausdorffDTLoss",
    "LocalNormalizedCrossCorrelationLoss",
    "LogHausdorffDTLoss",
    "NACLLoss",
    "SSIMLoss",
    "SoftDiceclDiceLoss",
    "SoftclDiceLoss",
)
"""Losses of MONAI that look at neighborhoods or at the place of voxels, so that none can be left out."""

MONAI_LOSSES = VOXELWISE_LOSSES + WHOLE_IMAGE_LOSSES
"""All that can be asked for by name."""

LOGIT_LOSSES = ("FocalLoss", "GeneralizedWassersteinDiceLoss", "NACLLoss")
"""Losses of MONAI that take logits without being told so."""


class _Flattened(nn.Module):
    """A loss of MONAI on voxels (1, C, n), which it gets as an image (1, C, n, 1, 1); images pass as they are."""

    def __init__(self, loss: nn.Module, softmax: bool) -> None:
        super().__init__()
        self.loss = loss
        self.softmax = softmax

    def forward(self, prediction: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        if prediction.ndim == 3:
            prediction, truth = prediction[..., None, None], truth[..., None, None]
        if isinstance(self.loss, monai.losses.NACLLoss):
            truth = truth[:, 0].long()
        return self.loss(prediction, truth)


def monai_loss(name: str, kind: str, options: dict[str, Any], place: str) -> tuple[nn.Module, bool]:
    """Build a loss of MONAI that takes a mask, and say whether it activates its input by itself.

    Its activation is set to suit the target unless the options say otherwise.

    Args:
        name: one of :data:`MONAI_LOSSES`.
        kind: "classes" or another.
        options: its arguments, but ``to_onehot_y`` and ``ignore_index``, which the caller takes care of.
        place: where the options come from, for messages.

    Raises:
        InvalidInputError: an option is not known or refused.
    """
    loss: type = getattr(monai.losses, name)
    known = [key for key in inspect.signature(loss).parameters if key not in ("to_onehot_y", "ignore_index")]
    for key in options:
        check_option(f"key of {place}", key, known)
    if options.get("reduction", "mean") not in ("mean", "sum"):
        raise InvalidInputError(f"{place}#reduction={options['reduction']!r}; expected 'mean' or 'sum'")
    settings = dict(options)
    activates = "sigmoid" in known
    if activates and not any(settings.get(key) for key in ("sigmoid", "softmax", "other_act")):
        settings["softmax" if kind == "classes" else "sigmoid"] = True
    if "use_softmax" in known:
        settings.setdefault("use_softmax", kind == "classes")
    if isinstance(settings.get("dist_matrix"), Sequence):
        settings["dist_matrix"] = torch.tensor(settings["dist_matrix"])
    return MaskedLoss(_Flattened(build_loss(loss, settings, place), kind == "classes")), activates


def build_loss(loss: type, settings: dict[str, Any], place: str) -> nn.Module:
    """Build a loss; ``place`` says in messages where the settings come from.

    Raises:
        InvalidInputError: it refuses the settings.
    """
    try:
        return loss(**settings)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{place}={settings}: {loss.__name__} refuses it ({error})") from error
