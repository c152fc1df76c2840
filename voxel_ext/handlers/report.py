"""Write the HTML report at the end of an evaluation or an inference."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine
from monai.data.utils import affine_to_spacing
from monai.utils import ImageMetaKey, string_list_all_gather

from voxel_ext.data.address import parse_address
from voxel_ext.data.naming import subject_name
from voxel_ext.errors import InvalidInputError, check_counts
from voxel_ext.files import atomic_path
from voxel_ext.handlers.report_writer import ReportWriter, output_samples
from voxel_ext.visualize import render_volume, slice_figure, write_animation, write_report
from voxel_ext.visualize.arrays import as_image, check_voxel_size, normalize

logger = logging.getLogger(__name__)


class ReportHandler(ReportWriter):
    """Collect some volumes and the metrics of a MONAI evaluator, and write ``report.html`` when it has completed.

    In a distributed run the process of rank 0 writes, and shows volumes that it has seen itself.

    Args:
        path: the file to write, usually ``report.html``; replaced whole at the end of every run of the engine.
        title: heading of the page.
        settings: what to list as settings, e.g. the values of a bundle's config; may be nested.
        history_file: JSON lines written during training, one mapping with ``epoch`` per line, for the learning curves.
            No curves if None or if there is no such file at the end.
        image_key: key of the image in ``engine.state.output``; its first channel is shown.
        label_key: key of the truth, may be missing from the output.
        pred_key: key of the prediction as the postprocessing leaves it.
        max_volumes: how many volumes to show.
        metric_details: list the metrics of each sample, from ``engine.state.metric_details``.
        voxel_size: µm along the spatial axes of the arrays, for aspect and 3D views. If None that of each image's
            affine, whose unit is taken for µm; in voxels where that says nothing.
        notes: sentences to put on top of the page.
        pictures: also write ``<name>.gif`` (a walk through the slices) and ``<name>.png`` (a 3D view; of an image
            (H, W) the overlays, and no GIF) of each volume shown, beside the report.
        include_background: truth and prediction with more than one channel are one-hot or scores of exclusive classes,
            the first of them the background. If False the channels are foreground classes, and the background is where
            none is above 0.5.
        instances: truth and prediction are instance ids, and each object is drawn in its own color.

    Raises:
        InvalidInputError: ``max_volumes`` is negative, or ``voxel_size`` is not two or three positive numbers.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        title: str = "Report",
        settings: Mapping[str, Any] | None = None,
        history_file: str | os.PathLike[str] | None = None,
        image_key: str = "image",
        label_key: str = "label",
        pred_key: str = "pred",
        max_volumes: int = 3,
        metric_details: bool = True,
        voxel_size: Sequence[float] | None = None,
        notes: Sequence[str] = (),
        pictures: bool = False,
        include_background: bool = True,
        instances: bool = False,
    ) -> None:
        check_counts({}, max_volumes=max_volumes)
        if voxel_size is not None:
            check_voxel_size(voxel_size, 2 if len(voxel_size) == 2 else 3)
        super().__init__(path, title, settings, history_file, notes)
        self.image_key = image_key
        self.label_key = label_key
        self.pred_key = pred_key
        self.max_volumes = max_volumes
        self.metric_details = metric_details
        self.voxel_size = voxel_size
        self.pictures = pictures
        self.include_background = include_background
        self.instances = instances
        self._start()

    def _libraries(self) -> tuple[str, ...]:
        return (*super()._libraries(), "imageio") if self.pictures else super()._libraries()

    def _start(self, _engine: Engine | None = None) -> None:
        self._volumes: list[dict[str, Any]] = []
        self._names: list[str] = []

    def _collect(self, engine: Engine) -> None:
        """Keep the names of all samples, and the arrays of the first ``max_volumes``."""
        for sample in output_samples(engine):
            missing = [key for key in (self.image_key, self.pred_key) if key not in sample]
            if missing:
                raise InvalidInputError(
                    f"the engine's output has no '{missing[0]}'; its keys are {sorted(map(str, sample))}. "
                    "Set image_key and pred_key of the ReportHandler"
                )
            name = _name(sample[self.image_key], f"volume {len(self._names)}")
            if name in self._names:  # files of one name in several folders
                name += f"_{len(self._names)}"
            self._names.append(name)
            if idist.get_rank() == 0 and len(self._volumes) < self.max_volumes:
                self._volumes.append(self._volume(sample, name))

    def _volume(self, sample: Mapping[str, Any], name: str) -> dict[str, Any]:
        """What the report shows of one sample."""
        image = _compact_image(sample[self.image_key], f"the image of {name!r}")
        voxel_size = _spacing(sample[self.image_key], image.ndim) if self.voxel_size is None else self.voxel_size
        check_voxel_size(voxel_size, image.ndim)
        prediction = _compact_labels(sample[self.pred_key], self.include_background)
        volume: dict[str, Any] = {"name": name, "image": image, "prediction": prediction, "voxel_size": voxel_size}
        if self.instances:
            volume["instances"] = True
        if sample.get(self.label_key) is not None:
            volume["truth"] = _compact_labels(sample[self.label_key], self.include_background)
        return volume

    def _write(self, engine: Engine) -> None:
        names = string_list_all_gather(self._names) if idist.get_world_size() > 1 else self._names
        sections = self._sections()
        if idist.get_rank() == 0:
            details = getattr(engine.state, "metric_details", {}) if self.metric_details else {}
            write_report(
                self.path,
                self.title,
                metrics=_summary(engine.state.metrics),
                metric_rows=_rows(details, names),
                volumes=self._volumes,
                sections=sections,
                **self._listed(),
            )
            logger.info("report: %s", self.path)
            for volume in self._volumes if self.pictures else []:
                _write_pictures(self.path.parent, **volume)
        self._volumes = []

    def _sections(self) -> list[tuple[str, str]]:
        """Further parts of the page; called in every process of a distributed run."""
        return []


