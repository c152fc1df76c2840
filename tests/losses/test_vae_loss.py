"""Kullback-Leibler divergence, reconstruction losses, and the warm-up of beta."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceLoss
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses import VAELoss, gaussian_kl


def output(seed=0, batch=3, size=4):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(batch, 2, size, size, size, generator=generator)
    mean, log_variance = torch.randn(2, batch, 5, generator=generator)
    target = (torch.rand(image.shape, generator=generator) > 0.6).float()
    return {"reconstruction": image, "mean": mean, "log_variance": log_variance}, target


def test_kl_is_that_of_torch_and_of_monte_carlo():
    pred, _ = output()
    posterior = Normal(pred["mean"].double(), torch.exp(pred["log_variance"].double() / 2))
    prior = Normal(torch.zeros(3, 5).double(), 1.0)
    kl = gaussian_kl(pred["mean"].double(), pred["log_variance"].double())
    torch.testing.assert_close(kl, kl_divergence(posterior, prior).sum(1))
    torch.manual_seed(0)
    z = posterior.sample((20000,))
    ratio = (posterior.log_prob(z) - prior.log_prob(z)).sum(2)
    assert ((ratio.mean(0) - kl).abs() < 4 * ratio.std(0) / 20000**0.5).all()


def test_kl_of_the_standard_normal_is_zero_and_exact_nearby():
    assert gaussian_kl(torch.zeros(2, 4), torch.zeros(2, 4)).tolist() == [0, 0]
    value = torch.full((1, 1), 1e-3)
    torch.testing.assert_close(gaussian_kl(value, value).item(), 0.5 * (1e-6 + 0.5e-6), rtol=1e-3, atol=0)


def test_kl_is_summed_over_the_code_and_averaged_over_the_batch():
    pred, target = output()
    loss = VAELoss(warmup="constant", beta=1.0)
    loss(pred, target)
    once = loss.last_parts["kl"].item()
    loss({name: torch.cat([value, value]) for name, value in pred.items()}, torch.cat([target, target]))
    assert loss.last_parts["kl"].item() == pytest.approx(once)
    wide = {name: torch.cat([pred[name]] * 2, dim=1) for name in ("mean", "log_variance")}
    loss(pred | wide, target)
    assert loss.last_parts["kl"].item() == pytest.approx(2 * once)


@pytest.mark.parametrize(
    ("name", "function"), [("l1", F.l1_loss), ("bce", F.binary_cross_entropy), ("dice", DiceLoss())]
)
@pytest.mark.parametrize("logits", [False, True])
def test_the_total_is_reconstruction_plus_beta_times_kl(name, function, logits):
    pred, target = output()
    loss = VAELoss(name, beta=0.3, warmup="constant", logits=logits)
    expected = function(pred["reconstruction"], target)
    if logits:
        pred["reconstruction"] = torch.logit(pred["reconstruction"])
    total = loss(pred, target)
    kl = gaussian_kl(pred["mean"], pred["log_variance"]).mean()
    torch.testing.assert_close(total, expected + 0.3 * kl)
    torch.testing.assert_close(loss.last_parts["reconstruction"], expected)
    torch.testing.assert_close(loss.last_parts["kl"], kl)
    assert not loss.last_parts["kl"].requires_grad


def test_gradients_are_those_of_the_formulas():
    pred, target = output()
    image, mean, log_variance = (value.requires_grad_() for value in pred.values())
    VAELoss("bce", beta=0.5, warmup="constant", logits=True)(pred, target).backward()
    torch.testing.assert_close(image.grad, (torch.sigmoid(image) - target).detach() / image.numel())
    torch.testing.assert_close(mean.grad, 0.5 * mean.detach() / 3)
    torch.testing.assert_close(log_variance.grad, 0.5 * (log_variance.detach().exp() - 1) / 2 / 3)


def betas(loss, times):
    found = []
    for time in times:
        loss.set_epoch(time)
        found.append(loss.current_beta)
    return found


def test_linear_warmup():
    loss = VAELoss(beta=0.2, warmup="linear", warmup_length=4)
    assert loss.current_beta == 0
    assert betas(loss, range(7)) == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.2, 0.2])


def test_cyclic_warmup():
    loss = VAELoss(beta=2.0, warmup="cyclic", warmup_length=8, ramp=0.5)
    cycle = [0, 0.5, 1, 1.5, 2, 2, 2, 2]
    assert betas(loss, range(24)) == pytest.approx(cycle * 3)
    assert betas(VAELoss(beta=1.0, warmup="cyclic", warmup_length=4, ramp=1), range(5)) == [0, 0.25, 0.5, 0.75, 0]


def test_step_counts_on():
    loss = VAELoss(beta=1.0, warmup_length=4)
    loss.set_epoch(1)
    loss.step()
    assert loss.current_beta == 0.5


def test_without_warmup_beta_is_constant():
    assert betas(VAELoss(beta=0.7, warmup="constant"), [0, 1, 100]) == [0.7] * 3


def test_the_loss_uses_the_beta_of_the_moment():
    pred, target = output()
    loss = VAELoss(beta=1.0, warmup_length=2)
    start = loss(pred, target)
    torch.testing.assert_close(start, loss.last_parts["reconstruction"])
    loss.set_epoch(1)
    torch.testing.assert_close(loss(pred, target) - start, 0.5 * loss.last_parts["kl"])


def test_half_precision_is_summed_in_float32():
    pred, target = output()
    half = {name: value.half() for name, value in pred.items()}
    half["log_variance"] = torch.full_like(half["log_variance"], 12.0)  # exp(12) is more than float16 can hold
    with torch.autocast("cpu", torch.bfloat16):
        total = VAELoss(warmup="constant")(half, target)
    assert total.dtype == torch.float32
    assert total.isfinite()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reconstruction": "l2"}, "reconstruction='l2'"),
        ({"warmup": "linaer"}, "Did you mean 'linear'"),
        ({"beta": -1}, "beta=-1"),
        ({"beta": float("nan")}, "beta=nan"),
        ({"warmup_length": 0}, "warmup_length=0"),
        ({"ramp": 1.5}, "ramp=1.5"),
    ],
)
def test_arguments_that_are_not_valid(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        VAELoss(**settings)


def test_values_that_do_not_fit():
    pred, target = output()
    with pytest.raises(InvalidInputError, match=r"no 'log_variance'.*'mean'"):
        VAELoss()({name: value for name, value in pred.items() if name != "log_variance"}, target)
    with pytest.raises(InvalidInputError, match="no 'reconstruction'; found Tensor"):
        VAELoss()(target, target)
    with pytest.raises(InvalidInputError, match=r"the target \(3, 1, 4, 4, 4\)"):
        VAELoss()(pred, target[:, :1])
    with pytest.raises(InvalidInputError, match=r"\(3, L\)"):
        VAELoss()(pred | {"mean": pred["mean"][:2]}, target)
    with pytest.raises(InvalidInputError, match="target has values from 0 to 7"):
        VAELoss("bce")(pred, 7 * target)
    with pytest.raises(InvalidInputError, match=r"reconstruction has values.*logits=True"):
        VAELoss("dice")(pred | {"reconstruction": 9 - target}, target)
    with pytest.raises(InvalidInputError, match="epoch=-1"):
        VAELoss().set_epoch(-1)
