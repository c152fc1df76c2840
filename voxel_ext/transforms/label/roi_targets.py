"""From a volume of ROI ids and a table of ROIs to a target and its weights, by look-up."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import Transform
from monai.utils import convert_data_type, convert_to_dst_type

from voxel_ext.errors import InvalidInputError, check_option

ROI_KEYS = ("roi_ids", "roi_class", "roi_weight", "roi_other_weight", "roi_confidence", "true_class")
"""Items with one entry per ROI."""

WEIGHTINGS = ("confidence", "equal")

LARGEST_TABLE = 1 << 22
"""Ids up to this are looked up in a table, larger ones are searched."""

_EXACT = 1 << 24
"""float32 holds whole numbers up to this."""


def check_weights(weights: Any, name: str) -> None:
    """Refuse weights that no loss can use.

    Args:
        weights: tensor or array.
        name: what they are, for the message.

    Raises:
        InvalidInputError: a weight is NaN, infinite or negative, or all are zero (also where there are none).
    """
    values = torch.as_tensor(weights)
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        raise InvalidInputError(f"{name}: {int((~finite).sum())} weights are NaN or infinite; expected numbers >= 0")
    negative = values < 0
    if bool(negative.any()):
        raise InvalidInputError(
            f"{name}: {int(negative.sum())} weights are negative, the least is {float(values.min()):g}; expected >= 0"
        )
    if not bool(values.any()):
        raise InvalidInputError(f"{name}: all {values.numel()} weights are zero; nothing would be learned")


def roi_slots(roi: torch.Tensor, roi_ids: torch.Tensor) -> torch.Tensor:
    """Return for each voxel which ROI it belongs to: i + 1 for ``roi_ids[i]``, 0 for the background.

    Args:
        roi: ids of any shape and number type; whole numbers.
        roi_ids: (N,) positive, ascending, on any device.

    Returns:
        int64 of the shape and on the device of ``roi``.

    Raises:
        InvalidInputError: an id that is not in ``roi_ids``, or no whole number; ids that ``roi`` cannot hold exactly.
    """
    ids = roi_ids.to(roi.device, torch.int64)
    largest = int(ids[-1]) if len(ids) else 0
    whole = roi.to(torch.int64)
    if roi.is_floating_point():
        if roi.dtype != torch.float64 and largest > (_EXACT if roi.dtype == torch.float32 else 256):
            raise InvalidInputError(f"ROI ids up to {largest} are not exact as {roi.dtype}; keep them as integers")
        if not bool((whole == roi).all()):
            raise InvalidInputError("the ROI volume has ids that are no whole numbers; resample it with mode='nearest'")
    if largest <= LARGEST_TABLE:
        table = torch.full((largest + 2,), -1, dtype=torch.int64, device=roi.device)
        table[0] = 0
        table[ids] = torch.arange(1, len(ids) + 1, device=roi.device)
        slots = table[torch.where((whole < 0) | (whole > largest), largest + 1, whole)]
    else:
        place = torch.searchsorted(ids, whole)
        found = ids[place.clamp(max=len(ids) - 1)] == whole
        slots = torch.where(found, place + 1, torch.where(whole == 0, 0, -1))
    if bool((slots < 0).any()):
        unknown = torch.unique(whole[slots < 0]).tolist()
        raise InvalidInputError(
            f"{len(unknown)} ids of the ROI volume are not in roi_ids: {unknown[:10]}{' …' * (len(unknown) > 10)}"
        )
    return slots


class RoiTargetsd(Transform):
    """Write what a network should predict for each voxel, from the ids and the classes of the ROIs.

    Let it come after all spatial transforms: these move only the ROI volume (nearest neighbor), so target and weights
    are in step with it by construction. It adds ``label`` (1, D, H, W) int64, the class; ``weight`` (1, D, H, W)
    float32, the weight in the channel of that class; and ``other_weight`` (1, D, H, W) float32, that in all other
    channels. Outside of ROIs they are 0, 1 and 1.

    Args:
        roi_key: item with the ROI ids (1, D, H, W), on any device.
        label_key: item to write.
        weight_key: item to write.
        other_weight_key: item to write; None for none.
        weighting: "confidence" for the weights of the ROIs; "equal" for 1 in every labeled ROI and channel.
        unlabeled_weight: weight in all channels of an ROI without a label. 1.0, as for background, in AutoCellLabeler;
            0.0 takes them out of the loss.
        keep: keep the items with one entry per ROI. Their lengths differ between animals, so that a batch of several
            needs ``pad_rois``.
        pad_rois: fill the kept items with zeros to this many entries; a ROI id 0 is none.

    Raises:
        InvalidInputError: ``unlabeled_weight`` is negative or not finite; ``pad_rois`` without ``keep``.
    """

    def __init__(
        self,
        roi_key: str = "roi",
        label_key: str = "label",
        weight_key: str = "weight",
        other_weight_key: str | None = "other_weight",
        weighting: str = "confidence",
        unlabeled_weight: float = 1.0,
        keep: bool = False,
        pad_rois: int | None = None,
    ) -> None:
        if not 0 <= unlabeled_weight < float("inf"):
            raise InvalidInputError(f"unlabeled_weight={unlabeled_weight!r}: expected a number of at least 0")
        if pad_rois is not None and not keep:
            raise InvalidInputError(f"pad_rois={pad_rois} has no effect without keep=True")
        self.roi_key = roi_key
        self.label_key, self.weight_key, self.other_weight_key = label_key, weight_key, other_weight_key
        self.weighting = check_option("weighting", weighting, WEIGHTINGS)
        self.unlabeled_weight = float(unlabeled_weight)
        self.keep = keep
        self.pad_rois = pad_rois

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the target and the weights, and without the items that have an entry per ROI.

        Args:
            data: the ROI volume, ``roi_ids``, ``roi_class``, ``roi_weight``, ``roi_other_weight``.

        Raises:
            InvalidInputError: an item is missing; more than one channel; see :func:`roi_slots`; weights that are
                negative or not finite; more ROIs than ``pad_rois``.
        """
        result = dict(data)
        lacking = [key for key in (self.roi_key, *ROI_KEYS[:4]) if key not in data]
        if lacking:
            raise InvalidInputError(f"items {lacking} are missing; LoadCellVolumed makes them")
        volume = data[self.roi_key]
        if volume.ndim != 4 or volume.shape[0] != 1:
            raise InvalidInputError(f"{self.roi_key} has shape {tuple(volume.shape)}; expected (1, D, H, W)")
        slots = roi_slots(convert_data_type(volume, torch.Tensor)[0], torch.as_tensor(data["roi_ids"]))
        for key, values in self._tables(data).items():
            looked_up = values.to(slots.device)[slots]
            result[key] = convert_to_dst_type(looked_up, volume, dtype=values.dtype)[0]
        for key in ROI_KEYS:
            if key in result and not self.keep:
                del result[key]
            elif key in result and self.pad_rois is not None:
                result[key] = self._padded(torch.as_tensor(result[key]), key)
        return result

    def _tables(self, data: Mapping[Hashable, Any]) -> dict[str, torch.Tensor]:
        """What to write for the background and each ROI, (1 + N,), by item."""
        classes = torch.as_tensor(data["roi_class"], dtype=torch.int64)
        tables = {self.label_key: torch.cat([classes.new_zeros(1), classes])}
        for key, source in ((self.weight_key, "roi_weight"), (self.other_weight_key, "roi_other_weight")):
            if key is None:
                continue
            weights = torch.as_tensor(data[source], dtype=torch.float32).to(classes.device)
            if self.weighting == "equal":
                weights = torch.ones_like(weights)
            weights = torch.cat([weights.new_ones(1), torch.where(classes > 0, weights, self.unlabeled_weight)])
            check_weights(weights, source)
            tables[key] = weights
        return tables

    def _padded(self, values: torch.Tensor, key: str) -> torch.Tensor:
        assert self.pad_rois is not None
        if len(values) > self.pad_rois:
            raise InvalidInputError(f"{key} has {len(values)} entries, more than pad_rois={self.pad_rois}; raise it")
        return torch.nn.functional.pad(values, (0, self.pad_rois - len(values)))
