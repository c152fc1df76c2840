import json
import math

import pytest
from ignite.engine import Events

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers import read_history


def test_rows_hold_loss_rate_and_validation(make_run):
    run = make_run(3)()
    rows = read_history(run.history.path)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert all({"train_loss", "learning_rate", "seconds", "val_dice"} <= set(row) for row in rows)


def test_train_loss_is_the_mean_over_the_epoch(make_run):
    run = make_run(1)
    losses = []
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(e.state.output["loss"].item()))
    run()
    assert run.losses()[0] == pytest.approx(sum(losses) / len(losses), rel=1e-6)


def test_epochs_without_validation_have_no_stale_metrics(make_run):
    run = make_run(2)
    validate = run.evaluator.run
    run.evaluator.run = lambda epoch: validate(epoch) if epoch == 1 else None
    rows = run().history.rows
    assert "val_dice" in rows[0]
    assert "val_dice" not in rows[1]


def test_nan_becomes_a_gap(make_run):
    run = make_run(1)
    run.history.rows = [{"epoch": 0, "train_loss": math.nan}]
    rows = [json.loads(line) for line in run().history.path.read_text().splitlines()]
    assert rows[0] == {"epoch": 0}


def test_reading(tmp_path):
    assert read_history(tmp_path / "none.jsonl") == []
    path = tmp_path / "history.jsonl"
    path.write_text('{"epoch": 1}\n{"epoch": \n')
    with pytest.raises(InvalidInputError, match=r"history.jsonl, line 2"):
        read_history(path)
    path.write_text("[1]\n")
    with pytest.raises(InvalidInputError, match="expected a JSON object"):
        read_history(path)
