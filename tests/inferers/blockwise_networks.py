"""Tiny networks for tests of block-wise inference; in a module, so that other processes find them."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voxel_ext.data.lazy_volume import open_volume
from voxel_ext.inferers.blockwise import BlockwiseInferer


class TwoConvolutions(torch.nn.Module):
    """Looks two voxels far, so that the place of a window in the volume matters."""

    def __init__(self, in_channels: int = 1, channels: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Conv3d(in_channels, 3, 3, padding=1),
            torch.nn.LeakyReLU(),
            torch.nn.Conv3d(3, channels, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class TwoTargets(torch.nn.Module):
    """A mask and normals."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = TwoConvolutions(channels=4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self.layers(x)
        return {"sheet": found[:, :1], "normals": found[:, 1:]}


class Slow(TwoTargets):
    """Takes some time for each batch."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        time.sleep(0.004)
        return super().forward(x)


class KillsItsWorkerOnce(TwoTargets):
    """Ends the worker process that it is in hard, at the third batch, the first time."""

    def __init__(self, mark: Path) -> None:
        super().__init__()
        self.mark, self.batches = mark, 0

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        self.batches += 1
        if self.batches > 2 and multiprocessing.parent_process() is not None and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


class Identity(torch.nn.Module):
    """Gives its input, and counts windows."""

    def __init__(self) -> None:
        super().__init__()
        self.windows = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.windows += len(x)
        return x


class FailsOnce(Identity):
    """Fails at one window."""

    def __init__(self, network: torch.nn.Module, at: int) -> None:
        super().__init__()
        self.network, self.at = network, at

    def forward(self, x: torch.Tensor) -> Any:
        super().forward(x)
        if self.windows > self.at >= 0:
            self.at = -1
            raise RuntimeError("CUDA out of memory")
        return self.network(x)


def inferer(**settings: Any) -> BlockwiseInferer:
    """An inferer of small windows and blocks without a progress bar."""
    defaults: dict[str, Any] = {"roi_size": (8, 10, 12), "chunks": (8, 8, 8), "overlap": 0.5, "progress": False}
    return BlockwiseInferer(**{**defaults, **settings})


def volume(*shape: int, seed: int = 0) -> np.ndarray:
    """Random numbers, (C, D, H, W) or (D, H, W)."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def read(path: str | os.PathLike[str]) -> np.ndarray:
    """All of a result, (C, D, H, W)."""
    return open_volume(path).read((slice(None),) * 3)


def contents(folder: Path) -> dict[str, str]:
    """Hashes of all files in a folder, also hidden ones."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
