import contextlib
import itertools
import json
import multiprocessing
import time
from multiprocessing.connection import Connection

import forked_commands
import pytest
import torch
from ignite.engine import Events

from voxel_ext.errors import CheckpointError, InvalidInputError, MissingDataError
from voxel_ext.handlers import read_checkpoint, read_history, save_checkpoint


@pytest.mark.parametrize("workers", [0, 1])
def test_resumed_training_equals_unbroken_training(make_run, workers):
    whole = make_run(5, "whole", workers=workers)()
    make_run(2, "broken", workers=workers)()
    resumed = make_run(5, "broken", workers=workers, resume=True)()
    assert len(whole.losses()) == 5
    assert resumed.losses() == whole.losses()
    assert [r["learning_rate"] for r in resumed.history.rows] == [r["learning_rate"] for r in whole.history.rows]
    for ours, theirs in zip(resumed.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    stored = read_history(resumed.history.path)
    assert [row["epoch"] for row in stored] == [1, 2, 3, 4, 5]
    assert stored[4]["train_loss"] == whole.losses()[4]


def test_epochs_draw_different_data_and_seeds_differ(make_run):
    losses = make_run(4)().losses()
    assert len(set(losses)) == 4


@pytest.mark.parametrize(("policy", "expected"), [("last", 0), ("best", 0), ("all", 3)])
def test_policies_keep_what_they_say(make_run, policy, expected):
    run = make_run(3, policy=policy)()
    folder = run.checkpoint.ckpt_dir
    assert len(list(folder.glob("model_epoch_*.pt"))) == expected
    weights = read_checkpoint(folder / "model.pt")
    assert set(weights) == set(run.network.state_dict())
    if policy == "last":
        assert all(torch.equal(value, run.network.state_dict()[name]) for name, value in weights.items())


def test_best_is_the_epoch_with_the_highest_metric(make_run):
    run = make_run(6, policy="all")()
    metrics = [row["val_dice"] for row in run.history.rows]
    best = metrics.index(max(metrics)) + 1
    folder = run.checkpoint.ckpt_dir
    kept, of_epoch = read_checkpoint(folder / "model.pt"), read_checkpoint(folder / f"model_epoch_{best:04d}.pt")
    assert all(torch.equal(kept[name], of_epoch[name]) for name in kept)
    assert read_checkpoint(folder / "checkpoint_last.pt")["best_metric"] == max(metrics)


def test_new_run_moves_the_earlier_one_aside(make_run):
    first = make_run(1)()
    weights = read_checkpoint(first.checkpoint.ckpt_dir / "model.pt")
    make_run(1)()
    moved = first.checkpoint.ckpt_dir / "previous" / "1"
    assert {path.name for path in moved.iterdir()} == {
        "model.pt",
        "checkpoint_last.pt",
        "history.jsonl",
        "settings.json",
    }
    kept = read_checkpoint(moved / "model.pt")
    assert all(torch.equal(kept[name], weights[name]) for name in weights)


def test_resume_says_which_settings_differ(make_run, caplog):
    make_run(1, settings={"learning_rate": 0.01})()
    with caplog.at_level("WARNING"):
        run = make_run(2, resume=True, settings={"learning_rate": 0.5, "patch": (8, 8)})()
    assert "learning_rate was 0.01, is now 0.5" in caplog.text
    assert json.loads((run.checkpoint.ckpt_dir / "settings.json").read_text()) == {
        "learning_rate": 0.5,
        "patch": [8, 8],
    }


def test_resume_without_checkpoint_starts_anew_with_a_warning(make_run, caplog):
    with caplog.at_level("WARNING"):
        assert len(make_run(1, resume=True)().losses()) == 1
    assert "starts from the beginning" in caplog.text


def test_resume_of_a_complete_run_does_nothing(make_run, caplog):
    weights = make_run(2)().network.state_dict()
    with caplog.at_level("WARNING"):
        again = make_run(2, resume=True)()
    assert "complete" in caplog.text
    assert all(torch.equal(value, weights[name]) for name, value in again.network.state_dict().items())


def test_load_weights_only_starts_at_epoch_zero(make_run):
    first = make_run(2, "first")()
    path = str(first.checkpoint.ckpt_dir / "model.pt")
    second = make_run(1, "second", resume=path, load_weights_only=True)
    loaded = []
    second.trainer.add_event_handler(
        Events.EPOCH_STARTED, lambda e: loaded.append({k: v.clone() for k, v in second.network.state_dict().items()})
    )
    second()
    best = read_checkpoint(path)
    assert all(torch.equal(loaded[0][name], best[name]) for name in best)
    assert [row["epoch"] for row in second.history.rows] == [1]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"policy": "bset"}, InvalidInputError, "checkpoint_policy='bset'.*'last', 'best', 'all'.*Did you mean 'best'"),
        ({"validator": None}, InvalidInputError, "needs a validator"),
        ({"load_weights_only": True}, InvalidInputError, "needs the path of a checkpoint in resume"),
        ({"states": {}}, InvalidInputError, "no 'network'"),
    ],
)
def test_bad_arguments(make_run, arguments, error, message):
    with pytest.raises(error, match=message):
        make_run(1, **arguments)


