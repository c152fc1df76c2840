"""Write numbers to TensorBoard from the first process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events


class TensorBoardLog:
    """A folder of TensorBoard, opened by the process of rank 0 when there is something to write.

    Args:
        log_dir: the folder; None to write nothing.
    """

    def __init__(self, log_dir: str | os.PathLike[str] | None) -> None:
        self.log_dir = log_dir
        self._writer: Any = None

    def attach(self, engine: Engine) -> None:
        """Close the folder when an engine has completed."""
        engine.add_event_handler(Events.COMPLETED, self._close)

    def writer(self) -> Any:
        """Return the ``torch.utils.tensorboard.SummaryWriter``, or None where nothing is to be written."""
        if self.log_dir is None or idist.get_rank() > 0:
            return None
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(self.log_dir)
        return self._writer

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Write numbers by name.

        Args:
            values: the numbers.
            step: the epoch, or the iteration, that they are of.
        """
        writer = self.writer()
        if writer is not None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

    def _close(self, _engine: Engine) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
