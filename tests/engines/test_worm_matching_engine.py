"""Matching and naming worms by their features, against brute force over all assignments."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from voxel_ext.engines import WormFeatures, match_worms, name_worm
from voxel_ext.errors import InvalidInputError
from voxel_ext.losses import matching_loss

LOSS = matching_loss("contrastive", "mse")
NAMES = tuple("ABCDEF")
METHODS = ["mean_features", "mean_cost", "votes"]


def worm(features, missing=(), name="w", names=NAMES):
    layers = features if isinstance(features, list) else [features]
    count = len(layers[0])
    valid = torch.ones(count, dtype=torch.bool)
    valid[list(missing)] = False
    return WormFeatures(name, layers, valid, torch.zeros(count, 3), tuple(names)[:count])


def random_worm(seed, cells=5, missing=(), noise=1.0, width=3, **kwargs):
    mean = torch.randn(cells, width, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    features = mean + noise * torch.randn(cells, width, generator=generator)
    features[list(missing)] = 0
    return worm(features, missing, f"w{seed}", **kwargs)


def squares(a, b):
    """Mean squared difference of the features of two worms, in a loop."""
    return [[float(((p - q) ** 2).mean()) for q in b.features[0][b.valid]] for p in a.features[0][a.valid]]


def assignments(rows, columns, partial=False):
    """All one-to-one assignments as lists of (row, column): complete ones, or any."""
    short = min(rows, columns)
    for size in range(0 if partial else short, short + 1):
        for chosen in itertools.combinations(range(rows), size):
            for places in itertools.permutations(range(columns), size):
                yield list(zip(chosen, places, strict=True))


def best(cost, dummy=None):
    """The cheapest assignment of a matrix by trying all; a row or column without a match saves ``dummy``."""
    free = 0.0 if dummy is None else dummy
    every = assignments(len(cost), len(cost[0]), partial=dummy is not None)
    return min(every, key=lambda pairs: sum(cost[i][j] - free for i, j in pairs))


@pytest.mark.parametrize("missing", [((), ()), ((1,), ()), ((0, 2), (3,))])
@pytest.mark.parametrize("dummy", [None, 0.7])
@pytest.mark.parametrize("seed", [1, 2])
def test_matches_are_the_cheapest_assignment(missing, dummy, seed):
    a, b = random_worm(seed, missing=missing[0]), random_worm(seed + 10, missing=missing[1])
    found = match_worms(a, b, LOSS, dummy)
    cost = squares(a, b)
    np.testing.assert_allclose(found.matrix.numpy(), cost, rtol=1e-5, atol=1e-6)
    rows, columns = np.flatnonzero(a.valid.numpy()), np.flatnonzero(b.valid.numpy())
    expected = [(rows[i], columns[j]) for i, j in best(cost, dummy)]
    assert list(zip(found.rows, found.columns, strict=True)) == expected
    assert (found.first, found.second) == (a.name, b.name)
    np.testing.assert_array_equal(found.row_slots, rows)
    np.testing.assert_array_equal(found.column_slots, columns)


def test_cost_and_margin_belong_to_the_matches():
    a, b = random_worm(3, missing=(1,)), random_worm(4, missing=(4,))
    found, cost = match_worms(a, b, LOSS), np.array(squares(a, b))
    for row, column, value, margin in zip(found.rows, found.columns, found.cost, found.margin, strict=True):
        i, j = list(found.row_slots).index(row), list(found.column_slots).index(column)
        others = [*np.delete(cost[i], j), *np.delete(cost[:, j], i)]
        assert value == pytest.approx(cost[i, j], rel=1e-5)
        assert margin == pytest.approx(min(others) - cost[i, j], rel=1e-4, abs=1e-5)


def test_target_and_accuracy_count_cells_that_both_have():
    features = torch.eye(6)
    a, b = worm(features, missing=(0,)), worm(features[[0, 1, 2, 4, 3, 5]], missing=(5,))
    found = match_worms(a, b, LOSS)
    assert found.row_slots.tolist() == [1, 2, 3, 4, 5]
    assert found.target.tolist() == [1, 2, 3, 4, -1]
    assert found.accuracy == 2 / 4  # 1 and 2 right, 3 and 4 exchanged
    alone = match_worms(worm(features, missing=(0, 1, 2)), worm(features, missing=(3, 4, 5)), LOSS)
    assert math.isnan(alone.accuracy)
    assert alone.target.tolist() == [-1, -1, -1]


def test_a_dummy_cost_leaves_cells_unmatched():
    a, b = worm(torch.tensor([[0.0], [1.0], [9.0]])), worm(torch.tensor([[0.1], [1.1], [2.0]]))
    assert match_worms(a, b, LOSS, 1.0).rows.tolist() == [0, 1]
    assert match_worms(a, b, LOSS).rows.tolist() == [0, 1, 2]


def test_several_layers_are_weighed():
    loss = matching_loss("contrastive", "mse", layer_weights=[0.25, 0.75])
    layers = [[torch.randn(4, width, generator=torch.Generator().manual_seed(i)) for width in (2, 5)] for i in (0, 1)]
    a, b = (worm(part, missing=(2,)) for part in layers)
    parts = [squares(worm(p, (2,)), worm(q, (2,))) for p, q in zip(*layers, strict=True)]
    expected = 0.25 * np.array(parts[0]) + 0.75 * np.array(parts[1])
    np.testing.assert_allclose(match_worms(a, b, loss).matrix.numpy(), expected, rtol=1e-5)
    for method in METHODS[:2]:
        np.testing.assert_allclose(name_worm(a, [b], loss, method).matrix.numpy(), expected, rtol=1e-5)


# ---- naming


def references(missing=((), (1,), (1, 3))):
    return [random_worm(20 + i, missing=m) for i, m in enumerate(missing)]


def test_mean_features_are_over_the_references_that_have_the_cell():
    known = references()
    known[1].features[0][1] = torch.nan  # a row of a missing cell means nothing
    target = random_worm(5, missing=(2,))
    means = torch.stack(
        [torch.stack([r.features[0][slot] for r in known if r.valid[slot]]).mean(0) for slot in range(5)]
    )
    expected = match_worms(target, worm(means), LOSS)
    found = name_worm(target, known, LOSS, "mean_features")
    torch.testing.assert_close(found.matrix, expected.matrix)
    assert (found.rows.tolist(), found.columns.tolist()) == (expected.rows.tolist(), expected.columns.tolist())
    assert found.second == "3 references"


def test_mean_costs_are_over_the_references_that_have_the_cell():
    known, target = references(), random_worm(5, missing=(2,))
    expected = np.zeros((4, 5))
    for slot in range(5):
        parts = [
            [float(((f - r.features[0][slot]) ** 2).mean()) for f in target.features[0][target.valid]]
            for r in known
            if r.valid[slot]
        ]
        expected[:, slot] = np.mean(parts, 0)
    found = name_worm(target, known, LOSS, "mean_cost")
    np.testing.assert_allclose(found.matrix.numpy(), expected, rtol=1e-5)
    pairs = best(expected.tolist())
    assert found.rows.tolist() == [found.row_slots[i] for i, _ in pairs]
    assert found.columns.tolist() == [j for _, j in pairs]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dummy", [None, 0.8])
def test_the_assignment_with_the_most_votes_wins(seed, dummy):
    known = [random_worm(30 + seed + i, missing=m, noise=1.5) for i, m in enumerate(((), (1,), (0,)))]
    target = random_worm(seed, missing=(4,))
    votes, mean = np.zeros((4, 5)), name_worm(target, known, LOSS, "mean_cost").matrix.numpy()
    for reference in known:
        columns = np.flatnonzero(reference.valid.numpy())
        for i, j in best(squares(target, reference), dummy):
            votes[i, columns[j]] += 1
    found = name_worm(target, known, LOSS, "votes", dummy)
    chosen = list(zip(found.rows.tolist(), found.columns.tolist(), strict=True))  # rows 0 to 3 are slots 0 to 3

    def worth(pairs):
        return sum(votes[i, j] for i, j in pairs)

    every = list(assignments(4, 5, partial=dummy is not None))
    most = max(worth(pairs) for pairs in every)
    assert worth(chosen) == most
    if dummy is None:
        cheapest = min(sum(mean[i, j] for i, j in pairs) for pairs in every if worth(pairs) == most)
        assert sum(mean[i, j] for i, j in chosen) == pytest.approx(cheapest, rel=1e-6)
    else:
        assert all(votes[i, j] > 0 for i, j in chosen)
    np.testing.assert_allclose(found.cost, [-votes[i, j] / 3 for i, j in chosen], atol=0.5 / 3 / 4 + 1e-9)
    np.testing.assert_array_equal(found.cost, [found.matrix[i, j] for i, j in chosen])


@pytest.mark.parametrize("method", METHODS)
def test_one_reference_gives_the_same_as_a_pair(method):
    target, reference = random_worm(6, missing=(0,)), random_worm(7, missing=(3,))
    pair, found = match_worms(target, reference, LOSS), name_worm(target, [reference], LOSS, method)
    assert (found.rows.tolist(), found.columns.tolist()) == (pair.rows.tolist(), pair.columns.tolist())
    assert found.column_slots.tolist() == [0, 1, 2, 4]
    assert found.accuracy == pair.accuracy


@pytest.mark.parametrize("method", METHODS)
def test_cells_that_no_reference_has_are_no_names(method):
    known = [random_worm(i, missing=(2, i)) for i in (0, 1)]
    found = name_worm(random_worm(8), known, LOSS, method)
    assert found.column_slots.tolist() == [0, 1, 3, 4]
    assert 2 not in found.columns
    assert len(found.rows) == 4


@pytest.mark.parametrize("method", METHODS)
def test_naming_by_worms_that_are_alike_is_right(method):
    known = [random_worm(i, noise=0.01, missing=(i,)) for i in range(3)]
    assert name_worm(random_worm(9, noise=0.01), known, LOSS, method).accuracy == 1


@pytest.mark.parametrize("method", METHODS)
def test_naming_does_not_change_its_input(method):
    target, known = random_worm(5), references()
    before = [w.features[0].clone() for w in (target, *known)]
    name_worm(target, known, LOSS, method)
    assert all(torch.equal(w.features[0], b) for w, b in zip((target, *known), before, strict=True))


# ---- bad input


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_not_finite_are_refused_with_the_names_of_the_worms(value):
    a, b = random_worm(1, missing=(0,)), random_worm(2)
    b.features[0][3] = value
    with pytest.raises(
        InvalidInputError, match=r"w1 cannot be matched with w2: .* slot 3 of the other is .* 1 of 5 columns"
    ):
        match_worms(a, b, LOSS)
    for method in METHODS:
        with pytest.raises(InvalidInputError, match="w1 cannot be matched with"):
            name_worm(a, [b, random_worm(3)], LOSS, method)


def test_worms_without_cells_are_refused():
    a, nothing = random_worm(1), random_worm(2, missing=range(5))
    with pytest.raises(InvalidInputError, match="worm w2 has no valid cells"):
        match_worms(a, nothing, LOSS)
    for method in METHODS:
        with pytest.raises(InvalidInputError, match="worm w2 has no valid cells"):
            name_worm(nothing, [a], LOSS, method)
        with pytest.raises(InvalidInputError, match="worm w2 has no valid cells"):
            name_worm(a, [a, nothing], LOSS, method)


def test_references_that_do_not_fit_are_refused():
    a, b = random_worm(1), random_worm(2, names="ABXDE")
    with pytest.raises(InvalidInputError, match=r"w1 and w2 give slot 2 \(Aligned_No 3\) different names, 'C' and 'X'"):
        name_worm(a, [a, b], LOSS)
    name_worm(b, [a], LOSS)  # the worm to name may have any names
    name_worm(a, [a, random_worm(3, names=["", "?", "C", "D", "E"])], LOSS)
    with pytest.raises(InvalidInputError, match="w3 has 4 cells, w1 has 5"):
        name_worm(a, [a, random_worm(3, cells=4)], LOSS)
    with pytest.raises(InvalidInputError, match="at least one reference"):
        name_worm(a, [], LOSS)
    with pytest.raises(InvalidInputError, match="naming='vote'"):
        name_worm(a, [a], LOSS, "vote")
