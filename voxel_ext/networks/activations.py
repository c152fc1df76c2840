"""What is applied to logits to get predictions."""

from __future__ import annotations

import torch

from voxel_ext.errors import check_option
from voxel_ext.targets import ACTIVATION_NAMES as ACTIVATIONS


def activate(logits: torch.Tensor, activation: str) -> torch.Tensor:
    """Turn logits into predictions, in float32.

    Args:
        logits: (B, C, D, H, W), or (B, C, H, W).
        activation: "none", "sigmoid", "softmax" over the channels, or "unit_norm": vectors of length 1 over the
            channels (of length 0 where the logits are all 0).

    Returns:
        the same shape, float32.

    Raises:
        InvalidInputError: another activation.
    """
    check_option("activation", activation, ACTIVATIONS)
    values = logits.float()
    if activation == "sigmoid":
        return torch.sigmoid(values)
    if activation == "softmax":
        return torch.softmax(values, 1)
    if activation == "unit_norm":
        return torch.nn.functional.normalize(values, dim=1, eps=1e-12)
    return values
