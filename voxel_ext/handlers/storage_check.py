"""Comparing the sizes that a torch file declares with what is in it: torch itself reads beyond the end."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from voxel_ext.errors import CheckpointError

_ITEM_SIZES = {"Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2}
_ITEM_SIZES |= {"ComplexDouble": 16, "ComplexFloat": 8}
_EXPANSION = 100
"""Bytes of tensors for each byte of the file: tensors may share values, but not without bound."""
_SMALL = 2**20


def check_storages(path: Path) -> None:
    """Check that each storage of a torch file is as long as its tensors need, and that nothing is compressed.

    Nothing of the file is executed or kept. Files that are not zip archives (torch before 1.6) are passed over.

    Args:
        path: the file.

    Raises:
        CheckpointError: a storage is missing or too short, or the content larger than the file.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        if sum(sizes.values()) > path.stat().st_size:
            raise CheckpointError(f"{path} is no torch file, or damaged: its content is larger than the file")
        scans = [name for name in sizes if name.endswith("/data.pkl")]
        for name in scans:
            with archive.open(name) as stream:
                scan = _Scan(stream)
                scan.load()
            root = name.removesuffix("data.pkl")
            for key, needed in scan.found:
                there = sizes.get(f"{root}data/{key}", -1)
                if not 0 <= needed <= there:
                    raise CheckpointError(
                        f"{path} is damaged: a tensor needs {needed} bytes of storage {key}, "
                        f"{'which is missing' if there < 0 else f'which has {there}'}"
                    )


def check_expansion(content: Any, path: Path) -> None:
    """Check that tensors that share values are not much larger than the file.

    Args:
        content: of the file.
        path: the file.

    Raises:
        CheckpointError: they are.
    """
    limit = _EXPANSION * path.stat().st_size + _SMALL
    total = 0
    for tensor in _tensors(content):
        total += tensor.numel() * tensor.element_size()
        if total > limit:
            raise CheckpointError(
                f"{path} is damaged or no checkpoint: a tensor has the shape {tuple(tensor.shape)} in a file of "
                f"{path.stat().st_size} bytes"
            )


def is_plain(value: torch.Tensor, own: torch.Tensor) -> bool:
    """Tell whether a read tensor can stand for one of ours.

    Args:
        value: as read.
        own: a parameter of the network.

    Returns:
        whether it is stored plainly, with values, and complex only where ``own`` is.
    """
    return value.layout == torch.strided and value.device.type != "meta" and value.is_complex() <= own.is_complex()


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


class _Inert:
    """Stands for every object of a pickle and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __call__(self, *args: Any, **kwargs: Any) -> _Inert:
        return _Inert()

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...

    def add(self, value: Any) -> None: ...


class _Scan(pickle._Unpickler):  # the one in Python: that in C allocates what is declared
    """Collects which storages a pickle needs, and how much of each; it never finds a real class or function."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.found: list[tuple[str, int]] = []

    def find_class(self, module: str, name: str) -> Any:
        return type(name, (_Inert,), {})

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or len(pid) != 5 or type(pid[4]) is not int:
            raise pickle.UnpicklingError(f"a storage is {str(pid)[:60]}")
        _, kind, key, _, count = pid
        item = _ITEM_SIZES.get(getattr(kind, "__name__", "").removesuffix("Storage"), 1)
        self.found.append((str(key), count * item))
        return _Inert()
