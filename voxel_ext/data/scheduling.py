"""Doing independent blocks of work in this process, in worker processes, or on a Dask cluster."""

from __future__ import annotations

import functools
import multiprocessing
import os
import pickle
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from voxel_ext.data.workers import explain_ended_workers, start_pool
from voxel_ext.errors import InvalidInputError, MissingDataError, VoxelExtError, check_counts, require

CONNECT_SECONDS = 15
"""How long to wait for a Dask scheduler to answer."""


class BlockScheduler(ABC):
    """Calls a function for each of many independent tasks, somewhere."""

    @abstractmethod
    def run(self, function: Callable[..., Any], tasks: Sequence[Any], common: Any = None) -> Generator[tuple[int, Any]]:
        """Call ``function(task, common)``, or ``function(task)`` where ``common`` is None, for every task.

        Args:
            function: of a module; what it gets and returns must be picklable where other processes call it.
            tasks: one argument each.
            common: an argument of all; sent to each worker once.

        Yields:
            the number of a task and its result, in the order of completion.

        Raises:
            VoxelExtError: worker processes were lost; or whatever a task raises. Tasks not begun are then dropped.
        """

    @property
    def workers(self) -> int:
        """How many tasks run at a time, for dividing the work."""
        return 1


class SerialScheduler(BlockScheduler):
    """One task after the other in this process."""

    def run(self, function: Callable[..., Any], tasks: Sequence[Any], common: Any = None) -> Generator[tuple[int, Any]]:
        """See :class:`BlockScheduler`."""
        for index, task in enumerate(tasks):
            yield index, function(task) if common is None else function(task, common)


class ProcessScheduler(BlockScheduler):
    """Worker processes on this machine, with one thread each.

    Args:
        num_workers: how many, at least 1.
    """

    def __init__(self, num_workers: int) -> None:
        check_counts({"num_workers": 1}, num_workers=num_workers)
        self.num_workers = num_workers

    @property
    def workers(self) -> int:
        """How many processes there are."""
        return self.num_workers

    def run(self, function: Callable[..., Any], tasks: Sequence[Any], common: Any = None) -> Generator[tuple[int, Any]]:
        """See :class:`BlockScheduler`; a process that ends unexpectedly is an error."""
        with _shared(common) as path, start_pool(max(min(self.num_workers, len(tasks)), 1)) as pool:
            futures = {pool.submit(_call, function, task, path): index for index, task in enumerate(tasks)}
            try:
                with explain_ended_workers("blocks"):
                    for future in as_completed(list(futures)):
                        yield futures.pop(future), future.result()
            finally:
                for future in futures:
                    future.cancel()


@contextmanager
def _shared(common: Any) -> Iterator[str]:
    """A file with what all tasks need; no name where they need nothing."""
    if common is None:
        yield ""
        return
    with tempfile.TemporaryDirectory(prefix="voxel_ext-") as folder:
        path = os.path.join(folder, "common.pickle")
        with open(path, "wb") as file:
            pickle.dump(common, file, protocol=pickle.HIGHEST_PROTOCOL)
        yield path


@functools.lru_cache(maxsize=1)
def _load(path: str) -> Any:
    with open(path, "rb") as file:
        return pickle.load(file)


def _call(function: Callable[..., Any], task: Any, path: str) -> Any:
    return function(task, _load(path)) if path else function(task)


