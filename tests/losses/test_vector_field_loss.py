"""Losses of direction fields against NumPy, their gradients at the ends, and unknown voxels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses.vector_field import AngularLoss, MaskedCosineLoss, angle_between

SHAPE = (2, 3, 4, 5, 6)


def fields(seed=0, known=0.6):
    generator = torch.Generator().manual_seed(seed)
    prediction = 3 * torch.randn(SHAPE, generator=generator)
    target = torch.randn(SHAPE, generator=generator)
    there = torch.rand((SHAPE[0], 1, *SHAPE[2:]), generator=generator) < known
    return prediction, target * there, there


def plain_cosine(prediction, target):
    """The cosine of every voxel where the target is not zero, by NumPy in double precision."""
    p, t = (np.moveaxis(x.double().numpy(), 1, -1).reshape(-1, 3) for x in (prediction, target))
    known = (t != 0).any(1)
    p, t = p[known], t[known]
    return (p * t).sum(1) / np.linalg.norm(p, axis=1) / np.linalg.norm(t, axis=1)


def test_cosine_loss_is_its_formula():
    prediction, target, _ = fields()
    cosine = plain_cosine(prediction, target)
    assert MaskedCosineLoss()(prediction, target).item() == pytest.approx((1 - cosine).mean(), rel=1e-5)
    unoriented = MaskedCosineLoss(oriented=False)(prediction, target).item()
    assert unoriented == pytest.approx((1 - np.abs(cosine)).mean(), rel=1e-5)


def test_angular_loss_is_its_formula():
    prediction, target, _ = fields()
    cosine = plain_cosine(prediction, target)
    assert AngularLoss()(prediction, target).item() == pytest.approx(np.arccos(cosine).mean(), rel=1e-5)
    degrees = AngularLoss(oriented=False, degrees=True)(prediction, target).item()
    assert degrees == pytest.approx(np.degrees(np.arccos(np.abs(cosine))).mean(), rel=1e-5)


@pytest.mark.parametrize("angle", [0.0, 1e-6, 1e-3, 0.5, math.pi / 2, 3.0, math.pi - 1e-3, math.pi])
def test_angle_is_accurate_near_the_ends(angle):
    first = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    second = torch.tensor([[math.cos(angle), math.sin(angle), 0.0]], dtype=torch.float64)
    assert angle_between(first, second).item() == pytest.approx(angle, rel=1e-9, abs=1e-12)
    unoriented = angle_between(first, second, oriented=False).item()
    assert unoriented == pytest.approx(min(angle, math.pi - angle), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("loss", [MaskedCosineLoss, AngularLoss])
def test_scale_of_vectors_does_not_matter(loss):
    prediction, target, _ = fields()
    one = loss()(prediction, target)
    torch.testing.assert_close(loss()(0.01 * prediction, 1e-6 * target), one, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", [MaskedCosineLoss, AngularLoss])
def test_unoriented_does_not_see_signs(loss):
    prediction, target, there = fields()
    sign = torch.where(torch.rand(there.shape, generator=torch.Generator().manual_seed(1)) < 0.5, -1.0, 1.0)
    torch.testing.assert_close(
        loss(oriented=False)(prediction, sign * target), loss(oriented=False)(prediction, target)
    )
    assert abs(loss()(prediction, sign * target) - loss()(prediction, target)) > 1e-3


@pytest.mark.parametrize("oriented", [True, False])
@pytest.mark.parametrize("loss", [MaskedCosineLoss, AngularLoss])
def test_gradient_is_finite_at_equal_opposite_and_zero_predictions(loss, oriented):
    _, target, _ = fields()
    for prediction in (target, -target, torch.zeros(SHAPE), 1e-12 * target, torch.ones(SHAPE)):
        prediction = prediction.clone().requires_grad_()
        value = loss(oriented)(prediction, target)
        (gradient,) = torch.autograd.grad(value, prediction)
        assert value.isfinite()
        assert gradient.isfinite().all()
        assert gradient.abs().max() < 1e4


@pytest.mark.parametrize("loss", [MaskedCosineLoss, AngularLoss])
def test_unknown_and_masked_voxels_have_no_influence(loss):
    prediction, target, there = fields()
    mask = torch.rand(there.shape, generator=torch.Generator().manual_seed(2)) < 0.5
    prediction.requires_grad_()
    value = loss()(prediction, target, mask.float())
    (gradient,) = torch.autograd.grad(value, prediction)
    counted = (there & mask).expand(SHAPE)
    assert (gradient[~counted] == 0).all()
    assert (gradient[counted] != 0).any()
    assert value.item() == pytest.approx(loss()(prediction.detach(), target * mask).item(), rel=1e-6)
    wild = torch.where(counted, prediction.detach(), torch.nan)
    assert loss()(wild, target, mask).item() == pytest.approx(value.item(), rel=1e-6)


@pytest.mark.parametrize("loss", [MaskedCosineLoss, AngularLoss])
def test_nothing_known_gives_zero_with_a_graph(loss):
    prediction = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    value = loss()(prediction, torch.zeros(SHAPE))
    (gradient,) = torch.autograd.grad(value, prediction)
    assert value.item() == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("loss", [MaskedCosineLoss, AngularLoss])
def test_half_precision_is_computed_in_float32(loss):
    prediction, target, _ = fields()
    prediction = prediction.half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss()(MetaTensor(prediction), MetaTensor(target))
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss()(prediction.float(), target).item(), rel=1e-6)


def test_gradient_agrees_with_differences():
    prediction, target, _ = fields(known=1.0)
    prediction, target = prediction[:1, :, :1, :1, :3].double(), target[:1, :, :1, :1, :3].double()
    for oriented in (True, False):
        start = torch.nn.functional.normalize(prediction, dim=1).requires_grad_()
        unit = torch.nn.functional.normalize(target, dim=1)
        assert torch.autograd.gradcheck(lambda x, u=unit, o=oriented: angle_between(x, u, o), start)


@pytest.mark.parametrize("loss", [MaskedCosineLoss(), AngularLoss()])
def test_refuses_other_shapes(loss):
    prediction, target, _ = fields()
    with pytest.raises(InvalidInputError, match=r"\(2, 3, 4, 5, 6\) and the true ones \(2, 3, 4, 5, 5\)"):
        loss(prediction, target[..., 1:])
    with pytest.raises(InvalidInputError, match=r"expected the same, \(B, 3, D, H, W\)"):
        loss(prediction[:, :2], target[:, :2])
    with pytest.raises(InvalidInputError, match=r"mask has shape \(2, 4, 5, 6\); expected \(2, 1, 4, 5, 6\)"):
        loss(prediction, target, torch.ones(2, 4, 5, 6))
