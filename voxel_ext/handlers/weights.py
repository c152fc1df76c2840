"""Saving and loading checkpoints: atomic, without executing pickled code, with errors that say what does not fit."""

from __future__ import annotations

import logging
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from voxel_ext.errors import CheckpointError, MissingDataError
from voxel_ext.files import atomic_path
from voxel_ext.handlers.storage_check import check_expansion, check_storages, is_plain

logger = logging.getLogger(__name__)

_IN_TRUNK = re.compile(r"(encoder\.)?trunk\.")
_UNREADABLE = (
    *(RuntimeError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, OSError, AssertionError),
    *(OverflowError, MemoryError, NotImplementedError, ImportError, struct.error, zipfile.BadZipFile),
    pickle.UnpicklingError,
)
"""What ``torch.load`` raises on truncated and foreign files."""


def save_checkpoint(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write ``content`` with ``torch.save``; an existing file is replaced only when the new one is whole on disk.

    Raises:
        OSError: the folder is not writable or the disk is full; the previous file is kept.
    """
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        torch.save(dict(content), stream)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint on the CPU with ``weights_only=True``.

    Raises:
        MissingDataError: there is no such file.
        CheckpointError: the file is truncated, not a checkpoint, has tensors larger than the file, or would need
            pickled code to be executed.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"no checkpoint at {path}; train first, or give the path of a checkpoint")
    try:
        check_storages(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except _UNREADABLE as error:
        if isinstance(error, PermissionError):
            raise
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):
            # torch's text advises to switch the protection off
            reason = "it is no torch file, or holds other objects than tensors and would execute code to be read"
        raise CheckpointError(f"{path} cannot be read as a checkpoint: truncated or foreign ({reason})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; expected a dictionary of tensors")
    check_expansion(content, path)
    return content


def load_weights(path: str | os.PathLike[str], network: torch.nn.Module) -> torch.nn.Module:
    """Load the weights of a checkpoint into ``network`` and return it.

    Args:
        path: a file holding a state dict, or a dictionary with one under ``network``, ``model`` or ``state_dict``.
        network: a network of the architecture that was trained; may be wrapped for distributed training.

    Raises:
        MissingDataError: there is no such file.
        CheckpointError: the file is unreadable, or of another architecture (says which parameters differ); the
            network is then unchanged.
    """
    load_state(read_weights(path), network, source=str(path))
    logger.info("weights: %s", path)
    return network


def read_weights(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Read the parameters of a network, as :func:`load_weights` takes them.

    Raises:
        MissingDataError: there is no such file.
        CheckpointError: the file is unreadable or holds no network weights.
    """
    return _state_dict(read_checkpoint(path), Path(path))


def load_state(weights: Mapping[str, torch.Tensor], network: torch.nn.Module, source: str) -> None:
    """Load a state dict after checking that every name and shape fits.

    Raises:
        CheckpointError: some do not; ``source`` and the first differing names are in the message.
    """
    plain = unwrap(network)
    own = plain.state_dict()
    weights = {str(name): value for name, value in weights.items()}
    kinds = [name for name, value in weights.items() if name in own and not is_plain(value, own[name])]
    missing = [name for name in own if name not in weights]
    unexpected = [name for name in weights if name not in own]
    shapes = [
        f"{name} is {tuple(weights[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    if missing or unexpected or shapes:
        parts = [
            f"{len(found)} {what}: {'; '.join(found[:4])}{' ...' if len(found) > 4 else ''}"
            for what, found in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
            if found
        ]
        raise CheckpointError(
            f"{source} is a checkpoint of another architecture than {type(plain).__name__} as configured "
            f"({', '.join(parts)}); give the architecture settings it was trained with"
        )
    if kinds:
        wrong = weights[kinds[0]]
        raise CheckpointError(
            f"{source} is damaged or no checkpoint of {type(plain).__name__}: {kinds[0]} is {wrong.dtype}, "
            f"{wrong.layout}, on {wrong.device}; expected plain values that are {own[kinds[0]].dtype}"
        )
    plain.load_state_dict(weights)


def load_trunk(path: str | os.PathLike[str], network: torch.nn.Module) -> torch.nn.Module:
    """Load the trunk of a pre-trained autoencoder into the encoder of a matching network, and return that network.

    Args:
        path: checkpoint of a :class:`~voxel_ext.networks.nets.GroupAutoEncoder` or ``GroupUNet``, or of any network
            with parameters ``trunk.…`` or ``encoder.trunk.…``.
        network: with a ``trunk`` or an ``encoder.trunk`` of the same architecture; the rest keeps its values.

    Raises:
        MissingDataError: there is no such file.
        CheckpointError: the file is unreadable, has no trunk, or the network has none, or they differ.
    """
    weights = read_weights(path)
    found = {name[name.index("trunk.") + 6 :]: value for name, value in weights.items() if _IN_TRUNK.match(name)}
    plain = unwrap(network)
    trunk = getattr(getattr(plain, "encoder", plain), "trunk", None)
    if not found or not isinstance(trunk, torch.nn.Module):
        where = f"{path} has no parameters" if not found else f"the network {type(plain).__name__} has no part"
        raise CheckpointError(
            f"{where} named trunk; expected a checkpoint of an autoencoder and a network with an encoder"
        )
    load_state(found, trunk, source=str(path))
    logger.info("weights of the encoder: %s (%d tensors; the rest of the network is new)", path, len(found))
    return network


def unwrap(network: torch.nn.Module) -> torch.nn.Module:
    """Return the network inside a (Distributed)DataParallel wrapper, or the network itself."""
    wrappers = (torch.nn.parallel.DistributedDataParallel, torch.nn.DataParallel)
    return network.module if isinstance(network, wrappers) else network


def _state_dict(content: dict[str, Any], path: Path) -> dict[str, torch.Tensor]:
    for key in ("network", "model", "state_dict"):
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    return read_state(content, path)


def read_state(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """Return ``content`` if it is a state dict.

    Args:
        content: from a checkpoint.
        path: the checkpoint's file.

    Raises:
        CheckpointError: it is none.
    """
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__} for the network; expected a state dict")
    if not content or not all(isinstance(value, torch.Tensor) for value in content.values()):
        found = ", ".join(map(repr, list(content)[:6])) or "nothing"
        raise CheckpointError(f"{path} holds no network weights (found {found}); expected a state dict of tensors")
    return content