class DaskScheduler(BlockScheduler):
    """Workers of a Dask cluster; what a lost worker was doing is done again by another.

    Args:
        address: of the scheduler ("tcp://host:8786"), or a scheduler file; None starts a cluster on this machine.
        num_workers: processes of the cluster on this machine, with one thread each; 0 for one per core.

    Raises:
        MissingDependencyError: ``dask.distributed`` is not installed.
    """

    def __init__(self, address: str | None = None, num_workers: int = 0) -> None:
        check_counts({}, num_workers=num_workers)
        self._distributed = require("distributed", extra="dask")
        self.address = address
        self.num_workers = num_workers or os.cpu_count() or 1
        self._connected = 0

    @property
    def workers(self) -> int:
        """How many tasks run at a time: of a cluster elsewhere, as many as it has threads."""
        if self.address is not None and not self._connected:
            with self._client() as client:
                self._connected = max(sum(client.nthreads().values()), 1)
        return self._connected or self.num_workers

    def run(self, function: Callable[..., Any], tasks: Sequence[Any], common: Any = None) -> Generator[tuple[int, Any]]:
        """See :class:`BlockScheduler`.

        Raises:
            VoxelExtError: the scheduler cannot be reached; or the workers of one task were lost again and again.
        """
        with self._client() as client:
            # as a task, not as scattered data: it can be made again where the worker that held it was lost
            shared = None if common is None else client.submit(pickle.loads, pickle.dumps(common), pure=False)
            more = [] if shared is None else [shared]
            futures = {
                client.submit(_with_one_thread, function, task, *more, pure=False): index
                for index, task in enumerate(tasks)
            }
            try:
                for future in self._distributed.as_completed(list(futures)):
                    yield futures.pop(future), self._result(future)
            finally:
                with suppress(OSError, TimeoutError):  # the scheduler may be gone
                    client.cancel(list(futures))

    def _result(self, future: Any) -> Any:
        try:
            return future.result()
        except self._distributed.KilledWorker as error:
            raise VoxelExtError(
                f"the workers that had one block were lost again and again, probably out of memory ({error}). Finished "
                "blocks are kept: give the workers more memory, or lower num_workers, and run again"
            ) from error
        except (self._distributed.comm.CommClosedError, self._distributed.client.FutureCancelledError) as error:
            raise VoxelExtError(
                f"the connection to the Dask scheduler {self.address or 'on this machine'} was lost ({error}); "
                "finished blocks are kept"
            ) from error

    @contextmanager
    def _client(self) -> Iterator[Any]:
        if self.address is None:
            # no port for the dashboard: it needs further packages, and may be taken
            with (
                self._distributed.LocalCluster(
                    n_workers=self.num_workers, threads_per_worker=1, dashboard_address=None, memory_limit=0
                ) as cluster,
                self._distributed.Client(cluster) as client,
            ):
                yield client
            return
        place = {"scheduler_file": self.address} if _is_file(self.address) else {"address": self.address}
        try:
            client = self._distributed.Client(**place, timeout=CONNECT_SECONDS)
        except (OSError, TimeoutError, ValueError) as error:
            raise VoxelExtError(
                f"the Dask scheduler {self.address} cannot be reached ({error}); is it running (dask scheduler), and "
                "is the address right, such as tcp://host:8786?"
            ) from error
        with client:
            yield client


def _is_file(address: str) -> bool:
    """Whether a scheduler's address is a scheduler file, which must exist."""
    if "://" in address:
        return False
    if not Path(address).is_file():
        raise MissingDataError(
            f"scheduler={address!r} is neither an address such as tcp://host:8786 nor a scheduler file that exists"
        )
    return True


def _with_one_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call with one thread of torch, as in other worker processes: the results are then the same to the bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return function(*arguments)
    finally:
        torch.set_num_threads(threads)


def block_scheduler(scheduler: str | None = None, num_workers: int = 0) -> BlockScheduler:
    """Choose where independent blocks of work are done.

    Args:
        scheduler: None for this machine without Dask; "dask" for a Dask cluster on this machine; or the address of the
            scheduler of a running Dask cluster ("tcp://host:8786"), or its scheduler file.
        num_workers: processes on this machine; 0 for this process (with "dask": one per core). Of a running cluster the
            workers that it has are used.

    Raises:
        InvalidInputError: a negative number of workers, or a scheduler of another kind.
        MissingDependencyError: Dask is asked for and not installed.
    """
    check_counts({}, num_workers=num_workers)
    if scheduler in (None, ""):
        return ProcessScheduler(num_workers) if num_workers else SerialScheduler()
    if not isinstance(scheduler, str):
        raise InvalidInputError(
            f"scheduler={scheduler!r}; expected null, 'dask', or an address such as tcp://host:8786"
        )
    return DaskScheduler(None if scheduler == "dask" else scheduler, num_workers)


def worker_number() -> int:
    """Number that tells this worker from others, to choose a GPU by (modulo their number); 0 in the main process."""
    if "distributed" in sys.modules:  # not imported otherwise: this is slow
        with suppress(ValueError):  # this process is no worker of Dask
            name = str(sys.modules["distributed"].get_worker().name)
            return int(name) if name.isdigit() else sum(name.encode())
    identity = getattr(multiprocessing.current_process(), "_identity", ())
    return identity[-1] - 1 if identity else 0
