"""One row of figures per epoch, in a small text file beside the checkpoints."""

from __future__ import annotations

import json
import logging
import math
import os
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from voxel_ext.errors import InvalidInputError
from voxel_ext.files import atomic_path

logger = logging.getLogger(__name__)


def read_history(path: str | os.PathLike[str]) -> list[dict[str, float]]:
    """Read the rows that :class:`HistoryHandler` wrote, or an empty list where there is no such file.

    Raises:
        InvalidInputError: a line is not a JSON object of numbers; names the file and the line.
    """
    path = Path(path)
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidInputError(f"{path}, line {number}: not a row of a training history ({error})") from error
        if not isinstance(row, dict):
            raise InvalidInputError(f"{path}, line {number}: expected a JSON object, found {line[:60]!r}")
        rows.append(row)
    return rows


class HistoryHandler:
    """Record epoch, mean training loss, learning rate, epoch seconds and the validator's metrics of every epoch.

    Attach it to the trainer after the ``ValidationHandler``. Rows are kept in a JSON-lines file that is rewritten
    atomically; in a checkpoint (``state_dict``) they let a resumed run continue the same curve.

    Args:
        path: the file to write, e.g. ``models/history.jsonl``.
        optimizer: whose learning rate at the start of each epoch is recorded, and left in the trainer's state as
            ``learning_rate``.
        validator: the validation engine; its metrics are recorded in the epochs in which it ran.
        loss_key: key of the loss in the trainer's output.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        optimizer: torch.optim.Optimizer | None = None,
        validator: Engine | None = None,
        loss_key: str = "loss",
    ) -> None:
        self.path = Path(path)
        self.optimizer = optimizer
        self.validator = validator
        self.loss_key = loss_key
        self.rows: list[dict[str, float]] = []
        self._validated = False
        self._sum: torch.Tensor | float = 0.0
        self._count = 0

    def attach(self, engine: Engine) -> None:
        """Attach to a MONAI trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add_loss)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish_epoch)
        if self.validator is not None:
            self.validator.add_event_handler(Events.COMPLETED, self._note_validation)

    def state_dict(self) -> dict[str, Any]:
        """Return the rows written so far."""
        return {"rows": list(self.rows)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after the rows of ``state``.

        Raises:
            InvalidInputError: they are none.
        """
        rows = list(state["rows"])
        if not all(isinstance(row, dict) for row in rows):
            raise InvalidInputError(f"the history has rows that are no mappings: {str(rows)[:60]}")
        self.rows = rows

    def _start_epoch(self, engine: Engine) -> None:
        self._sum, self._count, self._validated = 0.0, 0, False
        if self.optimizer is not None:  # before a schedule sets that of the next epoch
            engine.state.learning_rate = float(self.optimizer.param_groups[0]["lr"])  # type: ignore[attr-defined]

    def _add_loss(self, engine: Engine) -> None:
        output: Any = engine.state.output
        first = output[0] if isinstance(output, list) else output
        # summed on the device: reading every value would make a GPU wait in every iteration
        self._sum = self._sum + torch.as_tensor(first[self.loss_key]).detach().float()
        self._count += 1

    def _note_validation(self, engine: Engine) -> None:
        self._validated = True

    def _finish_epoch(self, engine: Engine) -> None:
        total, count = torch.as_tensor(idist.all_reduce(torch.tensor([float(self._sum), self._count]))).tolist()
        row: dict[str, float] = {"epoch": engine.state.epoch, "train_loss": total / max(count, 1.0)}
        if self.optimizer is not None:
            row["learning_rate"] = engine.state.learning_rate  # type: ignore[attr-defined]
        row["seconds"] = round(float(engine.state.times.get(Events.EPOCH_COMPLETED.name) or 0.0), 3)
        if self.validator is not None and self._validated:
            row |= {name: float(value) for name, value in self.validator.state.metrics.items()}
        self.rows.append(row)
        if idist.get_rank() == 0:
            with atomic_path(self.path) as temporary:
                # NaN is no JSON number: the curve has a gap there
                lines = [json.dumps({k: v for k, v in r.items() if math.isfinite(v)}) for r in self.rows]
                temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
            logger.info("epoch %d: %s", row["epoch"], ", ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "epoch"))
