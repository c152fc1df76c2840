"""Log the parts of a loss that is a sum."""

from __future__ import annotations

import os
from typing import Any

import torch
from ignite.engine import Engine, Events

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers.tensorboard_log import TensorBoardLog


class LossPartsHandler:
    """Log the mean of each part of a loss over every epoch to TensorBoard, and keep it in the trainer's metrics.

    Args:
        loss: with an attribute ``last_parts``, a mapping from names to scalars of the latest call, as
            :class:`~voxel_ext.losses.MultiTaskLoss` has it.
        log_dir: TensorBoard folder; None does not log.

    Raises:
        InvalidInputError: the loss has no such attribute.
    """

    def __init__(self, loss: Any, log_dir: str | os.PathLike[str] | None = None) -> None:
        if not hasattr(loss, "last_parts"):
            raise InvalidInputError(f"{type(loss).__name__} has no last_parts; expected a loss such as MultiTaskLoss")
        self.loss = loss
        self.log = TensorBoardLog(log_dir)
        self._sums: dict[str, torch.Tensor] = {}
        self._count = 0

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._log)
        self.log.attach(engine)

    def _start(self, _engine: Engine) -> None:
        self._sums, self._count = {}, 0

    def _add(self, _engine: Engine) -> None:
        for name, value in self.loss.last_parts.items():
            # summed on the device: reading every value would make a GPU wait in every iteration
            part = torch.as_tensor(value).detach().double()
            self._sums[name] = self._sums[name] + part if name in self._sums else part
        self._count += 1

    def _log(self, engine: Engine) -> None:
        means = {f"train_{name}_loss": float(total) / self._count for name, total in self._sums.items()}
        engine.state.metrics.update(means)
        self.log.add(means, engine.state.epoch)
