"""Computing a run of slabs of a tile: windows are added layer by layer, finished slabs written once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voxel_ext.data.lazy_volume import LazyVolume
from voxel_ext.data.scheduling import worker_number
from voxel_ext.errors import InvalidInputError, MissingDataError, VoxelExtError
from voxel_ext.files import explain_write_errors
from voxel_ext.inferers.accumulator import FinishedPlane, PlaneAccumulator
from voxel_ext.inferers.block_output import BlockOutput
from voxel_ext.inferers.block_plan import BlockPlan, Task, Tile
from voxel_ext.inferers.block_state import BlockState
from voxel_ext.inferers.block_store import BlockStore
from voxel_ext.inferers.predict import Predictor
from voxel_ext.inferers.region_reader import Layer, RegionReader
from voxel_ext.inferers.windows import importance_map

FAILURES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError, MemoryError)
"""What networks, readers and writers raise; torch's errors are RuntimeErrors."""


@dataclass
class SweepJob:
    """All that the tasks of a run have in common; it can be sent to other processes.

    Attributes are as in :class:`~voxel_ext.inferers.BlockwiseInferer`.
    """

    plan: BlockPlan
    outputs: list[BlockOutput]
    single: bool
    store: Path
    volume: LazyVolume
    mask: LazyVolume | None
    network: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    devices: Sequence[torch.device]
    amp: bool
    sw_batch_size: int
    mode: str
    sigma_scale: Any
    padding_mode: str
    cval: float
    minimum_intensity: float | None
    transform: Callable[[Any], Any] | None
    prefetch: int


@contextlib.contextmanager
def named_block(text: str) -> Iterator[None]:
    """Name the block in errors about it.

    Args:
        text: what was done, e.g. "reading planes 0:64 of tile 0".

    Raises:
        VoxelExtError: any error of the block, with ``text`` before its own text; an ``InvalidInputError`` and a
            ``MissingDataError`` stay such.
    """
    try:
        yield
    except (VoxelExtError, *FAILURES) as error:
        kinds = (InvalidInputError, MissingDataError)
        kind = next((one for one in kinds if isinstance(error, one)), VoxelExtError)
        what = str(error) if isinstance(error, VoxelExtError) else f"{type(error).__name__}: {error}"
        raise kind(f"{text} failed: {what}") from error


def run_task(task: Task, job: SweepJob) -> int:
    """Compute and write what is not finished of a run of slabs.

    Args:
        task: the slabs.
        job: of which run.

    Returns:
        the number of slabs.

    Raises:
        VoxelExtError: something failed; names the tile, the planes and the windows.
    """
    state = BlockState(job.store)
    finished = state.finished()
    first = task.first
    while first < task.stop and (task.tile, first) in finished:
        first += 1
    if first < task.stop:
        _Sweep(Task(task.tile, first, task.stop), job, state).run()
    return task.stop - task.first


