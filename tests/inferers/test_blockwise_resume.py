"""Killed, failed, divided runs: always the same bytes."""

from __future__ import annotations

import random

import forked_commands
import pytest
import torch
from blockwise_networks import (
    FailsOnce,
    Identity,
    KillsItsWorkerOnce,
    Slow,
    TwoConvolutions,
    TwoTargets,
    contents,
    inferer,
    volume,
)

from voxel_ext.errors import InvalidInputError, VoxelExtError
from voxel_ext.inferers import block_store
from voxel_ext.inferers.block_state import BlockState

SETTINGS = {
    "activations": {"sheet": "sigmoid", "normals": "unit_norm"},
    "output_dtype": {"sheet": "float32", "normals": "uint8"},
    "tile": (16, 24),
    "sw_batch_size": 3,
}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def image():
    return volume(40, 20, 24)


@pytest.fixture
def whole(tmp_path, image):
    """Files of a run that nothing disturbed."""
    return contents(inferer(**SETTINGS)(image, TwoTargets(), tmp_path / "whole.zarr"))


@pytest.mark.parametrize("at", [1, 7, 20, 33, 50])
def test_failed_run_is_continued(tmp_path, image, at):
    network, store = FailsOnce(TwoTargets(), at), tmp_path / "a.zarr"
    reference = FailsOnce(TwoTargets(), -1)
    # state of the network is part of what must not change: the place of the failure is no weight
    wanted = contents(inferer(**SETTINGS)(image, reference, tmp_path / "whole.zarr"))
    with pytest.raises(VoxelExtError, match=r"the network on (an empty window|tile \d \(y .*planes .*begin at \[\()"):
        inferer(**SETTINGS)(image, network, store)
    assert not store.exists()
    before = network.windows
    assert inferer(**SETTINGS)(image, network, store) == store
    assert contents(store) == wanted
    assert not BlockState(store).folder.exists()
    assert network.windows <= reference.windows * 1.5 + before


def test_finished_slabs_are_not_computed_again(tmp_path, image):
    # 5 slabs of 4 windows each, after the empty one that asks for the channels
    network = FailsOnce(Identity(), 13)
    settings = {"overlap": 0, "roi_size": (8, 10, 12)}
    with pytest.raises(VoxelExtError, match="out of memory"):
        inferer(**settings)(image, network, tmp_path / "a.zarr")
    assert BlockState(tmp_path / "a.zarr").finished() == {(0, 0), (0, 1), (0, 2)}
    network.at, network.windows = 5, 0
    with pytest.raises(VoxelExtError):
        inferer(**settings)(image, network, tmp_path / "a.zarr")
    network.at, network.windows = -1, 0
    inferer(**settings)(image, network, tmp_path / "a.zarr")
    assert network.windows == 1 + 4


def test_failed_write_is_named_and_continued(tmp_path, image, whole, monkeypatch):
    write, written = block_store.BlockStore.write, []

    def full(self, slabs, box):
        written.append(box)
        if len(written) == 3:
            write(self, {"normals": slabs["normals"]}, box)
            raise OSError(28, "No space left on device")
        write(self, slabs, box)

    monkeypatch.setattr(block_store.BlockStore, "write", full)
    with pytest.raises(VoxelExtError, match=r"writing .*a.zarr: tile 0 .*planes 16:24 failed.*disk is full"):
        inferer(**SETTINGS)(image, TwoTargets(), tmp_path / "a.zarr")
    assert BlockState(tmp_path / "a.zarr").finished() == {(0, 0), (0, 1)}
    inferer(**SETTINGS)(image, TwoTargets(), tmp_path / "a.zarr")
    assert contents(tmp_path / "a.zarr") == whole
    assert len(written) == 3 + 8


def predict_slowly(store: str) -> None:
    torch.set_num_threads(1)
    inferer(**SETTINGS)(volume(40, 20, 24), Slow(), store)


def test_killed_run_is_continued(tmp_path, image):
    """Ten kills at random moments, wherever these are: reading, computing, writing, renaming."""
    store = tmp_path / "a.zarr"
    moments = random.Random(0)
    for _ in range(10):
        process = forked_commands.start(predict_slowly, str(store))
        process.join(moments.uniform(0.01, 0.5))
        process.kill()
        process.join()
        if store.exists():
            break
    inferer(**SETTINGS)(image, Slow(), store)
    assert contents(store) == contents(inferer(**SETTINGS)(image, Slow(), tmp_path / "whole.zarr"))
    assert not BlockState(store).folder.exists()


def test_strays_of_killed_writes_are_removed(tmp_path, image, whole):
    store = tmp_path / "a.zarr"
    with pytest.raises(VoxelExtError):
        inferer(**SETTINGS)(image, _failing_once(), store)
    (BlockState(store).result / "sheet" / "0" / ".0123abc.partial").write_bytes(b"half")
    inferer(**SETTINGS)(image, TwoTargets(), store)
    assert contents(store) == whole


