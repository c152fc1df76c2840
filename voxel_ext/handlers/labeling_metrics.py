"""Accuracy of the names that an evaluator gave to the ROIs of its animals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ignite.distributed as idist
import torch.distributed
from ignite.engine import Engine, Events

from voxel_ext.errors import InvalidInputError
from voxel_ext.labeling import CellLabel, LabelingAccuracy, pooled_accuracy

Labeled = tuple[list[CellLabel], dict[int, str]]


class LabelingMetricsHandler:
    """Collect the labels of all animals, and add their accuracy to the metrics of the engine.

    With the prefix, and with ``_optimal`` at the end for the optimal assignment: ``accuracy`` (share of the ROIs of
    known cells that got exactly the right name; ``UNKNOWN`` is wrong), ``accuracy_lenient`` (of those with a name,
    where ``?`` and ``-alt`` may stand), ``labeled`` (share of the ROIs with a name). Where no truth is known, the
    accuracies are NaN. Attach it before the handlers that use the metrics.

    Args:
        prefix: of the metrics' names.
        key: item of ``engine.state.output`` with the :class:`~voxel_ext.visualize.LabeledAnimal`.

    Attributes:
        accuracy: :class:`~voxel_ext.labeling.LabelingAccuracy` of "greedy" and "optimal" after the run.
    """

    def __init__(self, prefix: str = "val_", key: str = "labeling") -> None:
        self.prefix = prefix
        self.key = key
        self.accuracy: dict[str, LabelingAccuracy] = {}
        self._labeled: dict[str, list[Labeled]] = {}

    def attach(self, engine: Engine) -> None:
        """Attach to a MONAI evaluator with a :class:`~voxel_ext.engines.LabelCellsd` in its postprocessing."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._compute)

    def _start(self, _engine: Engine) -> None:
        self._labeled = {"greedy": [], "optimal": []}

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        for sample in [output] if isinstance(output, Mapping) else output:
            if self.key not in sample:
                raise InvalidInputError(
                    f"the engine's output has no '{self.key}'; its keys are {sorted(map(str, sample))}. Add "
                    "LabelCellsd to the postprocessing"
                )
            animal = sample[self.key]
            for name, found in self._labeled.items():
                found.append((list(getattr(animal, name)), dict(animal.truth or {})))

    def _compute(self, engine: Engine) -> None:
        labeled = self._labeled
        if idist.get_world_size() > 1:
            parts: list[dict[str, list[Labeled]]] = [{} for _ in range(idist.get_world_size())]
            torch.distributed.all_gather_object(parts, labeled)
            labeled = {name: [pair for part in parts for pair in part[name]] for name in labeled}
        self.accuracy = {name: pooled_accuracy(pairs) for name, pairs in labeled.items()}
        for name, accuracy in self.accuracy.items():
            end = "" if name == "greedy" else f"_{name}"
            engine.state.metrics[f"{self.prefix}accuracy{end}"] = accuracy.found
            engine.state.metrics[f"{self.prefix}accuracy_lenient{end}"] = accuracy.lenient
            engine.state.metrics[f"{self.prefix}labeled{end}"] = accuracy.labeled / max(accuracy.rois, 1)
