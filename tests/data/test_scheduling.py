"""Blocks of work are done once each, wherever that is."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
import torch

from voxel_ext.data.scheduling import (
    DaskScheduler,
    ProcessScheduler,
    SerialScheduler,
    block_scheduler,
    worker_number,
)
from voxel_ext.errors import InvalidInputError, MissingDataError, VoxelExtError


def square(number: int) -> int:
    return number * number


def scaled(number: int, common: dict) -> float:
    return number * common["factor"]


def process(number: int) -> tuple[int, int, int]:
    return os.getpid(), torch.get_num_threads(), worker_number()


def refuse_two(number: int) -> int:
    if number == 2:
        raise InvalidInputError("block 2 is damaged")
    return number


def die_once(number: int, folder: str) -> int:
    """End the process hard the first time that task 1 is done."""
    mark = Path(folder) / "died"
    if number == 1 and not mark.exists():
        mark.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(params=["serial", "processes", "dask"])
def scheduler(request):
    if request.param == "serial":
        return block_scheduler()
    if request.param == "processes":
        return block_scheduler(num_workers=2)
    request.getfixturevalue("dask")
    return block_scheduler("dask", num_workers=2)


def test_every_task_is_done_once_and_errors_reach_the_caller(scheduler):
    threads = torch.get_num_threads()
    assert sorted(scheduler.run(scaled, range(5), {"factor": 0.5})) == [(i, i / 2) for i in range(5)]
    with pytest.raises(InvalidInputError, match="block 2 is damaged"):
        list(scheduler.run(refuse_two, range(5)))
    assert torch.get_num_threads() == threads
    assert worker_number() == 0


@pytest.mark.parametrize("name", [None, "dask"])
def test_workers_are_other_processes_with_one_thread(name, request):
    if name:
        request.getfixturevalue("dask")
    found = dict(block_scheduler(name, num_workers=2).run(process, range(8))).values()
    assert all(identity != os.getpid() and threads == 1 for identity, threads, _ in found)
    numbers = {identity: number % 2 for identity, _, number in found}
    assert len(numbers) == len(set(numbers.values()))


def test_no_tasks():
    assert list(block_scheduler().run(square, [])) == []
    assert sorted(block_scheduler().run(square, range(3))) == [(0, 0), (1, 1), (2, 4)]


@pytest.mark.usefixtures("dask")
def test_dask_does_the_block_of_a_lost_worker_again(tmp_path):
    done = dict(block_scheduler("dask", num_workers=2).run(die_once, range(4), str(tmp_path)))
    assert done == {i: i for i in range(4)}
    assert (tmp_path / "died").exists()


def test_a_worker_process_that_dies_is_named(tmp_path):
    with pytest.raises(VoxelExtError, match=r"ended unexpectedly.*Finished blocks are kept"):
        list(ProcessScheduler(2).run(die, range(2)))


def test_a_running_cluster_is_used(tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        scheduler = block_scheduler(cluster.scheduler_address)
        assert scheduler.workers == 2
        assert sorted(scheduler.run(square, range(3))) == [(0, 0), (1, 1), (2, 4)]


def test_kinds():
    assert isinstance(block_scheduler(), SerialScheduler)
    assert isinstance(block_scheduler(num_workers=3), ProcessScheduler)
    assert block_scheduler(num_workers=3).workers == 3
    assert block_scheduler().workers == 1


def test_an_unreachable_scheduler_is_named(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("voxel_ext.data.scheduling.CONNECT_SECONDS", 0.5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(VoxelExtError, match=rf"{address} cannot be reached.*dask scheduler"):
        list(DaskScheduler(address).run(square, [1]))


def test_a_scheduler_file_must_exist(tmp_path):
    pytest.importorskip("distributed")
    with pytest.raises(MissingDataError, match="neither an address"):
        list(block_scheduler(str(tmp_path / "scheduler.json")).run(square, [1]))


@pytest.mark.parametrize("bad", [-1, 1.5, True])
def test_bad_numbers_of_workers(bad):
    with pytest.raises(InvalidInputError, match="num_workers"):
        block_scheduler(num_workers=bad)


def test_bad_scheduler():
    with pytest.raises(InvalidInputError, match="scheduler=5"):
        block_scheduler(5)  # type: ignore[arg-type]
