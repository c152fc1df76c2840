"""Optimizers by name."""

from __future__ import annotations

import torch

from voxel_ext.errors import InvalidInputError, check_option

_OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}


def build_optimizer(
    name: str, network: torch.nn.Module, learning_rate: float = 1e-3, weight_decay: float = 0.0, **kwargs: float
) -> torch.optim.Optimizer:
    """Build a torch optimizer over all trainable parameters of ``network``.

    Args:
        name: ``"adam"``, ``"adamw"``, ``"rmsprop"`` or ``"sgd"``.
        network: the network to train.
        learning_rate: positive.
        weight_decay: L2 penalty (decoupled for ``"adamw"``), zero or positive.
        **kwargs: further arguments of the torch class, e.g. ``momentum``.

    Raises:
        InvalidInputError: unknown name (lists the valid ones), or a rate or decay out of range.
    """
    check_option("optimizer_name", name, _OPTIMIZERS)
    if not learning_rate > 0:
        raise InvalidInputError(f"learning_rate={learning_rate!r} must be a positive number")
    if not weight_decay >= 0:
        raise InvalidInputError(f"weight_decay={weight_decay!r} must be zero or a positive number")
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return _OPTIMIZERS[name](trainable, lr=learning_rate, weight_decay=weight_decay, **kwargs)
