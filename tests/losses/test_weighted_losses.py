"""Losses with weights from prediction or target against their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses.weighted import WeightedCrossEntropyLoss, WeightedSmoothL1Loss


def logits_and_target(shape=(2, 3, 4, 5, 6), seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(shape, generator=generator)
    return logits.requires_grad_(), torch.randint(shape[1], (shape[0], *shape[2:]), generator=generator)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5, 6), (3, 2, 5, 4)])
@pytest.mark.parametrize("ignored", [0.0, 0.4])
def test_class_weights_are_those_of_sudre(shape, ignored):
    logits, target = logits_and_target(shape)
    kept = torch.rand(target.shape, generator=torch.Generator().manual_seed(1)) >= ignored
    target = target.where(kept, -100)
    p = torch.softmax(logits.detach().double(), 1).movedim(1, -1)[kept]
    weights = (1 - p).sum(0) / p.sum(0)
    expected = F.cross_entropy(logits.double(), target, weights)
    for form in (target, target[:, None].float()):
        loss = WeightedCrossEntropyLoss()(logits, form)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(
        torch.autograd.grad(loss, logits)[0], torch.autograd.grad(expected, logits)[0], rtol=1e-4, atol=1e-7
    )


def test_weighted_cross_entropy_at_its_limits():
    logits, target = logits_and_target()
    nothing = WeightedCrossEntropyLoss(ignore_index=1)(logits, torch.ones_like(target))
    assert nothing.item() == 0
    assert not torch.autograd.grad(nothing, logits)[0].any()
    certain = torch.zeros(1, 2, 2, 2)
    certain[:, 0] = 1e4  # class 1 is predicted nowhere
    assert WeightedCrossEntropyLoss()(certain, torch.ones(1, 2, 2, dtype=torch.long)).isfinite()
    with pytest.raises(InvalidInputError, match=r"values \[-1, 3\]"):
        WeightedCrossEntropyLoss()(logits, target.masked_fill(target == 0, -1).masked_fill(target == 1, 3))


@pytest.mark.parametrize("beta", [1.0, 0.3])
@pytest.mark.parametrize("below", [True, False])
def test_weighted_smooth_l1(below, beta):
    generator = torch.Generator().manual_seed(0)
    prediction, target = (2 * torch.randn(2, 1, 4, 5, 6, generator=generator) for _ in range(2))
    target[0, 0, 0, 0, 0] = 0.5  # at the threshold, which is not below
    prediction.requires_grad_()
    total = torch.zeros(())
    for x, t in zip(prediction.flatten(), target.flatten(), strict=True):
        difference = (x - t).abs()
        value = difference**2 / (2 * beta) if difference < beta else difference - beta / 2
        total = total + value * (7 if (t < 0.5) == below else 1)
    loss = WeightedSmoothL1Loss(0.5, 7, below, beta)(prediction, target)
    assert loss.item() == pytest.approx(total.item() / target.numel(), rel=1e-5)
    gradient = torch.autograd.grad(loss, prediction)[0]
    torch.testing.assert_close(gradient, torch.autograd.grad(total / target.numel(), prediction)[0])


def test_weighted_smooth_l1_with_weight_one_is_that_of_torch():
    generator = torch.Generator().manual_seed(2)
    prediction, target = (torch.randn(3, 2, 7, 8, generator=generator) for _ in range(2))
    assert WeightedSmoothL1Loss(0, 1)(prediction, target) == pytest.approx(nn.SmoothL1Loss()(prediction, target))


def test_bad_input():
    for settings in ({"weight": 0}, {"weight": -1}, {"beta": 0}, {"threshold": float("nan")}):
        with pytest.raises(InvalidInputError, match=f"{next(iter(settings))}="):
            WeightedSmoothL1Loss(**{"threshold": 0.5, "weight": 2, **settings})
    with pytest.raises(InvalidInputError, match=r"\(2, 3\).*\(3,\)"):
        WeightedSmoothL1Loss(0.5, 2)(torch.ones(2, 3), torch.ones(3))