class _Sweep:
    """One run of slabs of a tile."""

    def __init__(self, task: Task, job: SweepJob, state: BlockState) -> None:
        self.job, self.plan = job, job.plan
        self.tile = job.plan.tiles[task.tile]
        self.planes = job.plan.planes(task.first, task.stop)
        self.where = f"tile {task.tile} ({self.tile})"
        device = job.devices[worker_number() % len(job.devices)]
        network = job.network.to(device) if isinstance(job.network, torch.nn.Module) else job.network
        self.predict = Predictor(network, device, job.amp, job.args, job.kwargs)
        self.sums = PlaneAccumulator(
            job.plan.grid,
            self.tile,
            self.planes,
            {output.name: output.channels for output in job.outputs},
            importance_map(job.plan.grid.roi_size, job.mode, job.sigma_scale, device),
            device,
        )
        self.writer = _SlabWriter(task.tile, self.tile, job, state)

    def run(self) -> None:
        """Compute and write all of them."""
        job, grid = self.job, self.plan.grid
        reader = RegionReader(
            grid,
            self.plan.columns(self.tile),
            job.volume,
            job.mask,
            job.minimum_intensity,
            job.transform,
            job.padding_mode,
            job.cval,
        )
        starts = self.plan.layers(self.planes)
        layers = reader.layers(starts, job.prefetch)
        with contextlib.closing(layers), self.writer:
            for start in starts:
                self._write(before=start - grid.before[0])
                with named_block(f"reading {job.volume.address} for {self._layer_name(start)}"):
                    layer = next(layers)
                self._add(layer)
            self._write(before=self.planes[1])

    def _layer_name(self, start: int) -> str:
        first = start - self.plan.grid.before[0]
        return f"{self.where}, planes {max(first, 0)}:{min(first + self.plan.grid.roi_size[0], self.plan.grid.size[0])}"

    def _add(self, layer: Layer) -> None:
        """Predict the windows of a layer, in batches that are the same in every sweep, and add them."""
        size, roi = self.job.sw_batch_size, self.plan.grid.roi_size
        for first in range(0, len(layer.columns), size):
            columns = layer.columns[first : first + size]
            corners = [(layer.start, *column) for column in columns]
            with named_block(f"the network on {self._layer_name(layer.start)}, windows that begin at {corners}"):
                found = self.predict(torch.stack([layer.window(column, roi) for column in columns]))
                self._check(found)
                for index, corner in enumerate(corners):
                    self.sums.add(corner, {one.name: found[one.name][index].float() for one in self.job.outputs})

    def _check(self, found: Mapping[str, torch.Tensor]) -> None:
        for output in self.job.outputs:
            shape = tuple(found[output.name].shape) if output.name in found else None
            if shape is None or shape[1] != output.channels:
                raise InvalidInputError(
                    f"{output.name!r} of the network is {shape}; it had {output.channels} channels before"
                )

    def _write(self, before: int) -> None:
        for plane in self.sums.take(before):
            self.writer.add(plane)


class _SlabWriter:
    """Collects planes to slabs and writes them in a thread while the next one is collected."""

    def __init__(self, index: int, tile: Tile, job: SweepJob, state: BlockState) -> None:
        self.index, self.tile, self.job, self.state = index, tile, job, state
        self.store = BlockStore(state.result, job.outputs, job.single)
        self.slabs: dict[str, np.ndarray] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._writing: Future[None] | None = None

    def __enter__(self) -> _SlabWriter:
        return self

    def __exit__(self, kind: Any, *error: Any) -> None:
        try:
            if kind is None and self._writing is not None:
                self._writing.result()
        finally:
            self._thread.shutdown()

    def add(self, plane: FinishedPlane) -> None:
        """Add the next plane."""
        slab, depth = plane.z // self.job.plan.chunks[0], self.job.plan.chunks[0]
        first, stop = self.job.plan.planes(slab, slab + 1)
        if not self.slabs:
            self.slabs = {output.name: self._empty(output, stop - first) for output in self.job.outputs}
        if plane.values:
            covered = None if plane.covered is None else plane.covered[None]
            with named_block(f"tile {self.index} ({self.tile}), plane {plane.z}: activation and reduction"):
                for one in self.job.outputs:
                    # one plane at a time: vectorized functions of torch give other last bits for other shapes
                    self.slabs[one.name][:, plane.z % depth] = one.finish(plane.values[one.name][:, None], covered)[
                        :, 0
                    ]
        if plane.z == stop - 1:
            self._write(slab, first, stop)

    def _empty(self, output: BlockOutput, depth: int) -> np.ndarray:
        height, width = self.tile.y[1] - self.tile.y[0], self.tile.x[1] - self.tile.x[0]
        return np.zeros((output.stored_channels, depth, height, width), output.stored_dtype)

    def _write(self, slab: int, first: int, stop: int) -> None:
        if self._writing is not None:
            self._writing.result()
        slabs, self.slabs = self.slabs, {}
        box = (slice(first, stop), slice(*self.tile.y), slice(*self.tile.x))

        def write() -> None:
            with (
                named_block(f"writing {self.job.store}: tile {self.index} ({self.tile}), planes {first}:{stop}"),
                explain_write_errors(self.job.store),
            ):
                self.state.check_alive()
                self.store.write(slabs, box)
                self.state.mark(self.index, slab)

        self._writing = self._thread.submit(write)
