"""Leave voxels, or the last channel of the target, out of any loss."""

from __future__ import annotations

from typing import Any

import torch
from monai.utils import convert_to_tensor
from torch import nn
from torch.nn.modules.loss import _Loss

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses.pixel_wise import class_indices, split_target, voxel_weight
from voxel_ext.losses.weighted import WeightedCrossEntropyLoss

# losses whose target is class indices without a channel
INDEX_LOSSES = (nn.CrossEntropyLoss, nn.NLLLoss, WeightedCrossEntropyLoss)


class MaskedLoss(_Loss):
    """Compute a loss from some of the voxels: the others contribute neither to its value nor to the gradient.

    The voxels that count are taken out of the batch into one sample without a spatial shape, (1, C, n), and the loss
    sees nothing else. So a mean over voxels is the mean over those n voxels, and the sums of a loss of the Dice family
    are sums over them; samples of a batch are joined, as by MONAI's ``batch=True``. Fits every loss that treats voxels
    alike and takes (B, C, n), as those of torch and MONAI's Dice, Tversky and focal losses do; not losses that look at
    neighborhoods. Multiplying by the mask instead would leave the voxels in every mean, and sigmoid(0) in Dice's sums.

    If the target has several channels that are ignored at different voxels, each channel is taken apart, (1, 1, n_c),
    and the losses are averaged with the weights n_c, which for means over elements is the mean over all that count.

    Without any voxel that counts, loss and gradient are 0.

    Args:
        loss: maps prediction and target to a scalar.
        ignore_index: value of the target where it does not count; None for none.
        skip_last_channel: remove the last channel of the target first, e.g. instance ids that only a metric needs.
    """

    def __init__(self, loss: nn.Module, ignore_index: float | None = None, skip_last_channel: bool = False) -> None:
        super().__init__()
        self.loss = loss
        self.ignore_index = ignore_index
        self.skip_last_channel = skip_last_channel

    def forward(self, prediction: torch.Tensor, target: Any, weight: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the loss, in float32.

        Args:
            prediction: (B, C, D, H, W) or (B, C, H, W).
            target: (B, C, ...), or for losses on class indices (B, 1, ...) or (B, ...). Together with the weight,
                ``(target, weight)`` or ``{"label": …, "weight": …}``.
            weight: (B, ...) or (B, 1, ...), at least 0, of which only counts where it is 0: such voxels are left out.

        Raises:
            InvalidInputError: a shape does not fit, the weight is negative or not finite, or channels are ignored at
                different voxels and the loss needs all channels of a voxel (softmax, class indices).
        """
        target, weight = split_target(target, weight)
        prediction = convert_to_tensor(prediction, track_meta=False).float()
        target = self._target(convert_to_tensor(target, track_meta=False).to(prediction.device), prediction)
        self.loss.to(prediction.device)  # class weights, which a config does not move
        with torch.autocast(prediction.device.type, enabled=False):
            if self.ignore_index is None and weight is None:
                return self.loss(prediction, target)
            return self._selected(prediction, target, self._kept(prediction, target, weight))

    def _target(self, target: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """Bring the target to the form that the loss takes."""
        if self.skip_last_channel:
            if target.ndim != prediction.ndim or target.shape[1] < 2:
                raise InvalidInputError(
                    f"skip_last_channel with a target of shape {tuple(target.shape)}; expected two channels or more"
                )
            target = target[:, :-1]
        space = (len(prediction), *prediction.shape[2:])
        if tuple(target.shape) == space:
            target = target[:, None]
        if (target.shape[0], *target.shape[2:]) != space or target.shape[1] not in (1, prediction.shape[1]):
            raise InvalidInputError(
                f"the target has shape {tuple(target.shape)} and the prediction {tuple(prediction.shape)}; expected "
                "the same batch and spatial axes, and as many channels as the prediction, or one"
            )
        if target.shape == prediction.shape:
            return target.to(prediction.dtype)
        if isinstance(self.loss, INDEX_LOSSES):
            index = None if self.ignore_index is None else int(self.ignore_index)
            return class_indices(target, prediction, index)
        return target.to(torch.int64) if not target.is_floating_point() else target

    def _kept(self, prediction: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        """Return the mask of what counts, (B, 1, ...), or (B, C, ...) if it differs between channels."""
        channels = target if target.ndim == prediction.ndim else target[:, None]
        kept = torch.ones_like(channels, dtype=torch.bool)
        if self.ignore_index is not None:
            kept = channels != self.ignore_index
        if weight is not None:
            kept = kept & (voxel_weight(weight, prediction) > 0)
        first = kept[:, :1]
        return first if kept.shape[1] == 1 or torch.equal(kept, first.expand_as(kept)) else kept

    def _selected(self, prediction: torch.Tensor, target: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Compute the loss of the voxels that count."""
        if not kept.any():
            return prediction[:, :, :0].sum()
        if kept.shape[1] == 1:
            return self.loss(_take(prediction, kept[:, 0]), _take(target, kept[:, 0]))
        if target.shape != prediction.shape or getattr(self.loss, "softmax", False):
            raise InvalidInputError(
                f"the channels of the target (ignore_index={self.ignore_index}) or of the weight count at different "
                f"voxels, but {type(self.loss).__name__} needs all channels of a voxel"
            )
        total = prediction.new_zeros(())
        for c in range(kept.shape[1]):
            mask, channel = kept[:, c], slice(c, c + 1)
            if count := int(mask.sum()):
                total = total + count * self.loss(_take(prediction[:, channel], mask), _take(target[:, channel], mask))
        return total / kept.sum()


def _take(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return (1, C, n) of values (B, C, ...), or (1, n) of values (B, ...), where the mask (B, ...) is true."""
    if values.ndim == mask.ndim:
        return values[mask][None]
    return values.movedim(1, -1)[mask].T[None]
