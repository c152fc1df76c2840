"""Write a report that shows what an autoencoder makes of some cells."""

from __future__ import annotations

import html
import io
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine
from monai.utils import CommonKeys
from numpy.typing import NDArray

from voxel_ext.data.worm_store import WormStore
from voxel_ext.errors import check_counts, require
from voxel_ext.handlers.report_writer import ReportWriter
from voxel_ext.handlers.reservoir import Reservoir
from voxel_ext.visualize import colors
from voxel_ext.visualize.viewer import data_url

_COLUMNS = ("input", "target", "reconstruction", "difference")


class ReconstructionReportHandler(ReportWriter):
    """Keep some cells of an evaluator, drawn at random, and write ``report.html`` when it has completed.

    The page has the learning curves, the metrics, the settings, and per cell the middle slices (XY, and YZ beside it)
    of input, target, reconstruction, and reconstruction minus target. The evaluator must not decollate.

    Args:
        path: the file to write; replaced whole at the end of every run of the engine, by the process of rank 0.
        store: the worms that the evaluator's :class:`~voxel_ext.data.WormCellDataset` reads, for the cells' names.
        title: heading of the page.
        settings: what to list as settings, may be nested.
        history_file: that of the training; no curves if None or if there is no such file.
        max_cells: how many cells to show; 0 for none.
        notes: sentences to put on top of the page.

    Raises:
        InvalidInputError: ``max_cells`` is negative.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        store: WormStore,
        title: str = "Report",
        settings: Mapping[str, Any] | None = None,
        history_file: str | os.PathLike[str] | None = None,
        max_cells: int = 8,
        notes: Sequence[str] = (),
    ) -> None:
        check_counts({}, max_report_cells=max_cells)
        super().__init__(path, title, settings, history_file, notes)
        self.store = store
        self.max_cells = max_cells
        self._start()

    def _libraries(self) -> tuple[str, ...]:
        return ("matplotlib", "PIL")

    def _start(self, _engine: Engine | None = None) -> None:
        self._kept: Reservoir[tuple[str, list[NDArray[np.float32]]]] = Reservoir(self.max_cells)

    def _collect(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        for row, (number, slot) in enumerate(zip(batch["worm"].tolist(), batch["cell"].tolist(), strict=True)):
            self._kept.offer(partial(self._take, engine.state.output, row, number, slot))

    def _take(self, output: Any, row: int, number: int, slot: int) -> tuple[str, list[NDArray[np.float32]]]:
        """The name of a cell, and its pictures."""
        header = self.store.headers[number]
        name = f"{header.worm}, {header.names[slot] or f'cell {slot + 1}'}"
        return name, [_slices(output[key][row]) for key in (CommonKeys.IMAGE, CommonKeys.LABEL, CommonKeys.PRED)]

    def _write(self, engine: Engine) -> None:
        if idist.get_rank() != 0:
            return
        sections = [("Cells", _picture(self._kept))] if self._kept else []
        self._publish(engine, sections)


def _slices(cube: torch.Tensor) -> NDArray[np.float32]:
    """The middle slices XY and YZ of the first channel (D, H, W), side by side; NaN between them."""
    array = cube[0].detach().float().cpu().numpy()
    first, second = array[array.shape[0] // 2], array[:, :, array.shape[2] // 2].T
    rows = min(len(first), len(second))
    gap = np.full((rows, 1), np.nan, np.float32)
    return np.concatenate([first[:rows], gap, second[:rows]], axis=1)


def _picture(cells: Sequence[tuple[str, list[NDArray[np.float32]]]]) -> str:
    """One row per cell."""
    figure_type: Any = require("matplotlib.figure", extra="viz").Figure
    agg: Any = require("matplotlib.backends.backend_agg", extra="viz").FigureCanvasAgg
    figure = figure_type(figsize=(11, 1.45 * len(cells) + 0.4), dpi=100, layout="constrained", facecolor="none")
    agg(figure)
    axes = figure.subplots(len(cells), len(_COLUMNS), squeeze=False)
    for row, (name, (image, target, predicted)) in enumerate(cells):
        low, high = (float(np.nanpercentile(target, share)) for share in (0.5, 99.8))
        reach = max(high - low, 1e-6)
        for column, picture in enumerate((image, target, predicted, predicted - target)):
            panel = axes[row, column]
            last = column == len(_COLUMNS) - 1
            limits = (-reach, reach) if last else (low, low + reach)
            panel.imshow(
                picture, cmap="RdBu_r" if last else "gray", vmin=limits[0], vmax=limits[1], interpolation="nearest"
            )
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
            if row == 0:
                panel.set_title(_COLUMNS[column], color=colors.NEUTRAL, fontsize=10)
        axes[row, 0].set_ylabel(name.replace(", ", "\n"), color=colors.NEUTRAL, fontsize=8, parse_math=False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    alternative = html.escape("; ".join(name for name, _ in cells), quote=True)
    return (
        f'<figure class="overlays"><img src="{data_url(stream.getvalue(), "png")}" alt="Slices of {alternative}">'
        "<figcaption>Middle slices XY and, beside them, YZ. Red: the reconstruction is brighter than the target; "
        "blue: darker.</figcaption></figure>"
    )
