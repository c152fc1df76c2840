"""Dice loss that weights the voxels just outside the true objects."""

from __future__ import annotations

import torch
from torch.nn import functional
from torch.nn.modules.loss import _Loss

from voxel_ext.errors import InvalidInputError

MAX_POOL = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}


def outer_boundary(mask: torch.Tensor, thickness: int = 1) -> torch.Tensor:
    """Find the shell of background voxels within ``thickness`` steps of the foreground.

    It is the dilation by the cross (faces as neighbors: 4 in 2D, 6 in 3D), applied ``thickness`` times, without the
    mask itself. Batch and channels are kept apart, and nothing wraps around at the border.

    Args:
        mask: (B, C, D, H, W), (B, C, H, W) or (B, C, W), foreground where above 0.5.
        thickness: number of dilations, in voxels.

    Returns:
        Boolean tensor of the mask's shape, on its device.
    """
    dims = mask.ndim - 2
    foreground = mask > 0.5
    dilated = foreground.float()
    for _ in range(thickness):
        pooled = []
        for axis in range(dims):
            kernel = [3 if other == axis else 1 for other in range(dims)]
            padding = [1 if other == axis else 0 for other in range(dims)]
            pooled.append(MAX_POOL[dims](dilated, kernel, stride=1, padding=padding))
        dilated = torch.stack(pooled).amax(dim=0)
    return (dilated > 0.5) & ~foreground


class BoundaryWeightedDiceLoss(_Loss):
    """Soft Dice loss whose sums weight the outer boundary of the truth.

    With p = sigmoid(logits), t the truth, and w = ``boundary_weight`` on the shell given by :func:`outer_boundary` and
    1 elsewhere,

        loss = 1 - (2 sum(w p t) + 1) / (sum(w p) + sum(w t) + 1)

    summed over batch and space for each channel and averaged over channels. With ``boundary_weight`` 1 it is the Dice
    loss.

    Args:
        boundary_weight: weight of a shell voxel (10, the default of the original's class).
        thickness: thickness of the shell in voxels.

    Raises:
        InvalidInputError: the weight is not positive, or the thickness is not an integer of at least 1.
    """

    def __init__(self, boundary_weight: float = 10.0, thickness: int = 1) -> None:
        super().__init__()
        if not boundary_weight > 0:
            raise InvalidInputError(f"boundary_weight={boundary_weight!r} is not valid; expected a number above 0")
        if isinstance(thickness, bool) or not isinstance(thickness, int) or thickness < 1:
            raise InvalidInputError(f"boundary thickness={thickness!r} is not valid; expected an integer of at least 1")
        self.boundary_weight = float(boundary_weight)
        self.thickness = thickness

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Compute the loss.

        Args:
            logits: (B, C, ...) before the sigmoid.
            target: (B, C, ...), 1 in the foreground, 0 elsewhere.
        """
        probability, target = torch.sigmoid(logits.float()), target.float()
        shell = outer_boundary(target, self.thickness)
        weight = torch.where(shell, self.boundary_weight, 1.0)
        axes = [0, *range(2, logits.ndim)]
        overlap = (weight * probability * target).sum(axes)
        total = (weight * probability).sum(axes) + (weight * target).sum(axes)
        return (1 - (2 * overlap + 1) / (total + 1)).mean()
