"""What is stored of a network's outputs: activation, reduction and data type of each target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from voxel_ext.data.vector_codes import encode_vectors
from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.inferers.reductions import Reduction, read_reduction
from voxel_ext.networks.activations import ACTIVATIONS, activate
from voxel_ext.targets import COMPONENT_ORDERS

OUTPUT_DTYPES = ("float32", "float16", "uint8")
"""Data types of results that are not reduced."""

SINGLE = "output"
"""Name of the output of a network that gives one tensor."""


@dataclass(frozen=True)
class BlockOutput:
    """How one output of a network becomes an array.

    Args:
        name: of the target; ``SINGLE`` for a network that gives one tensor.
        channels: of the logits.
        activation: see :func:`~voxel_ext.networks.activations.activate`.
        reduction: applied after it, or None.
        dtype: "float32", "float16", or "uint8": of sigmoid and softmax round(255 v), of unit_norm the codes of
            :func:`~voxel_ext.data.vector_codes.encode_vectors`. Reduced outputs are uint8, classes beyond 256 uint16.

        component_order: "xyz" to store the three channels in reverse order.

    Raises:
        InvalidInputError: argmax of one channel, unit_norm as uint8 or "xyz" without 3 channels, or values without a
            known range as uint8.
    """

    name: str
    channels: int
    activation: str = "none"
    reduction: Reduction | None = None
    dtype: str = "float32"
    component_order: str = "zyx"

    def __post_init__(self) -> None:
        if self.component_order != "zyx" and (self.channels != 3 or self.reduction is not None):
            raise InvalidInputError(
                f"component_order={self.component_order!r} of {self.name!r}, which has {self.channels} channels and "
                f"the reduction {self.reduction}; expected vectors of 3 components, not reduced"
            )
        if self.reduction is not None:
            if self.reduction.threshold is None and self.channels < 2:
                raise InvalidInputError(
                    f"{self.name!r} has 1 channel, of which argmax is always 0; use a threshold as its reduction"
                )
            return
        if self.dtype == "uint8" and self.activation == "none":
            raise InvalidInputError(
                f"{self.name!r} cannot be stored as uint8: its activation is 'none', so the range of its values is not "
                "known; give an activation, a reduction, or output_dtype 'float16' or 'float32'"
            )
        if self.dtype == "uint8" and self.activation == "unit_norm" and self.channels != 3:
            raise InvalidInputError(f"{self.name!r} has {self.channels} channels; as uint8, vectors need 3")

    @property
    def stored_channels(self) -> int:
        """Channels of the array."""
        return 1 if self.reduction is not None and self.reduction.threshold is None else self.channels

    @property
    def stored_dtype(self) -> np.dtype:
        """Data type of the array."""
        if self.reduction is None:
            return np.dtype(self.dtype)
        return np.dtype("uint16" if self.reduction.threshold is None and self.channels > 256 else "uint8")

    def settings(self) -> dict[str, Any]:
        """All of it, for JSON."""
        reduction = None if self.reduction is None else str(self.reduction)
        return {
            "channels": self.channels,
            "activation": self.activation,
            "reduction": reduction,
            "dtype": str(self.stored_dtype),
            "component_order": self.component_order,
        }

    def finish(self, logits: torch.Tensor, covered: torch.Tensor | None) -> np.ndarray:
        """Make what is stored of some planes.

        Args:
            logits: (C, d, h, w) float32.
            covered: (d, h, w) bool, where there was a window; the others become 0. None: everywhere.

        Returns:
            (stored channels, d, h, w) of the stored data type.
        """
        values = activate(logits[None], self.activation)[0]
        if self.component_order == "xyz":
            values = values.flip(0)
        if self.reduction is not None:
            values = self.reduction(values)
        elif self.dtype == "uint8" and self.activation != "unit_norm":
            values = (values * 255).round()
        if covered is not None:
            values = values * covered
        if self.reduction is None and self.dtype == "uint8" and self.activation == "unit_norm":
            return encode_vectors(values.cpu().numpy(), np.dtype("uint8"))
        return values.cpu().numpy().astype(self.stored_dtype)


def read_outputs(
    channels: Mapping[str, int],
    activations: str | Mapping[str, str],
    reductions: Any,
    output_dtype: str | Mapping[str, str],
    component_order: str | Mapping[str, str] = "zyx",
) -> list[BlockOutput]:
    """Read what is to be stored of the outputs of a network.

    Args:
        channels: of the logits of each wanted target.
        activations: of all, or by target ("none" for those left out).
        reductions: of all, or by target (None for those left out); see :func:`~voxel_ext.inferers.read_reduction`.
        output_dtype: of all, or by target ("float32" for those left out).
        component_order: of all, or by target ("zyx" for those left out).

    Raises:
        InvalidInputError: an unknown target, activation, reduction or data type, or one that does not fit; see
            :class:`BlockOutput`.
    """
    return [
        BlockOutput(
            name,
            count,
            for_target(activations, name, "none"),
            read_reduction(for_target(reductions, name, None), f"reductions of {name!r}"),
            for_target(output_dtype, name, "float32"),
            for_target(component_order, name, "zyx"),
        )
        for name, count in channels.items()
    ]


def check_values(activations: Any, reductions: Any, output_dtype: Any, component_order: Any) -> None:
    """Refuse unknown activations, reductions, data types and orders; see :func:`read_outputs`.

    Raises:
        InvalidInputError: names the setting and lists what is known.
    """
    for where, value in _each("activations", activations):
        check_option(where, value, ACTIVATIONS)
    for where, value in _each("reductions", reductions):
        read_reduction(value, where)
    for where, value in _each("output_dtype", output_dtype):
        check_option(where, value, OUTPUT_DTYPES)
    for where, value in _each("component_order", component_order):
        check_option(where, value, COMPONENT_ORDERS)


def _each(setting: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(f"{setting}#{name}", part) for name, part in value.items()]
    return [(setting, value)]


def for_target(value: Any, name: str, default: Any) -> Any:
    """Return what a setting is for one target: the setting itself, or if it is a mapping, its part."""
    return value.get(name, default) if isinstance(value, Mapping) else value


def check_names(found: Sequence[str], **settings: Any) -> None:
    """Refuse settings for targets that the network does not have.

    Args:
        found: the network's targets.
        settings: each a mapping by target, a sequence of targets, or anything else, which is passed over.

    Raises:
        InvalidInputError: names the setting and lists the targets.
    """
    for setting, value in settings.items():
        named = value if isinstance(value, Mapping | list | tuple) else ()
        for name in named:
            check_option(f"target in {setting}", name, found)
