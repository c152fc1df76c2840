"""The warm-up of a loss follows the epochs of the trainer, also when it is resumed."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine, Events
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers import LossEpochHandler
from voxel_ext.losses import VAELoss


def train(epochs, log_dir=None, done=0, **options):
    """Train for nothing; return the weights of all batches, and the metric at the end of each epoch."""
    loss = VAELoss(beta=0.5, **options)
    weights, metrics = [], []
    engine = Engine(lambda engine, batch: weights.append(loss.current_beta))
    LossEpochHandler(loss, log_dir).attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: metrics.append(e.state.metrics["current_beta"]))
    engine.load_state_dict({"epoch": done, "max_epochs": epochs, "epoch_length": 2})
    engine.run([0, 1], max_epochs=epochs)
    return weights, metrics


def test_weights_rise_over_the_epochs(tmp_path):
    expected = [0.0, 0.125, 0.25, 0.375, 0.5, 0.5]
    weights, metrics = train(6, tmp_path, warmup="linear", warmup_length=4)
    assert weights == [weight for weight in expected for _ in range(2)]
    assert metrics == expected
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("current_beta")] == list(enumerate(expected, 1))


def test_a_resumed_training_goes_on_where_it_was():
    options = {"warmup": "cyclic", "warmup_length": 4}
    whole, _ = train(7, **options)
    assert whole[::2] == [0.0, 0.25, 0.5, 0.5, 0.0, 0.25, 0.5]
    for done in range(1, 7):
        assert train(7, done=done, **options)[0] == whole[2 * done :]


def test_other_losses_are_refused():
    with pytest.raises(InvalidInputError, match="MSELoss has no set_epoch, or no current_beta"):
        LossEpochHandler(torch.nn.MSELoss())
