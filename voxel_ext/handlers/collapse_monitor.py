"""Watch whether the outputs of self-supervised learning collapse to a constant."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.utils import convert_to_tensor
from torch.nn import functional as F

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers.tensorboard_log import TensorBoardLog

logger = logging.getLogger(__name__)


def normalized_moments(outputs: torch.Tensor) -> torch.Tensor:
    """Return the sums of squared deviations of the normalized outputs u = z / |z| from their mean over the batch.

    Args:
        outputs: z, (B, d).

    Returns:
        (d,), in float64.

    Raises:
        InvalidInputError: the outputs are not (B, d).
    """
    if outputs.ndim != 2:
        raise InvalidInputError(f"the outputs have shape {tuple(outputs.shape)}; expected (B, d), one row an object")
    unit = F.normalize(outputs.detach().double(), dim=1)
    return (unit - unit.mean(dim=0)).square().sum(dim=0)


class CollapseMonitorHandler:
    """Compare the spread of normalized outputs with that of random directions, 1 / sqrt(d), in every epoch.

        std = mean over channels j of sqrt(v_j),   v_j = the variance of u_j within batches,   u = z / |z|

    It is about 1 / sqrt(d) for vectors in all directions and 0 for a constant (Chen and He 2021, "Exploring Simple
    Siamese Representation Learning", section 4.1). Metrics of the trainer, and TensorBoard: ``output_std``, and
    ``output_spread`` = sqrt(d) std, 1 for random directions. Deviations are from the mean of each batch (B - 1 degrees
    of freedom), so that a constant that drifts over the epoch counts as collapsed. A warning is logged in epochs whose
    spread is below the threshold.

    Args:
        keys: outputs (B, d) to watch, together.
        threshold: of ``output_spread``.
        log_dir: TensorBoard folder; None does not log there.
        pred_key: item of ``engine.state.output`` with the outputs by name.

    Raises:
        InvalidInputError: there are no keys, or the threshold is not in [0, 1).
    """

    def __init__(
        self,
        keys: Sequence[str] = ("z1", "z2"),
        threshold: float = 0.1,
        log_dir: str | os.PathLike[str] | None = None,
        pred_key: str = "pred",
    ) -> None:
        if isinstance(keys, str) or not keys:
            raise InvalidInputError(f"keys={keys!r} is not valid; expected a list of names, e.g. ['z1', 'z2']")
        if isinstance(threshold, bool) or not 0 <= threshold < 1:
            raise InvalidInputError(f"threshold={threshold!r} is not valid; expected a share in [0, 1)")
        self.keys = tuple(keys)
        self.threshold = threshold
        self.log = TensorBoardLog(log_dir)
        self.pred_key = pred_key
        self._sums: torch.Tensor | None = None
        self._freedom = 0

    def attach(self, engine: Engine) -> None:
        """Attach to a MONAI trainer or evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._log)
        self.log.attach(engine)

    def _start(self, _engine: Engine) -> None:
        self._sums, self._freedom = None, 0

    def _add(self, engine: Engine) -> None:
        for key in self.keys:
            outputs = self._read(engine.state.output, key)
            sums = normalized_moments(outputs)
            if self._sums is not None and len(self._sums) != len(sums):
                raise InvalidInputError(
                    f"the output {key!r} has {len(sums)} values and those before {len(self._sums)}; expected the same "
                    f"for all of keys={list(self.keys)}"
                )
            # summed on the device: reading every value would make a GPU wait in every iteration
            self._sums = sums if self._sums is None else self._sums + sums
            self._freedom += len(outputs) - 1

    def _read(self, output: Any, key: str) -> torch.Tensor:
        """Return an output (B, d) of an iteration, of a batch or decollated."""
        samples = output if isinstance(output, list) else [output]
        preds: list[Any] = [sample.get(self.pred_key) if isinstance(sample, Mapping) else None for sample in samples]
        for pred in preds:
            if not isinstance(pred, Mapping) or key not in pred:
                found = sorted(map(str, pred)) if isinstance(pred, Mapping) else type(pred).__name__
                raise InvalidInputError(
                    f"the engine's output has no {key!r} under {self.pred_key!r}; found {found}. Set keys to names of "
                    "the network's outputs"
                )
        tensors = [convert_to_tensor(pred[key], track_meta=False) for pred in preds]
        return torch.stack(tensors) if isinstance(output, list) else tensors[0]

    def _log(self, engine: Engine) -> None:
        freedom = int(idist.all_reduce(self._freedom))
        if self._sums is None or freedom < 1:
            raise InvalidInputError("no batch of this epoch had two objects; their spread needs at least two")
        sums = torch.as_tensor(idist.all_reduce(self._sums))
        std = float((sums / freedom).sqrt().mean())
        values = {"output_std": std, "output_spread": std * math.sqrt(len(sums))}
        engine.state.metrics.update(values)
        self.log.add(values, engine.state.epoch)
        if idist.get_rank() == 0 and not values["output_spread"] >= self.threshold:
            logger.warning(
                "epoch %d: the outputs have collapsed, or nearly: the standard deviation of the normalized outputs is "
                "%.2g, expected about 1/sqrt(%d) = %.2g; look at the learning rate, the stop-gradient and the batch "
                "norm of the projector",
                *(engine.state.epoch, std, len(sums), 1 / math.sqrt(len(sums))),
            )
