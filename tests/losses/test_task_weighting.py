"""Weights that balance themselves, against closed forms."""

from __future__ import annotations

import pytest
import torch

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses.task_weighting import GradientNormalization, UncertaintyWeighting

ONES = {"a": 1.0, "b": 1.0}


def quadratics(x, scales=(3.0, 0.05)):
    return {name: scale / 2 * (x**2).sum() for name, scale in zip("ab", scales, strict=True)}


def test_uncertainty_total_is_its_formula():
    weighting = UncertaintyWeighting(["a", "b"])
    with torch.no_grad():
        weighting.log_variance.copy_(torch.tensor([0.3, -1.2]))
    total = weighting({"a": torch.tensor(2.0), "b": torch.tensor(0.5)}, {"a": 1.0, "b": 0.75})
    expected = torch.exp(torch.tensor(-0.3)) * 2 + 0.3 + 0.75 * (torch.exp(torch.tensor(1.2)) * 0.5 - 1.2)
    torch.testing.assert_close(total, expected)


def test_uncertainty_learns_the_size_of_the_losses():
    weighting = UncertaintyWeighting(["a", "b"])
    parts = {"a": torch.tensor(4.0), "b": torch.tensor(0.1)}
    (parameter,) = weighting.parameters()
    for _ in range(100):
        (gradient,) = torch.autograd.grad(weighting(parts, {"a": 1.0, "b": 0.5}), parameter)
        with torch.no_grad():
            parameter -= 0.3 * gradient
    factors = weighting.factors({"a": 1.0, "b": 0.5})
    assert factors["a"].item() == pytest.approx(1 / 4, rel=1e-3)
    assert factors["b"].item() == pytest.approx(0.5 / 0.1, rel=1e-3)


def test_uncertainty_of_a_batch_without_anything_known_stays():
    weighting = UncertaintyWeighting(["a", "b"])
    weighting({"a": torch.tensor(0.0), "b": torch.tensor(2.0)}, ONES).backward()
    assert weighting.log_variance.grad.tolist() == pytest.approx([0.0, -1.0])


def test_gradients_of_two_quadratics_become_equal():
    x = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
    weighting = GradientNormalization(["a", "b"])
    weighting.set_shared([x])
    total = weighting(quadratics(x), ONES)
    (gradient,) = torch.autograd.grad(total, x)
    # factors c with c_a 3 = c_b 0.05 and c_a + c_b = 2
    factors = weighting.factors(ONES)
    assert factors["a"].item() == pytest.approx(2 * 0.05 / 3.05, rel=1e-5)
    assert factors["b"].item() == pytest.approx(2 * 3 / 3.05, rel=1e-5)
    torch.testing.assert_close(gradient, 2 * (2 * 0.05 / 3.05) * 3 * x.detach())


def test_given_weights_set_the_ratio_of_the_gradients():
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    weighting = GradientNormalization(["a", "b"])
    weighting.set_shared([x])
    weights = {"a": 1.0, "b": 0.25}
    weighting(quadratics(x), weights)
    factors = weighting.factors(weights)
    assert (factors["a"] * 3).item() == pytest.approx(4 * (factors["b"] * 0.05).item(), rel=1e-5)
    assert (factors["a"] + factors["b"]).item() == pytest.approx(1.25, rel=1e-5)


def test_slow_tasks_get_more_weight():
    x = torch.ones(1, requires_grad=True)
    weighting = GradientNormalization(["a", "b"], asymmetry=2.0, decay=0.0)
    weighting.set_shared([x])
    weighting({"a": x.sum(), "b": 5 * x.sum()}, ONES)
    weighting({"a": 0.5 * x.sum(), "b": 5 * x.sum()}, ONES)
    # now losses are 1/2 and 1 of the first ones: r = (2/3, 4/3); norms are 0.5 and 5
    factors = weighting.factors(ONES)
    assert (factors["a"] * 0.5 / (factors["b"] * 5)).item() == pytest.approx((1 / 2) ** 2, rel=1e-5)


def test_running_means_and_state():
    x = torch.ones(1, requires_grad=True)
    weighting = GradientNormalization(["a", "b"], decay=0.75)
    weighting.set_shared([x])
    weighting({"a": 2 * x.sum(), "b": x.sum()}, ONES)
    weighting({"a": 6 * x.sum(), "b": x.sum()}, ONES)
    assert weighting.norms.tolist() == pytest.approx([0.75 * 2 + 0.25 * 6, 1.0])
    other = GradientNormalization(["a", "b"])
    other.load_state_dict(weighting.state_dict())
    assert other.factors(ONES) == weighting.factors(ONES)
    assert not list(weighting.parameters())


def test_a_batch_without_a_gradient_changes_nothing():
    x = torch.ones(2, requires_grad=True)
    weighting = GradientNormalization(["a", "b"])
    weighting.set_shared([x])
    weighting({"a": (x**2).sum(), "b": 0 * x.sum()}, ONES)
    assert [float(one) for one in weighting.factors(ONES).values()] == [1.0, 1.0]
    weighting(quadratics(x), ONES)
    before = {name: float(one) for name, one in weighting.factors(ONES).items()}
    for nothing in (0 * x.sum(), torch.tensor(0.0), torch.nan * x.sum()):
        weighting({"a": nothing, "b": nothing}, ONES)
    assert {name: float(one) for name, one in weighting.factors(ONES).items()} == pytest.approx(before)


def test_evaluation_uses_the_last_weights():
    x = torch.ones(2, requires_grad=True)
    weighting = GradientNormalization(["a", "b"])
    with torch.no_grad():
        assert weighting(quadratics(x), ONES).item() == pytest.approx(3.05, rel=1e-6)
    weighting.set_shared([x])
    weighting(quadratics(x), ONES)
    norms = weighting.norms.clone()
    with torch.no_grad():
        total = weighting(quadratics(x, (7.0, 7.0)), ONES)
    weighting.eval()
    weighting(quadratics(x, (7.0, 7.0)), ONES)
    assert torch.equal(weighting.norms, norms)
    assert total.item() == pytest.approx(14.0, rel=1e-5)


def test_refuses_bad_settings():
    with pytest.raises(InvalidInputError, match="set_shared"):
        GradientNormalization(["a"])({"a": torch.ones((), requires_grad=True)}, {"a": 1.0})
    with pytest.raises(InvalidInputError, match="no parameter that needs a gradient"):
        GradientNormalization(["a"]).set_shared([torch.zeros(1)])
    with pytest.raises(InvalidInputError, match="asymmetry=-1"):
        GradientNormalization(["a"], asymmetry=-1)
    with pytest.raises(InvalidInputError, match="decay=1"):
        GradientNormalization(["a"], decay=1)
    for names in ([], ["a", "a"]):
        with pytest.raises(InvalidInputError, match="each once"):
            UncertaintyWeighting(names)
