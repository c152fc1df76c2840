"""What an evaluator of a multi-task network gives: image, truths and predictions of a sample, and what it is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ignite.engine import Engine

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers.report import _array, _compact_image, _name, _spacing
from voxel_ext.targets import Target, read_targets
from voxel_ext.visualize.target_fields import ShownTarget, central_box, shown_prediction, shown_truth


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
