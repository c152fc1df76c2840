"""Tell a loss which epoch it is."""

from __future__ import annotations

import os
from typing import Any

from ignite.engine import Engine, Events

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers.tensorboard_log import TensorBoardLog


class LossEpochHandler:
    """Set the epochs done in a loss with a warm-up, at the start of every epoch, and log the weight that follows.

    The weight is the metric ``current_beta`` of the trainer, also in TensorBoard. It depends on the number of the epoch
    alone, so that a resumed training goes on where it was.

    Args:
        loss: with a method ``set_epoch`` and an attribute ``current_beta``, as :class:`~voxel_ext.losses.VAELoss`.
        log_dir: TensorBoard folder; None does not log there.

    Raises:
        InvalidInputError: the loss lacks one of them.
    """

    def __init__(self, loss: Any, log_dir: str | os.PathLike[str] | None = None) -> None:
        if not callable(getattr(loss, "set_epoch", None)) or not hasattr(loss, "current_beta"):
            raise InvalidInputError(
                f"{type(loss).__name__} has no set_epoch, or no current_beta; expected a loss such as VAELoss"
            )
        self.loss = loss
        self.log = TensorBoardLog(log_dir)

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)
        self.log.attach(engine)

    def __call__(self, engine: Engine) -> None:
        """Set the number of epochs done: 0 in the first."""
        self.loss.set_epoch(engine.state.epoch - 1)
        engine.state.metrics["current_beta"] = self.loss.current_beta
        self.log.add({"current_beta": self.loss.current_beta}, engine.state.epoch)
