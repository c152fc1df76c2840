"""Matching all worms of an evaluation: metrics against counting by hand."""

from __future__ import annotations

import itertools
import logging
import math

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator

from voxel_ext.data import WormDataset, WormStore
from voxel_ext.engines import match_worms, name_worm, prepare_worms
from voxel_ext.engines.worm_pairs import valid_pair
from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers import WormMatchingHandler
from voxel_ext.handlers import worm_matching as module
from voxel_ext.losses import matching_loss

LOSS = matching_loss("contrastive", "mse")
NAMES = [f"{cell}{side}" for cell in ("AIY", "ADA", "ADE", "RMD", "SMD", "URX") for side in "LR"]


class Moments(torch.nn.Module):
    """Features of a cell from its position in the worm and its mean intensity; as a list for two layers."""

    def __init__(self, layers=1):
        super().__init__()
        self.layers = layers

    def forward(self, cubes, positions, valid):
        weight = valid[..., None].float()
        center = (positions * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(1)
        features = (positions - center) / torch.tensor([8.0, 16.0, 100.0])
        features[~valid] = torch.nan  # rows of missing cells mean nothing
        if self.layers == 1:
            return features
        return [features, torch.where(valid[..., None], cubes.flatten(2)[..., :4] / 30, torch.nan)]


def evaluate(handler, layers=1, batch_size=2, seed=0, **further):
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(WormDataset(handler.store, seed=seed), batch_size=batch_size),
        network=Moments(layers),
        prepare_batch=prepare_worms("both"),
        val_handlers=[handler, *further.get("handlers", ())],
        decollate=False,
    )
    evaluator.run()
    return evaluator.state.metrics


def features_by_hand(store):
    """Positions about their center in the order of the slots."""
    result = []
    for header in store.headers:
        valid = torch.from_numpy(header.valid)
        positions = torch.from_numpy(header.positions)
        center = positions[valid].mean(0)
        result.append(((positions - center) / torch.tensor([8.0, 16.0, 100.0]), valid))
    return result


@pytest.fixture
def store(make_worms):
    return WormStore(make_worms(5, names=NAMES, missing={0: [1, 4], 1: [4], 3: [0]}, turned=[1, 2]))


