"""Write the HTML report of an evaluation of a multi-task network."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import decollate_batch
from monai.utils import string_list_all_gather

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers.history import read_history
from voxel_ext.handlers.report import _array, _compact_image, _name, _rows, _spacing, _summary, check_report
from voxel_ext.targets import Target, read_targets
from voxel_ext.visualize.angle_histogram import AngleHistogram
from voxel_ext.visualize.arrays import check_voxel_size
from voxel_ext.visualize.slice_walk import write_walk
from voxel_ext.visualize.surface_report import target_frames, write_surface_report
from voxel_ext.visualize.target_fields import ShownTarget, central_box, shown_prediction, shown_truth

logger = logging.getLogger(__name__)


class SurfaceReportHandler:
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
        if max_volumes < 0:
            raise InvalidInputError(f"max_volumes={max_volumes}, expected 0 or more")
        if max_size < 1:
            raise InvalidInputError(f"max_size={max_size}, expected at least 1")
        check_voxel_size(voxel_size, 3)
        self.path, self.title, self.settings, self.history_file = Path(path), title, settings, history_file
        self.samples = TargetSamples(targets, image_key, label_key, prefix, ignore_label, max_size, voxel_size)
        self.max_volumes, self.metric_details, self.pictures = max_volumes, metric_details, pictures
        self.notes = notes
        self._start()

    def attach(self, engine: Engine) -> None:
        """Add the handler to an evaluator.

        Args:
            engine: a MONAI evaluator, or an Ignite engine whose ``state.output`` holds the same.

        Raises:
            InvalidInputError: the report could not be written where it is asked for.
            MissingDependencyError: a library that draws is not installed.
        """
        if idist.get_rank() == 0:
            check_report(self.path, "matplotlib", "plotly", "PIL")
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._write)

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
                settings=self.settings,
                history=read_history(self.history_file) if self.history_file is not None else (),
                metrics=_summary(engine.state.metrics),
                metric_rows=self._metric_rows(details, rows) if self.metric_details else (),
                histograms=self._histograms,
                notes=self.notes,
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


class TargetSamples:
    """Images, truths and predictions from the output of an evaluator of a multi-task network.

    Args:
        targets: the network's.
        image_key: key of the image.
        label_key: key of the mapping of truths; where a sample has none, the truths are under the targets' names.
        prefix: of the keys of the predictions.
        ignore_label: value of masks and classes where nothing is known.
        max_size: the most voxels along each axis of what is shown.
        voxel_size: µm along D, H, W; None for that of the image's affine.

    Raises:
        InvalidInputError: malformed targets.
    """

    def __init__(
        self,
        targets: Mapping[str, Mapping[str, Any] | Target],
        image_key: str = "image",
        label_key: str = "label",
        prefix: str = "pred_",
        ignore_label: float | None = None,
        max_size: int = 160,
        voxel_size: Sequence[float] | None = None,
    ) -> None:
        self.targets = read_targets(targets)
        self.image_key, self.label_key, self.prefix = image_key, label_key, prefix
        self.ignore_label, self.max_size, self.voxel_size = ignore_label, max_size, voxel_size

    def pair(self, sample: Mapping[str, Any], target: str, name: str) -> tuple[Any, Any]:
        """Return truth, or None, and prediction of a target.

        Args:
            sample: of the engine's output.
            target: its name.
            name: of the sample, for messages.

        Raises:
            InvalidInputError: the image or the prediction is missing, or a shape does not fit the image.
        """
        label = sample.get(self.label_key)
        truth = label.get(target) if isinstance(label, Mapping) else sample.get(target)
        key = f"{self.prefix}{target}"
        for needed in (self.image_key, key):
            if sample.get(needed) is None:
                raise InvalidInputError(f"the output has no {needed!r}; it has {sorted(map(str, sample))}")
        size = tuple(sample[self.image_key].shape[1:])
        for what, array in (("truth", truth), ("prediction", sample[key])):
            if array is not None and tuple(array.shape[1:]) != size:
                raise InvalidInputError(
                    f"the {what} of target {target!r} has shape {tuple(array.shape)}, but the image of {name!r} has "
                    f"{tuple(sample[self.image_key].shape)}; expected the same size"
                )
        return truth, sample[key]

    def volume(self, sample: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Return what is shown of a sample, as ``write_surface_report`` takes it.

        Args:
            sample: of the engine's output.
            name: of it.

        Raises:
            InvalidInputError: something is missing, has another shape than (C, D, H, W), or is not finite.
        """
        pairs = {target: self.pair(sample, target, name) for target in self.targets}
        image = sample[self.image_key]
        if image.ndim != 4:
            raise InvalidInputError(f"the image of {name!r} has shape {tuple(image.shape)}, expected (C, D, H, W)")
        box = (slice(None), *central_box(image.shape[1:], self.max_size))
        volume: dict[str, Any] = {"name": name, "targets": {}}
        for key, (truth, prediction) in pairs.items():
            target = self.targets[key]
            volume["targets"][key] = ShownTarget(
                target,
                None if truth is None else shown_truth(target, _array(truth[box]), self.ignore_label),
                shown_prediction(target, _array(prediction[box])),
            )
        volume["image"] = _compact_image(image[box], f"the image of {name!r}")
        volume["voxel_size"] = _spacing(image, 3) if self.voxel_size is None else self.voxel_size
        if volume["image"].shape != tuple(image.shape[1:]):
            volume["extent"] = f"the center of {' × '.join(map(str, image.shape[1:]))}"
        return volume


def output_samples(engine: Engine) -> Sequence[Mapping[str, Any]]:
    """Return the samples of an engine's output, taken apart if they are still a batch."""
    output: Any = engine.state.output
    return decollate_batch(output, detach=True) if isinstance(output, Mapping) else output


def sample_name(engine: Engine, number: int, sample: Mapping[str, Any], image_key: str, default: str) -> str:
    """Name a sample: by its ``name`` in the batch, with its ``position`` if that is not 0, else by its image's file.

    Args:
        engine: whose batch and output it is of.
        number: of the sample in the batch.
        sample: of the output.
        image_key: key of its image.
        default: where nothing tells a name.
    """
    batch: Any = engine.state.batch
    item: Any = batch[number] if isinstance(batch, Sequence) and number < len(batch) else batch
    if not isinstance(item, Mapping) or "name" not in item:
        return _name(sample[image_key], default) if image_key in sample else default
    name, position = item["name"], item.get("position")
    if not isinstance(name, str):  # a batch that was not taken apart
        name, position = name[number], None if position is None else position[number]
    start = [] if position is None else [int(one) for one in np.asarray(_array(position)).ravel()]
    return f"{name} at {', '.join(map(str, start))}" if any(start) else str(name)
