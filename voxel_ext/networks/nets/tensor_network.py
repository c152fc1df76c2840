"""A network with a mapping as output, as a network with one tensor as output."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from voxel_ext.errors import InvalidInputError


class TensorNetwork(nn.Module):
    """The tensors of some keys of a network's output, side by side along axis 1, as one tensor.

    For tools that expect (B, C, ...) of a network, such as ``monai.bundle`` ``verify_net_in_out``, ``ckpt_export`` and
    ``onnx_export``. The state dict is that of the network itself, so that both take the same weight file.

    Args:
        network: maps a tensor to a mapping from names to tensors.
        keys: of the mapping, in the order of the channels; the shapes differ along axis 1 only.

    Raises:
        InvalidInputError: no keys.
    """

    keys: list[str]  # for TorchScript, which needs it evaluated: no postponed annotations in this file

    def __init__(self, network: nn.Module, keys: Sequence[str]) -> None:
        super().__init__()
        if isinstance(keys, str) or not len(keys):
            raise InvalidInputError(f"keys={keys!r}: expected a list of at least one key of the network's output")
        self.network = network
        self.keys = list(keys)
        take_state_of_network(self)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map what the network takes to a tensor (B, C, ...), C being the sum over the keys.

        Raises:
            InvalidInputError: the output has no such key. A scripted network raises ``torch.jit.Error``.
        """
        output: dict[str, torch.Tensor] = self.network(image)
        tensors: list[torch.Tensor] = []
        for key in self.keys:
            if key not in output:
                raise InvalidInputError(f"the network's output has no '{key}'; its keys are {list(output.keys())}")
            tensors.append(output[key])
        return torch.cat(tensors, dim=1) if len(tensors) > 1 else tensors[0]


def take_state_of_network(module: nn.Module) -> None:
    """Give a module the state dict of its only part with parameters, the attribute ``network``.

    Args:
        module: whose ``network`` is set.
    """
    module.register_state_dict_post_hook(_leave_out_prefix)
    module.register_load_state_dict_pre_hook(_add_prefix)


def _leave_out_prefix(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Mapping[str, Any]) -> None:
    """``{prefix}network.weight`` becomes ``{prefix}weight``; what other modules put there stays."""
    for name in [name for name in state if name.startswith(f"{prefix}network.")]:
        state[prefix + name.removeprefix(f"{prefix}network.")] = state.pop(name)


def _add_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *unused: Any) -> None:
    """The reverse, for loading."""
    for name in [name for name in state if name.startswith(prefix)]:
        state[f"{prefix}network." + name.removeprefix(prefix)] = state.pop(name)
