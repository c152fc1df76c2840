"""Clip the gradients, and log what they are."""

from __future__ import annotations

import os
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers.tensorboard_log import TensorBoardLog


class GradientHandler:
    """Clip the norm of the gradients before every optimizer step, and log it to TensorBoard.

    Logged each iteration: ``gradient_norm`` before clipping and, for a loss that has it, ``gradient_share``, the share
    of the rows of the cost matrix with a gradient (see :class:`~voxel_ext.losses.LinearAssignmentLoss`).

    Args:
        network: whose gradients.
        max_norm: largest norm over all parameters; None to leave them as they are.
        loss: with an attribute ``last_gradient_share``, or any other.
        log_dir: TensorBoard folder; None does not log.
        histograms: log a histogram of each parameter's gradient every this many iterations; 0 for never.

    Raises:
        InvalidInputError: ``max_norm`` is not positive.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        max_norm: float | None = 1.0,
        loss: Any = None,
        log_dir: str | os.PathLike[str] | None = None,
        histograms: int = 0,
    ) -> None:
        if max_norm is not None and not max_norm > 0:
            raise InvalidInputError(f"gradient_clip={max_norm!r} must be a positive number, or null for no clipping")
        self.network = network
        self.max_norm = max_norm
        self.loss = loss
        self.log = TensorBoardLog(log_dir)
        self.histograms = histograms

    def attach(self, engine: Engine) -> None:
        """Attach to a MONAI trainer."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)
        self.log.attach(engine)

    def __call__(self, engine: Any) -> None:
        """Clip and log; gradients that AMP has scaled are unscaled first. Nothing while gradients are accumulated."""
        if not _steps_now(engine):
            return
        if getattr(engine, "scaler", None) is not None:
            engine.scaler.unscale_(engine.optimizer)
        gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.max_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.network.parameters(), self.max_norm, norm)
        writer, step = self.log.writer(), engine.state.iteration
        if writer is None:
            return
        writer.add_scalar("gradient_norm", float(norm), step)
        share = getattr(self.loss, "last_gradient_share", None)
        if share is not None:
            writer.add_scalar("gradient_share", share, step)
        if self.histograms and step % self.histograms == 0:
            for name, parameter in self.network.named_parameters():
                if parameter.grad is not None:
                    writer.add_histogram(f"gradient/{name}", parameter.grad, step)


def _steps_now(engine: Any) -> bool:
    """Whether a MONAI trainer makes a step of the optimizer in this iteration."""
    every = getattr(engine, "accumulation_steps", 1)
    length = getattr(engine.state, "epoch_length", None)
    if length is None:
        return engine.state.iteration % every == 0
    number = (engine.state.iteration - 1) % length + 1
    return number % every == 0 or number == length
