"""Mean intersection over union in which every voxel counts by its weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from monai.utils import convert_to_tensor

from voxel_ext.errors import InvalidInputError


class PixelWiseMeanIoU(CumulativeIterationMetric):
    """IoU of each class with weighted voxels, averaged over the classes that are there, then over samples.

    With predicted class p(v) and true class t(v), the weight of voxel v in class c is w(v) if t(v) = c and o(v)
    otherwise (the two of ``cell_labeling``: a voxel weighs differently in the channel of its own class), and

        IoU(c) = sum of w over (p = c and t = c) / (sum of w over t = c + sum of o over (p = c and t != c))

    which is the dense formula with a weight per voxel and channel, without such a tensor. A class of which a sample has
    no true voxel with a weight above 0 is left out of the mean, and so is a sample without any class.

    Called as ``metric(pred, target, weight=…, other_weight=…)``, or with the weights as part of ``y``, so that MONAI's
    ``IgniteMetricHandler`` can pass them on: ``y`` is then (B, 2 or 3, ...) with the channels target, weight and
    other weight, or a tuple of these, or a mapping with ``"label"``, ``"weight"`` and ``"other_weight"``. Of decollated
    data there is a list, of (C, ...) and of one of these forms for each sample.

    The buffer has the IoU of each sample and class, (samples, C) float64, NaN for classes left out.

    Args:
        weight_equal: every voxel with a weight above 0 counts 1.
        include_background: count class 0 as well.
        num_classes: C; needed if the predictions are class indices (B, 1, ...).
        ignore_index: class index of voxels that do not count; None for none.

    Raises:
        InvalidInputError: ``num_classes`` is below 2.
    """

    def __init__(
        self,
        weight_equal: bool = False,
        include_background: bool = True,
        num_classes: int | None = None,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__()
        if num_classes is not None and num_classes < 2:
            raise InvalidInputError(f"num_classes={num_classes} is not valid; expected 2 or more, background included")
        self.weight_equal = weight_equal
        self.include_background = include_background
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def __call__(self, y_pred: Any, y: Any = None, weight: Any = None, other_weight: Any = None) -> Any:  # type: ignore[override]
        """Add samples.

        Args:
            y_pred: logits, probabilities or one-hot (B, C, ...), of which the largest is the class, or class indices
                (B, 1, ...); or a list of these for each sample without B.
            y: class indices (B, 1, ...), or with weights, see the class.
            weight: (B, 1, ...), at least 0; None for 1.
            other_weight: weight of the voxel in the other channels, (B, 1, ...); None for the same as ``weight``.

        Returns:
            IoU (B, C).

        Raises:
            InvalidInputError: a shape does not fit, a value is not a class index, a weight is negative or not finite,
                or weights were given twice.
        """
        if y is None:
            raise InvalidInputError("PixelWiseMeanIoU needs the true classes, y, as well as y_pred")
        decollated = isinstance(y_pred, list | tuple)
        if not decollated and isinstance(y, list | tuple | Mapping):
            y = _zip_samples(y)
        if not len(y_pred) == len(y):
            raise InvalidInputError(f"there are {len(y_pred)} predictions but {len(y)} targets; expected one for each")
        truth: list[Any] = [
            _with_weights(one, *(None if w is None else w[i] for w in (weight, other_weight)))
            for i, one in enumerate(y)
        ]
        return super().__call__(list(y_pred), truth)

    def _compute_list(self, y_pred: Any, y: Any = None, **kwargs: Any) -> torch.Tensor:
        return torch.stack([self._sample(pred, *truth) for pred, truth in zip(y_pred, y, strict=True)])

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        raise NotImplementedError  # every call goes through the list

    def _sample(self, pred: Any, target: Any, weight: Any, other: Any) -> torch.Tensor:
        """Compute the IoU of each class (C,) of one sample: (C, ...), and (1, ...) three times."""
        pred = convert_to_tensor(pred, track_meta=False).detach()
        target, weight, other = (
            None if x is None else convert_to_tensor(x, track_meta=False).detach().to(pred.device)
            for x in (target, weight, other)
        )
        for name, x in (("target", target), ("weight", weight), ("other_weight", other)):
            if x is not None and tuple(x.shape) not in ((1, *pred.shape[1:]), tuple(pred.shape[1:])):
                raise InvalidInputError(
                    f"the {name} of a sample has shape {tuple(x.shape)} and the prediction {tuple(pred.shape)}; "
                    f"expected {(1, *pred.shape[1:])}"
                )
        classes = self._number_of_classes(pred)
        kept = torch.ones(pred[0].numel(), dtype=torch.bool, device=pred.device)
        if self.ignore_index is not None:
            kept = target.flatten().double() != self.ignore_index
        predicted = pred[0] if len(pred) == 1 else pred.argmax(0)
        predicted = _indices(predicted.flatten()[kept], classes, "prediction")
        target = _indices(target.flatten()[kept], classes, "target")
        weight = self._weight(weight, kept, "weight")
        other = weight if other is None else self._weight(other, kept, "other_weight")
        return self._iou(predicted, target, weight, other, classes)

    def _number_of_classes(self, pred: torch.Tensor) -> int:
        classes = self.num_classes if len(pred) == 1 else len(pred)
        if classes is None or self.num_classes not in (None, classes):
            raise InvalidInputError(
                f"a prediction has shape {tuple(pred.shape)}, num_classes={self.num_classes}; expected as many "
                "channels as classes, or class indices in one channel and num_classes"
            )
        return classes

    def _weight(self, weight: torch.Tensor | None, kept: torch.Tensor, name: str) -> torch.Tensor:
        """Return the weights of the voxels that count, float64."""
        if weight is None:
            return torch.ones(int(kept.sum()), dtype=torch.float64, device=kept.device)
        weight = weight.flatten()[kept].double()
        if not ((weight >= 0) & weight.isfinite()).all():
            raise InvalidInputError(
                f"the {name} has values from {float(weight.min()):g} to {float(weight.max()):g}; "
                "expected finite numbers of at least 0"
            )
        return (weight > 0).double() if self.weight_equal else weight

    def _iou(
        self, pred: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, other: torch.Tensor, classes: int
    ) -> torch.Tensor:
        hit = pred == target
        zero = torch.zeros(classes, dtype=torch.float64, device=pred.device)
        # index_add, since bincount with weights is not deterministic on CUDA
        true = zero.index_add(0, target, weight)
        intersection = zero.index_add(0, target[hit], weight[hit])
        union = true.index_add(0, pred[~hit], other[~hit])
        iou = torch.where(true > 0, intersection / union, torch.nan)
        if not self.include_background:
            iou[0] = torch.nan
        return iou

    def aggregate(self) -> torch.Tensor:
        """Return the mean over classes, then over the samples that have any; NaN if none has.

        Raises:
            InvalidInputError: nothing was measured since the last reset.
        """
        return self._buffer().nanmean(1).nanmean()

    def per_class(self) -> torch.Tensor:
        """Return the mean IoU of each class (C,) over the samples that have it, NaN where none has.

        Raises:
            InvalidInputError: nothing was measured since the last reset.
        """
        return self._buffer().nanmean(0)

    def _buffer(self) -> torch.Tensor:
        buffer = self.get_buffer()
        if buffer is None:
            raise InvalidInputError("PixelWiseMeanIoU has nothing to aggregate; call it with y_pred and y first")
        return buffer


def _zip_samples(y: Any) -> list[Any]:
    """Turn a mapping or sequence of batches into a list with a mapping or tuple of each sample."""
    if isinstance(y, Mapping):
        length = len(next(iter(y.values())))
        return [{key: None if value is None else value[i] for key, value in y.items()} for i in range(length)]
    if not y or y[0] is None:
        raise InvalidInputError("the truth is an empty sequence; expected (target, weight, other_weight)")
    return [tuple(None if value is None else value[i] for value in y) for i in range(len(y[0]))]


def _with_weights(y: Any, weight: Any, other: Any) -> tuple[Any, Any, Any]:
    """Return target, weight and other weight of one sample, from whatever form they have."""
    parts: Sequence[Any]
    if isinstance(y, Mapping):
        parts = [y.get("label"), y.get("weight"), y.get("other_weight")]
    elif isinstance(y, list | tuple):
        parts = y
    else:
        parts = [y[c : c + 1] for c in range(len(y))]
    if not 1 <= len(parts) <= 3 or parts[0] is None:
        raise InvalidInputError(
            f"the truth of a sample has {len(parts)} parts; expected target, weight and other weight (the last two "
            "optional), as channels, as a tuple, or as a mapping with 'label', 'weight' and 'other_weight'"
        )
    target, *inner = parts
    if any(x is not None for x in inner) and (weight is not None or other is not None):
        raise InvalidInputError("weights were given twice, with y and on their own; give them once")
    if any(x is not None for x in inner):
        weight, other = [*inner, None, None][:2]
    return target, weight, other


def _indices(values: torch.Tensor, classes: int, name: str) -> torch.Tensor:
    """Return class indices as int64, or refuse them."""
    indices = values.to(torch.int64)
    wrong = (indices < 0) | (indices >= classes)
    if values.is_floating_point():
        wrong |= indices != values
    if wrong.any():
        raise InvalidInputError(
            f"the {name} has the values {torch.unique(values[wrong])[:10].tolist()}; expected class indices from 0 to "
            f"{classes - 1}"
        )
    return indices