@pytest.mark.parametrize(("batch_size", "seed"), [(1, 0), (2, 3)])
def test_metrics_of_pairs_are_those_of_counting(store, batch_size, seed):
    handler = WormMatchingHandler(store, LOSS, details=True)
    metrics = evaluate(handler, batch_size=batch_size, seed=seed)
    worms = features_by_hand(store)
    accuracies, losses, top, swapped, opposite = [], [], [], [], []
    for i, j in itertools.combinations(range(5), 2):
        (a, there), (b, back) = worms[i], worms[j]
        found = match_worms(handler.worms[i], handler.worms[j], LOSS)
        matched = dict(zip(found.rows.tolist(), found.columns.tolist(), strict=True))
        shared = [slot for slot in range(12) if there[slot] and back[slot]]
        accuracies.append(np.mean([matched.get(slot) == slot for slot in shared]))
        cost = ((a[:, None] - b[None]) ** 2).mean(-1)
        rank = [int((cost[slot][back] < cost[slot, slot]).sum()) for slot in shared]
        top.append(np.mean([r < 3 for r in rank]))
        swapped.append(np.mean([matched.get(slot) == slot ^ 1 for slot in shared]))
        opposite.append((i in (1, 2)) != (j in (1, 2)))
        target = torch.where(there & back, torch.arange(12), -1)
        losses.append(
            float(
                LOSS(
                    *(lambda x, y, t: ((x, y), t))(*valid_pair(torch.stack([a, b]), torch.stack([there, back]), target))
                )
            )
        )
    accuracies, opposite = np.array(accuracies), np.array(opposite)
    expected = {
        "val_accuracy": accuracies.mean(),
        "val_accuracy_equal_roll": accuracies[~opposite].mean(),
        "val_accuracy_opposite_roll": accuracies[opposite].mean(),
        "val_top_3": np.mean(top),
        "val_left_right": np.mean(swapped),
        "val_pairs": 10,
        "val_pairs_opposite_roll": opposite.sum(),
        "val_loss": np.mean(losses),
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert metrics["val_accuracy_equal_roll"] > metrics["val_accuracy_opposite_roll"]
    assert [match.accuracy for match in handler.matches] == pytest.approx(accuracies.tolist())
    assert "val_naming_accuracy" not in metrics


def test_worms_are_kept_in_the_order_of_their_slots(store):
    handler = WormMatchingHandler(store, LOSS)
    evaluate(handler, seed=5)
    for number, (features, valid) in enumerate(features_by_hand(store)):
        worm = handler.worms[number]
        assert worm.name == f"worm{number}"
        assert worm.names == tuple(NAMES)
        assert torch.equal(worm.valid, valid)
        torch.testing.assert_close(worm.features[0][valid], features[valid])
        torch.testing.assert_close(worm.positions[valid], torch.from_numpy(store.headers[number].positions)[valid])


def test_several_layers_are_matched_by_their_common_cost(store):
    handler = WormMatchingHandler(store, LOSS, max_pairs=1)
    evaluate(handler, layers=2)
    worms = [handler.worms[i] for i in handler.pairs()[0]]
    assert len(worms[0].features) == 2
    costs = [
        match_worms(*(type(w)(w.name, [w.features[k]], w.valid, w.positions, w.names) for w in worms), LOSS).matrix
        for k in (0, 1)
    ]
    torch.testing.assert_close(handler.matches[0].matrix, (costs[0] + costs[1]) / 2)


@pytest.mark.parametrize("naming", ["mean_features", "mean_cost", "votes"])
def test_worms_are_named_by_the_references(store, naming):
    handler = WormMatchingHandler(store, LOSS, references=3, naming=naming, prefix="", details=True)
    metrics = evaluate(handler)
    known = [handler.worms[i] for i in (2, 3, 4)]
    expected = [name_worm(handler.worms[i], known, LOSS, naming) for i in (0, 1)]
    for found, other in zip(handler.namings, expected, strict=True):
        assert (found.first, found.rows.tolist(), found.columns.tolist()) == (
            other.first,
            other.rows.tolist(),
            other.columns.tolist(),
        )
    accuracies = [found.accuracy for found in expected]
    assert metrics["naming_accuracy"] == pytest.approx(np.mean(accuracies))
    assert metrics["naming_worst"] == min(accuracies)
    assert handler.pairs() == [(0, 1)]  # references are not matched
    assert metrics["pairs"] == 1


def test_naming_alone(store):
    metrics = evaluate(WormMatchingHandler(store, LOSS, max_pairs=0, references=4))
    assert set(metrics) == {"val_naming_accuracy", "val_naming_worst"}
    one = WormMatchingHandler(store, LOSS, references=4)
    assert one.pairs() == []
    assert set(evaluate(one)) == {"val_naming_accuracy", "val_naming_worst"}


def test_a_choice_of_pairs_is_always_the_same(store):
    pairs = WormMatchingHandler(store, LOSS, max_pairs=4).pairs()
    assert pairs == WormMatchingHandler(store, LOSS, max_pairs=4).pairs()
    assert len(set(pairs)) == 4
    assert all(i < j < 5 for i, j in pairs)
    assert len(WormMatchingHandler(store, LOSS).pairs()) == 10


def test_a_dummy_cost_leaves_cells_unmatched(store):
    handler = WormMatchingHandler(store, LOSS, dummy_cost=1e-9)
    metrics = evaluate(handler)
    assert metrics["val_accuracy"] == 0
    assert all(len(match.rows) == 0 for match in handler.matches)


def test_each_run_starts_anew(store):
    handler = WormMatchingHandler(store, LOSS, references=1)
    first, second = dict(evaluate(handler)), dict(evaluate(handler, seed=1))
    assert second == pytest.approx(first, rel=1e-6)
    assert (len(handler.matches), len(handler.namings)) == (6, 4)


def test_handlers_after_it_see_the_metrics(store):
    seen = []

    class Watch:
        def attach(self, engine: Engine) -> None:
            engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: seen.append(e.state.metrics["val_loss"]))

    metrics = evaluate(WormMatchingHandler(store, LOSS), handlers=[Watch()])
    assert seen == [metrics["val_loss"]]


def test_without_common_cells_every_metric_is_nan_with_a_warning(make_worms, caplog):
    store = WormStore(make_worms(2, names=NAMES, missing={0: range(6), 1: range(6, 12)}))
    known = WormStore(make_worms(2, names=NAMES, folder="known"))
    with caplog.at_level(logging.WARNING):
        metrics = evaluate(WormMatchingHandler(store, LOSS, details=True))
    assert "worm0 and worm1" in caplog.text
    assert metrics["val_pairs"] == 0
    for name in (
        "val_loss",
        "val_accuracy",
        "val_top_1",
        "val_top_3",
        "val_top_5",
        "val_left_right",
        "val_accuracy_se",
    ):
        assert math.isnan(metrics[name])
    general = {name for name in evaluate(WormMatchingHandler(known, LOSS, details=True)) if not name.endswith("_roll")}
    assert set(metrics) == general


