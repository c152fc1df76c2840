"""What tells, in JSON, whether a network or a function is the same as in an earlier run."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

DEEPEST = 6


def describe(value: Any, depth: int = 0) -> Any:
    """Describe an argument or a function by its values, never by its place in memory.

    Args:
        value: numbers, text, arrays, containers, functions, partial functions, or objects, which are described by
            class and attributes.
        depth: of the containers around it; below ``DEEPEST`` only the class counts.

    Returns:
        what can be written as JSON; equal values give equal descriptions in every process.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, torch.Tensor | np.ndarray):
        array = torch.as_tensor(value).detach().cpu().contiguous()
        return f"{array.dtype} {tuple(array.shape)} sha256 {_digest(array)}"
    if isinstance(value, torch.nn.Module):
        return describe_network(value)
    kind = value if hasattr(value, "__qualname__") else type(value)
    name = f"{getattr(kind, '__module__', '')}.{kind.__qualname__}"
    if depth >= DEEPEST or (kind is value and not hasattr(value, "__self__")):
        return name
    return _describe_parts(value, name, depth + 1)


def _describe_parts(value: Any, name: str, depth: int) -> Any:
    if isinstance(value, Mapping):
        return {str(key): describe(part, depth) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [describe(part, depth) for part in value]
    if isinstance(value, functools.partial):
        parts = [value.func, list(value.args), dict(value.keywords)]
        return {name: [describe(part, depth) for part in parts]}
    if hasattr(value, "__self__"):
        return {name: describe(value.__self__, depth)}
    if hasattr(value, "__dict__"):
        return {name: {key: describe(part, depth) for key, part in sorted(vars(value).items())}}
    return {name: re.sub(r"0x[0-9a-fA-F]+", "", repr(value))}


def describe_network(network: Any) -> Any:
    """Describe a network by its class, its structure and its weights; another callable as :func:`describe` does."""
    if not isinstance(network, torch.nn.Module):
        return describe(network)
    weights = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        if isinstance(tensor, torch.Tensor):
            weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            weights.update(_digest(tensor.detach().cpu().contiguous()).encode())
    kind = type(network)
    structure = hashlib.sha256(repr(network).encode()).hexdigest()
    return {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "structure": structure[:16],
        "weights": weights.hexdigest()[:16],
    }


def _digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()[:16]
