"""Sinkhorn scaling against its defining sums, closed forms and the assignment that it tends to."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses.linear_assignment import match_cells, solve_assignment
from voxel_ext.losses.sinkhorn import SinkhornMatchingLoss, log_sinkhorn


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def permanent_marginals(scores):
    """The probability of each match if each permutation has a weight of exp(sum of its scores)."""
    n = len(scores)
    total = torch.zeros_like(scores)
    for p in permutations(range(n)):
        weight = scores[range(n), list(p)].sum().exp()
        total[range(n), list(p)] += weight
    return total / total.sum(1, keepdim=True)


@pytest.mark.parametrize("shape", [(1, 1), (6, 6), (3, 5, 5)])
def test_doubly_stochastic(shape):
    p = log_sinkhorn(randn(*shape), 200).exp()
    torch.testing.assert_close(p.sum(-1), torch.ones(shape[:-1], dtype=p.dtype))
    torch.testing.assert_close(p.sum(-2), torch.ones(shape[:-1], dtype=p.dtype))


def test_given_sums():
    rows, columns = torch.tensor([1.0, 2, 3]), torch.tensor([2.5, 3.5])
    p = log_sinkhorn(randn(3, 2), 200, rows, columns).exp()
    torch.testing.assert_close(p.sum(-1), rows.double())
    torch.testing.assert_close(p.sum(-2), columns.double())
    torch.testing.assert_close(log_sinkhorn(randn(3, 2), 200).exp().sum(0), torch.full((2,), 1.5, dtype=p.dtype))


def test_scaling_keeps_cross_ratios():
    scores = randn(4, 4)
    log_p = log_sinkhorn(scores, 30)
    moved = log_p - scores
    torch.testing.assert_close(moved - moved[:1] - moved[:, :1] + moved[:1, :1], torch.zeros_like(moved))


def test_two_cells_in_closed_form():
    scores = randn(2, 2)
    kept, swapped = (scores[0, 0] + scores[1, 1]) / 2, (scores[0, 1] + scores[1, 0]) / 2
    p = torch.sigmoid(kept - swapped)
    torch.testing.assert_close(log_sinkhorn(scores, 500).exp(), torch.stack([p, 1 - p, 1 - p, p]).reshape(2, 2))


def test_low_temperature_is_the_assignment():
    """Where one permutation outweighs the others, Sinkhorn, the permanents and the assignment agree."""
    cost = randn(4, 4, seed=3)
    p = log_sinkhorn(-cost / 0.02, 2000).exp()
    torch.testing.assert_close(p, solve_assignment(cost), atol=1e-3, rtol=0)
    torch.testing.assert_close(p, permanent_marginals(-cost / 0.02), atol=1e-3, rtol=0)


def test_loss_without_dummies():
    loss = SinkhornMatchingLoss(0.2, iterations=300)
    cost, target = randn(2, 5, 5).abs(), torch.tensor([[1, 0, 2, 4, 3], [4, -1, 0, 1, -1]])
    p = [log_sinkhorn(-one / 0.2, 300).exp() for one in cost]
    terms = [-math.log(p[b][i, t]) for b in range(2) for i, t in enumerate(target[b].tolist()) if t >= 0]
    assert float(loss.from_cost(cost, target)) == pytest.approx(sum(terms) / len(terms))


def test_loss_with_dummies():
    loss = SinkhornMatchingLoss(0.2, iterations=300, dummy_cost=0.4)
    cost, target = randn(3, 4).abs(), torch.tensor([3, -1, 0])
    p = loss.transport(cost[None])[0].exp()
    assert p.shape == (4, 5)
    torch.testing.assert_close(p.sum(1), torch.tensor([1.0, 1, 1, 4], dtype=p.dtype))
    torch.testing.assert_close(p.sum(0), torch.tensor([1.0, 1, 1, 1, 3], dtype=p.dtype))
    terms = [p[0, 3], p[2, 0], p[1, 4], p[3, 1], p[3, 2]]  # two matches, one lost row, two lost columns
    expected = -sum(math.log(x) for x in terms) / 5
    assert float(loss.from_cost(cost, target)) == pytest.approx(expected)


def test_dummies_take_what_costs_more():
    cost = torch.tensor([[0.0, 9, 9], [9, 0, 9], [9, 9, 5]], dtype=torch.float64)
    p = SinkhornMatchingLoss(0.1, iterations=500, dummy_cost=1.0).transport(cost[None])[0, :3].exp()
    assert p.argmax(1).tolist() == [0, 1, 3]
    assert match_cells(cost, dummy_cost=1.0).tolist() == [0, 1, -1]


@pytest.mark.parametrize("dummy_cost", [None, 0.5])
def test_gradient(dummy_cost):
    loss = SinkhornMatchingLoss(0.5, 10, dummy_cost)
    a, b = randn(4, 3).requires_grad_(), randn(4, 3, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: loss((a, b), torch.tensor([3, -1, 0, 2])), (a, b))


def test_learned_dummy_cost():
    loss = SinkhornMatchingLoss(dummy_cost=0.5, learnable_dummy=True)
    cost, target = randn(4, 5).abs().float(), torch.tensor([0, 1, -1, -1])
    plain = SinkhornMatchingLoss(dummy_cost=0.5)
    value = loss.from_cost(cost, target)
    torch.testing.assert_close(value, plain.from_cost(cost, target))
    value.backward()
    step = 1e-2
    slope = SinkhornMatchingLoss(dummy_cost=0.5 + step).from_cost(cost, target)
    slope = (slope - SinkhornMatchingLoss(dummy_cost=0.5 - step).from_cost(cost, target)) / (2 * step)
    torch.testing.assert_close(loss.dummy_cost.grad, slope, rtol=1e-2, atol=1e-3)


def test_learns_in_a_few_steps():
    torch.manual_seed(0)
    a, mixing = torch.randn(30, 8), torch.randn(8, 8)
    target = torch.randperm(30)
    b = torch.empty_like(a)
    b[target] = a @ mixing
    model = torch.nn.Linear(8, 8, bias=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    loss = SinkhornMatchingLoss(iterations=20)
    values = []
    for _ in range(40):
        value = loss((model(a), b), target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.1 * values[0]


def test_bad_input():
    with pytest.raises(InvalidInputError, match="3 rows and 4 columns; without dummy_cost"):
        SinkhornMatchingLoss().from_cost(randn(3, 4), torch.arange(3))
    with pytest.raises(InvalidInputError, match="temperature=0"):
        SinkhornMatchingLoss(0)
    with pytest.raises(InvalidInputError, match="iterations=0"):
        SinkhornMatchingLoss(iterations=0)
    with pytest.raises(InvalidInputError, match="iterations=0"):
        log_sinkhorn(randn(2, 2), 0)
    with pytest.raises(InvalidInputError, match="learnable_dummy needs a dummy_cost"):
        SinkhornMatchingLoss(learnable_dummy=True)
    with pytest.raises(InvalidInputError, match="not finite"):
        SinkhornMatchingLoss().from_cost(torch.full((3, 3), math.nan), torch.arange(3))
