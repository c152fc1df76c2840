"""Matching accuracy against loops over pairs and cells."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler
from scipy.optimize import linear_sum_assignment

from voxel_ext.errors import InvalidInputError
from voxel_ext.metrics.matching import MatchingAccuracy, left_right_partners

NAMES = ["ADAL", "ADAR", "ALA", "DL1", "DR1", "CCLA", "CCRA", "AVL"]


def make_pairs(count, n=8, noise=0.9, seed=0):
    """Costs (n, m) of shuffled worms that lack a cell each, targets, and the identities of rows and columns."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        rows, columns = rng.permutation(n)[: n - 1], rng.permutation(n)[: n - 1]
        cost = (rows[:, None] != columns) + noise * rng.random((n - 1, n - 1))
        target = [int(np.flatnonzero(columns == cell)[0]) if cell in columns else -1 for cell in rows]
        pairs.append((torch.tensor(cost), torch.tensor(target), torch.tensor(rows), torch.tensor(columns)))
    return pairs


def by_loops(pairs, top_k, partners=None):
    """Accuracies, shares of the true cell among the k cheapest, and of the partner, each per pair."""
    accuracy, top, swapped = [], {k: [] for k in top_k}, []
    for cost, target, cells, columns in pairs:
        assigned = dict(zip(*(x.tolist() for x in linear_sum_assignment(cost)), strict=True))
        hits, found, left_right = [], {k: [] for k in top_k}, []
        for i, t in enumerate(target.tolist()):
            if t < 0:
                continue
            hits.append(assigned.get(i) == t)
            for k in top_k:
                found[k].append(t in cost[i].argsort()[:k])
            if partners is not None and partners[cells[i]] >= 0:
                left_right.append(i in assigned and columns[assigned[i]] == partners[cells[i]])
        accuracy.append(np.mean(hits))
        for k in top_k:
            top[k].append(np.mean(found[k]))
        swapped.append(np.mean(left_right) if left_right else math.nan)
    return np.array(accuracy), top, np.array(swapped)


def test_partners():
    assert left_right_partners(NAMES).tolist() == [1, 0, -1, 4, 3, 6, 5, -1]
    assert left_right_partners(["LUAL", "RUAL", "LUAR"]).tolist() == [2, -1, 0]  # the last letter counts
    assert left_right_partners([]).tolist() == []
    with pytest.raises(InvalidInputError, match="'ADAL' is there twice"):
        left_right_partners([*NAMES, "ADAL"])


def test_aggregate_agrees_with_loops():
    pairs = make_pairs(9, noise=2.5)
    metric = MatchingAccuracy(NAMES, top_k=(1, 2, 4))
    for i, (cost, target, cells, columns) in enumerate(pairs):
        metric(cost, target, cells=cells, column_cells=columns, group=torch.tensor(i % 3 - 1))
    accuracy, top, swapped = by_loops(pairs, (1, 2, 4), left_right_partners(NAMES))
    assert 0.1 < accuracy.mean() < 0.9
    assert swapped.mean() > 0
    result = metric.aggregate()
    assert result["accuracy"] == pytest.approx(accuracy.mean())
    assert result["accuracy_se"] == pytest.approx(accuracy.std(ddof=1) / 3)
    assert result["pairs"] == 9
    assert result["left_right"] == pytest.approx(swapped.mean())
    for k in (1, 2, 4):
        assert result[f"top_{k}"] == pytest.approx(np.mean(top[k]))
    for group, name in enumerate(("equal_roll", "opposite_roll")):
        chosen = accuracy[np.arange(9) % 3 - 1 == group]
        assert result[f"accuracy_{name}"] == pytest.approx(chosen.mean())
        assert result[f"accuracy_se_{name}"] == pytest.approx(chosen.std(ddof=1) / math.sqrt(3))
        assert result[f"pairs_{name}"] == 3


def test_per_cell_agrees_with_loops():
    pairs = make_pairs(12, noise=3, seed=1)
    metric = MatchingAccuracy(NAMES, top_k=(2,))
    for cost, target, cells, columns in pairs:
        metric(cost, target, cells=cells, column_cells=columns)
    table = metric.per_cell()
    assert [row["name"] for row in table] == NAMES
    confused = 0
    for cell, row in enumerate(table):
        found, near = [], []
        for cost, target, cells, columns in pairs:
            assigned = linear_sum_assignment(cost)[1]
            for i in np.flatnonzero((cells == cell) & (target >= 0)):
                found.append(int(columns[assigned[i]]))
                near.append(target[i] in cost[i].argsort()[:2])
        assert row["cell"] == cell
        assert row["pairs"] == len(found)
        assert row["accuracy"] == pytest.approx(np.mean([other == cell for other in found]))
        assert row["top_2"] == pytest.approx(np.mean(near))
        partner = int(left_right_partners(NAMES)[cell])
        if partner < 0:
            assert math.isnan(row["left_right"])
        else:
            assert row["left_right"] == pytest.approx(np.mean([other == partner for other in found]))
        wrong = [other for other in found if other != cell]
        if wrong:
            confused += 1
            counts = {NAMES[other]: wrong.count(other) for other in wrong}
            assert counts[row["confused_with"]] == max(counts.values())
        else:
            assert row["confused_with"] is None
    assert confused


