"""Keeping parts of a network as they are."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from voxel_ext.errors import InvalidInputError


def freeze(network: nn.Module, prefixes: Sequence[str]) -> nn.Module:
    """Exclude parameters from training, by the beginning of their names; return the network.

    Running statistics of normalization layers go on.

    Args:
        network: whose parameters get ``requires_grad=False``.
        prefixes: e.g. ``["encoder"]`` for all of ``encoder.…``.

    Raises:
        InvalidInputError: no parameter has such a name; lists the parts that there are.
    """
    for prefix in prefixes:
        found = [p for name, p in network.named_parameters() if name == prefix or name.startswith(prefix + ".")]
        if not found:
            parts = sorted({name.split(".")[0] for name, _ in network.named_parameters()})
            raise InvalidInputError(
                f"frozen: the network has no parameters {prefix!r}; its parts are {', '.join(parts)}"
            )
        for parameter in found:
            parameter.requires_grad = False
    return network
