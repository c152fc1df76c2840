"""Costs of matching against SciPy, their accuracy for near pairs, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses import matching_cost
from voxel_ext.losses.matching_cost import DISTANCES, feature_cost

SCIPY = {"mse": "sqeuclidean", "l1": "cityblock", "cosine": "cosine"}


def features(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def by_scipy(a, b, distance):
    cost = cdist(a.double().numpy(), b.double().numpy(), SCIPY[distance])
    return cost if distance == "cosine" else cost / a.shape[-1]


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize(("n", "m", "f"), [(1, 1, 1), (7, 7, 5), (6, 9, 16)])
def test_agrees_with_scipy(distance, n, m, f):
    a, b = features(3, n, f), features(3, m, f, seed=1)
    cost = feature_cost(a, b, distance)
    assert cost.shape == (3, n, m)
    assert cost.dtype == torch.float32
    for got, x, y in zip(cost, a, b, strict=True):
        np.testing.assert_allclose(got, by_scipy(x, y, distance), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(feature_cost(x, y, distance), got)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_near_pairs_are_accurate_under_autocast(distance, dtype):
    a = (3 + 0.1 * features(40, 256)).to(dtype)
    b = (a + 0.001 * features(40, 256, seed=2)).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cost = feature_cost(a, b, distance)
    assert cost.dtype == torch.float32
    np.testing.assert_allclose(cost, by_scipy(a, b, distance), rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
def test_gradient(distance):
    a, b = (features(2, n, 3, seed=n, dtype=torch.float64).requires_grad_() for n in (4, 5))
    assert torch.autograd.gradcheck(lambda a, b: feature_cost(a, b, distance, chunk=3), (a, b))


@pytest.mark.parametrize("distance", DISTANCES)
def test_equal_features_cost_nothing_and_have_finite_gradients(distance):
    a = features(5, 8)
    a[2] = 0
    a.requires_grad_()
    cost = feature_cost(a, a.detach(), distance)
    cost.sum().backward()
    assert torch.isfinite(a.grad).all()
    assert cost.min() >= 0
    kept = [0, 1, 3, 4]  # the zero vector has no direction, so its cosine with itself is 0
    torch.testing.assert_close(cost.diagonal()[kept], torch.zeros(4), atol=1e-6, rtol=0)


@pytest.mark.parametrize("chunk", [1, 4, 100, None])
def test_chunks_do_not_change_l1_or_its_gradient(chunk, monkeypatch):
    monkeypatch.setattr(matching_cost, "L1_BUDGET", 2 * 9 * 5 * 2)  # two rows at a time for chunk=None
    a, b = features(2, 7, 5).requires_grad_(), features(2, 9, 5, seed=1).requires_grad_()
    weight = features(2, 7, 9, seed=3)
    direct = (a[:, :, None] - b[:, None]).abs().mean(-1)
    expected = torch.autograd.grad((direct * weight).sum(), (a, b))
    cost = feature_cost(a, b, "l1", chunk)
    torch.testing.assert_close(cost, direct)
    torch.testing.assert_close(torch.autograd.grad((cost * weight).sum(), (a, b)), expected)


def test_l1_never_holds_more_than_its_budget(monkeypatch):
    sizes = []
    real = torch.cdist

    def watched(a, b, **settings):
        sizes.append(a.shape[-2] * b.numel())
        return real(a, b, **settings)

    monkeypatch.setattr(matching_cost, "L1_BUDGET", 1000)
    monkeypatch.setattr(torch, "cdist", watched)
    feature_cost(features(2, 20, 10), features(2, 10, 10), "l1")
    assert len(sizes) == 4
    assert max(sizes) == 1000


@pytest.mark.parametrize(
    ("a", "b", "settings", "message"),
    [
        ((3, 4), (3, 5), {}, r"\(3, 4\) and \(3, 5\); expected"),
        ((2, 3, 4), (3, 4), {}, "expected .* the same leading axes"),
        ((4,), (4,), {}, "expected"),
        ((0, 4), (3, 4), {}, "are empty"),
        ((3, 4), (3, 4), {"distance": "L2"}, "distance='L2' is not known; expected one of 'mse', 'l1', 'cosine'"),
        ((3, 4), (3, 4), {"distance": "l1", "chunk": 0}, "chunk=0 is not valid"),
    ],
)
def test_bad_input(a, b, settings, message):
    with pytest.raises(InvalidInputError, match=message):
        feature_cost(features(*a), features(*b), **settings)
