"""Write the matches and the names of worms as CSV files and as an HTML report when an evaluator has completed."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from numpy.typing import NDArray

from voxel_ext.data.worm_pairs import opposite_roll
from voxel_ext.data.worm_tables import FoundCells, per_cell_rows, write_tables
from voxel_ext.engines.worm_matching import CellMatches, WormFeatures, match_worms
from voxel_ext.errors import InvalidInputError, check_counts
from voxel_ext.handlers.history import read_history
from voxel_ext.handlers.report_writer import check_report
from voxel_ext.handlers.worm_matching import WormMatchingHandler
from voxel_ext.visualize.report import write_report
from voxel_ext.visualize.worm_report import worm_sections

logger = logging.getLogger(__name__)


class WormReportHandler:
    """Write what a :class:`~voxel_ext.handlers.WormMatchingHandler` found, when its evaluator has completed.

    In ``output_dir``: ``pairs/<A>__<B>.csv`` for each pair of worms (one line per matched cell: its name and slot in
    both, cost, margin, whether it is right), ``pairs.csv`` (one line per pair), with references ``names/<worm>.csv``
    (one line per cell: slot, position, name, cost, margin, true name, whether it is right) and ``names.csv`` (one line
    per worm), ``per_cell.csv`` (accuracy of each cell and what it was confused with), and ``report.html``. A slot is
    ``Aligned_No`` - 1. In a distributed run the process of rank 0 writes.

    Args:
        matching: the handler that matches; it must be attached to the same evaluator.
        output_dir: the folder to write to.
        title: heading of the report.
        settings: what the report lists as settings; may be nested.
        history_file: of the training, for learning curves; see :class:`~voxel_ext.handlers.ReportHandler`.
        max_pairs: pairs that the report shows in 3D, from the worst to the best.
        write_csv: also write the CSV files.
        truth: whether the slots of the worms are true. If False, or where a name is empty or begins with "?", there
            are no accuracies and no columns about them.

    Raises:
        InvalidInputError: ``max_pairs`` is negative.
    """

    def __init__(
        self,
        matching: WormMatchingHandler,
        output_dir: str | os.PathLike[str],
        title: str = "Worm matching",
        settings: Mapping[str, Any] | None = None,
        history_file: str | os.PathLike[str] | None = None,
        max_pairs: int = 3,
        write_csv: bool = True,
        truth: bool = True,
    ) -> None:
        check_counts({}, max_pairs=max_pairs)
        self.matching = matching
        self.output_dir = Path(output_dir)
        self.title = title
        self.settings = settings
        self.history_file = history_file
        self.max_pairs = max_pairs
        self.write_csv = write_csv
        self.truth = truth

    def attach(self, engine: Engine) -> None:
        """Attach to the evaluator that the matching handler is attached to.

        Raises:
            InvalidInputError: ``output_dir`` cannot be written to.
            MissingDependencyError: a library that draws is not installed.
        """
        if idist.get_rank() == 0:
            check_report(self.output_dir / "report.html", "matplotlib", "plotly")
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _write(self, _engine: Engine) -> None:
        if idist.get_rank() > 0:
            return
        if not self.matching.worms:
            raise InvalidInputError("no worms were matched; attach the WormMatchingHandler to the same evaluator")
        pairs, namings = self._pairs(), self._namings()
        cells = per_cell_rows(self.matching.store.names, pairs, namings)
        if self.write_csv:
            write_tables(self.output_dir, pairs, namings, cells)
        figures, sections = worm_sections(pairs, namings, cells, self.max_pairs)
        write_report(
            self.output_dir / "report.html",
            self.title,
            settings=self.settings,
            history=read_history(self.history_file) if self.history_file is not None else (),
            metrics=figures,
            sections=sections,
        )
        logger.info("report: %s", self.output_dir / "report.html")

    def _pairs(self) -> list[FoundCells]:
        headers, worms = self.matching.store.headers, self.matching.worms
        result = []
        for (i, j), found in zip(self.matching.pairs(), self._matches(), strict=True):
            item = self._found(found, worms[i], worms[j].names, worms[j])
            if len(item.counted):
                item = dataclasses.replace(item, opposite=opposite_roll(headers[i].positions, headers[j].positions))
            result.append(item)
        return result

    def _matches(self) -> list[CellMatches]:
        """The matches of all pairs, in their order."""
        matching, pairs = self.matching, self.matching.pairs()
        if len(matching.matches) == len(pairs):
            return matching.matches
        # in a distributed run each process has matched some pairs, but all have the features of all worms; matching
        # again needs no message from processes that may lack this handler
        with torch.no_grad():
            worms = [(matching.worms[i], matching.worms[j]) for i, j in pairs]
            return [match_worms(first, second, matching.loss, matching.dummy_cost) for first, second in worms]

    def _namings(self) -> list[FoundCells]:
        names, worms = self.matching.store.names, self.matching.worms
        return [self._found(found, worms[i], names) for i, found in enumerate(self.matching.namings)]

    def _found(
        self, found: CellMatches, worm: WormFeatures, names: Sequence[str], other: WormFeatures | None = None
    ) -> FoundCells:
        present = np.zeros(len(names), dtype=bool)
        present[found.column_slots] = True
        return FoundCells(
            found.first,
            found.second,
            found.rows,
            found.columns,
            found.cost,
            found.margin,
            _positions(worm),
            worm.names,
            tuple(names),
            present,
            self.truth,
            None if other is None else _positions(other),
        )


def _positions(worm: WormFeatures) -> NDArray[np.float64]:
    return np.where(worm.valid.numpy()[:, None], worm.positions.double().numpy(), np.nan)
