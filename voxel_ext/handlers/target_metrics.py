"""The metrics of a multi-task network, by the kind of each target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler
from monai.metrics import DiceMetric, MAEMetric, SurfaceDistanceMetric

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.metrics import AngularError
from voxel_ext.targets import Target, read_targets

Handlers = dict[str, IgniteMetricHandler]


def target_metrics(
    targets: Mapping[str, Mapping[str, Any] | Target],
    ignore_label: float | None = None,
    surface_distance: bool = False,
    voxel_size: Sequence[float] | None = None,
    prefix: str = "val_",
) -> Handlers:
    """Make the metrics of every target, for predictions ``pred_<name>`` as ``ActivateTargetsd`` gives them.

    Masks and classes: ``<name>_dice`` (mean over channels or foreground classes; NaN samples without foreground are
    left out) and, if asked for, ``<name>_surface_distance`` (mean over both directions). Vectors: ``<name>_angle``
    (median, degrees), ``<name>_mean_angle`` and ``<name>_below_10`` (fraction of known voxels under 10 degrees). Other
    values: ``<name>_mae``.

    Args:
        targets: as in the network.
        ignore_label: value of masks and classes where nothing is known; those voxels count neither way.
        surface_distance: also compute it, which takes long on large volumes.
        voxel_size: (z, y, x) in micrometers, the unit of the surface distance; None for voxels.
        prefix: of every name.

    Returns:
        handlers by name.

    Raises:
        InvalidInputError: malformed targets.
    """
    handlers: Handlers = {}
    for name, target in read_targets(targets).items():
        pairs = _Pairs(name, target, ignore_label)
        made: dict[str, Any] = {}
        if target.kind == "vectors":
            for key, statistic in (("angle", "median"), ("mean_angle", "mean"), ("below_10", "fraction")):
                made[key] = AngularError(oriented=target.oriented, thresholds=(10.0,), statistic=statistic)
        elif target.kind == "values":
            made["mae"] = MAEMetric()
        else:
            classes = target.channels if target.kind == "classes" else None
            made["dice"] = DiceMetric(include_background=classes is None)
            if surface_distance:
                made["surface_distance"] = _SurfaceDistance(voxel_size, include_background=classes is None)
        for key, metric in made.items():
            handlers[f"{prefix}{name}_{key}"] = IgniteMetricHandler(
                metric_fn=metric, output_transform=pairs, save_details=target.kind != "vectors"
            )
    return handlers


def pick_metric(metrics: Handlers, name: str) -> Handlers:
    """Return the one metric of this name.

    Raises:
        InvalidInputError: there is none; lists the names.
    """
    return {check_option("key_metric_name", name, metrics): metrics[name]}


def other_metrics(metrics: Handlers, name: str) -> Handlers:
    """Return all metrics but the one of this name."""
    return {other: metric for other, metric in metrics.items() if other != name}


class _Pairs:
    """Predictions and truth of one target from the output of an evaluator, as its metrics take them."""

    def __init__(self, name: str, target: Target, ignore_label: float | None) -> None:
        self.name, self.target, self.ignore_label = name, target, ignore_label

    def __call__(self, output: Sequence[Mapping[str, Any]]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        pairs = [self._pair(sample) for sample in output]
        return [pred for pred, _ in pairs], [truth for _, truth in pairs]

    def _pair(self, sample: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        label = sample.get("label")
        truth = label[self.name] if isinstance(label, Mapping) else sample.get(self.name)
        pred = sample.get(f"pred_{self.name}")
        if truth is None or pred is None:
            raise InvalidInputError(f"the output has no {self.name!r} or pred_{self.name}; it has {sorted(sample)}")
        pred, truth = (x.as_tensor() if isinstance(x, MetaTensor) else x for x in (pred, truth))
        if self.target.kind == "vectors":
            return pred, truth
        unknown = truth == self.ignore_label if self.ignore_label is not None else torch.zeros_like(truth).bool()
        if self.target.kind == "values":
            return pred.masked_fill(unknown, 0.0), truth.masked_fill(unknown, 0.0)
        encode: Callable[[torch.Tensor], torch.Tensor] = self._one_hot if self.target.kind == "classes" else _as_float
        if self.target.kind == "classes":
            found = pred.argmax(0, keepdim=True)
        else:
            found = pred > (0.5 if self.target.activation == "sigmoid" else 0.0)
        return encode(found.masked_fill(unknown, 0)), encode(truth.masked_fill(unknown, 0))

    def _one_hot(self, classes: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(classes[0].long(), self.target.channels).movedim(-1, 0).float()


def _as_float(mask: torch.Tensor) -> torch.Tensor:
    return (mask > 0).float()


class _SurfaceDistance(SurfaceDistanceMetric):
    """MONAI's metric, symmetric, with the voxel size fixed."""

    def __init__(self, voxel_size: Sequence[float] | None, include_background: bool) -> None:
        super().__init__(include_background=include_background, symmetric=True)
        self.voxel_size = None if voxel_size is None else list(voxel_size)

    def __call__(self, y_pred: Any, y: Any = None, **kwargs: Any) -> Any:
        return super().__call__(
            y_pred, y, **({} if self.voxel_size is None else {"spacing": self.voxel_size}), **kwargs
        )
