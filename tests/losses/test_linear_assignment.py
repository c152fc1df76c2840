"""The assignment and its blackbox gradient against brute force over permutations, and the Hamming loss."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses.linear_assignment import (
    LinearAssignmentLoss,
    blackbox_assignment,
    match_cells,
    solve_assignment,
)
from voxel_ext.losses.matching_cost import feature_cost


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def brute_force(cost):
    """The cheapest of all assignments of a matrix (N, M), tried one by one."""
    n, m = cost.shape
    if n > m:
        return brute_force(cost.T).T
    best = min(permutations(range(m), n), key=lambda p: float(cost[range(n), list(p)].sum()))
    solution = torch.zeros_like(cost)
    solution[range(n), list(best)] = 1
    return solution


@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (3, 5), (5, 3), (4, 4, 4), (3, 2, 5)])
@pytest.mark.parametrize("threads", [None, 1, 2])
def test_solution_is_the_cheapest(shape, threads):
    cost = randn(*shape, seed=sum(shape))
    expected = [brute_force(one) for one in cost.reshape(-1, *shape[-2:])]
    torch.testing.assert_close(solve_assignment(cost, threads), torch.stack(expected).reshape(shape))


def test_solution_has_the_type_of_the_cost():
    assert solve_assignment(randn(3, 3).half()).dtype == torch.float16
    assert solve_assignment(torch.zeros(0, 3, 3)).shape == (0, 3, 3)


@pytest.mark.parametrize("shape", [(8, 2, 2), (4, 4), (5, 5), (3, 5), (5, 3), (6, 4, 4)])
@pytest.mark.parametrize("lambda_", [0.3, 2.0, 20.0])
def test_blackbox_gradient_is_its_definition(shape, lambda_):
    cost, incoming = randn(*shape).requires_grad_(), randn(*shape, seed=1)
    solution = blackbox_assignment(cost, lambda_)
    (gradient,) = torch.autograd.grad((solution * incoming).sum(), cost)
    moved = (cost + lambda_ * incoming).detach()
    before, after = (
        torch.stack([brute_force(one) for one in x.detach().reshape(-1, *shape[-2:])]).reshape(shape)
        for x in (cost, moved)
    )
    torch.testing.assert_close(solution, before)
    torch.testing.assert_close(gradient, -(before - after) / lambda_)
    assert lambda_ < 1 or gradient.any()


def test_moved_solution_never_has_a_larger_loss():
    """y' is the cheapest at c + λ g and y at c, so that <g, y'> <= <g, y>."""
    cost, incoming = randn(8, 5, 5, seed=4).requires_grad_(), randn(8, 5, 5, seed=5)
    solution = blackbox_assignment(cost, 1.0)
    (gradient,) = torch.autograd.grad((solution * incoming).sum(), cost)
    moved = solution.detach() + gradient  # λ = 1
    change = ((moved - solution.detach()) * incoming).sum((1, 2))
    assert (change <= 1e-12).all()
    assert (change < -0.1).any()


def test_scaled_lambda():
    cost, incoming, spread = randn(3, 4, 4).requires_grad_(), randn(3, 4, 4, seed=1), torch.tensor([0.5, 1.0, 2.0])

    def gradient(factor):
        solution = blackbox_assignment(cost, 15.0, spread)
        return torch.autograd.grad((solution * incoming * factor).sum(), cost)[0]

    got = gradient(1)
    for one, c, g, s in zip(got, cost.detach(), incoming, spread, strict=True):
        step = 1.5 * float(s) / float(g.abs().max())
        torch.testing.assert_close(one, -(brute_force(c) - brute_force(c + step * g)) / step)
    assert got.any()
    torch.testing.assert_close(gradient(65536.0), 65536 * got)  # a gradient scaler's factor changes nothing else
    assert not gradient(0.0).any()


def test_constant_costs_have_no_gradient():
    cost = torch.ones(5, 5, requires_grad=True)
    LinearAssignmentLoss().from_cost(cost, torch.tensor([1, 0, 2, 4, 3])).backward()
    assert torch.equal(cost.grad, torch.zeros(5, 5))


@pytest.mark.parametrize("distance", ["mse", "l1", "cosine"])
def test_loss_is_twice_the_error(distance):
    target = torch.stack([torch.randperm(12, generator=torch.Generator().manual_seed(i)) for i in range(3)])
    features = randn(3, 2, 12, 4)
    features[:, 0] = features[:, 1].gather(1, target[..., None].expand(-1, -1, 4)) + 0.7 * randn(3, 12, 4, seed=9)
    matches = match_cells(feature_cost(features[:, 0], features[:, 1], distance))
    accuracy = (matches == target).double().mean()
    assert 0 < accuracy < 1
    loss = LinearAssignmentLoss(distance)
    torch.testing.assert_close(loss(features, target).double(), 2 * (1 - accuracy))
    torch.testing.assert_close(loss((features[:, 0], features[:, 1]), target), loss(features, target))
    torch.testing.assert_close(loss.from_cost(loss.cost(features), target), loss(features, target))
    single = loss(features[0], target[0])
    torch.testing.assert_close(single.double(), 2 * (1 - (matches == target)[0].double().mean()))


@pytest.mark.parametrize("lambda_", [15.0, 20.0])
def test_gradient_does_not_vanish_for_all_cells_of_a_worm(lambda_):
    features = randn(2, 558, 256).float().requires_grad_()
    loss = LinearAssignmentLoss(lambda_=lambda_)
    assert math.isnan(loss.last_gradient_share)
    loss(features, torch.arange(558)).backward()
    assert loss.last_gradient_share > 0.8
    assert (features.grad != 0).any(-1).float().mean() > 0.8
    assert torch.isfinite(features.grad).all()


def test_gradient_share_counts_rows():
    cost = torch.tensor([[0.0, 1, 9, 9], [1, 0, 9, 9], [9, 9, 0, 9], [9, 9, 9, 0]], requires_grad=True)
    loss = LinearAssignmentLoss(lambda_=1.0, scale_lambda=False)  # too little to move anything
    loss.from_cost(cost, torch.tensor([1, 0, 2, 3])).backward()
    assert loss.last_gradient_share == 0
    loss = LinearAssignmentLoss(lambda_=8.0, scale_lambda=False)  # costs move by 2
    for _ in range(2):
        loss.from_cost(cost, torch.tensor([1, 0, 2, 3])).backward()
        assert loss.last_gradient_share == 0.5
    with torch.no_grad():
        loss.from_cost(cost, torch.tensor([1, 0, 2, 3]))
    assert math.isnan(loss.last_gradient_share)


def test_learns_a_linear_map():
    """The second worm's features are a fixed mixture of the first's; the loss finds a map that matches them."""
    torch.manual_seed(0)
    a = torch.randn(4, 30, 6)
    mixing = torch.randn(6, 6)
    target = torch.stack([torch.randperm(30) for _ in range(4)])
    b = torch.empty_like(a).scatter_(1, target[..., None].expand(-1, -1, 6), a @ mixing)
    model = torch.nn.Linear(6, 6, bias=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    loss = LinearAssignmentLoss()
    values = []
    for _ in range(60):
        value = loss((model(a), b), target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[0] > 1.5
    assert values[-1] < 0.2


def test_layers_are_weighted():
    target = torch.randperm(10, generator=torch.Generator().manual_seed(3))
    layers = [randn(2, 10, 3), randn(2, 10, 20, seed=1)]
    single = LinearAssignmentLoss()
    first, second = (single(one, target) for one in layers)
    torch.testing.assert_close(LinearAssignmentLoss()(layers, target), (first + second) / 2)
    weighted = LinearAssignmentLoss(layer_weights=[0.2, 3])
    torch.testing.assert_close(weighted(layers, target), 0.2 * first + 3 * second)
    expected = 0.2 * single.cost(layers[0]) + 3 * single.cost(layers[1])
    torch.testing.assert_close(weighted.cost(layers), expected)
    layers = [one.requires_grad_() for one in layers]
    weighted(layers, target).backward()
    assert 0 < weighted.last_gradient_share <= 1
    with pytest.raises(InvalidInputError, match="layer_weights has 2 values, but there are 3 layers"):
        weighted([*layers, layers[0]], target)


def test_missing_cells():
    cost = torch.tensor([[0.1, 5, 5], [5, 0.2, 5], [5, 5, 3], [5, 5, 4]])
    assert match_cells(cost).tolist() == [0, 1, 2, -1]
    assert match_cells(cost, dummy_cost=1.0).tolist() == [0, 1, -1, -1]
    assert match_cells(cost[None], dummy_cost=3.5).tolist() == [[0, 1, 2, -1]]
    loss, dummy = LinearAssignmentLoss(), LinearAssignmentLoss(dummy_cost=1.0)
    assert loss.from_cost(cost, torch.tensor([0, 2, 1, -1])) == pytest.approx(4 / 3)  # the last row does not count
    assert dummy.from_cost(cost, torch.tensor([0, 1, -1, -1])) == 0
    assert dummy.from_cost(cost, torch.tensor([0, 1, 2, -1])) == pytest.approx(1 / 4)  # left out
    assert dummy.from_cost(cost, torch.tensor([0, -1, -1, -1])) == pytest.approx(1 / 4)  # invented
    cost.requires_grad_()
    dummy.from_cost(cost, torch.tensor([0, 1, 2, -1])).backward()
    assert cost.grad[2, 2] > 0  # a lower cost lowers the loss
    assert dummy.last_gradient_share == 0.25


def test_autocast_changes_nothing():
    features, target = randn(2, 20, 8).bfloat16(), torch.randperm(20, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = LinearAssignmentLoss()(features, target)
    assert value.dtype == torch.float32
    assert value == LinearAssignmentLoss()(features, target)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ([0, 1, 2], r"shape \(3,\); expected .* \(1, 4\)|shape \(1, 3\)"),
        ([0, 1, 2, 4], "from 0 to 4; expected a column from 0 to 3"),
        ([0, 1, 2, -2], "from -2 to 2"),
        ([0, 1, 1, 3], "column 1 for 2 rows"),
        ([-1, -1, -1, -1], "-1 throughout"),
        ([0.0, 1.0, 2.0, 3.0], "type torch.float32; expected integers"),
    ],
)
def test_bad_target(target, message):
    with pytest.raises(InvalidInputError, match=message):
        LinearAssignmentLoss()(randn(2, 4, 3), torch.tensor(target))


def test_bad_cost():
    cost = randn(2, 4, 5)
    cost[1, 2, 3] = math.nan
    cost[1, 2, 4] = math.inf
    message = r"pair 1 \(4 × 5\) has .* in 1 rows and 2 columns, the first, nan, at row 2, column 3"
    for solve in (solve_assignment, match_cells, blackbox_assignment):
        with pytest.raises(InvalidInputError, match=message):
            solve(cost)
    with pytest.raises(InvalidInputError, match=r"shape \(5,\); expected \(N, M\) or"):
        solve_assignment(cost[0, 0])
    with pytest.raises(InvalidInputError, match="threads=0"):
        solve_assignment(cost, threads=0)
    features = randn(2, 4, 3)
    features[0, 1] = math.nan
    with pytest.raises(InvalidInputError, match=r"pair 0 .* 1 rows and 4 columns, the first, nan, at row 1"):
        LinearAssignmentLoss()(features, torch.arange(4))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (randn(3, 4, 5), r"a tensor \(3, 4, 5\); expected a tensor \(2, N, F\)"),
        ([randn(4, 5), randn(4, 5)], r"a tensor \(4, 5\); .* a tuple of the two worms"),
        ([], "empty"),
        ("features", "are str"),
    ],
)
def test_bad_features(features, message):
    with pytest.raises(InvalidInputError, match=message):
        LinearAssignmentLoss()(features, torch.arange(4))


@pytest.mark.parametrize("lambda_", [0, -1.0, math.nan])
def test_bad_lambda(lambda_):
    with pytest.raises(InvalidInputError, match="lambda_"):
        LinearAssignmentLoss(lambda_=lambda_)
    with pytest.raises(InvalidInputError, match="lambda_"):
        blackbox_assignment(randn(3, 3), lambda_)
