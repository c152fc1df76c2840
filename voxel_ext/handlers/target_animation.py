"""Walks through the slices of every target in TensorBoard, as a network learns."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError, require
from voxel_ext.handlers.report_writer import output_samples
from voxel_ext.handlers.target_samples import TargetSamples
from voxel_ext.targets import Target
from voxel_ext.visualize.slice_walk import gif_bytes
from voxel_ext.visualize.surface_report import target_frames

# every validation writes an animation: a few hundred kilobytes each
_MAX_FRAMES, _MIN_SIDE = 32, 96


class TargetAnimationHandler:
    """Write an animation per target of the first sample of every validation to TensorBoard: input, truth, prediction.

    The tags are ``animation_<target>``, the step is the evaluator's epoch, which ``ValidationHandler`` sets to that of
    the trainer. Only the process of rank 0 writes.

    Args:
        targets: the network's, as :func:`~voxel_ext.targets.read_targets` takes them.
        log_dir: TensorBoard folder.
        interval: write in every so many epochs.
        max_size: the most voxels along each axis; of larger samples the central box. An animation has at
            most 32 evenly spaced slices.
        ignore_label: value of masks and classes where nothing is known, drawn as background.
        image_key: key of the image (C, D, H, W) in ``engine.state.output``.
        label_key: key of the mapping of truths, see :class:`~voxel_ext.handlers.SurfaceReportHandler`.
        prefix: of the keys of the predictions.
        fps: slices per second.

    Raises:
        InvalidInputError: malformed targets, ``interval`` or ``max_size`` below 1, or ``fps`` not positive.
    """

    def __init__(
        self,
        targets: Mapping[str, Mapping[str, Any] | Target],
        log_dir: str | os.PathLike[str],
        interval: int = 1,
        max_size: int = 96,
        ignore_label: float | None = None,
        image_key: str = "image",
        label_key: str = "label",
        prefix: str = "pred_",
        fps: float = 12,
    ) -> None:
        for name, value in {"interval": interval, "max_size": max_size}.items():
            if value < 1:
                raise InvalidInputError(f"{name}={value}, expected at least 1")
        if not fps > 0:
            raise InvalidInputError(f"fps={fps!r}, expected a positive number of slices per second")
        self.samples = TargetSamples(targets, image_key, label_key, prefix, ignore_label, max_size)
        self.log_dir, self.interval, self.fps = log_dir, interval, fps
        self._volume: dict[str, Any] | None = None

    def attach(self, engine: Engine) -> None:
        """Attach to a validator.

        Args:
            engine: a MONAI evaluator, or an Ignite engine whose ``state.output`` holds the same.

        Raises:
            MissingDependencyError: pillow is not installed.
        """
        if idist.get_rank() == 0:
            require("PIL", extra="viz")
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._keep)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _start(self, _engine: Engine) -> None:
        self._volume = None

    def _keep(self, engine: Engine) -> None:
        """Keep the first sample, if it will be written."""
        if self._volume is None and engine.state.epoch % self.interval == 0:
            samples = output_samples(engine)
            if len(samples):
                self._volume = self.samples.volume(samples[0], "the first sample")

    def _write(self, engine: Engine) -> None:
        if self._volume is None:
            return
        from torch.utils.tensorboard import SummaryWriter

        volume, self._volume = self._volume, None
        writer = SummaryWriter(self.log_dir)
        try:
            for target in volume["targets"]:
                frames = target_frames(volume, target, _MAX_FRAMES, _MIN_SIDE)
                add_animation(writer, f"animation_{target}", frames, engine.state.epoch, self.fps)
        finally:
            writer.close()


def add_animation(writer: Any, tag: str, frames: NDArray[np.uint8], step: int, fps: float = 12) -> None:
    """Write frames in color to TensorBoard as an animated GIF.

    ``SummaryWriter.add_video`` needs moviepy, and MONAI's ``add_animated_gif`` is gray.

    Args:
        writer: a ``torch.utils.tensorboard.SummaryWriter``.
        tag: under which it appears among the images.
        frames: (T, H, W, 3).
        step: of the run.
        fps: frames per second.

    Raises:
        InvalidInputError: the frames have another shape.
        MissingDependencyError: pillow is not installed.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary

    image = Summary.Image(
        height=frames.shape[1], width=frames.shape[2], colorspace=3, encoded_image_string=gif_bytes(frames, fps)
    )
    writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)
