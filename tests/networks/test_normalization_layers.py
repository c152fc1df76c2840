"""Normalizations shared over the group axis, and switchable normalization against its formula."""

import pytest
import torch
from torch import nn

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.layers import GroupNormalization, SwitchNorm3d, check_equivariance, group_norm

KINDS = ("batch", "instance", "group", "switchable")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def randomized(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["V", "Oh", "C4:y"])
@pytest.mark.parametrize("training", [True, False])
def test_norms_are_equivariant(kind, name, training):
    order = {"V": 4, "Oh": 48, "C4:y": 4}[name]
    layer = randomized(group_norm(kind, 4))
    for _ in range(3):
        layer(3 * torch.randn(2, 4, order, 3, 3, 3) + 1)
    layer.train(training)
    for shape in ((2, 4, order, 3, 4, 5), (2, 4, 3, 4, 5)):
        assert check_equivariance(layer, name, shape) < 1e-5
        assert check_equivariance(layer, name, shape, dtype=torch.float64) < 1e-12


def test_batch_norm_statistics_are_shared_over_the_group():
    layer = group_norm("batch", 3)
    x = 2 * torch.randn(2, 3, 4, 3, 3, 3) + 5
    torch.testing.assert_close(layer(x), nn.BatchNorm3d(3)(x.flatten(2, 3)).reshape(x.shape))
    torch.testing.assert_close(layer.norm.running_mean, 0.1 * x.mean(dim=(0, 2, 3, 4, 5)))


def test_group_norm_takes_groups_that_divide():
    assert group_norm("group", 12).norm.num_groups == 6
    assert group_norm("group", 16).norm.num_groups == 8
    assert group_norm("group", 7, num_groups=1).norm.num_groups == 1
    assert group_norm("group", 11).norm.num_groups == 1


def test_no_norm_is_the_identity():
    x = torch.randn(1, 2, 4, 3, 3, 3)
    assert group_norm(None, 2)(x) is x


def formula(x, layer, batch_mean, batch_var):
    """Switchable normalization of one sample and channel after the other."""
    of_mean, of_var = layer.mean_logits.softmax(0), layer.var_logits.softmax(0)
    out = torch.empty_like(x)
    for b in range(x.shape[0]):
        for c in range(x.shape[1]):
            mean = of_mean[0] * x[b, c].mean() + of_mean[1] * x[b].mean() + of_mean[2] * batch_mean[c]
            var = of_var[0] * x[b, c].var(correction=0) + of_var[1] * x[b].var(correction=0) + of_var[2] * batch_var[c]
            out[b, c] = (x[b, c] - mean) / torch.sqrt(var + layer.eps) * layer.weight[c] + layer.bias[c]
    return out


def switch_norm(channels):
    return randomized(SwitchNorm3d(channels, eps=1e-3)).double().requires_grad_(False)


def test_switch_norm_agrees_with_the_formula():
    layer = switch_norm(3)
    x = 2 * torch.randn(4, 3, 2, 3, 4, dtype=torch.float64) + torch.arange(3.0).reshape(3, 1, 1, 1)
    mean, var = x.mean(dim=(0, 2, 3, 4)), x.var(dim=(0, 2, 3, 4), correction=0)
    torch.testing.assert_close(layer(x), formula(x, layer, mean, var))
    torch.testing.assert_close(layer.running_mean, 0.1 * mean)
    torch.testing.assert_close(layer.running_var, 0.9 + 0.1 * var)
    layer.eval()
    kept = layer.running_mean.clone()
    torch.testing.assert_close(layer(x), formula(x, layer, layer.running_mean, layer.running_var))
    assert torch.equal(layer.running_mean, kept)


@pytest.mark.parametrize(("chosen", "reference"), [(0, "instance"), (1, "layer"), (2, "batch")])
def test_switch_norm_contains_the_others(chosen, reference):
    layer = SwitchNorm3d(3, affine=False)
    with torch.no_grad():
        layer.mean_logits[chosen] = layer.var_logits[chosen] = 100.0
    x = 2 * torch.randn(4, 3, 3, 3, 3) + 1
    others = {"instance": nn.InstanceNorm3d(3), "layer": nn.GroupNorm(1, 3), "batch": nn.BatchNorm3d(3)}
    torch.testing.assert_close(layer(x), others[reference](x), rtol=1e-4, atol=1e-5)


def test_switch_norm_starts_as_an_even_mixture_and_learns():
    layer = SwitchNorm3d(2)
    assert torch.equal(layer.mean_logits, torch.ones(3))
    assert torch.equal(layer.var_logits, torch.ones(3))
    x = torch.randn(3, 2, 2, 2, 2) * torch.tensor([1.0, 5.0]).reshape(2, 1, 1, 1)
    layer(x).square().sum().backward()
    assert layer.mean_logits.grad.abs().sum() > 0
    assert layer.var_logits.grad.abs().sum() > 0


def test_switch_norm_gradient():
    layer = SwitchNorm3d(2, eps=1e-3).double()
    x = torch.randn(2, 2, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,), fast_mode=True)


def test_switch_norm_with_large_means_and_low_precision():
    layer = SwitchNorm3d(2).eval()
    layer.running_mean.fill_(100.0)
    x = 100 + torch.randn(2, 2, 4, 4, 4)
    torch.testing.assert_close(layer(x).double(), layer.double()(x.double()), rtol=1e-3, atol=1e-3)
    low = layer.float()((x - 100).bfloat16())
    assert low.dtype == torch.bfloat16
    assert low.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [True, False])
def test_norms_script(kind, training):
    layer = randomized(group_norm(kind, 4)).train(training)
    scripted = torch.jit.script(layer)
    for shape in ((2, 4, 3, 2, 2, 2), (2, 4, 3, 3, 3)):
        x = torch.randn(shape)
        torch.testing.assert_close(scripted(x), layer(x))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GroupNormalization("layer", 4), "norm='layer'.*switchable"),
        (lambda: group_norm("group", 4, num_groups=3), "num_groups=3 does not divide num_channels=4"),
        (lambda: group_norm("batch", 4, num_groups=2), "num_groups=2 is for norm='group' only"),
        (lambda: SwitchNorm3d(0), "num_features=0"),
        (lambda: SwitchNorm3d(2, momentum=1.5), "momentum=1.5"),
        (lambda: SwitchNorm3d(2)(torch.zeros(1, 3, 2, 2, 2)), r"\(B, 2, D, H, W\), got \(1, 3, 2, 2, 2\)"),
        (lambda: group_norm("batch", 2)(torch.zeros(1, 2, 3, 3)), r"got \(1, 2, 3, 3\)"),
    ],
)
def test_bad_settings_and_input(build, message):
    with pytest.raises(InvalidInputError, match=message):
        build()
