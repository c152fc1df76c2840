"""Write the HTML report of an evaluation of a multi-task network."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine
from monai.utils import string_list_all_gather

from voxel_ext.errors import check_counts
from voxel_ext.handlers.report import _rows, _summary
from voxel_ext.handlers.report_writer import ReportWriter, output_samples
from voxel_ext.handlers.target_samples import TargetSamples, sample_name
from voxel_ext.targets import Target
from voxel_ext.visualize.angle_histogram import AngleHistogram
from voxel_ext.visualize.arrays import check_voxel_size
from voxel_ext.visualize.slice_walk import write_walk
from voxel_ext.visualize.surface_report import target_frames, write_surface_report

logger = logging.getLogger(__name__)


class SurfaceReportHandler(ReportWriter):
    """Collect volumes, metrics and angle errors of an evaluator, and write ``report.html`` when it has completed.

    Each sample of ``engine.state.output`` has the image (C, D, H, W), the predictions ``pred_<target>`` as
    :class:`~voxel_ext.transforms.ActivateTargetsd` gives them, and the truths: a mapping under ``label_key``, or under
    the targets' names; a target may have none. The angles of all volumes are counted, not only of those shown, in a
    distributed run of all processes; the process of rank 0 writes, and shows volumes that it has seen itself.

    Args:
        path: the file to write, usually ``report.html``; replaced whole at the end of every run of the engine.
        targets: the network's, as :func:`~voxel_ext.targets.read_targets` takes them.
        title: heading of the page.
        settings: what to list as settings, may be nested.
        history_file: JSON lines written during training, for the learning curves; see
            :class:`~voxel_ext.handlers.ReportHandler`.
        image_key: key of the image; its first channel is shown.
        label_key: key of the mapping of truths.
        prefix: of the keys of the predictions.
        max_volumes: how many volumes to show.
        max_size: the most voxels to show along each axis; of larger volumes the central box.
        ignore_label: value of masks and classes where nothing is known, drawn as background.
        voxel_size: µm along D, H, W; None: of each image's affine, in voxels where that says nothing.
        metric_details: list the metrics of each sample, from ``engine.state.metric_details``.
        pictures: also write ``<name>_<target>.gif``, the walks through the slices, beside the report.
        notes: sentences to put on top of the page.

    Raises:
        InvalidInputError: malformed targets, a negative ``max_volumes``, a ``max_size`` below 1, or a ``voxel_size``
            that is not three positive numbers.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        targets: Mapping[str, Mapping[str, Any] | Target],
        title: str = "Surfaces",
        settings: Mapping[str, Any] | None = None,
        history_file: str | os.PathLike[str] | None = None,
        image_key: str = "image",
        label_key: str = "label",
        prefix: str = "pred_",
        max_volumes: int = 2,
        max_size: int = 160,
        ignore_label: float | None = None,
        voxel_size: Sequence[float] | None = None,
        metric_details: bool = True,
        pictures: bool = False,
        notes: Sequence[str] = (),
    ) -> None:
        check_counts({"max_size": 1}, max_volumes=max_volumes, max_size=max_size)
        check_voxel_size(voxel_size, 3)
        super().__init__(path, title, settings, history_file, notes)
        self.samples = TargetSamples(targets, image_key, label_key, prefix, ignore_label, max_size, voxel_size)
        self.max_volumes, self.metric_details, self.pictures = max_volumes, metric_details, pictures
        self._start()

    def _start(self, _engine: Engine | None = None) -> None:
        targets = self.samples.targets
        self._volumes: list[dict[str, Any]] = []
        self._rows: list[dict[str, Any]] = []
        self._histograms = {
            name: AngleHistogram(target.oriented) for name, target in targets.items() if target.kind == "vectors"
        }

    def _collect(self, engine: Engine) -> None:
        for number, sample in enumerate(output_samples(engine)):
            name = sample_name(engine, number, sample, self.samples.image_key, f"volume {len(self._rows)}")
            taken = {row["name"] for row in self._rows}
            name = f"{name}_{len(self._rows)}" if name in taken else name
            self._rows.append({"name": name, **self._count_angles(sample, name)})
            if idist.get_rank() == 0 and len(self._volumes) < self.max_volumes:
                self._volumes.append(self.samples.volume(sample, name))

    def _count_angles(self, sample: Mapping[str, Any], name: str) -> dict[str, float]:
        """Add the angles of a sample to the histograms, and return its medians."""
        medians = {}
        for target, histogram in self._histograms.items():
            truth, prediction = self.samples.pair(sample, target, name)
            if truth is not None:
                medians[f"{target} median angle"] = histogram.add_vectors(
                    torch.as_tensor(prediction), torch.as_tensor(truth)
                )
        return medians

    def _write(self, engine: Engine) -> None:
        rows = self._rows
        if idist.get_world_size() > 1:
            rows = [json.loads(row) for row in string_list_all_gather([json.dumps(row) for row in rows])]
            for histogram in self._histograms.values():
                total = idist.all_reduce(histogram.to_tensor().to(idist.device()))
                histogram.take_tensor(torch.as_tensor(total))
        if idist.get_rank() == 0:
            details = getattr(engine.state, "metric_details", {}) if self.metric_details else {}
            write_surface_report(
                self.path,
                self._volumes,
                self.title,
                metrics=_summary(engine.state.metrics),
                metric_rows=self._metric_rows(details, rows) if self.metric_details else (),
                histograms=self._histograms,
                **self._listed(),
            )
            logger.info("report: %s", self.path)
            for volume in self._volumes if self.pictures else []:
                for target in volume["targets"]:
                    file = f"{volume['name']}_{target}.gif".replace("/", "_")
                    write_walk(self.path.parent / file, target_frames(volume, target))
        self._start()

    @staticmethod
    def _metric_rows(details: Mapping[str, Any], rows: Sequence[dict[str, Any]]) -> list[dict[str, object]]:
        """One row per sample: the metrics of the evaluator, and the medians of the angles."""
        found = _rows(details, [row["name"] for row in rows])
        if len(found) != len(rows):  # no metric keeps details
            return [dict(row) for row in rows] if any(len(row) > 1 for row in rows) else []
        return [metrics | row for metrics, row in zip(found, rows, strict=True)]