def test_pairs_without_common_cells_do_not_count(make_worms):
    store = WormStore(make_worms(3, missing={0: range(6), 1: range(6, 12)}))
    handler = WormMatchingHandler(store, LOSS, details=True)
    metrics = evaluate(handler)
    assert len(handler.matches) == 3
    assert metrics["val_pairs"] == 2
    assert metrics["val_accuracy"] == pytest.approx(np.mean([handler.matches[i].accuracy for i in (1, 2)]))


def test_worms_that_no_reference_shares_a_cell_with(make_worms, caplog):
    store = WormStore(make_worms(3, missing={0: range(6), 1: range(6), 2: range(6, 12)}))
    metrics = evaluate(WormMatchingHandler(store, LOSS, references=1))
    assert math.isnan(metrics["val_naming_accuracy"])
    assert math.isnan(metrics["val_naming_worst"])
    assert "worm0 and 1 references" in caplog.text
    assert not math.isnan(metrics["val_accuracy"])


def test_cells_without_names_have_no_partners(make_worms):
    store = WormStore(make_worms(2, names=[""] * 12))
    metrics = evaluate(WormMatchingHandler(store, LOSS))
    assert "val_left_right" not in metrics
    assert 0 <= metrics["val_accuracy"] <= 1


@pytest.mark.parametrize("references", [1, 3])
def test_several_processes_share_the_pairs_or_match_all(store, monkeypatch, references):
    """Each of two processes has seen some worms; together they match all, each once, where there are enough pairs."""
    whole = WormMatchingHandler(store, LOSS, references=references)
    expected = evaluate(whole)
    parts = [{i: whole.worms[i] for i in (0, 2, 4)}, {i: whole.worms[i] for i in (1, 3, 0)}]

    def gather(result, own):
        assert own in parts
        result[:] = parts

    monkeypatch.setattr(module.idist, "get_world_size", lambda: 2)
    monkeypatch.setattr(module.torch.distributed, "all_gather_object", gather)
    pairs, found = [], []
    for rank in (0, 1):
        monkeypatch.setattr(module.idist, "get_rank", lambda rank=rank: rank)
        handler = WormMatchingHandler(store, LOSS, references=references)
        handler.worms = parts[rank]
        engine = Engine(lambda *_: None)
        handler._match(engine)  # nothing is reduced, so that the metrics are those of this process's pairs
        pairs.append([(match.first, match.second) for match in handler.matches])
        found.append(engine.state.metrics)
    every = [(match.first, match.second) for match in whole.matches]
    assert sorted(pairs[0] + pairs[1]) == every if len(every) > 1 else pairs[0] == pairs[1] == every
    for name in ("val_accuracy", "val_loss", "val_top_3"):
        mean = np.average([metrics[name] for metrics in found], weights=[len(part) for part in pairs])
        assert mean == pytest.approx(expected[name])
    assert found[0]["val_naming_accuracy"] == found[1]["val_naming_accuracy"] == expected["val_naming_accuracy"]


def test_numbers_of_pairs_and_errors_are_details(store):
    plain = evaluate(WormMatchingHandler(store, LOSS))
    full = evaluate(WormMatchingHandler(store, LOSS, details=True))
    assert plain == {name: full[name] for name in plain}
    kinds = ("", "_equal_roll", "_opposite_roll")
    assert set(full) - set(plain) == {f"val_{what}{kind}" for what in ("pairs", "accuracy_se") for kind in kinds}


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"references": 5}, "references=5: expected fewer than the 5 worms"),
        ({"references": -1}, "references=-1"),
        ({"max_pairs": -1}, "max_pairs=-1"),
        ({"max_pairs": 0}, "nothing to match"),
    ],
)
def test_settings_out_of_range_are_refused(store, settings, match):
    with pytest.raises(InvalidInputError, match=match):
        WormMatchingHandler(store, LOSS, **settings)


def test_one_worm_alone_is_refused(make_worms):
    with pytest.raises(InvalidInputError, match=r"nothing to match among 1 worms .*worm0\.h5"):
        WormMatchingHandler(WormStore(make_worms(1)), LOSS)
