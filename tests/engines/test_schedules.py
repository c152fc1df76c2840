"""Learning rate schedules: the rates of every epoch in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from voxel_ext.engines import build_lr_scheduler
from voxel_ext.errors import InvalidInputError


def optimizer(rate=0.1):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)


def rates(scheduler, optim, losses):
    found = []
    for loss in losses:
        found.append(optim.param_groups[0]["lr"])
        optim.step()
        scheduler.step(*(() if loss is None else (loss,)))
    return [*found, optim.param_groups[0]["lr"]]


@pytest.mark.parametrize("warmup", [0, 3])
def test_cosine(warmup):
    optim = optimizer(0.1)
    found = rates(build_lr_scheduler("cosine", optim, minimum=0.01, epochs=8, warmup_epochs=warmup), optim, [None] * 10)
    rise = [0.1 * (i + 1) / (warmup + 1) for i in range(warmup)]
    steps = 8 - warmup
    fall = [0.01 + 0.09 * (1 + math.cos(math.pi * i / steps)) / 2 for i in range(steps + 1)]
    assert found == pytest.approx([*rise, *fall, 0.01, 0.01])
    assert found[warmup] == pytest.approx(0.1)
    assert found[8] == pytest.approx(0.01)


def test_polynomial():
    optim = optimizer(0.1)
    scheduler = build_lr_scheduler("polynomial", optim, minimum=0.01, epochs=8, warmup_epochs=2, power=2)
    fall = [0.01 + 0.09 * (1 - i / 6) ** 2 for i in range(7)]
    assert rates(scheduler, optim, [None] * 9) == pytest.approx([0.1 / 3, 0.2 / 3, *fall, 0.01])


def test_power_must_be_positive():
    with pytest.raises(InvalidInputError, match="lr_scheduler_power=0"):
        build_lr_scheduler("polynomial", optimizer(), power=0)


def test_plateau():
    optim = optimizer(0.1)
    scheduler = build_lr_scheduler("plateau", optim, factor=0.5, patience=1, minimum=0.03)
    assert rates(scheduler, optim, [1.0, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6]) == pytest.approx(
        [0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.03, 0.03, 0.03]
    )


def test_plateau_of_a_metric_that_should_grow():
    values = [0.5, 0.6, 0.7, 0.7, 0.6, 0.8]
    optim = optimizer(0.1)
    scheduler = build_lr_scheduler("plateau", optim, factor=0.5, patience=1, mode="max")
    assert rates(scheduler, optim, values) == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05])
    optim = optimizer(0.1)
    scheduler = build_lr_scheduler("plateau", optim, factor=0.5, patience=1, mode="min")
    assert rates(scheduler, optim, values) == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.05, 0.025, 0.025])


def test_a_validation_loss_that_is_not_known_is_no_improvement():
    optim = optimizer(0.1)
    scheduler = build_lr_scheduler("plateau", optim, factor=0.5, patience=1)
    assert rates(scheduler, optim, [1.0, math.nan, math.nan]) == pytest.approx([0.1, 0.1, 0.1, 0.05])


@pytest.mark.parametrize("name", ["plateau", "cosine"])
def test_a_schedule_goes_on_from_its_state(name):
    def build():
        optim = optimizer(0.1)
        return build_lr_scheduler(name, optim, patience=0, epochs=6, warmup_epochs=2), optim

    losses = [1.0] * 5 if name == "plateau" else [None] * 5
    whole = rates(*build(), losses)
    scheduler, optim = build()
    rates(scheduler, optim, losses[:2])
    later, other = build()
    later.load_state_dict(scheduler.state_dict())
    other.load_state_dict(optim.state_dict())
    assert rates(later, other, losses[2:]) == pytest.approx(whole[2:])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"name": "cosin"}, "Did you mean 'cosine'"),
        (
            {"name": "cosine", "epochs": 5, "warmup_epochs": 5},
            "warmup_epochs=5 must be 0 or more, and less than epochs=5",
        ),
        ({"name": "cosine", "warmup_epochs": -1}, "warmup_epochs=-1"),
        ({"name": "cosine", "minimum": 0.2}, r"lr_scheduler_min=0\.2 must be from 0 to the learning rate, 0\.1"),
        ({"name": "plateau", "minimum": -1.0}, r"lr_scheduler_min=-1\.0"),
        ({"name": "plateau", "mode": "maximum"}, "mode"),
        ({"name": "plateau", "factor": 1.0}, r"lr_scheduler_factor=1\.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, match):
    with pytest.raises(InvalidInputError, match=match):
        build_lr_scheduler(optimizer=optimizer(), **settings)
