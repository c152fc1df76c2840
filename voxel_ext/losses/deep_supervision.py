"""One loss over several predictions of the same truth."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses import DeepSupervisionLoss
from torch.nn.modules.loss import _Loss

from voxel_ext.errors import InvalidInputError


class DeepSupervisedLoss(DeepSupervisionLoss):
    """Mean, or weighted sum, of a loss over the score maps of a network with intermediate supervision.

    MONAI's ``DeepSupervisionLoss`` with other weights: without ``weights`` its loss is a sum that grows with the number
    of maps and favors the first, and weights of the wrong length are dropped in silence. Here the default is the mean
    (Newell et al. 2016, arXiv:1603.06937, supervise all stacks alike), and a wrong length is an error.

    Args:
        loss: maps logits and target (B, C, ...) to a scalar.
        weights: one per map, first to last; None for the mean over the maps.
    """

    def __init__(self, loss: _Loss, weights: Sequence[float] | None = None) -> None:
        super().__init__(loss, weights=None if weights is None else [float(weight) for weight in weights])

    def get_weights(self, levels: int = 1) -> list[float]:
        """Return the weight of each of ``levels`` maps.

        Raises:
            InvalidInputError: there are no maps, or another number of weights than maps.
        """
        if levels < 1:
            raise InvalidInputError("the network returned an empty list of score maps; expected at least one")
        if self.weights is None:
            return [1.0 / levels] * levels
        if len(self.weights) != levels:
            raise InvalidInputError(
                f"{len(self.weights)} weights {self.weights} were given for {levels} score maps; "
                "give one weight per map (num_stacks), or none for the mean"
            )
        return self.weights

    def forward(self, input: torch.Tensor | list[torch.Tensor] | None, target: torch.Tensor) -> torch.Tensor:
        """Compute the loss, in float32.

        Args:
            input: logits (B, C, ...), for the plain loss without weights, or a list or tuple of them. A map of another
                spatial size than the target is compared with the target resized to it (nearest).
            target: (B, C, ...), 1 in the foreground, 0 elsewhere.

        Raises:
            InvalidInputError: as :meth:`get_weights`.
        """
        return super().forward(input, target.float())
