"""The metrics of an autoencoder of objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ignite.metrics
import torch
from ignite.metrics import Metric
from monai.handlers import IgniteMetricHandler
from monai.metrics import DiceMetric, SSIMMetric
from monai.utils import CommonKeys

from voxel_ext.data.object_contents import object_channels
from voxel_ext.losses import gaussian_kl

_WINDOW = 7  # of scikit-image; that of MONAI, 11, does not fit into the cubes of 8


def shape_metrics(
    contents: str, loss: Callable[..., torch.Tensor] | None = None, prefix: str = "val_"
) -> dict[str, Metric]:
    """Make the metrics of an autoencoder of objects, means over the cubes, for evaluators that do not decollate.

    ``ssim``: the structural similarity (Wang et al. 2004; MONAI, windows of 7 voxels) of image and reconstruction;
    ``l1``: their mean absolute difference; ``dice``: of the masks at 0.5, where the contents have one; ``kl_loss``: the
    Kullback-Leibler divergence of the code, in nats; ``loss``: see below.

    Args:
        contents: of the cubes, see ``prepare_objects``.
        loss: of the network's output and the images; None for no such metric.
        prefix: of every name.

    Returns:
        handlers by name, for ``engine.state.output`` with ``pred`` as ``ShapeVAE`` gives it, and ``label`` (B, C, S, S,
        S), the images.

    Raises:
        InvalidInputError: the contents are not known.
    """
    ssim = SSIMMetric(spatial_dims=3, data_range=1.0, win_size=_WINDOW)
    made: dict[str, Metric] = {
        "ssim": IgniteMetricHandler(metric_fn=ssim, output_transform=_images),
        "l1": ignite.metrics.MeanAbsoluteError(
            output_transform=lambda output: tuple(map(torch.flatten, _images(output)))
        ),
        "kl_loss": ignite.metrics.Loss(_divergence, output_transform=_whole),
    }
    if "mask" in object_channels(contents):
        made["dice"] = IgniteMetricHandler(metric_fn=DiceMetric(), output_transform=_masks)
    if loss is not None:
        made["loss"] = ignite.metrics.Loss(loss, output_transform=_whole)
    return {f"{prefix}{name}": metric for name, metric in made.items()}


def _images(output: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return output[CommonKeys.PRED]["reconstruction"].float(), output[CommonKeys.LABEL].float()


def _masks(output: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The first channels."""
    predicted, image = _images(output)
    return (predicted[:, :1] > 0.5).float(), (image[:, :1] > 0.5).float()


def _whole(output: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    return output[CommonKeys.PRED], output[CommonKeys.LABEL]


def _divergence(pred: dict[str, torch.Tensor], _image: torch.Tensor) -> torch.Tensor:
    return gaussian_kl(pred["mean"].float(), pred["log_variance"].float()).mean()
