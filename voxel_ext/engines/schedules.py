"""Learning rate schedules by name."""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import torch
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from voxel_ext.errors import InvalidInputError, check_option

SCHEDULES = ("plateau", "cosine", "polynomial")
MODES = ("min", "max")


def build_lr_scheduler(
    name: str,
    optimizer: torch.optim.Optimizer,
    factor: float = 0.1,
    patience: int = 5,
    minimum: float = 1e-6,
    epochs: int = 100,
    warmup_epochs: int = 0,
    mode: str = "min",
    power: float = 0.9,
) -> Any:
    """Build a schedule of the learning rate that is stepped once per epoch.

    Args:
        name: "plateau" (torch's ``ReduceLROnPlateau``, stepped with the validation loss or metric), "cosine" or
            "polynomial" (linear increase over ``warmup_epochs``, then half a cosine wave, or (1 - progress)^power, that
            comes to ``minimum`` after the last of ``epochs``).
        optimizer: whose rate is scheduled.
        factor: of "plateau", the rate is multiplied by it.
        patience: of "plateau", epochs without improvement before that.
        minimum: the lowest rate.
        epochs: of "cosine" and "polynomial", the length of the training.
        warmup_epochs: of these.
        mode: of "plateau", "min" for a loss and "max" for a metric that should grow.
        power: of "polynomial"; 0.9 as in DeepLab and nnU-Net.

    Raises:
        InvalidInputError: unknown name or mode, a factor outside (0, 1), a lowest rate above the optimizer's, a
            warm-up not shorter than the training, or a power that is not positive.
    """
    check_option("lr_scheduler_name", name, SCHEDULES)
    rate = float(optimizer.param_groups[0]["lr"])
    if not 0 <= minimum <= rate:
        raise InvalidInputError(f"lr_scheduler_min={minimum!r} must be from 0 to the learning rate, {rate!r}")
    if name == "plateau":
        if not 0 < factor < 1:
            raise InvalidInputError(f"lr_scheduler_factor={factor!r} must be between 0 and 1")
        better = cast(Literal["min", "max"], check_option("mode", mode, MODES))
        return ReduceLROnPlateau(optimizer, better, factor=factor, patience=patience, min_lr=minimum)
    if not 0 <= warmup_epochs < epochs:
        raise InvalidInputError(f"warmup_epochs={warmup_epochs} must be 0 or more, and less than epochs={epochs}")
    if not power > 0:
        raise InvalidInputError(f"lr_scheduler_power={power!r} must be a positive number")
    lowest = minimum / rate

    def share(epoch: int) -> float:
        if epoch < warmup_epochs:
            return (epoch + 1) / (warmup_epochs + 1)
        progress = min((epoch - warmup_epochs) / (epochs - warmup_epochs), 1.0)
        left = (1 + math.cos(math.pi * progress)) / 2 if name == "cosine" else (1 - progress) ** power
        return lowest + (1 - lowest) * left

    return LambdaLR(optimizer, share)
