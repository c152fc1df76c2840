"""Optimizers by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from voxel_ext.errors import InvalidInputError, check_option

_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
    "nesterov": functools.partial(torch.optim.SGD, momentum=0.99, nesterov=True),
}


def build_optimizer(
    name: str,
    network: torch.nn.Module,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    undecayed: torch.nn.Module | None = None,
    **kwargs: float,
) -> torch.optim.Optimizer:
    """Build a torch optimizer over all trainable parameters of ``network``.

    Args:
        name: ``"adam"``, ``"adamw"``, ``"rmsprop"``, ``"sgd"``, or ``"nesterov"``: SGD with a Nesterov momentum of
            0.99, as in nnU-Net (Isensee et al. 2021).
        network: the network to train.
        learning_rate: positive.
        weight_decay: L2 penalty (decoupled for ``"adamw"``), zero or positive.
        undecayed: whose parameters are trained as well, without weight decay, such as a loss with learned weights.
        **kwargs: further arguments of the torch class, e.g. ``momentum``.

    Raises:
        InvalidInputError: unknown name (lists the valid ones), or a rate or decay out of range.
    """
    check_option("optimizer_name", name, _OPTIMIZERS)
    if not learning_rate > 0:
        raise InvalidInputError(f"learning_rate={learning_rate!r} must be a positive number")
    if not weight_decay >= 0:
        raise InvalidInputError(f"weight_decay={weight_decay!r} must be zero or a positive number")
    groups: list[dict[str, Any]] = [{"params": _trainable(network)}]
    if undecayed is not None and _trainable(undecayed):
        groups.append({"params": _trainable(undecayed), "weight_decay": 0.0})
    return _OPTIMIZERS[name](groups, lr=learning_rate, weight_decay=weight_decay, **kwargs)


def _trainable(module: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