def _name(image: torch.Tensor, default: str) -> str:
    """The name of the volume, from the metadata of its image."""
    file = getattr(image, "meta", {}).get(ImageMetaKey.FILENAME_OR_OBJ)
    return subject_name(parse_address(str(file))) if file else default


def _spacing(image: Any, ndim: int) -> list[float] | None:
    """Edge lengths of a voxel by the image's affine, None if there is none or they are all 1."""
    if getattr(image, "affine", None) is None:
        return None
    affine = _array(image.affine)
    # a plane may carry the affine of space
    spacing = affine_to_spacing(affine, r=len(affine) - 1)[:ndim]
    return None if np.allclose(spacing, 1) else spacing.tolist()


def _write_pictures(
    folder: Path,
    name: str,
    image: np.ndarray,
    prediction: np.ndarray,
    voxel_size: Sequence[float] | None,
    truth: np.ndarray | None = None,
    instances: bool = False,
) -> None:
    """Write a walk through the slices and a 3D view, or the overlays of a plane."""
    if image.ndim == 3:
        write_animation(folder / f"{name}.gif", image, prediction, truth, voxel_size=voxel_size)
        picture = render_volume(image, prediction, voxel_size=voxel_size)
    else:
        picture = slice_figure(image, truth, prediction, voxel_size=voxel_size, instances=instances)
    with atomic_path(folder / f"{name}.png") as temporary:
        temporary.write_bytes(picture)


def _array(tensor: Any) -> np.ndarray:
    """A channel-first tensor on any device as an array on the CPU."""
    if not isinstance(tensor, torch.Tensor):
        return np.asarray(tensor)
    tensor = tensor.detach().cpu()
    return np.asarray(tensor.float() if tensor.dtype == torch.bfloat16 else tensor)


def _compact_image(tensor: Any, name: str) -> np.ndarray:
    """First channel in steps of 1/255 between the percentiles that are shown: a quarter of the memory."""
    gray = normalize(as_image(_array(tensor)[0], name), 0.1, 99.9)
    return (gray * 255).round().astype(np.uint8)


def _compact_labels(tensor: Any, include_background: bool = True) -> np.ndarray:
    """Ids (D, H, W) of the smallest integer type; several channels are reduced to the strongest."""
    array = _array(tensor)
    if array.shape[0] == 1:
        array = array[0]
    elif include_background:
        array = array.argmax(axis=0)
    else:
        array = np.where(array.max(axis=0) > 0.5, array.argmax(axis=0) + 1, 0)
    if array.dtype.kind == "f":
        # fractions are probabilities, which the report cuts at 0.5; NaN is left for its check to refuse
        return array if np.isnan(array).any() else _fit(array if (array == np.rint(array)).all() else array > 0.5)
    return _fit(array)


def _fit(labels: np.ndarray) -> np.ndarray:
    return np.maximum(labels, 0).astype(np.min_scalar_type(int(labels.max())))


def _summary(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics as floats; one with several values gives one entry per value."""
    summary: dict[str, float] = {}
    for name, value in metrics.items():
        values = np.asarray(_array(value), dtype=np.float64).ravel()
        keys = [name] if len(values) == 1 else [f"{name} {i}" for i in range(len(values))]
        summary |= dict(zip(keys, values.tolist(), strict=True))
    return summary


def _rows(details: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, object]]:
    """One row per sample: its name and, per metric, the mean over the classes where it is defined."""
    columns: dict[str, list[float]] = {}
    for name, value in details.items():
        array = _array(value)
        # more axes are intermediate values such as confusion counts, not the metric
        if array.ndim in (1, 2):
            columns[name] = [_mean(sample) for sample in array.reshape(len(array), -1)]
    count = max(map(len, columns.values()), default=0)
    labels = list(names) if len(names) == count else [f"sample {i}" for i in range(count)]
    return [
        {"name": labels[i], **{name: values[i] for name, values in columns.items() if i < len(values)}}
        for i in range(count)
    ]


def _mean(values: np.ndarray) -> float:
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if defined.size else math.nan
