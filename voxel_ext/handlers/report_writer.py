"""What the handlers that write a report have in common: where it goes, when they collect, and what every page lists."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.data import decollate_batch

from voxel_ext.errors import InvalidInputError, require
from voxel_ext.handlers.history import read_history
from voxel_ext.visualize import write_report
from voxel_ext.workflow import check_writable

logger = logging.getLogger(__name__)


class ReportWriter(ABC):
    """Base of the handlers that collect during a run of an evaluator, and write a report when it has completed.

    Args:
        path: the file to write; replaced whole at the end of every run of the engine.
        title: heading of the page.
        settings: what to list as settings, may be nested.
        history_file: JSON lines written during training, for the learning curves; none if None or not there.
        notes: sentences to put on top of the page.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        title: str,
        settings: Mapping[str, Any] | None,
        history_file: str | os.PathLike[str] | None,
        notes: Sequence[str],
    ) -> None:
        self.path = Path(path)
        self.title = title
        self.settings = settings
        self.history_file = history_file
        self.notes = notes

    def attach(self, engine: Engine) -> None:
        """Add the handler to an evaluator.

        Args:
            engine: a MONAI evaluator, or an Ignite engine whose ``state.output`` holds the same.

        Raises:
            InvalidInputError: the report could not be written where it is asked for.
            MissingDependencyError: a library that draws is not installed.
        """
        if idist.get_rank() == 0:
            check_report(self.path, *self._libraries())
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _libraries(self) -> tuple[str, ...]:
        """Modules that draw the report."""
        return ("matplotlib", "plotly", "PIL")

    @abstractmethod
    def _start(self, _engine: Engine | None = None) -> None:
        """Forget what was collected."""

    @abstractmethod
    def _collect(self, engine: Engine) -> None:
        """Keep what the report needs of an iteration."""

    @abstractmethod
    def _write(self, engine: Engine) -> None:
        """Write the report."""

    def _publish(self, engine: Engine, sections: Sequence[tuple[str, str]]) -> None:
        """Write the page: the metrics, the sections and what every page lists; then forget what was collected."""
        write_report(
            self.path,
            self.title,
            metrics={name: float(value) for name, value in engine.state.metrics.items()},
            sections=sections,
            **self._listed(),
        )
        logger.info("report: %s", self.path)
        self._start()

    def _listed(self) -> dict[str, Any]:
        """Arguments of every page: settings, learning curves and notes."""
        history = () if self.history_file is None else read_history(self.history_file)
        return {"settings": self.settings, "history": history, "notes": self.notes}


def check_report(path: Path, *libraries: str) -> None:
    """Check, before any long work, that a report can be drawn and written.

    Args:
        path: the file to write.
        libraries: modules that draw it.

    Raises:
        InvalidInputError: the file is a folder, or its folder cannot be written to.
        MissingDependencyError: a library is not installed.
    """
    if path.is_dir():
        raise InvalidInputError(f"the report cannot be written to {path}: it is a folder; give a file")
    check_writable(path.parent)
    for library in libraries:
        require(library, extra="viz")


def output_samples(engine: Engine) -> Sequence[Mapping[str, Any]]:
    """Return the samples of an engine's output, taken apart if they are still a batch."""
    output: Any = engine.state.output
    return decollate_batch(output, detach=True) if isinstance(output, Mapping) else output