def _failing_once():
    """A network like TwoTargets to the inferer, which fails in the middle."""
    network, seen = TwoTargets(), []

    def fail(module, inputs):
        seen.append(0)
        if len(seen) == 12:
            raise RuntimeError("lost")

    network.register_forward_pre_hook(fail)
    return network


def test_two_processes_give_the_same_bytes(tmp_path, image, whole):
    with pytest.raises(VoxelExtError):
        inferer(**SETTINGS)(image, _failing_once(), tmp_path / "a.zarr")
    inferer(**SETTINGS, num_workers=2)(image, TwoTargets(), tmp_path / "a.zarr")
    assert contents(tmp_path / "a.zarr") == whole


@pytest.mark.usefixtures("dask")
def test_two_dask_workers_give_the_same_bytes(tmp_path, image, whole):
    inferer(**SETTINGS, num_workers=2, scheduler="dask")(image, TwoTargets(), tmp_path / "a.zarr")
    assert contents(tmp_path / "a.zarr") == whole


@pytest.mark.usefixtures("dask")
def test_the_block_of_a_lost_dask_worker_is_done_again(tmp_path, image, whole):
    network = KillsItsWorkerOnce(tmp_path / "killed")
    inferer(**SETTINGS, num_workers=2, scheduler="dask")(image, network, tmp_path / "a.zarr")
    assert network.mark.exists()
    found = contents(tmp_path / "a.zarr")
    # the settings in zarr.json of the store name the network's class
    assert {name: found[name] for name in found if name != "zarr.json"} == {
        name: whole[name] for name in whole if name != "zarr.json"
    }


def test_complete_result_is_returned_at_once(tmp_path, image, caplog):
    network, store = Identity(), tmp_path / "a.zarr"
    inferer()(image, network, store)
    before, network.windows = contents(store), 0
    with caplog.at_level("INFO"):
        assert inferer(prefetch=0, overwrite=True)(image, network, store) == store
    assert (network.windows, contents(store)) == (1, before)
    assert "is complete" in caplog.text
    assert not BlockState(store).folder.exists()


def test_result_of_other_settings_is_refused(tmp_path, image):
    store = inferer()(image, TwoConvolutions(), tmp_path / "a.zarr")
    before = contents(store)
    changed = TwoConvolutions()
    with torch.no_grad():
        changed.layers[0].weight += 1
    tries = [
        (
            {"overlap": 0.25},
            image,
            TwoConvolutions(),
            r"a.zarr was made with.*overlap is \[0.5, 0.5, 0.5\] there, \[0.25",
        ),
        ({}, image, changed, "network.weights is"),
        ({}, image + 1, TwoConvolutions(), r"source\..* is .* there"),
        ({"activations": "sigmoid"}, image, TwoConvolutions(), "outputs.output.activation is none there, sigmoid now"),
        ({"resume": False}, image, TwoConvolutions(), "exists, and resume=False"),
    ]
    for settings, source, network, message in tries:
        with pytest.raises(InvalidInputError, match=message):
            inferer(**settings)(source, network, store)
        assert contents(store) == before
        assert not BlockState(store).folder.exists()
    inferer(overlap=0.25, overwrite=True)(image, TwoConvolutions(), store)
    assert contents(store) != before
    assert contents(store) == contents(inferer(overlap=0.25)(image, TwoConvolutions(), tmp_path / "b.zarr"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]


def test_blocks_of_other_settings_are_refused(tmp_path, image, whole):
    store = tmp_path / "a.zarr"
    with pytest.raises(VoxelExtError):
        inferer(**SETTINGS)(image, _failing_once(), store)
    with pytest.raises(InvalidInputError, match=r"a.zarr.partial was made with other settings: mode is gaussian"):
        inferer(**SETTINGS, mode="constant")(image, TwoTargets(), store)
    inferer(**SETTINGS, mode="constant", overwrite=True)(image, TwoTargets(), store)
    inferer(**SETTINGS, resume=False, overwrite=True)(image, TwoTargets(), store)
    assert contents(store) == whole


def test_two_runs_at_once_are_refused(tmp_path, image):
    state = BlockState(tmp_path / "a.zarr")
    with state.locked(), pytest.raises(VoxelExtError, match=r"another run is writing .*a\.zarr"):
        inferer()(image, TwoConvolutions(), tmp_path / "a.zarr")
    inferer()(image, TwoConvolutions(), tmp_path / "a.zarr")


def test_other_things_are_not_replaced(tmp_path, image):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "mine").write_text("keep")
    with pytest.raises(InvalidInputError, match="is no result of block-wise inference"):
        inferer()(image, TwoConvolutions(), tmp_path / "a.zarr")
    assert (tmp_path / "a.zarr" / "mine").exists()
    (tmp_path / "b.zarr").write_text("a file")
    with pytest.raises(InvalidInputError, match="exists and is no folder"):
        inferer()(image, TwoConvolutions(), tmp_path / "b.zarr")