def test_batches_lists_and_single_pairs_agree():
    pairs = make_pairs(4)
    costs, targets, cells, columns = (torch.stack(x) for x in zip(*pairs, strict=True))
    group = torch.tensor([0, 1, 1, -1])
    settings = {"cells": cells, "column_cells": columns, "group": group}
    results = []
    for call in (
        lambda m: m(costs, targets, **settings),
        lambda m: m(list(costs), list(targets), **{key: list(value) for key, value in settings.items()}),
        lambda m: [m(costs[i], targets[i], **{k: v[i] for k, v in settings.items()}) for i in range(4)],
        lambda m: m(costs, {"target": targets, **settings}),
    ):
        metric = MatchingAccuracy(num_cells=8)
        call(metric)
        results.append((metric.aggregate(), metric.per_cell()))
    for result in results[1:]:
        np.testing.assert_equal(result, results[0])


def test_pairs_of_different_sizes():
    metric = MatchingAccuracy(num_cells=5)
    metric([1 - torch.eye(5), 1 - torch.eye(3, 4)], [torch.arange(5), torch.tensor([0, 2, -1])])
    assert metric.aggregate()["accuracy"] == 0.75
    assert [row["pairs"] for row in metric.per_cell()] == [2, 2, 1, 1, 1]
    assert metric.per_cell()[1]["confused_with"] is None  # column 1 is no known cell


def test_given_matches():
    cost, target = 1 - torch.eye(4), torch.arange(4)
    metric = MatchingAccuracy()
    metric(cost, target, matches=torch.tensor([0, 1, -1, 2]))
    assert metric.aggregate()["accuracy"] == 0.5
    assert metric.aggregate()["top_1"] == 1
    assert math.isnan(metric.aggregate()["accuracy_se"])
    assert metric.per_cell()[3]["confused_with"] == 2


def test_equal_costs_are_not_found():
    """A network whose features are all the same has found nothing, whatever the order of the columns."""
    metric = MatchingAccuracy(top_k=(1, 3, 5))
    metric(torch.zeros(5, 5), torch.arange(5))
    result = metric.aggregate()
    assert (result["top_1"], result["top_3"], result["top_5"]) == (0, 0, 1)


def test_in_an_ignite_engine():
    pairs = make_pairs(5)
    metric = MatchingAccuracy(NAMES)

    def step(engine, pair):
        cost, target, cells, columns = pair
        return cost[None], {"target": target[None], "cells": cells[None], "column_cells": columns[None]}

    engine = Engine(step)
    IgniteMetricHandler(metric_fn=metric, save_details=False).attach(engine, "matching")
    for _ in range(2):  # a second run starts afresh
        engine.run(pairs)
        assert engine.state.metrics["accuracy"] == pytest.approx(by_loops(pairs, ())[0].mean())
        assert engine.state.metrics["pairs"] == 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cells": torch.tensor([0, 1, 1])}, "cells has shape .* expected 3 different integers"),
        ({"cells": torch.tensor([0, 1, 9])}, "cells has values from 0 to 9; expected identities from 0 to 3"),
        ({"cells": torch.arange(2)}, r"shape \(2,\); expected 3"),
        ({"column_cells": torch.tensor([1, 0, 2])}, "cells and column_cells differ"),
        ({"group": torch.tensor(2)}, "group=2 is not valid"),
        ({"matches": torch.tensor([0, 1, 3])}, "expected 3 columns of 3 or -1"),
        ({"names": ["a"]}, r"does not know \['names'\]"),
    ],
)
def test_bad_extras(settings, message):
    metric = MatchingAccuracy(num_cells=4)
    with pytest.raises(InvalidInputError, match=message):
        metric(torch.rand(3, 3), torch.arange(3), **settings)


def test_bad_input():
    metric = MatchingAccuracy()
    for call in (metric.aggregate, metric.per_cell):
        with pytest.raises(InvalidInputError, match="nothing to aggregate"):
            call()
    with pytest.raises(InvalidInputError, match="needs the true matches"):
        metric(torch.rand(3, 3))
    with pytest.raises(InvalidInputError, match="2 costs but 1 targets"):
        metric(torch.rand(2, 3, 3), torch.arange(3)[None])
    with pytest.raises(InvalidInputError, match="not finite"):
        metric(torch.full((3, 3), math.nan), torch.arange(3))
    with pytest.raises(InvalidInputError, match="expected a column from 0 to 2"):
        metric(torch.rand(3, 3), torch.tensor([0, 1, 3]))
    with pytest.raises(InvalidInputError, match="column 1 for 2 rows"):
        metric(torch.rand(3, 3), torch.tensor([0, 1, 1]))
    with pytest.raises(InvalidInputError, match="num_cells=3 but there are 8 names"):
        MatchingAccuracy(NAMES, num_cells=3)
    with pytest.raises(InvalidInputError, match="top_k"):
        MatchingAccuracy(top_k=(0,))
