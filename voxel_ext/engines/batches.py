"""What a MONAI engine passes to its network and loss, where that is more than an image and a label."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from monai.engines import default_prepare_batch
from monai.utils import CommonKeys

from voxel_ext.errors import InvalidInputError

WEIGHT = "weight"
ROI = "roi"


def prepare_weighted_batch(
    batch: dict[str, torch.Tensor],
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    **kwargs: Any,
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Give a trainer the image and, for a loss with weights of voxels, ``(label, weight)``.

    Args:
        batch: with ``image`` (B, C, D, H, W), ``label`` and ``weight`` (B, 1, D, H, W).
        device: where to put them.
        non_blocking: copy from pinned memory while the host goes on.
        kwargs: passed on to ``torch.Tensor.to``.

    Raises:
        InvalidInputError: one of the items is missing.
    """
    _check(batch, CommonKeys.IMAGE, CommonKeys.LABEL, WEIGHT)
    image, label, weight = (
        batch[key].to(device=device, non_blocking=non_blocking, **kwargs)
        for key in (CommonKeys.IMAGE, CommonKeys.LABEL, WEIGHT)
    )
    return image, (label, weight)


def prepare_roi_batch(
    batch: dict[str, torch.Tensor],
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None, tuple[()], dict[str, torch.Tensor]]:
    """Give an evaluator the image, and its :class:`~voxel_ext.inferers.RoiInferer` the ROI volume.

    Args:
        batch: with ``image`` (1, C, D, H, W), ``roi`` (1, 1, D, H, W) and, for metrics, maybe ``label``.
        device: where to put them.
        non_blocking: copy from pinned memory while the host goes on.
        kwargs: passed on to ``torch.Tensor.to``, for the image.

    Raises:
        InvalidInputError: one of the items is missing.
    """
    _check(batch, CommonKeys.IMAGE, ROI)
    image, label = default_prepare_batch(batch, device, non_blocking, **kwargs)
    return image, label, (), {ROI: batch[ROI].to(device=device, non_blocking=non_blocking)}


class TargetBatch:
    """Give an engine the image and, by name, the targets of a multi-task network; its ``prepare_batch``.

    Args:
        targets: names of the targets.
    """

    def __init__(self, targets: Iterable[str]) -> None:
        self.targets = tuple(targets)

    def __call__(
        self,
        batch: dict[str, torch.Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Move the image and the targets to the device.

        Args:
            batch: with ``image`` (B, C, D, H, W) and every target (B, K, D, H, W).
            device: where to put them.
            non_blocking: copy from pinned memory while the host goes on.
            kwargs: passed on to ``torch.Tensor.to``.

        Raises:
            InvalidInputError: one of the items is missing.
        """
        _check(batch, CommonKeys.IMAGE, *self.targets)
        image, *targets = (
            batch[key].to(device=device, non_blocking=non_blocking, **kwargs)
            for key in (CommonKeys.IMAGE, *self.targets)
        )
        return image, dict(zip(self.targets, targets, strict=True))


def _check(batch: dict[str, torch.Tensor], *keys: str) -> None:
    missing = [key for key in keys if key not in batch]
    if missing:
        raise InvalidInputError(f"the batch has no '{missing[0]}'; its keys are {sorted(map(str, batch))}")
