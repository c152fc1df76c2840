"""Predictions of a multi-task network from its logits."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Transform

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.activations import activate
from voxel_ext.targets import Target, read_targets


class ActivateTargetsd(Transform):
    """Turn the logits of each target into predictions of their own key.

    Args:
        targets: the network's, as :func:`~voxel_ext.targets.read_targets` takes them.
        key: of the mapping from targets to logits (C, D, H, W), which is removed.
        prefix: of the keys of the predictions; ``pred_sheet`` for the target ``sheet``.

    Raises:
        InvalidInputError: malformed targets.
    """

    def __init__(
        self, targets: Mapping[str, Mapping[str, Any] | Target], key: str = "pred", prefix: str = "pred_"
    ) -> None:
        self.targets = read_targets(targets)
        self.key = key
        self.prefix = prefix

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Activate the logits of one sample.

        Args:
            data: with the mapping under ``key``.

        Returns:
            the data with float32 predictions (C, D, H, W).

        Raises:
            InvalidInputError: there is no such mapping, or it lacks a target.
        """
        logits = data.get(self.key)
        if not isinstance(logits, Mapping):
            raise InvalidInputError(
                f"{self.key!r} is {type(logits).__name__}; expected a mapping from targets to logits, as MultiTaskUNet "
                "returns it"
            )
        result = {key: value for key, value in data.items() if key != self.key}
        for name, target in self.targets.items():
            if name not in logits:
                raise InvalidInputError(f"the network's output has no target {name!r}; it has {sorted(logits)}")
            plain = logits[name].as_tensor() if isinstance(logits[name], MetaTensor) else torch.as_tensor(logits[name])
            result[f"{self.prefix}{name}"] = activate(plain[None], target.activation)[0]
        return result
