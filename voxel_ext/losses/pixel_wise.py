"""Cross entropy in which every voxel has its own weight."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.utils import convert_to_tensor
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from voxel_ext.errors import InvalidInputError, check_option


class PixelWiseCrossEntropyLoss(_Loss):
    """Cross entropy weighted by voxel, by class, and if wanted by channel of each voxel.

    With p = softmax(logits) over the classes c, t the target (soft, or one-hot by its class index), k the class
    weights, and w the weights of voxels v,

        total = -sum_v sum_c w(v, c) k(c) t(v, c) log p(v, c)

    ``"mean"`` divides it by the number of elements of the logits, B * C * voxels (as flavell-lab/pytorch-3dunet does,
    so that learning rates carry over), ``"weighted_mean"`` by sum_v sum_c w(v, c) k(c) t(v, c), which does not depend
    on the number of classes or on how many voxels have a label. A target of class indices is never expanded: the
    logarithms of p are the only new tensor of the size of the logits. All computations are in float32.

    A batch of voxels that all weigh 0 (a random patch without any label) gives 0 and a gradient of 0.

    Args:
        class_weights: one per class, at least 0; None for 1.
        ignore_index: class index of voxels that contribute nothing; in a soft target, a voxel that has this value in
            every channel. None for none. The ``"mean"`` counts these voxels in its denominator.
        reduction: ``"mean"`` or ``"weighted_mean"``.

    Raises:
        InvalidInputError: the reduction is not known, or a class weight is negative or not finite.
    """

    class_weights: torch.Tensor | None

    def __init__(
        self, class_weights: Sequence[float] | None = None, ignore_index: int | None = None, reduction: str = "mean"
    ) -> None:
        super().__init__()
        self.reduction = check_option("reduction", reduction, ("mean", "weighted_mean"))
        self.ignore_index = ignore_index
        self.register_buffer("class_weights", class_weight_tensor(class_weights), persistent=False)

    def forward(self, logits: torch.Tensor, target: Any, weight: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the loss.

        Args:
            logits: (B, C, D, H, W) or (B, C, H, W), before the softmax, of any floating type.
            target: class indices (B, D, H, W) or (B, 1, D, H, W) of any type, or a soft or one-hot target of the shape
                of the logits. Together with the weight, ``(target, weight)`` or ``{"label": …, "weight": …}``, since a
                MONAI trainer calls its loss with two arguments.
            weight: (B, D, H, W), (B, 1, D, H, W) or (B, C, D, H, W), at least 0; None for 1.

        Raises:
            InvalidInputError: a shape does not fit, a weight is negative or not finite, or the target has a value that
                is not a class index (or in a soft target, not in [0, 1]).
        """
        target, weight = split_target(target, weight)
        logits = convert_to_tensor(logits, track_meta=False).float()
        target = convert_to_tensor(target, track_meta=False).to(logits.device)
        _check_classes(logits, self.class_weights)
        if weight is not None:
            weight = voxel_weight(weight, logits)
        with torch.autocast(logits.device.type, enabled=False):
            if target.shape == logits.shape:
                return self._soft(logits, target.float(), weight)
            return self._indexed(logits, class_indices(target, logits, self.ignore_index), weight)

    def _indexed(self, logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        """Compute the loss for class indices (B, ...)."""
        ignored = IGNORED if self.ignore_index is None else self.ignore_index
        classes = None if self.class_weights is None else self.class_weights.to(logits.device)
        losses = F.cross_entropy(logits, target, weight=classes, ignore_index=ignored, reduction="none")
        kept = target != ignored
        if weight is not None:
            own = weight[:, 0] if weight.shape[1] == 1 else _pick(weight, target.where(kept, 0))
            losses = losses * own
        if self.reduction == "mean":
            return losses.sum() / logits.numel()
        factor = kept.float() if classes is None else classes[target.where(kept, 0)] * kept
        return _divide(losses.sum(), (factor if weight is None else factor * own).sum())

    def _soft(self, logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        """Compute the loss for a target of the shape of the logits."""
        if self.ignore_index is not None:
            target = target.masked_fill((target == self.ignore_index).all(1, keepdim=True), 0)
        low, high = torch.stack(torch.aminmax(target)).tolist()
        if not (low >= 0 and high <= 1):
            raise InvalidInputError(
                f"the soft target has values from {low:g} to {high:g}; expected probabilities from 0 to 1"
            )
        factor = target if weight is None else target * weight
        if self.class_weights is not None:
            factor = factor * self.class_weights.to(logits.device).view(-1, *[1] * (logits.ndim - 2))
        total = -(factor * F.log_softmax(logits, dim=1)).sum()
        return total / logits.numel() if self.reduction == "mean" else _divide(total, factor.sum())


# class index that stands for "no ignored class"; valid class indices are at least 0
IGNORED = -100


def split_target(target: Any, weight: Any = None) -> tuple[Any, Any]:
    """Take a target apart that may come together with the weight of its voxels.

    Args:
        target: the target alone, ``(target, weight)`` (a tuple or list), or a mapping with ``"label"`` and, if there
            are weights, ``"weight"``.
        weight: given on its own.

    Returns:
        Target and weight (None if there is none).

    Raises:
        InvalidInputError: there are two weights, or the target is a sequence of another length, or has no ``"label"``.
    """
    inner = None
    if isinstance(target, Mapping):
        if "label" not in target:
            raise InvalidInputError(f"the target is a mapping with the keys {sorted(target)}; expected 'label'")
        target, inner = target["label"], target.get("weight")
    elif isinstance(target, tuple | list):
        if len(target) not in (1, 2):
            raise InvalidInputError(f"the target is a sequence of {len(target)} items; expected (target, weight)")
        target, inner = target[0], target[1] if len(target) == 2 else None
    if inner is not None and weight is not None:
        raise InvalidInputError("weights were given twice, with the target and on their own; give them once")
    return target, weight if inner is None else inner


def class_weight_tensor(class_weights: Sequence[float] | torch.Tensor | None) -> torch.Tensor | None:
    """Return class weights as float32 (C,), or None.

    Raises:
        InvalidInputError: a weight is negative or not finite.
    """
    if class_weights is None:
        return None
    weights = torch.as_tensor(class_weights, dtype=torch.float32)
    if weights.ndim != 1 or not all(0 <= value < math.inf for value in weights.tolist()):
        raise InvalidInputError(f"class_weights={weights.tolist()} is not valid; expected one number >= 0 per class")
    return weights


def class_indices(target: torch.Tensor, logits: torch.Tensor, ignore_index: int | None) -> torch.Tensor:
    """Check a target of class indices.

    Args:
        target: (B, ...) or (B, 1, ...) of any type, whole numbers.
        logits: (B, C, ...).
        ignore_index: an index that need not be below C; None for none.

    Returns:
        (B, ...) int64.

    Raises:
        InvalidInputError: the shape does not fit the logits, or a value is not a class index; lists such values.
    """
    space = (len(logits), *logits.shape[2:])
    if tuple(target.shape) not in (space, (space[0], 1, *space[1:])):
        raise InvalidInputError(
            f"the target has shape {tuple(target.shape)} and the logits {tuple(logits.shape)}; expected class indices "
            f"{space} or {(space[0], 1, *space[1:])}, or a soft target of the shape of the logits"
        )
    indices = target.reshape(space).to(torch.int64)
    wrong = (indices < 0) | (indices >= logits.shape[1])
    if ignore_index is not None:
        wrong &= indices != ignore_index
    if target.is_floating_point():
        wrong |= indices != target.reshape(space)
    if wrong.any():
        values = torch.unique(target.reshape(space)[wrong])[:10].tolist()
        raise InvalidInputError(
            f"the target has the values {values}, which are not classes; the network gives {logits.shape[1]} classes, "
            f"expected integers from 0 to {logits.shape[1] - 1}"
            + ("" if ignore_index is None else f", or ignore_index={ignore_index}")
        )
    return indices


def voxel_weight(weight: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Check the weights of voxels.

    Args:
        weight: (B, ...), (B, 1, ...) or (B, C, ...).
        logits: (B, C, ...).

    Returns:
        (B, 1, ...) or (B, C, ...) float32, on the device of the logits.

    Raises:
        InvalidInputError: the shape does not fit the logits, or a weight is negative or not finite.
    """
    weight = convert_to_tensor(weight, track_meta=False).to(logits.device, torch.float32)
    one = (len(logits), 1, *logits.shape[2:])
    if weight.shape == (one[0], *one[2:]):
        weight = weight[:, None]
    if tuple(weight.shape) not in (one, tuple(logits.shape)):
        raise InvalidInputError(
            f"the weight has shape {tuple(weight.shape)} and the logits {tuple(logits.shape)}; expected "
            f"{(one[0], *one[2:])}, {one} or {tuple(logits.shape)}"
        )
    low, high = torch.stack(torch.aminmax(weight)).tolist()
    if not (low >= 0 and high < math.inf):
        raise InvalidInputError(
            f"the weight has values from {low:g} to {high:g}; expected finite numbers of at least 0, "
            "0 for voxels that do not count"
        )
    return weight


def _check_classes(logits: torch.Tensor, class_weights: torch.Tensor | None) -> None:
    if logits.ndim < 3 or logits.shape[1] < 2:
        raise InvalidInputError(
            f"the logits have shape {tuple(logits.shape)}; expected (batch, classes, spatial axes) with at least two "
            "classes, background included"
        )
    if class_weights is not None and len(class_weights) != logits.shape[1]:
        raise InvalidInputError(
            f"there are {len(class_weights)} class_weights for the {logits.shape[1]} classes of the logits; "
            "expected one per class"
        )


def _pick(weight: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Return the weight (B, ...) of each voxel's own channel, from (B, C, ...) and (B, ...)."""
    return weight.gather(1, index[:, None])[:, 0]


def _divide(total: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the weighted mean, 0 where nothing weighs anything."""
    return total / torch.where(weight > 0, weight, 1)
