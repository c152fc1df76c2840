"""Write a report that shows what an autoencoder makes of some point clouds."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import ignite.distributed as idist
import torch
from ignite.engine import Engine
from monai.networks.utils import eval_mode

from voxel_ext.data.object_classes import class_label
from voxel_ext.errors import check_counts
from voxel_ext.handlers.object_features import batch_column, batch_value, predicted
from voxel_ext.handlers.report_writer import ReportWriter
from voxel_ext.handlers.reservoir import Reservoir
from voxel_ext.losses import ChamferLoss
from voxel_ext.visualize.point_clouds import CloudPair, cloud_pairs, cloud_path

STEPS = 6
"""Clouds on the way from one object to another."""


class _Kept(NamedTuple):
    pair: CloudPair
    code: torch.Tensor


class PointCloudReportHandler(ReportWriter):
    """Keep some objects of an evaluator, drawn at random, and write ``report.html`` when it has completed.

    The page has the learning curves, the metrics, the settings, the clouds beside their reconstructions, and the way
    between the two kept objects whose codes are farthest apart. The evaluator must not decollate; its network gives
    ``reconstruction`` (B, R, 3) and ``latent`` (B, L).

    Args:
        path: the file to write; replaced whole at the end of every run of the engine, by the process of rank 0.
        decode: from codes (B, L) to clouds (B, R, 3), ``network.decode``.
        title: heading of the page.
        settings: what to list as settings, may be nested.
        history_file: that of the training; no curves if None or if there is no such file.
        class_names: of the classes 0, 1, ...; None where they have no names, or are not known.
        max_objects: how many objects to show; 0 for none.
        notes: sentences to put on top of the page.

    Raises:
        InvalidInputError: ``max_objects`` is negative.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        decode: Callable[[torch.Tensor], torch.Tensor],
        title: str = "Report",
        settings: Mapping[str, Any] | None = None,
        history_file: str | os.PathLike[str] | None = None,
        class_names: Sequence[str] | None = None,
        max_objects: int = 12,
        notes: Sequence[str] = (),
    ) -> None:
        check_counts({}, max_report_objects=max_objects)
        super().__init__(path, title, settings, history_file, notes)
        self.decode = decode
        self.class_names = class_names
        self.max_objects = max_objects
        self._start()

    def _libraries(self) -> tuple[str, ...]:
        return ("matplotlib",)

    def _start(self, _engine: Engine | None = None) -> None:
        self._kept: Reservoir[_Kept] = Reservoir(self.max_objects)

    def _collect(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        for index in range(len(batch_column(batch, "id"))):
            self._kept.offer(partial(self._take, engine, batch, index))

    def _take(self, engine: Engine, batch: Any, index: int) -> _Kept:
        points = batch_value(batch, "points")[index].detach().float().cpu()
        made = predicted(engine, "reconstruction")[index].detach().float().cpu()
        distance = float(ChamferLoss(squared=False, weights=(0.5, 0.5))(made[None], points[None]))
        lines = [f"object {int(batch_column(batch, 'id')[index])}"]
        if "class" in batch:
            lines.append(class_label(int(batch_column(batch, "class")[index]), self.class_names))
        lines.append(f"distance {distance:.3f}")
        code = predicted(engine, "latent")[index].detach().float()
        return _Kept(CloudPair("\n".join(filter(None, lines)), points.numpy(), made.numpy()), code)

    def _write(self, engine: Engine) -> None:
        if idist.get_rank() != 0:
            return
        sections = [("Objects", cloud_pairs([kept.pair for kept in self._kept]))] if self._kept else []
        if len(self._kept) > 1:
            sections.append(("Between two codes", self._path(engine)))
        self._publish(engine, sections)

    def _path(self, engine: Engine) -> str:
        """Draw the way between the two codes that are farthest apart."""
        codes = torch.stack([kept.code for kept in self._kept])
        first, last = divmod(int(torch.cdist(codes, codes).argmax()), len(codes))
        share = torch.linspace(0, 1, STEPS, device=codes.device)[:, None]
        way = torch.lerp(codes[first], codes[last], share)
        network: Any = getattr(engine, "network", None)
        with torch.no_grad(), eval_mode(*([network] if isinstance(network, torch.nn.Module) else [])):
            clouds = self.decode(way).float().cpu().numpy()
        names = [self._kept[index].pair.name.rsplit("\n", 1)[0] for index in (first, last)]
        return cloud_path(list(clouds), names[0], names[1])
