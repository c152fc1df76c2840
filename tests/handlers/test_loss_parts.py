"""The parts of a loss are averaged over every epoch."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers import LossPartsHandler


class Loss:
    def __init__(self):
        self.last_parts = {}


def test_means_of_every_epoch(tmp_path):
    loss = Loss()

    def step(engine, value):
        loss.last_parts = {"sheet": torch.tensor(value), "normals": torch.tensor(2 * value * engine.state.epoch)}

    engine = Engine(step)
    LossPartsHandler(loss, tmp_path).attach(engine)
    metrics = engine.run([1.0, 2.0, 6.0], max_epochs=2).metrics
    assert metrics["train_sheet_loss"] == pytest.approx(3.0)
    assert metrics["train_normals_loss"] == pytest.approx(12.0)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train_normals_loss")] == [(1, 6.0), (2, 12.0)]


def test_nothing_is_written_without_a_folder():
    loss = Loss()
    engine = Engine(lambda engine, batch: loss.last_parts.update(sheet=torch.tensor(1.0)))
    LossPartsHandler(loss).attach(engine)
    assert engine.run([0, 1], max_epochs=1).metrics == {"train_sheet_loss": 1.0}


def test_a_loss_without_parts_is_refused():
    with pytest.raises(InvalidInputError, match="MSELoss has no last_parts"):
        LossPartsHandler(torch.nn.MSELoss())
