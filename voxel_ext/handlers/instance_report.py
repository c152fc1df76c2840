"""Write the HTML report of an evaluation or an inference whose results are instances."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine
from monai.utils import string_list_all_gather

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers.report import ReportHandler, _array
from voxel_ext.handlers.report_writer import output_samples
from voxel_ext.visualize.instances import instance_section, instance_sizes


class InstanceReportHandler(ReportHandler):
    """A :class:`~voxel_ext.handlers.ReportHandler` for instance ids.

    Each predicted instance has its own color, the same in the slices and in the 3D view, where its id appears at the
    pointer; true instances are white outlines. A further section has the number of instances and the distribution of
    their sizes over all volumes, also those that are not shown, of all processes of a distributed run.

    Args:
        path: the file to write, usually ``report.html``; replaced whole at the end of every run of the engine.
        title: heading of the page.
        settings: what to list as settings, may be nested.
        history_file: JSON lines written during training, for the learning curves; see
            :class:`~voxel_ext.handlers.ReportHandler`.
        image_key: key of the image in ``engine.state.output``; its first channel is shown.
        label_key: key of the true instances (1, D, H, W), may be missing from the output.
        pred_key: key of the predicted instances (1, D, H, W), integer ids, 0 is background.
        max_volumes: how many volumes to show.
        **options: further arguments of :class:`~voxel_ext.handlers.ReportHandler`.

    Raises:
        InvalidInputError: ``max_volumes`` is negative, or ``voxel_size`` is not two or three positive numbers.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        title: str = "Instances",
        settings: Mapping[str, Any] | None = None,
        history_file: str | os.PathLike[str] | None = None,
        image_key: str = "image",
        label_key: str = "instances",
        pred_key: str = "pred_instances",
        max_volumes: int = 2,
        **options: Any,
    ) -> None:
        super().__init__(
            path, title, settings, history_file, image_key, label_key, pred_key, max_volumes, instances=True, **options
        )

    def _start(self, _engine: Engine | None = None) -> None:
        super()._start(_engine)
        self._sizes: list[str] = []

    def _collect(self, engine: Engine) -> None:
        """Keep also the sizes of the instances of all samples, as texts that processes can exchange."""
        super()._collect(engine)
        samples = output_samples(engine)
        for sample, name in zip(samples, self._names[-len(samples) :], strict=True):
            row: dict[str, Any] = {"name": name, "prediction": self._counted(sample, self.pred_key, name)}
            if sample.get(self.label_key) is not None:
                row["truth"] = self._counted(sample, self.label_key, name)
            self._sizes.append(json.dumps(row))

    @staticmethod
    def _counted(sample: Mapping[str, Any], key: str, name: str) -> list[int]:
        array = _array(sample[key])
        if array.shape[0] != 1:
            raise InvalidInputError(
                f"'{key}' of {name!r} has shape {array.shape}, expected one channel of instance ids"
            )
        if array.dtype.kind == "f":
            ids = array.astype("int64")
            if not (ids == array).all():
                raise InvalidInputError(f"'{key}' of {name!r} has fractions ({array.dtype}), expected instance ids")
            array = ids
        return instance_sizes(array).tolist()

    def _sections(self) -> list[tuple[str, str]]:
        rows = string_list_all_gather(self._sizes) if idist.get_world_size() > 1 else self._sizes
        if idist.get_rank() > 0:
            return []
        content = instance_section([json.loads(row) for row in rows])
        return [("Instances", content)] if content else []
