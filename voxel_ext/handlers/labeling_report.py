"""Write the HTML report about labeled animals when an evaluator has completed."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import torch.distributed
from ignite.engine import Engine

from voxel_ext.errors import InvalidInputError, check_counts
from voxel_ext.handlers.report import _summary
from voxel_ext.handlers.report_writer import ReportWriter
from voxel_ext.visualize.labeled_projection import LabeledAnimal
from voxel_ext.visualize.labeling_report import labeling_report

logger = logging.getLogger(__name__)


class LabelingReportHandler(ReportWriter):
    """Collect the labeled animals of an evaluator, and write a report when it has completed.

    Each sample of ``engine.state.output`` has a :class:`~voxel_ext.visualize.labeled_projection.LabeledAnimal` under
    ``key``. All animals are counted, those of all processes of a distributed run; the process of rank 0 writes, and
    shows animals that it has seen itself.

    Args:
        path: the file to write, usually ``report.html``; replaced whole at the end of every run of the engine.
        title: heading of the page.
        settings: what to list as settings, may be nested.
        history_file: JSON lines written during training, for the learning curves; see
            :class:`~voxel_ext.handlers.ReportHandler`.
        max_animals: how many animals to show in pictures.
        key: where the samples have their labeled animal.
        notes: sentences to put on top of the page.

    Raises:
        InvalidInputError: ``max_animals`` is negative.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        title: str = "Cell labeling",
        settings: Mapping[str, Any] | None = None,
        history_file: str | os.PathLike[str] | None = None,
        max_animals: int = 3,
        key: str = "labeling",
        notes: Sequence[str] = (),
    ) -> None:
        check_counts({}, max_animals=max_animals)
        super().__init__(path, title, settings, history_file, notes)
        self.max_animals = max_animals
        self.key = key
        self._start()

    def _start(self, _engine: Engine | None = None) -> None:
        self._animals: list[LabeledAnimal] = []

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        samples = [output] if isinstance(output, Mapping) else output
        for sample in samples:
            if self.key not in sample:
                raise InvalidInputError(
                    f"the engine's output has no {self.key!r}; its keys are {sorted(map(str, sample))}. "
                    "Set the key of the LabelingReportHandler"
                )
            found = sample[self.key]
            # a batch that was not decollated has a list
            for animal in [found] if isinstance(found, LabeledAnimal) else found:
                if not isinstance(animal, LabeledAnimal):
                    raise InvalidInputError(
                        f"{self.key!r} of the engine's output has a {type(animal).__name__}, expected a LabeledAnimal"
                    )
                shown = idist.get_rank() == 0 and len(self._animals) < self.max_animals
                self._animals.append(animal if shown else _without_volumes(animal))

    def _write(self, engine: Engine) -> None:
        shown = min(self.max_animals, len(self._animals))
        animals = self._gathered()
        if idist.get_rank() == 0:
            labeling_report(
                self.path,
                animals,
                self.title,
                metrics={key: value for key, value in _summary(engine.state.metrics).items() if not _is_counted(key)},
                max_animals=shown,
                **self._listed(),
            )
            logger.info("report: %s", self.path)
        self._animals = []

    def _gathered(self) -> list[LabeledAnimal]:
        """The animals of this process, and after them those of the others without their volumes."""
        if idist.get_world_size() == 1:
            return self._animals
        parts: list[Any] = [None] * idist.get_world_size()
        torch.distributed.all_gather_object(parts, [_without_volumes(animal) for animal in self._animals])
        others = (part for rank, part in enumerate(parts) if rank != idist.get_rank())
        return self._animals + [animal for part in others for animal in part]


def _without_volumes(animal: LabeledAnimal) -> LabeledAnimal:
    """The same animal with a single voxel, where only its labels count."""
    corner = (slice(1), slice(1), slice(1))
    return dataclasses.replace(animal, image=animal.image[(slice(None), *corner)].copy(), roi=animal.roi[corner].copy())


def _is_counted(name: str) -> bool:
    """Whether a metric is one of ``LabelingMetricsHandler``, which the page has already."""
    return any(part in name for part in ("accuracy", "labeled"))
