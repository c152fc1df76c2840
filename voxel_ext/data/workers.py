"""Worker processes with one thread each, which end with the process that started them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import torch

from voxel_ext.errors import InvalidInputError, VoxelExtError
from voxel_ext.processes import worker_context


def start_pool(num_workers: int) -> ProcessPoolExecutor:
    """Start worker processes with one thread each that end with this process.

    Args:
        num_workers: how many.
    """
    return ProcessPoolExecutor(num_workers, mp_context=worker_context(), initializer=_start_worker)


def _start_worker() -> None:
    """End a worker process when the process that wants its results is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    torch.set_num_threads(1)


Item = TypeVar("Item")
Result = TypeVar("Result")


def results_in_order(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Generator[Result]:
    """Call a function in the threads or processes of a pool, for a few items before their results are asked for.

    Args:
        pool: where it is called.
        function: of one item.
        items: in the order of the results.
        ahead: how many items to begin before the result of the first of them is given.

    Yields:
        the results in the order of the items. What has not begun when the generator is closed is dropped.
    """
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


@contextlib.contextmanager
def explain_ended_workers(what: str, remedy: str = "lower num_workers") -> Iterator[None]:
    """Say what to do about worker processes that end while the block waits for them.

    Args:
        what: is made, e.g. "volumes"; those that are finished are kept.
        remedy: against a lack of memory.

    Raises:
        VoxelExtError: a worker process ended unexpectedly.
    """
    try:
        yield
    except BrokenProcessPool as error:
        raise VoxelExtError(
            f"a worker process ended unexpectedly, probably out of memory: {remedy} (or it could not start: a script "
            f"needs 'if __name__ == \"__main__\":'). Finished {what} are kept"
        ) from error


def check_picklable(generator: object) -> None:
    """Refuse a generator of volumes that cannot be sent to worker processes.

    Args:
        generator: see ``SyntheticVolumes``.

    Raises:
        InvalidInputError: it cannot be pickled.
    """
    try:
        pickle.dumps(generator)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InvalidInputError(
            f"the generator cannot be sent to worker processes ({error}); use SyntheticVolumes, a function of a module "
            "or a functools.partial of one, or num_workers=0"
        ) from error
