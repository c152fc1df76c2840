"""Giving an optimizer, a schedule or a handler its state back, after a look at whether it can be one."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from voxel_ext.errors import CheckpointError
from voxel_ext.handlers.storage_check import is_plain

_MOST_STEPS = 2**53


def restore_state(name: str, state: Any, stored: Any, source: Path) -> None:
    """Call ``state.load_state_dict(stored)`` if ``stored`` is built as the state is now.

    Args:
        name: of the state, for messages.
        state: what has ``state_dict`` and ``load_state_dict``.
        stored: from a checkpoint.
        source: the checkpoint's file.

    Raises:
        CheckpointError: something is missing or of another kind; names it.
    """
    problem = _difference(state.state_dict(), stored, name)
    if not problem and isinstance(state, torch.optim.Optimizer):
        problem = _setting_problem(state, stored["param_groups"], name)
    if not problem:
        try:
            state.load_state_dict(stored)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            problem = f"{name} does not take it ({type(error).__name__}: {error})"
    if not problem and isinstance(state, torch.optim.Optimizer):
        problem = _optimizer_problem(state, name)
    if problem:
        raise CheckpointError(
            f"{source} cannot be resumed: {problem}. To start a new training from its weights set "
            "load_weights_only to true"
        )


def _difference(own: Any, there: Any, name: str) -> str:
    """Where a stored state is not built like one's own; "" if nowhere. None may stand for any single value."""
    wrong = f"{name} is a {type(there).__name__}, expected a {type(own).__name__}"
    if isinstance(own, Mapping):
        if not isinstance(there, Mapping):
            return wrong
        for key, value in own.items():
            if key not in there:
                return f"{name} has no {key}"
            if problem := _difference(value, there[key], f"{name}.{key}"):
                return problem
        return ""
    if isinstance(own, list | tuple):
        if not isinstance(there, list | tuple):
            return wrong
        pairs = zip(own, there, strict=False)
        return next((text for i, (a, b) in enumerate(pairs) if (text := _difference(a, b, f"{name}[{i}]"))), "")
    single = (Real, str, torch.Tensor, type(None))
    kinds = next((kind for kind in (Real, str, torch.Tensor) if isinstance(own, kind)), single)
    allowed = (Real, torch.Tensor, type(None)) if kinds is Real else kinds
    return "" if isinstance(there, allowed) else wrong


def _setting_problem(optimizer: torch.optim.Optimizer, groups: Any, name: str) -> str:
    """What is wrong with an optimizer's stored settings: other switches than now, or values that it does not take."""
    taken = inspect.signature(type(optimizer).__init__).parameters
    for own, there in zip(optimizer.param_groups, groups, strict=False):
        switches = [key for key, value in own.items() if isinstance(value, bool | None) and there[key] is not value]
        if switches:
            key = switches[0]
            return f"{name} has {key} {str(there[key])[:40]}, it is {own[key]} now"
        settings = {key: value for key, value in there.items() if key in taken and key in own and key != "params"}
        try:
            type(optimizer)([torch.nn.Parameter(torch.zeros(1))], **settings)
        except (ValueError, TypeError, RuntimeError) as error:
            return f"{name} does not take its settings ({error})"
    return ""


def _optimizer_problem(optimizer: torch.optim.Optimizer, name: str) -> str:
    """What is wrong with what an optimizer remembers of its parameters, which it only uses in the next step."""
    kinds: dict[str, bool] | None = None
    for parameter, memory in optimizer.state.items():
        if not isinstance(memory, Mapping) or not isinstance(parameter, torch.Tensor):
            return f"{name}.state is not one for each parameter"
        found = {str(key): isinstance(value, torch.Tensor) for key, value in memory.items()}
        if found != (kinds := kinds or found):
            return f"{name}.state has {', '.join(found)} of one parameter, {', '.join(kinds)} of another"
        for key, value in memory.items():
            if not _fits(key, value, parameter):
                return f"{name}.state has a {key} that does not fit a parameter of shape {tuple(parameter.shape)}"
    return ""


def _fits(key: Any, value: Any, parameter: torch.Tensor) -> bool:
    if not isinstance(value, torch.Tensor):
        return value is None or (isinstance(value, int | float) and (key != "step" or 0 <= value < _MOST_STEPS))
    if not is_plain(value, parameter):
        return False
    if key == "step" and not (value.shape == () and 0 <= float(value) < _MOST_STEPS):
        return False
    return value.shape in ((), parameter.shape)
