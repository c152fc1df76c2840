"""The loss of one target of a multi-task network by name, over the voxels that count."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.losses.masked_functions import bce, bce_dice, cross_entropy, dice, l1, mse
from voxel_ext.losses.monai_by_name import (
    LOGIT_LOSSES,
    MONAI_LOSSES,
    VOXELWISE_LOSSES,
    WHOLE_IMAGE_LOSSES,
    build_loss,
    monai_loss,
)
from voxel_ext.losses.vector_field import LEAST_LENGTH, AngularLoss, MaskedCosineLoss
from voxel_ext.targets import INDEX_LOSSES, VECTOR_LOSSES, Target

OWN_LOSSES = {
    "mask": ("bce_dice", "bce", "dice", "mse", "l1"),
    "classes": ("cross_entropy", "dice"),
    "vectors": ("cosine", "angular", "mse", "l1"),
    "values": ("mse", "l1"),
}
"""Losses that are defined here, by what a target is."""


def check_loss(target: Target) -> None:
    """Check that a target's loss suits what the target is, ``Target.kind``.

    Raises:
        InvalidInputError: its loss is not known, or does not suit it; lists those that do.
    """
    name, kind = target.loss_name, target.kind
    known = dict.fromkeys([*(one for names in OWN_LOSSES.values() for one in names), *MONAI_LOSSES])
    check_option(f"targets#{target.name}#loss", name, known)
    suited = OWN_LOSSES[kind] + (() if kind == "vectors" else MONAI_LOSSES)
    if name not in suited or (kind == "classes" and target.activation == "sigmoid"):
        raise InvalidInputError(
            f"targets#{target.name}#loss={name!r} does not suit a target with activation {target.activation!r} "
            f"(taken as: {kind}); expected one of {', '.join(suited)}"
        )
    if (kind == "vectors" and target.channels != 3) or (kind == "classes" and target.channels < 2):
        raise InvalidInputError(
            f"targets#{target.name}#channels={target.channels}, but loss {name!r} needs "
            f"{'the 3 components of a vector' if kind == 'vectors' else 'a channel for each class, at least 2'}"
        )
    if kind == "vectors" and not target.oriented and name in ("mse", "l1"):
        raise InvalidInputError(
            f"targets#{target.name}#loss={name!r} compares signs, but the vectors have none (oriented=False); use "
            "'cosine' or 'angular'"
        )


class TaskLoss(nn.Module):
    """The loss of one target between its logits and its truth, where voxels can be left out.

    With p the activated logits and t the truth, over the voxels that count:

    - ``"bce"``: mean binary cross entropy; option ``positive_weight`` (1), of the voxels with target 1.
    - ``"dice"``: 1 - (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth), summed over batch and space, mean over
      channels; option ``smooth`` (1e-5, as nnU-Net).
    - ``"bce_dice"``: bce_weight * bce + dice_weight * dice; options ``bce_weight``, ``dice_weight`` (1 each),
      ``positive_weight``, ``smooth``.
    - ``"cross_entropy"``: torch's, of class indices; option ``class_weights``.
    - ``"mse"``, ``"l1"``: mean over voxels and channels.
    - ``"cosine"``, ``"angular"``: :class:`MaskedCosineLoss`, :class:`AngularLoss` (option ``degrees``).
    - a loss of MONAI by its name, with its arguments as options. Its ``sigmoid``, ``softmax`` or ``use_softmax`` is set
      to suit the target, and classes are expanded to one-hot. :data:`VOXELWISE_LOSSES` see only the voxels that count,
      as one sample, see :class:`MaskedLoss`; :data:`WHOLE_IMAGE_LOSSES` refuse a mask.

    Label smoothing s makes y(1 - s) + s/2 of masks and y(1 - s) + s/C of one-hot classes; vectors and values stay.

    Args:
        target: with its loss and the options of it.
        label_smoothing: s, in [0, 1).

    Raises:
        InvalidInputError: the loss is not known, does not suit the target or cannot be smoothed, or an option is wrong.
    """

    def __init__(self, target: Target, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.target = target
        self.name = target.loss_name
        check_loss(target)
        self.kind = target.kind
        self.smoothing = float(label_smoothing) if self.kind in ("mask", "classes") else 0.0
        self.maskable = self.name not in WHOLE_IMAGE_LOSSES
        self.options: dict[str, Any] = dict(target.loss_options)
        self.loss: nn.Module | None = None
        place = f"targets#{target.name}#loss_options"
        if self.name in MONAI_LOSSES:
            if self.smoothing and self.name in INDEX_LOSSES:
                raise InvalidInputError(f"targets#{target.name}#loss={self.name!r} cannot have label_smoothing")
            self.loss, self.activates = monai_loss(self.name, self.kind, self.options, place)
        elif self.kind == "vectors" and self.name in VECTOR_LOSSES:
            loss: type = MaskedCosineLoss if self.name == "cosine" else AngularLoss
            self.loss = build_loss(loss, {"oriented": target.oriented, **self.options}, place)
        else:
            for key in self.options:
                check_option(f"key of {place}", key, _option_names(_FUNCTIONS[self.name]))
            weights = self.options.get("class_weights")
            if weights is not None and len(weights) != target.channels:
                raise InvalidInputError(f"{place}#class_weights={weights}; expected {target.channels}, one per class")

    def forward(self, logits: torch.Tensor, truth: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the loss, in float32.

        Args:
            logits: (B, C, D, H, W) float32.
            truth: (B, C, D, H, W) float32, for classes (B, 1, D, H, W).
            kept: boolean (B, 1, D, H, W) or of the shape of the truth; None if all voxels count.

        Raises:
            InvalidInputError: a mask is not within [0, 1], a class index not within the classes, or the loss needs the
                whole image and voxels are left out.
        """
        if kept is not None:
            if not self.maskable:
                raise InvalidInputError(whole_image_message(self.target))
            logits, truth = torch.where(kept, logits, 0), torch.where(kept, truth, 0)
        self._check_values(truth)
        if self.kind == "vectors":
            return self._vector(logits, truth, kept)
        if self.loss is not None:
            return self._monai(logits, truth, kept)
        if self.kind == "classes" and self.name == "dice":
            truth = self._one_hot(truth)
        elif self.kind == "mask":
            truth = truth * (1 - self.smoothing) + self.smoothing / 2
        if self.name == "cross_entropy":
            return cross_entropy(logits, truth, kept, self.smoothing, **self.options)
        if self.name not in ("bce", "bce_dice"):
            logits = self._activated(logits)
        return _FUNCTIONS[self.name](logits, truth, kept, **self.options)

    def _vector(self, logits: torch.Tensor, truth: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        if self.loss is not None:
            return self.loss(logits, truth, kept)
        known = (truth != 0).any(1, keepdim=True)
        return _FUNCTIONS[self.name](
            self._activated(logits), truth, known if kept is None else known & kept, **self.options
        )

    def _monai(self, logits: torch.Tensor, truth: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        assert self.loss is not None
        if self.name not in LOGIT_LOSSES and not self.activates:
            logits = self._activated(logits)
        if self.kind == "classes" and self.name not in INDEX_LOSSES:
            truth = self._one_hot(truth)
        elif self.kind == "mask":
            truth = truth * (1 - self.smoothing) + self.smoothing / 2
        return self.loss.to(logits.device)(logits, truth, kept)

    def _activated(self, logits: torch.Tensor) -> torch.Tensor:
        if self.kind == "classes":
            return logits.softmax(1)
        # a mask without an activation is compared as logits by the default loss, so by every other one
        if self.kind == "mask":
            return logits.sigmoid()
        return F.normalize(logits, dim=1, eps=LEAST_LENGTH) if self.target.activation == "unit_norm" else logits

    def _one_hot(self, truth: torch.Tensor) -> torch.Tensor:
        classes = self.target.channels
        expanded = F.one_hot(truth[:, 0].long(), classes).movedim(-1, 1).float()
        return expanded * (1 - self.smoothing) + self.smoothing / classes

    def _check_values(self, truth: torch.Tensor) -> None:
        if self.kind not in ("mask", "classes") or not truth.numel():
            return
        low, high = torch.stack(torch.aminmax(truth)).tolist()
        most = 1 if self.kind == "mask" else self.target.channels - 1
        whole = self.kind == "mask" or bool((truth == truth.round()).all())
        if not (low >= 0 and high <= most and whole):
            expected = "0 for background and 1 for foreground" if self.kind == "mask" else f"classes from 0 to {most}"
            raise InvalidInputError(
                f"the target {self.target.name!r} has values from {low:g} to {high:g}; expected {expected}; a value "
                "that means 'not annotated' is given as ignore_label"
            )


def whole_image_message(target: Target) -> str:
    """Return why voxels cannot be left out of a target's loss."""
    return (
        f"targets#{target.name}#loss={target.loss_name!r} compares whole images, so voxels cannot be left out of it "
        "(ignore_label, loss_only_on_label, reference); expected one of "
        f"{', '.join(OWN_LOSSES[target.kind] + VOXELWISE_LOSSES)}"
    )


_FUNCTIONS: dict[str, Callable[..., torch.Tensor]] = {
    "bce": bce,
    "dice": dice,
    "bce_dice": bce_dice,
    "cross_entropy": cross_entropy,
    "mse": mse,
    "l1": l1,
}


def _option_names(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY]


def check_fraction(name: str, value: float) -> float:
    """Return a number in [0, 1).

    Raises:
        InvalidInputError: it is not.
    """
    if not (math.isfinite(value) and 0 <= value < 1):
        raise InvalidInputError(f"{name}={value!r} is not valid; expected a number from 0 to below 1")
    return float(value)
