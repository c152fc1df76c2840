"""The loss of a multi-task network: the weighted sum over its targets."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from monai.utils import convert_to_tensor
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.losses.task_losses import TaskLoss, check_fraction, whole_image_message
from voxel_ext.losses.task_weighting import GradientNormalization, UncertaintyWeighting
from voxel_ext.targets import Target, read_targets

logger = logging.getLogger(__name__)

WEIGHTINGS = ("fixed", "uncertainty", "gradient_norm")
"""How the losses of the targets are weighted."""


class MultiTaskLoss(_Loss):
    """Sum of weight x loss over the targets of a multi-task network, in float32.

    Voxels that count, for each target: not equal to ``ignore_label`` (masks, classes and values, by channel), not a
    zero vector (vectors), not ignored in all channels of ``reference``, and with ``loss_only_on_label`` labeled, i.e.
    with a channel that is neither 0 nor ignored, in ``reference`` or else in the target itself. A mask restricted to
    its own label has no background left and learns only to be 1; then give the ``reference`` of another target, or
    ignore what is not annotated by ``ignore_label``. If no voxel counts, loss and gradient are 0.

    Deep supervision: logits ``"{name}_level{k}"`` (k = 1, 2, ...) are compared with the truth and the counted voxels
    resized to them (nearest), and a target's loss is the weighted sum over its levels, k = 0 the full size.

    Args:
        targets: by name, see :func:`~voxel_ext.targets.read_targets`; ``loss`` and ``loss_options`` as in
            :class:`~voxel_ext.losses.task_losses.TaskLoss`.
        ignore_label: value in masks, classes and values of voxels that do not count; None for none.
        loss_only_on_label: leave out voxels without a label.
        label_smoothing: s, in [0, 1): masks become y(1 - s) + s/2, classes y(1 - s) + s/C.
        reference: the target whose labeled and ignored voxels hold for all targets; None: each its own.
        weighting: ``"fixed"``: the targets' weights; ``"uncertainty"``: :class:`UncertaintyWeighting`, whose parameters
            the optimizer needs; ``"gradient_norm"``: :class:`GradientNormalization`, which needs :meth:`set_shared`; or
            a module called as ``module(parts, weights)`` that has ``factors(weights)``.
        deep_supervision_weights: of the levels 0, 1, ...; None for 1 / 2^k divided by their sum (Isensee et al. 2021,
            nnU-Net). Without other levels, as in evaluation, they are not used.

    Attributes:
        last_parts: the loss of each target in the last call, without its weight, detached scalars; reading them by
            ``float`` waits for the device, having them does not.
        last_weights: the effective weight of each target in the last call, likewise.

    Raises:
        InvalidInputError: a target, its loss or its options are not valid, the loss of a target cannot leave out voxels
            but has to, ``reference`` is not a target, or a number is out of range.
    """

    def __init__(
        self,
        targets: Mapping[str, Mapping[str, Any] | Target],
        ignore_label: float | None = None,
        loss_only_on_label: bool = False,
        label_smoothing: float = 0.0,
        reference: str | None = None,
        weighting: str | nn.Module = "fixed",
        deep_supervision_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.targets = read_targets(targets)
        if ignore_label is not None and not math.isfinite(ignore_label):
            raise InvalidInputError(f"ignore_label={ignore_label!r} is not valid; expected a finite number, or none")
        self.ignore_label = ignore_label
        self.loss_only_on_label = loss_only_on_label
        self.reference = None if reference is None else check_option("reference", reference, self.targets)
        smoothing = check_fraction("label_smoothing", label_smoothing)
        # no ModuleDict, which refuses names such as "keys"
        self.task_losses = nn.ModuleList(TaskLoss(target, smoothing) for target in self.targets.values())
        self.level_weights = _level_weights(deep_supervision_weights)
        self.weighting = self._weighting(weighting)
        self.last_parts: dict[str, torch.Tensor] = {}
        self.last_weights: dict[str, torch.Tensor] = {}
        self._check_masks()

    def set_shared(self, parameters: Iterable[torch.Tensor]) -> None:
        """Set the parameters at which ``weighting="gradient_norm"`` compares gradients; nothing to do for the others.

        Args:
            parameters: shared by all targets, best of one layer, e.g. the last of the encoder.

        Raises:
            InvalidInputError: none of them needs a gradient.
        """
        if isinstance(self.weighting, GradientNormalization):
            self.weighting.set_shared(parameters)

    def forward(self, pred: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Compute the total.

        Args:
            pred: logits by name, (B, C, D, H, W), and of deep supervision ``"{name}_level{k}"``.
            target: truth by name, (B, C, D, H, W), for classes (B, 1, D, H, W); other keys are not used.

        Returns:
            a scalar.

        Raises:
            InvalidInputError: a key is missing, a shape does not fit, or a value is not one of the target's; names it.
        """
        truths = {name: self._truth(name, pred, target) for name in self.targets}
        device = next(iter(truths.values())).device
        with torch.autocast(device.type, enabled=False):
            restriction = self._restriction(truths)
            parts = {name: self._part(name, pred, truth, restriction) for name, truth in truths.items()}
            weights = {name: float(one.weight) for name, one in self.targets.items()}
            total = self._total(parts, weights)
        self.last_parts = {name: part.detach() for name, part in parts.items()}
        return total

    def loss_of(self, name: str) -> TaskLoss:
        """Return the loss of one target."""
        loss = self.task_losses[list(self.targets).index(name)]
        assert isinstance(loss, TaskLoss)
        return loss

    def _total(self, parts: dict[str, torch.Tensor], weights: dict[str, float]) -> torch.Tensor:
        if self.weighting is None:
            self.last_weights = {name: torch.tensor(weight) for name, weight in weights.items()}
            return torch.stack([weights[name] * part for name, part in parts.items()]).sum()
        weighting: Any = self.weighting
        total = weighting(parts, weights)
        self.last_weights = {name: one.detach() for name, one in weighting.factors(weights).items()}
        return total

    def _part(
        self, name: str, pred: Mapping[str, torch.Tensor], truth: torch.Tensor, restriction: torch.Tensor | None
    ) -> torch.Tensor:
        """Compute the loss of one target over its levels."""
        kept = self._kept(name, truth, restriction)
        levels = [pred[name]]
        while f"{name}_level{len(levels)}" in pred:
            levels.append(pred[f"{name}_level{len(levels)}"])
        loss, terms = self.loss_of(name), []
        for level, weight in enumerate(self._weights_of(name, len(levels))):
            logits = convert_to_tensor(levels[level], track_meta=False).float()
            key = f"{name}_level{level}" if level else name
            if logits.ndim != truth.ndim or logits.shape[:2] != (len(truth), self.targets[name].channels):
                raise InvalidInputError(
                    f"the prediction {key!r} has shape {tuple(logits.shape)}; expected batch {len(truth)}, "
                    f"{self.targets[name].channels} channels and {truth.ndim - 2} spatial axes"
                )
            size = logits.shape[2:]
            terms.append(weight * loss(logits, _resize(truth, size), _resize(kept, size)))
        return torch.stack(terms).sum()

    def _weights_of(self, name: str, levels: int) -> list[float]:
        if levels == 1:
            return [1.0]
        if self.level_weights is None:
            return [2.0**-k / (2 - 2.0 ** (1 - levels)) for k in range(levels)]
        if len(self.level_weights) != levels:
            raise InvalidInputError(
                f"there are {len(self.level_weights)} deep_supervision_weights {self.level_weights}, but the network "
                f"gave {levels} levels of {name!r}, the full size included; give one weight per level"
            )
        return self.level_weights

    def _restriction(self, truths: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """Return the voxels that the reference lets count for all targets, (B, 1, ...)."""
        if self.reference is None:
            return None
        truth = truths[self.reference]
        if self.loss_only_on_label:
            return self._labeled(self.reference, truth)
        ignored = self._ignored(self.reference, truth)
        return None if ignored is None else ~ignored.all(1, keepdim=True)

    def _kept(self, name: str, truth: torch.Tensor, restriction: torch.Tensor | None) -> torch.Tensor | None:
        """Return the elements of a target that count, (B, C, ...) or (B, 1, ...); None for all."""
        ignored = self._ignored(name, truth)
        kept = restriction
        if kept is None and self.loss_only_on_label:
            kept = self._labeled(name, truth)
        if ignored is None:
            return kept
        return ~ignored if kept is None else kept & ~ignored

    def _ignored(self, name: str, truth: torch.Tensor) -> torch.Tensor | None:
        if self.ignore_label is None or self.loss_of(name).kind == "vectors":
            return None
        return truth == self.ignore_label

    def _labeled(self, name: str, truth: torch.Tensor) -> torch.Tensor:
        labeled, ignored = truth != 0, self._ignored(name, truth)
        return (labeled if ignored is None else labeled & ~ignored).any(1, keepdim=True)

    def _truth(self, name: str, pred: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the truth of a target, float32 on the device of its prediction, or refuse it."""
        for what, mapping in (("prediction", pred), ("target", target)):
            if not isinstance(mapping, Mapping) or name not in mapping:
                found = sorted(map(str, mapping)) if isinstance(mapping, Mapping) else type(mapping).__name__
                raise InvalidInputError(f"the {what} of {name!r} is missing; found {found}")
        logits, truth = pred[name], convert_to_tensor(target[name], track_meta=False)
        channels = self.targets[name].channels
        indexed = self.loss_of(name).kind == "classes"
        expected = (len(logits), 1 if indexed else channels, *logits.shape[2:])
        if logits.ndim < 3 or logits.shape[1] != channels or tuple(truth.shape) != expected:
            raise InvalidInputError(
                f"the prediction of {name!r} has shape {tuple(logits.shape)} and the target {tuple(truth.shape)}; "
                f"expected {channels} channels in the prediction and "
                f"{'class indices in one channel' if indexed else f'{channels} channels'} in the target, and the same "
                "batch and spatial axes"
            )
        return truth.to(logits.device, torch.float32)

    def _weighting(self, weighting: str | nn.Module) -> nn.Module | None:
        if isinstance(weighting, nn.Module):
            return weighting
        check_option("weighting", weighting, WEIGHTINGS)
        if weighting == "fixed":
            return None
        return (UncertaintyWeighting if weighting == "uncertainty" else GradientNormalization)(list(self.targets))

    def _check_masks(self) -> None:
        """Refuse losses that cannot leave out voxels, and warn of masks without background."""
        for name, target in self.targets.items():
            loss = self.loss_of(name)
            leaves_out = self.loss_only_on_label or self.ignore_label is not None
            if leaves_out and not loss.maskable:
                raise InvalidInputError(whole_image_message(target))
            only_ones = loss.kind == "mask" and target.channels == 1 and self.reference in (None, name)
            if self.loss_only_on_label and only_ones:
                logger.warning(
                    "loss_only_on_label leaves only foreground in the loss of %r, which learns to be 1 everywhere; "
                    "give another target as reference, or use ignore_label for what is not annotated",
                    name,
                )


def _resize(values: Any, size: torch.Size) -> Any:
    """Resize (B, C, ...) to a spatial size, nearest; None stays None."""
    if values is None or values.shape[2:] == size:
        return values
    return F.interpolate(values.float(), tuple(size), mode="nearest-exact").to(values.dtype)


def _level_weights(weights: Sequence[float] | None) -> list[float] | None:
    if weights is None:
        return None
    if not weights or not all(0 <= weight < math.inf for weight in weights):
        raise InvalidInputError(
            f"deep_supervision_weights={list(weights)} is not valid; expected numbers of at least 0, from full size on"
        )
    return [float(weight) for weight in weights]
