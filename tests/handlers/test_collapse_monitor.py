"""The spread of normalized outputs: constants, random directions, and what a training logs."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from ignite.engine import Engine
from torch.nn import functional as F

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers.collapse_monitor import CollapseMonitorHandler, normalized_moments


def run(batches, epochs=1, **settings):
    """Run an engine whose iterations put out the batches, and return its metrics."""
    handler = CollapseMonitorHandler(**settings)
    engine = Engine(lambda _engine, batch: {"pred": batch} if isinstance(batch, dict) else batch)
    handler.attach(engine)
    engine.run(batches, max_epochs=epochs)
    return engine.state.metrics


def random(count=40, values=16, seed=0):
    return torch.randn(count, values, generator=torch.Generator().manual_seed(seed))


def test_one_batch_is_the_formula():
    z = random()
    unit = z / z.norm(dim=1, keepdim=True)
    std = unit.std(dim=0).mean().item()
    metrics = run([{"z": z}], keys=["z"])
    assert metrics["output_std"] == pytest.approx(std, rel=1e-5)
    assert metrics["output_spread"] == pytest.approx(4 * std, rel=1e-5)


def test_random_directions_spread_as_one_over_the_root_of_d(caplog):
    metrics = run([{"z1": 5 * random(seed=i), "z2": random(seed=50 + i)} for i in range(20)])
    assert metrics["output_std"] == pytest.approx(1 / math.sqrt(16), rel=0.02)
    assert metrics["output_spread"] == pytest.approx(1, rel=0.02)
    assert not caplog.records


def test_small_batches_are_not_biased():
    metrics = run([{"z": random(2, seed=i)} for i in range(600)], keys=["z"])
    assert metrics["output_spread"] == pytest.approx(1, rel=0.05)


def test_a_constant_is_collapsed_even_if_it_drifts_and_its_length_varies(caplog):
    def batch(i):
        direction = F.one_hot(torch.tensor(i % 16), 16).float()
        return {"z1": direction * torch.arange(1.0, 9)[:, None], "z2": direction.expand(8, 16)}

    with caplog.at_level(logging.WARNING):
        metrics = run([batch(i) for i in range(16)])
    assert metrics["output_std"] == pytest.approx(0, abs=1e-7)
    assert "epoch 1: the outputs have collapsed" in caplog.text
    assert "1/sqrt(16) = 0.25" in caplog.text


def test_outputs_that_are_not_numbers_are_warned_of(caplog):
    run([{"z": torch.full((4, 3), math.nan)}], keys=["z"])
    assert "collapsed" in caplog.text


def test_the_threshold_decides(caplog):
    z = torch.zeros(8, 4)
    z[:, 0], z[:, 1] = 1, torch.linspace(-0.3, 0.3, 8)
    spread = run([{"z": z}], keys=["z"], threshold=0)["output_spread"]
    assert 0.05 < spread < 0.3
    assert not caplog.records
    run([{"z": z}], keys=["z"], threshold=spread * 1.01)
    assert "collapsed" in caplog.text


def test_every_epoch_starts_anew():
    batches = [{"z": random()}]
    assert run(batches, epochs=3, keys=["z"]) == pytest.approx(run(batches, keys=["z"]))


def test_decollated_output_is_the_same():
    z = random()
    decollated = [[{"pred": {"z": row}} for row in z]]
    assert run(decollated, keys=["z"]) == pytest.approx(run([{"z": z}], keys=["z"]))


def test_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    metrics = run([{"z": random()}], epochs=2, keys=["z"], log_dir=tmp_path)
    log = EventAccumulator(str(tmp_path))
    log.Reload()
    for name in ("output_std", "output_spread"):
        assert [event.step for event in log.Scalars(name)] == [1, 2]
        assert log.Scalars(name)[1].value == pytest.approx(metrics[name])


def test_bad_input():
    with pytest.raises(InvalidInputError, match="keys='z1'"):
        CollapseMonitorHandler("z1")
    with pytest.raises(InvalidInputError, match="threshold=1"):
        CollapseMonitorHandler(threshold=1)
    with pytest.raises(InvalidInputError, match=r"no 'z1' under 'pred'.*'other'"):
        run([{"other": random()}])
    with pytest.raises(InvalidInputError, match="has 8 values and those before 16"):
        run([{"z1": random(), "z2": random(values=8)}])
    with pytest.raises(InvalidInputError, match="two objects"):
        run([{"z": random(1)}], keys=["z"])
    with pytest.raises(InvalidInputError, match=r"shape \(2, 3, 4\)"):
        normalized_moments(torch.zeros(2, 3, 4))
