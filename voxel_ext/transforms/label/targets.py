"""Refuse targets and weights of voxels that a loss cannot use, before training starts."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import Transform
from monai.utils import convert_data_type, convert_to_dst_type

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.label.roi_targets import check_weights


class CheckTargetsd(Transform):
    """Check class indices and weights of a volume; where there are no weights, all voxels weigh 1 (float32).

    Args:
        label_key: item with class indices (1, D, H, W).
        weight_key: item with weights (1, D, H, W), may be missing.
        image_key: item that tells the file, for messages.
        num_classes: class indices are below this; None for a regression, whose target is any finite number.
        ignore_index: an index that is allowed as well; None for none.
    """

    def __init__(
        self,
        label_key: str = "label",
        weight_key: str = "weight",
        image_key: str = "image",
        num_classes: int | None = None,
        ignore_index: int | None = None,
    ) -> None:
        self.label_key, self.weight_key, self.image_key = label_key, weight_key, image_key
        self.num_classes, self.ignore_index = num_classes, ignore_index

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` that has weights.

        Raises:
            InvalidInputError: an index that is no class (lists them), a value that is not finite, weights of another
                shape, negative, not finite, or all zero; names the file.
        """
        result = dict(data)
        label = convert_data_type(data[self.label_key], torch.Tensor)[0]
        name = f"{self._file(data)}: {self.label_key}"
        if self.num_classes is None:
            if not bool(torch.isfinite(label).all()):
                raise InvalidInputError(f"{name} has values that are not finite; expected numbers")
        else:
            self._check_classes(label, name)
        if self.weight_key not in data:
            result[self.weight_key] = convert_to_dst_type(
                torch.ones(label.shape), data[self.label_key], dtype=torch.float32
            )[0]
            return result
        weight = convert_data_type(data[self.weight_key], torch.Tensor)[0]
        if weight.shape != label.shape:
            raise InvalidInputError(
                f"{self._file(data)}: {self.weight_key} has the shape {tuple(weight.shape)} and {self.label_key} "
                f"{tuple(label.shape)}; expected the same"
            )
        check_weights(weight, f"{self._file(data)}: {self.weight_key}")
        return result

    def _check_classes(self, label: torch.Tensor, name: str) -> None:
        assert self.num_classes is not None  # as the caller has checked
        found = torch.unique(label)
        wrong = [v for v in found.tolist() if v not in range(self.num_classes) and v != self.ignore_index]
        if wrong:
            more = " ..." if len(wrong) > 10 else ""
            raise InvalidInputError(
                f"{name} has {len(wrong)} values that are no class: {wrong[:10]}{more}; expected 0 to "
                f"{self.num_classes - 1}. Instance ids and labels 0 to 3 are turned into classes by `run prepare`"
            )

    def _file(self, data: Mapping[Hashable, Any]) -> str:
        meta = getattr(data.get(self.image_key), "meta", {})
        return str(meta.get("filename_or_obj", "a volume"))
