"""Negative cosine similarity with stop-gradient, and the loss of SimCLR."""

from __future__ import annotations

import math

import pytest
import torch
from monai.losses import ContrastiveLoss

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses.self_supervised import InfoNCELoss, NegativeCosineLoss, self_supervised_loss


def output(seed=0, count=6, values=7):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(count, values, generator=generator) for name in ("p1", "p2", "z1", "z2")}


def test_negative_cosine_is_the_formula():
    pred = output()
    total = 0.0
    for i in range(6):
        for p, z in (("p1", "z2"), ("p2", "z1")):
            a, b = pred[p][i].double(), pred[z][i].double()
            total -= float(a @ b / (a.norm() * b.norm())) / 2
    assert NegativeCosineLoss()(pred).item() == pytest.approx(total / 6, rel=1e-5)


def test_negative_cosine_is_symmetric_and_at_least_minus_one():
    pred = output()
    swapped = {"p1": pred["p2"], "p2": pred["p1"], "z1": pred["z2"], "z2": pred["z1"]}
    loss = NegativeCosineLoss()
    torch.testing.assert_close(loss(pred), loss(swapped))
    torch.testing.assert_close(loss(pred | {"p1": 3 * pred["z2"], "p2": pred["z1"] / 9}), torch.tensor(-1.0))


def test_no_gradient_flows_through_z():
    pred = {name: value.requires_grad_() for name, value in output().items()}
    NegativeCosineLoss()(pred).backward()
    assert pred["z1"].grad is None
    assert pred["z2"].grad is None
    assert pred["p1"].grad.abs().sum() > 0
    assert pred["p2"].grad.abs().sum() > 0


def test_gradient_of_one_network_is_that_of_p_alone():
    w = torch.randn(7, 7, generator=torch.Generator().manual_seed(3)).requires_grad_()
    x = output()
    z1, z2 = x["z1"] @ w, x["z2"] @ w
    NegativeCosineLoss()({"p1": 2 * z1, "p2": 2 * z2, "z1": z1, "z2": z2}).backward()
    stopped = w.detach().clone().requires_grad_()
    p1, p2 = x["z1"] @ stopped, x["z2"] @ stopped
    cosine = torch.nn.functional.cosine_similarity
    (-(cosine(p1, z2.detach()) + cosine(p2, z1.detach())).mean() / 2).backward()
    torch.testing.assert_close(w.grad, stopped.grad)


@pytest.mark.parametrize("temperature", [0.07, 0.5, 1.0])
def test_infonce_is_monais_contrastive_loss(temperature):
    pred = output()
    expected = ContrastiveLoss(temperature)(pred["z1"], pred["z2"])
    torch.testing.assert_close(InfoNCELoss(temperature)(pred), expected)


def test_infonce_of_equal_vectors_is_the_logarithm_of_the_negatives():
    ones = torch.ones(5, 3)
    assert InfoNCELoss()({"z1": ones, "z2": ones}).item() == pytest.approx(math.log(9))


def test_infonce_at_a_low_temperature_is_finite():
    pred = output(count=3)
    pred["z2"] = pred["z1"].clone()
    z = pred["z1"].requires_grad_()
    loss = InfoNCELoss(0.001)(pred)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert z.grad.isfinite().all()


def test_infonce_has_gradients_of_both_views():
    pred = {name: value.requires_grad_() for name, value in output().items()}
    InfoNCELoss()(pred).backward()
    assert pred["z1"].grad.abs().sum() > 0
    assert pred["z2"].grad.abs().sum() > 0


@pytest.mark.parametrize("loss", [NegativeCosineLoss(), InfoNCELoss()])
def test_half_precision_is_computed_in_float32(loss):
    pred = output()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss({name: one.bfloat16() for name, one in pred.items()}, torch.zeros(6))
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(pred), rtol=0, atol=0.02)


def test_losses_by_name():
    assert isinstance(self_supervised_loss(), NegativeCosineLoss)
    loss = self_supervised_loss("simclr", 0.2)
    assert isinstance(loss, InfoNCELoss)
    assert loss.temperature == 0.2
    with pytest.raises(InvalidInputError, match="variant='byol'"):
        self_supervised_loss("byol")


def test_bad_input():
    pred = output()
    with pytest.raises(InvalidInputError, match=r"no 'p1'.*no predictor"):
        NegativeCosineLoss()({"z1": pred["z1"], "z2": pred["z2"]})
    with pytest.raises(InvalidInputError, match="no 'z1'; found Tensor"):
        InfoNCELoss()(pred["z1"])
    with pytest.raises(InvalidInputError, match=r"'z2': \(3, 7\)"):
        InfoNCELoss()(pred | {"z2": pred["z2"][:3]})
    with pytest.raises(InvalidInputError, match="no negatives"):
        InfoNCELoss()({"z1": pred["z1"][:1], "z2": pred["z2"][:1]})
    for temperature in (0, -1, float("nan")):
        with pytest.raises(InvalidInputError, match="temperature="):
            InfoNCELoss(temperature)
