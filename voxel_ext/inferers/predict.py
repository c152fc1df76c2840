"""Calling a network on a batch of windows, and checking what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.utils import convert_to_tensor

from voxel_ext.errors import InvalidInputError
from voxel_ext.inferers.block_output import SINGLE


class Predictor:
    """Calls a network and gives its outputs by target.

    Args:
        network: gives (B, C, d, h, w), or a mapping of names to such tensors.
        device: where it is.
        amp: whether it runs with automatic mixed precision.
        args: for the network, after the windows.
        kwargs: the same.
    """

    def __init__(
        self,
        network: Callable[..., Any],
        device: torch.device,
        amp: bool = False,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.network, self.device, self.amp, self.args, self.kwargs = network, device, amp, args, kwargs or {}

    @torch.no_grad()
    def __call__(self, windows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Predict.

        Args:
            windows: (B, C, d, h, w) float32.

        Returns:
            by target (``SINGLE`` for a network that gives one tensor), (B, C, d, h, w) of the network's data type.

        Raises:
            InvalidInputError: the network gives anything else, or other sizes than those of the windows.
        """
        with torch.autocast(self.device.type, enabled=self.amp):
            found = self.network(windows.to(self.device), *self.args, **self.kwargs)
        if not isinstance(found, Mapping):
            found = {SINGLE: found}
        return {str(name): self._checked(str(name), value, windows) for name, value in found.items()}

    def _checked(self, name: str, value: Any, windows: torch.Tensor) -> torch.Tensor:
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        wanted = (len(windows), "C", *windows.shape[2:])
        if isinstance(shape, str) or len(shape) != 5 or (shape[0], "C", *shape[2:]) != wanted:
            raise InvalidInputError(
                f"{name!r} of the network is {shape} for windows {tuple(windows.shape)}; expected a tensor "
                f"({', '.join(map(str, wanted))}), or a mapping of names to such tensors"
            )
        return convert_to_tensor(value, track_meta=False)