def test_unknown_key_metric_lists_the_metrics(make_run):
    with pytest.raises(InvalidInputError, match=r"key_metric='val_iuo'.*val_dice"):
        make_run(1, key_metric="val_iuo")()


def test_missing_and_bad_checkpoints(make_run, tmp_path):
    with pytest.raises(MissingDataError, match=r"nowhere\.pt"):
        make_run(1, resume=str(tmp_path / "nowhere.pt"))()
    last = make_run(1, "good")().checkpoint.ckpt_dir / "checkpoint_last.pt"
    whole = last.read_bytes()
    for name, content in {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"not a checkpoint" * 9,
    }.items():
        path = tmp_path / f"{name}.pt"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{name}.pt cannot be read as a checkpoint"):
            make_run(2, resume=str(path))()
    with pytest.raises(CheckpointError, match="has no epoch, network, optimizer"):
        make_run(2, resume=str(last.parent / "model.pt"))()


def test_resume_with_another_optimizer_is_refused(make_run):
    path = make_run(1)().checkpoint.ckpt_dir / "checkpoint_last.pt"
    content = read_checkpoint(path)
    save_checkpoint(path, content | {"kinds": content["kinds"] | {"optimizer": "RMSprop"}})
    with pytest.raises(CheckpointError, match="its optimizer was a RMSprop, now it is a Adam"):
        make_run(2, resume=True)()


def test_failed_resume_leaves_the_earlier_run_untouched(make_run):
    folder = make_run(1)().checkpoint.ckpt_dir
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "checkpoint_last.pt").write_bytes(before["checkpoint_last.pt"][:100])
    with pytest.raises(CheckpointError):
        make_run(2, resume=True)()
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(after) == set(before)
    assert after["model.pt"] == before["model.pt"]


def test_disk_full_keeps_the_previous_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    save_checkpoint(path, {"a": torch.ones(3)})

    def full(content, stream):
        stream.write(b"part of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, {"a": torch.zeros(3)})
    assert torch.equal(read_checkpoint(path)["a"], torch.ones(3))
    assert [item.name for item in tmp_path.iterdir()] == ["model.pt"]


def write_without_end(path: str, numbers: Connection) -> None:
    for number in itertools.count():
        save_checkpoint(path, {"number": torch.full((200_000,), number)})
        numbers.send(number)


def test_kill_while_writing_leaves_a_readable_checkpoint(tmp_path):
    path = tmp_path / "model.pt"
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = forked_commands.start(write_without_end, str(path), sender)
    sender.close()
    written = [receiver.recv() for _ in range(3)]
    time.sleep(0.0137)
    process.kill()
    process.join()
    with contextlib.suppress(EOFError):
        while True:
            written.append(receiver.recv())
    number = read_checkpoint(path)["number"]
    assert torch.equal(number, torch.full((200_000,), int(number[0])))
    assert int(number[0]) >= written[-1]
