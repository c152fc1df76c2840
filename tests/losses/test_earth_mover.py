"""Earth mover's loss against SciPy, closed forms, and its exact value by Sinkhorn."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses.earth_mover import EarthMoverLoss


def clouds(batch=3, n=20, m=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(batch, count, 3, generator=generator, dtype=torch.float64) for count in (n, m))


def by_scipy(prediction, target, metric):
    costs = [cdist(p, t, metric) for p, t in zip(prediction.numpy(), target.numpy(), strict=True)]
    return torch.tensor([cost[linear_sum_assignment(cost)].mean() for cost in costs])


@pytest.mark.parametrize(("squared", "metric"), [(False, "euclidean"), (True, "sqeuclidean")])
def test_exact_is_scipy(squared, metric):
    prediction, target = clouds()
    expected = by_scipy(prediction, target, metric)
    torch.testing.assert_close(EarthMoverLoss(squared=squared, reduction="none")(prediction, target), expected)
    torch.testing.assert_close(EarthMoverLoss(squared=squared)(prediction, target), expected.mean())
    torch.testing.assert_close(EarthMoverLoss(squared=squared, reduction="sum")(prediction, target), expected.sum())


def test_exact_is_the_least_of_all_permutations():
    prediction, target = (x[0] for x in clouds(batch=1, n=5, m=5))
    least = min(
        (prediction - target[list(order)]).norm(dim=1).mean().item() for order in itertools.permutations(range(5))
    )
    assert EarthMoverLoss()(prediction[None], target[None]).item() == pytest.approx(least)


@pytest.mark.parametrize("method", ["exact", "sinkhorn"])
def test_shifted_cloud_costs_its_shift(method):
    grid = torch.cartesian_prod(*[torch.arange(3.0)] * 3)[None]
    order = torch.randperm(27, generator=torch.Generator().manual_seed(0))
    loss = EarthMoverLoss(method)(grid[:, order] + torch.tensor([0.1, 0.2, -0.2]), grid)
    assert loss.item() == pytest.approx(0.3, rel=1e-4)


def test_crowded_points_cost_more_than_in_chamfer():
    target = torch.tensor([[[0.0, 0, 0], [0, 0, 3]]])
    assert EarthMoverLoss()(torch.zeros(1, 2, 3), target).item() == pytest.approx(1.5)


@pytest.mark.parametrize("squared", [False, True])
def test_gradient_of_exact(squared):
    prediction, target = (x.requires_grad_() for x in clouds(batch=2, n=6, m=6))
    assert torch.autograd.gradcheck(EarthMoverLoss(squared=squared), (prediction, target))


def test_equal_clouds_have_gradient_zero():
    prediction = next(clouds()).requires_grad_()
    loss = EarthMoverLoss()(prediction, prediction.detach().flip(1))
    loss.backward()
    assert loss.item() == 0
    assert (prediction.grad == 0).all()


def test_sinkhorn_nears_the_exact_value_from_above():
    prediction, target = clouds()
    exact = EarthMoverLoss()(prediction, target).item()
    found = [EarthMoverLoss("sinkhorn", temperature=t, iterations=2000)(prediction, target).item() for t in (0.1, 0.01)]
    assert exact < found[1] < found[0]
    assert found[1] == pytest.approx(exact, rel=0.01)


def test_sinkhorn_of_clouds_of_different_size():
    prediction, target = clouds(n=10, m=20)
    # masses of 1/10 are two of 1/20: the exact value by points taken twice
    expected = by_scipy(prediction.repeat_interleave(2, dim=1), target, "euclidean").mean()
    loss = EarthMoverLoss("sinkhorn", temperature=0.005, iterations=3000)
    assert loss(prediction, target).item() == pytest.approx(expected.item(), rel=0.01)
    assert loss(target, prediction).item() == pytest.approx(expected.item(), rel=0.01)


def test_gradient_of_sinkhorn_is_that_of_the_regularized_problem():
    prediction, target = clouds(batch=1, n=5, m=5)
    temperature, step = 0.2, 1e-5

    def regularized(points):
        """min of <P, C> + temperature sum P log P, by its plan."""
        from voxel_ext.losses.sinkhorn import log_sinkhorn

        cost = torch.cdist(points, target, compute_mode="donot_use_mm_for_euclid_dist")
        log_plan = log_sinkhorn(-cost / temperature, 2000) - torch.tensor(5.0, dtype=cost.dtype).log()
        return (log_plan.exp() * (cost + temperature * log_plan)).sum()

    points = prediction.clone().requires_grad_()
    EarthMoverLoss("sinkhorn", temperature=temperature, iterations=2000)(points, target).backward()
    for index in ((0, 0, 0), (0, 3, 2)):
        moved = torch.zeros_like(prediction)
        moved[index] = step
        slope = (regularized(prediction + moved) - regularized(prediction - moved)) / (2 * step)
        assert points.grad[index].item() == pytest.approx(slope.item(), rel=1e-4)


def test_half_precision_is_computed_in_single():
    prediction, target = (x.bfloat16() for x in clouds())
    for method in ("exact", "sinkhorn"):
        loss = EarthMoverLoss(method)(prediction, target)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(EarthMoverLoss(method)(prediction.double(), target).item(), rel=1e-4)


def test_bad_input():
    with pytest.raises(InvalidInputError, match="method='sinkhorn'"):
        EarthMoverLoss()(*clouds(n=10, m=20))
    with pytest.raises(InvalidInputError, match=r"expected \(B, N, 3\)"):
        EarthMoverLoss()(torch.zeros(4, 3), torch.zeros(4, 3))
    with pytest.raises(InvalidInputError, match="finite"):
        EarthMoverLoss()(torch.full((1, 4, 3), float("nan")), torch.zeros(1, 4, 3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "sinkhorm"}, "Did you mean 'sinkhorn'"),
        ({"temperature": 0}, "temperature=0"),
        ({"iterations": 0}, "iterations=0"),
        ({"reduction": "median"}, "reduction='median'"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        EarthMoverLoss(**settings)
