"""The contrastive loss against its formula, written cell by cell."""

from __future__ import annotations

import math

import pytest
import torch

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses.contrastive import ContrastiveMatchingLoss, inverse_matches


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_formula(cost, target, temperature, symmetric):
    """-log softmax of the true cell among all of the other worm, for cells that have one."""
    rows = [-math.log(_softmax(cost[i], t, temperature)) for i, t in enumerate(target) if t >= 0]
    columns = [-math.log(_softmax(cost[:, t], i, temperature)) for i, t in enumerate(target) if t >= 0]
    rows, columns = sum(rows) / len(rows), sum(columns) / len(columns)
    return (rows + columns) / 2 if symmetric else rows


def _softmax(costs, true, temperature):
    weights = [math.exp(-float(c) / temperature) for c in costs]
    return weights[true] / sum(weights)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("target", [[2, 0, 1, 3], [4, -1, 0, -1], [-1, -1, 3, -1]])
def test_from_cost(symmetric, target):
    cost = randn(4, 5).abs()
    loss = ContrastiveMatchingLoss(0.3, symmetric=symmetric).from_cost(cost, torch.tensor(target))
    assert float(loss) == pytest.approx(by_formula(cost, target, 0.3, symmetric), rel=1e-9)


def test_cosine_logits():
    """With the cosine distance it is the usual InfoNCE of cosine similarities over τ."""
    a, b = randn(6, 8), randn(6, 8, seed=1)
    similarity = torch.nn.functional.normalize(a) @ torch.nn.functional.normalize(b).T
    expected = by_formula(-similarity, list(range(6)), 0.1, True)
    loss = ContrastiveMatchingLoss()
    assert float(loss((a, b), torch.arange(6))) == pytest.approx(expected, rel=1e-9)
    assert float(loss(torch.stack([a, b]), torch.arange(6))) == pytest.approx(expected, rel=1e-9)


def test_batch_is_the_mean_over_pairs():
    features, target = randn(3, 2, 5, 4), torch.stack([torch.randperm(5) for _ in range(3)])
    loss = ContrastiveMatchingLoss(distance="mse")
    single = torch.stack([loss(f, t) for f, t in zip(features, target, strict=True)])
    torch.testing.assert_close(loss(features, target), single.mean())


@pytest.mark.parametrize("distance", ["mse", "cosine", "l1"])
def test_gradient(distance):
    loss = ContrastiveMatchingLoss(0.5, distance)
    a, b = randn(4, 3).requires_grad_(), randn(5, 3, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: loss((a, b), torch.tensor([3, -1, 0, 4])), (a, b))


def test_cells_without_counterpart_are_negatives():
    a, b = randn(3, 4).requires_grad_(), randn(4, 4, seed=1).requires_grad_()
    ContrastiveMatchingLoss()((a, b), torch.tensor([0, 1, -1])).backward()
    assert a.grad[2].abs().max() > 1e-6
    assert b.grad[3].abs().max() > 1e-6


def test_learned_temperature():
    cost, target = randn(6, 6).abs(), torch.arange(6)
    loss = ContrastiveMatchingLoss(0.2, learnable_temperature=True).double()
    assert float(loss.temperature.detach()) == pytest.approx(0.2, rel=1e-6)
    assert float(loss.from_cost(cost, target).detach()) == pytest.approx(by_formula(cost, target, 0.2, True), rel=1e-5)
    assert [name for name, _ in loss.named_parameters()] == ["log_temperature"]
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.5)
    before = loss.from_cost(cost, target)
    before.backward()
    optimizer.step()
    assert loss.from_cost(cost, target) < before
    with torch.no_grad():
        loss.log_temperature.fill_(-1e3)
    assert loss.temperature == 0.01
    assert list(ContrastiveMatchingLoss().parameters()) == []


def test_learns_in_a_few_steps():
    torch.manual_seed(0)
    a, mixing = torch.randn(40, 8), torch.randn(8, 8)
    target = torch.randperm(40)
    b = torch.empty_like(a)
    b[target] = a @ mixing
    model = torch.nn.Linear(8, 8, bias=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    loss = ContrastiveMatchingLoss()
    values = []
    for _ in range(40):
        value = loss((model(a), b), target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.1 * values[0]


def test_inverse_matches():
    target = torch.tensor([[2, -1, 0], [1, 3, 2]])
    assert inverse_matches(target, 4).tolist() == [[2, -1, 0, -1], [-1, 0, 2, 1]]


def test_bad_input():
    for temperature, learned in ((0, False), (-1.0, False), (math.nan, False), (0.01, True)):
        with pytest.raises(InvalidInputError, match="temperature="):
            ContrastiveMatchingLoss(temperature, learnable_temperature=learned)
    with pytest.raises(InvalidInputError, match="distance='dot' is not known"):
        ContrastiveMatchingLoss(distance="dot")
    with pytest.raises(InvalidInputError, match="column 1 for 2 rows"):
        ContrastiveMatchingLoss().from_cost(randn(3, 3), torch.tensor([1, 1, 0]))
    with pytest.raises(InvalidInputError, match="not finite"):
        ContrastiveMatchingLoss().from_cost(torch.full((3, 3), math.nan), torch.arange(3))
