"""Assignment against brute force."""

import itertools

import numpy as np
import pytest

from voxel_ext.errors import InvalidInputError
from voxel_ext.matching import assign, assignment_margin, name_by_references


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (6, 6), (3, 5), (5, 3)])
def test_least_total_of_all_permutations(shape):
    cost = np.random.default_rng(sum(shape)).normal(size=shape)
    rows, columns = assign(cost)
    wide = cost if shape[0] <= shape[1] else cost.T
    best = min(
        sum(wide[i, j] for i, j in enumerate(chosen))
        for chosen in itertools.permutations(range(wide.shape[1]), len(wide))
    )
    assert len(rows) == min(shape)
    assert cost[rows, columns].sum() == pytest.approx(best)


def test_dummy_cost_is_the_least_total_of_all_partial_assignments():
    cost = np.random.default_rng(1).uniform(0, 2, size=(4, 5))
    rows, columns = assign(cost, dummy_cost=0.4)
    best = min(
        sum(cost[i, j] - 0.4 for i, j in zip(chosen, others, strict=True))
        for size in range(5)
        for chosen in itertools.combinations(range(4), size)
        for others in itertools.permutations(range(5), size)
    )
    assert (cost[rows, columns] - 0.4).sum() == pytest.approx(best)
    assert 0 < len(rows) < 4


def test_forbidden_pairs_are_avoided():
    cost = np.array([[0.0, 1.0], [0.0, np.inf]])
    assert assign(cost)[1].tolist() == [1, 0]
    with pytest.raises(InvalidInputError, match="1 forbidden"):
        assign(np.array([[np.inf]]))
    assert len(assign(np.array([[np.inf]]), dummy_cost=1.0)[0]) == 0


def test_margin_by_brute_force():
    cost = np.random.default_rng(2).normal(size=(5, 4))
    rows, columns = assign(cost)
    for row, column, margin in zip(rows, columns, assignment_margin(cost, rows, columns), strict=True):
        others = [cost[row, j] for j in range(4) if j != column] + [cost[i, column] for i in range(5) if i != row]
        assert margin == pytest.approx(min(others) - cost[row, column])
    assert assignment_margin([[3.0]], [0], [0])[0] == np.inf


def test_votes_and_mean():
    good, other = np.array([[0.0, 9.0], [9.0, 0.0]]), np.array([[90.0, 0.0], [0.0, 90.0]])
    assert name_by_references([good, good, other], "votes").tolist() == [0, 1]
    assert name_by_references([good, good, other], "mean").tolist() == [1, 0]


def test_an_identity_that_a_reference_lacks_gets_no_vote_there():
    first = np.array([[0.0, np.inf], [1.0, np.inf], [2.0, np.inf]])
    second = np.array([[5.0, 4.0], [5.0, 1.0], [5.0, 4.0]])
    for mode in ("votes", "mean"):
        assert name_by_references([first, second], mode).tolist() == [0, 1, -1]


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_bad_cost_is_named(value):
    cost = np.zeros((3, 3))
    cost[1, 2] = value
    with pytest.raises(InvalidInputError, match="row 1 and column 2"):
        assign(cost)


def test_bad_input():
    with pytest.raises(InvalidInputError, match=r"\(3,\)"):
        assign(np.zeros(3))
    with pytest.raises(InvalidInputError, match="dummy_cost=nan"):
        assign(np.zeros((2, 2)), dummy_cost=float("nan"))
    with pytest.raises(InvalidInputError, match="not pairs"):
        assignment_margin(np.zeros((2, 2)), [2], [0])
    with pytest.raises(InvalidInputError, match="one shape"):
        name_by_references([np.zeros((2, 2)), np.zeros((2, 3))])
    with pytest.raises(InvalidInputError, match="mode='median'"):
        name_by_references([np.zeros((2, 2))], "median")
