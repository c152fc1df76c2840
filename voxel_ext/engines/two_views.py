"""What contrastive learning needs around MONAI's engines: batches of two views, their checks, and the features."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from voxel_ext.data.object_classes import UNKNOWN
from voxel_ext.data.object_dataset import ObjectDataset
from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.transforms.two_views import VIEWS

logger = logging.getLogger(__name__)

KEY_METRICS = ("val_agreement", "knn_accuracy")
"""What can choose the best epoch: the agreement of the views, without classes, or the accuracy of nearest neighbors."""


def prepare_two_views(
    batch: dict[str, Any],
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    **kwargs: Any,
) -> tuple[torch.Tensor, None, tuple[torch.Tensor], dict[str, Any]]:
    """Give an engine's network two views as its arguments, and its loss no target; a ``prepare_batch``.

    Args:
        batch: with ``view1`` and ``view2`` (B, C, D, H, W), as of :class:`~voxel_ext.transforms.TwoViewsd`.
        device: where to put them.
        non_blocking: copy from pinned memory while the host goes on.
        kwargs: passed on to ``torch.Tensor.to``.

    Raises:
        InvalidInputError: a view is missing.
    """
    missing = [key for key in VIEWS if key not in batch]
    if missing:
        raise InvalidInputError(
            f"the batch has no {missing[0]!r}; its keys are {sorted(map(str, batch))}. TwoViewsd makes the views"
        )
    first, second = (batch[key].to(device=device, non_blocking=non_blocking, **kwargs) for key in VIEWS)
    return first, None, (second,), {}


def scaled_learning_rate(learning_rate: float, batch_size: int, scale: bool) -> float:
    """Return the learning rate for a batch size: times batch_size / 256 as in SimSiam, or as it is.

    Args:
        learning_rate: that for 256 objects if it is scaled.
        batch_size: of all devices together.
        scale: whether to scale it.
    """
    return learning_rate * batch_size / 256 if scale else learning_rate


def check_batch_size(
    dataset: ObjectDataset, batch_size: int, name: str = "batch_size", drop_last: bool = True, processes: int = 1
) -> None:
    """Refuse a batch size that contrastive learning cannot use with these objects, before any long work.

    Args:
        dataset: the objects.
        batch_size: of a process.
        name: of the setting that it comes from, for the message.
        drop_last: whether a last, smaller batch is left out.
        processes: that share the objects.

    Raises:
        InvalidInputError: fewer than two objects in a batch; too few objects for a batch.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 2:
        raise InvalidInputError(
            f"{name}={batch_size!r}; expected a whole number of at least 2, since objects are compared with others"
        )
    needed = (batch_size if drop_last else 2) * processes
    if len(dataset) < needed:
        remedy = f"a smaller {name}, or more objects" if needed > 2 * processes else "more objects"
        raise InvalidInputError(
            f"{dataset.path} has {len(dataset)} cubes for this, but {name}={batch_size} with {processes} processes "
            f"needs at least {needed}; give {remedy}"
        )


def check_key_metric(name: str, known: bool) -> None:
    """Refuse a metric to choose the checkpoint by that contrastive learning does not have, before any long work.

    Args:
        name: one of :data:`KEY_METRICS`.
        known: whether classes are known, see :func:`classes_known`.

    Raises:
        InvalidInputError: another name, or the metric needs classes that are not known.
    """
    check_option("key_metric_name", name, KEY_METRICS)
    if name == "knn_accuracy" and not known:
        raise InvalidInputError(
            "key_metric_name='knn_accuracy', but too few objects have a known class; prepare the objects with classes, "
            "or set key_metric_name to 'val_agreement'"
        )


def classes_known(queries: ObjectDataset, bank: ObjectDataset, k: int) -> bool:
    """Tell whether enough objects have a known class to classify those of one set by those of another.

    Args:
        queries: whose classes are to be predicted.
        bank: whose classes are known to the classifier.
        k: number of neighbors.

    Returns:
        False, and a note in the log that says why, where there are too few.
    """
    asked, known = (int(_labeled(dataset.classes).sum()) for dataset in (queries, bank))
    if asked and known >= k:
        return True
    logger.info(
        "classes are known of %d objects to classify and of %d to compare them with, fewer than 1 and k=%d: "
        "training goes on without the accuracy of nearest neighbors",
        *(asked, known, k),
    )
    return False


def _labeled(classes: NDArray | None) -> NDArray[np.bool_]:
    return np.zeros(0, bool) if classes is None else np.asarray(classes) != UNKNOWN
