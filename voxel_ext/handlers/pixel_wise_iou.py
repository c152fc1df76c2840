"""The weighted mean IoU of an evaluator whose weights are apart from its labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler

from voxel_ext.errors import InvalidInputError
from voxel_ext.metrics.pixel_wise_iou import PixelWiseMeanIoU


class PixelWiseMeanIoUHandler(IgniteMetricHandler):
    """Compute :class:`~voxel_ext.metrics.PixelWiseMeanIoU` in an evaluator.

    Where the label comes as ``(label, weight)``, MONAI's ``IgniteMetricHandler`` with that metric does as well.

    Args:
        weight_equal: every voxel with a weight above 0 counts 1.
        include_background: count class 0 as well.
        num_classes: needed if the predictions are class indices.
        ignore_index: class index of voxels that do not count; None for none.
        output_transform: turns ``engine.state.output`` into ``(pred, label)``, ``(pred, label, weight)`` or
            ``(pred, label, weight, other_weight)``, batches or lists, e.g.
            ``monai.handlers.from_engine(["pred", "label", "weight"])``.
        save_details: keep the IoU of each sample and class in ``engine.state.metric_details``.
    """

    def __init__(
        self,
        weight_equal: bool = False,
        include_background: bool = True,
        num_classes: int | None = None,
        ignore_index: int | None = None,
        output_transform: Callable = lambda x: x,
        save_details: bool = True,
    ) -> None:
        metric = PixelWiseMeanIoU(weight_equal, include_background, num_classes, ignore_index)
        super().__init__(metric_fn=metric, output_transform=output_transform, save_details=save_details)

    def iteration_completed(self, engine: Engine) -> None:
        """Add what the iteration gave, without Ignite's unrolling of lists, which takes pairs only."""
        self.update(self._output_transform(engine.state.output))

    def update(self, output: Sequence[Any]) -> None:
        """Add samples.

        Args:
            output: prediction, label, and up to two weights.

        Raises:
            InvalidInputError: there are fewer than two or more than four items, or as :class:`PixelWiseMeanIoU`.
        """
        if not 2 <= len(output) <= 4:
            raise InvalidInputError(
                f"output_transform gave {len(output)} items; expected (pred, label), (pred, label, weight) or "
                "(pred, label, weight, other_weight)"
            )
        self._is_reduced = False
        self.metric_fn(*output)
