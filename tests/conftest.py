"""Fixtures that tests of several folders use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import forked_commands
import numpy as np
import pytest


@pytest.fixture
def dask() -> Iterator[None]:
    """Skip the test where there is no Dask; its workers are forked instead of importing everything anew."""
    pytest.importorskip("distributed")
    from dask import config

    forked_commands.start_server()
    with config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        yield


@pytest.fixture
def make_worms(tmp_path: Path) -> Callable[..., list[Path]]:
    """Return a function that writes tiny prepared worms of random cubes, whose positions are alike, and lists them."""
    from voxel_ext.data import WormCubes, write_worm

    def make(
        number: int = 4,
        cells: int = 12,
        size: int = 8,
        missing: Mapping[int, Sequence[int]] | None = None,
        turned: Sequence[int] = (),
        channels: str = "raw",
        names: Sequence[str] | None = None,
        folder: str = "worms",
        seed: int = 0,
    ) -> list[Path]:
        rng = np.random.default_rng(seed)
        mean = rng.normal(0, (8, 16, 100), (cells, 3))
        files = []
        for worm in range(number):
            valid = np.ones(cells, bool)
            valid[list((missing or {}).get(worm, ()))] = False
            shape = (cells, 3 if channels == "raw+mask+soft" else 1, size, size, size)
            cubes = rng.uniform(10, 90, shape).astype(np.float32)
            if channels == "raw+mask+soft":
                cubes[:, 1] = cubes[:, 1] > 50
            cubes[~valid] = 0
            relative = (mean + rng.normal(0, 1, mean.shape)) * ([-1, -1, 1] if worm in turned else [1, 1, 1])
            positions = (relative + np.array([70, 70, 600])).astype(np.float32)
            positions[~valid] = np.nan
            header = (
                f"worm{worm}",
                valid,
                positions,
                tuple(names or [f"CELL{i}" for i in range(cells)]),
                (140, 140, 1200),
                channels,
                size,
            )
            files.append(write_worm(tmp_path / folder / f"worm{worm}.h5", WormCubes(*header, cubes=cubes)))
        return files

    return make
