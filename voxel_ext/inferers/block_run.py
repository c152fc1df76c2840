"""Running what is not finished of a block-wise result, here or elsewhere, and publishing it."""

from __future__ import annotations

import contextlib
import copy
import logging
import pickle
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from tqdm import tqdm

from voxel_ext.data.scheduling import BlockScheduler
from voxel_ext.errors import InvalidInputError
from voxel_ext.inferers.block_state import BlockState
from voxel_ext.inferers.block_store import create_store
from voxel_ext.inferers.sweep import SweepJob, run_task

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""How often finished blocks are counted for the progress bar."""


def run_blocks(
    job: SweepJob,
    state: BlockState,
    settings: Mapping[str, Any],
    voxel_size: Sequence[float] | None,
    scheduler: BlockScheduler,
    resume: bool,
    overwrite: bool,
    progress: bool,
) -> None:
    """Make a result, or what is missing of it.

    Args:
        job: what to compute.
        state: of the result; locked.
        settings: all that the result depends on, for JSON.
        voxel_size: (z, y, x) in micrometers, or None.
        scheduler: where the tasks are done.
        resume: see :class:`~voxel_ext.inferers.BlockwiseInferer`.
        overwrite: the same.
        progress: show a progress bar.

    Raises:
        VoxelExtError: see :meth:`~voxel_ext.inferers.BlockwiseInferer.__call__`.
    """
    if state.is_complete(settings, resume, overwrite):
        logger.info("%s is complete", job.store)
        state.clear()
        return
    plan = job.plan
    if state.can_continue(settings, resume, overwrite):
        logger.info("continuing %s: %d blocks are finished", job.store, len(state.finished()))
    else:
        create_store(state.result, job.outputs, job.single, plan.grid.size, plan.chunks, voxel_size, settings)
        state.begin(settings)
    tasks = plan.tasks(state.finished(), scheduler.workers)
    with _progress_bar(state, len(plan.tiles) * plan.num_slabs, job.store.name, progress):
        results = scheduler.run(run_task, tasks, job)
        with contextlib.closing(results):
            for _ in results:
                pass
    state.publish()


def sendable(network: Callable[..., Any], *others: Any) -> Callable[..., Any]:
    """Return a network as other processes can get it: on the CPU.

    Args:
        network: the network.
        others: what else is sent.

    Raises:
        InvalidInputError: any of it cannot be pickled.
    """
    if isinstance(network, torch.nn.Module) and any(one.device.type != "cpu" for one in network.parameters()):
        network = copy.deepcopy(network).to("cpu")
    try:
        pickle.dumps((network, *others))
    except (pickle.PicklingError, AttributeError, TypeError, RuntimeError) as error:
        raise InvalidInputError(
            f"the network, the transform or an argument cannot be sent to other processes ({error}); use classes and "
            "functions of modules, no lambda, or num_workers=0 without a scheduler"
        ) from error
    return network


@contextlib.contextmanager
def _progress_bar(state: BlockState, total: int, name: str, shown: bool) -> Iterator[None]:
    """Show how many blocks are finished, whoever finishes them."""
    if not shown:
        yield
        return
    ended = threading.Event()
    with tqdm(total=total, initial=len(state.finished()), desc=name, unit="block") as bar:

        def update() -> None:
            more = len(state.finished()) - bar.n
            if more:  # without a terminal every update is a line
                bar.update(more)

        def look() -> None:
            while not ended.wait(LOOK_SECONDS):
                update()

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            update()
