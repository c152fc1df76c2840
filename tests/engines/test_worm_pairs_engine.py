"""Batches of worms in MONAI's engines, and the loss of pairs, against loops over cells."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer

from voxel_ext.data import WormPairDataset
from voxel_ext.engines import WormPairLoss, prepare_worm_pairs, prepare_worms
from voxel_ext.engines.worm_pairs import valid_pair
from voxel_ext.errors import InvalidInputError
from voxel_ext.losses import matching_loss
from voxel_ext.networks.nets import matching_network

SLOTS = 6


def batch(pairs=3, cells=5, seed=0, missing=0.3):
    """Random pairs of worms: each has its cells in an order of its own."""
    generator = torch.Generator().manual_seed(seed)
    slots = torch.stack([torch.randperm(SLOTS, generator=generator)[:cells] for _ in range(2 * pairs)])
    cells_of = slots.view(pairs, 2, cells)
    valid = torch.rand(pairs, 2, cells, generator=generator) >= missing
    target = torch.full((pairs, cells), -1)
    for p in range(pairs):
        for i in range(cells):
            for j in range(cells):
                if cells_of[p, 0, i] == cells_of[p, 1, j] and valid[p, 0, i] and valid[p, 1, j]:
                    target[p, i] = j
    return {
        "cubes": torch.randn(pairs, 2, cells, 1, 4, 4, 4, generator=generator),
        "positions": torch.randn(pairs, 2, cells, 3, generator=generator),
        "valid": valid,
        "cells": cells_of,
        "target": target,
        "worms": ["a\tb"] * pairs,
    }


@pytest.mark.parametrize("inputs", ["both", "cubes", "positions"])
def test_pairs_are_laid_one_after_the_other(inputs):
    items = batch()
    cubes, targets, (positions, valid), further = prepare_worm_pairs(inputs)(items, "cpu", False)
    for given, key in ((cubes, "cubes"), (positions, "positions")):
        if inputs in ("both", key):
            assert torch.equal(given, torch.cat(list(items[key])))
        else:
            assert given is None
    assert torch.equal(valid, torch.cat(list(items["valid"])))
    assert torch.equal(targets["target"], items["target"])
    assert torch.equal(targets["valid"], items["valid"])
    assert targets["worms"] == items["worms"]
    assert "cubes" not in targets
    assert further == {}
    assert "cubes" in items  # the batch itself is left as it is


@pytest.mark.parametrize("inputs", ["both", "cubes", "positions"])
def test_single_worms_are_passed_as_they_are(inputs):
    items = {key: value[:, 0] for key, value in batch().items() if isinstance(value, torch.Tensor) and key != "target"}
    cubes, targets, (positions, valid), _ = prepare_worms(inputs)(items, "cpu", False)
    assert (cubes is None, positions is None) == (inputs == "positions", inputs == "cubes")
    assert cubes is None or torch.equal(cubes, items["cubes"])
    assert positions is None or torch.equal(positions, items["positions"])
    assert torch.equal(valid, items["valid"])
    assert torch.equal(targets["cells"], items["cells"])


def test_a_batch_without_cubes_serves_positions_only():
    items = batch()
    del items["cubes"]
    assert prepare_worm_pairs("positions")(items)[0] is None
    with pytest.raises(InvalidInputError, match="the batch has no cubes; its keys are"):
        prepare_worm_pairs("both")(items)
    for prepare in (prepare_worm_pairs, prepare_worms):
        with pytest.raises(InvalidInputError, match="inputs='cube'"):
            prepare("cube")


@pytest.mark.parametrize("seed", range(8))
def test_missing_cells_are_left_out(seed):
    items = batch(1, seed=seed)
    valid, target = items["valid"][0], items["target"][0]
    features = torch.arange(2 * 5 * 1).view(2, 5, 1)
    first, second, found = valid_pair(features, valid, target)
    kept = [i for i in range(5) if valid[0, i]]
    assert first[:, 0].tolist() == kept
    assert second[:, 0].tolist() == [5 + j for j in range(5) if valid[1, j]]
    for row, i in enumerate(kept):
        if target[i] < 0:
            assert found[row] == -1
        else:
            assert second[found[row], 0] == 5 + target[i]


def test_a_match_that_is_missing_itself_is_none():
    valid = torch.tensor([[True, True], [False, True]])
    assert valid_pair(torch.zeros(2, 2, 1), valid, torch.tensor([0, 1]))[2].tolist() == [-1, 0]


@pytest.mark.parametrize("name", ["contrastive", "linear_assignment", "sinkhorn"])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_loss_is_the_mean_over_pairs(name, layers):
    items, loss = batch(), matching_loss(name, dummy_cost=None if name == "contrastive" else 0.7)
    features = [torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(i)) for i in range(layers)]
    expected = []
    for p in range(3):
        there, back = items["valid"][p]
        place = [j for j in range(5) if back[j]]
        target = torch.tensor([place.index(j) if j >= 0 else -1 for j in items["target"][p][there].tolist()])
        expected.append(loss([(f[2 * p][there], f[2 * p + 1][back]) for f in features], target))
    found = WormPairLoss(loss)(features if layers > 1 else features[0], items)
    torch.testing.assert_close(found, torch.stack(expected).mean())


def test_pairs_without_a_common_cell_do_not_count():
    items, loss = batch(), WormPairLoss(matching_loss())
    features = torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    without = {name: items[name][[0, 2]] for name in ("valid", "target")}
    expected = loss(features[[0, 1, 4, 5]], without)
    items["valid"][1, 0] = False
    items["target"][1] = -1
    torch.testing.assert_close(loss(features, items), expected)
    items["target"][:] = -1
    nothing = loss(features, items)
    nothing.backward()
    assert nothing.item() == 0
    assert (features.grad == 0).all()


def test_features_of_other_worms_are_refused():
    with pytest.raises(InvalidInputError, match=r"\[4, 5, 3\] do not fit 3 pairs of worms with 5 cells"):
        WormPairLoss(matching_loss())(torch.zeros(4, 5, 3), batch())


def test_a_trainer_learns_pairs(make_worms):
    torch.manual_seed(0)
    data = WormPairDataset(make_worms(3, missing={0: [1]}), 10, pairs="all", normalization="cube", augment=True)
    small = {"group": "C2:x", "features": (2, 3), "hidden": 7, "grid": 2, "dilated": False, "mlp_dropout": 0.0}
    net = matching_network(out_features=8, attention_layers=1, attention_width=24, **small)
    losses = []
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=12,
        train_data_loader=torch.utils.data.DataLoader(data, batch_size=3),
        network=net,
        optimizer=torch.optim.Adam(net.parameters(), 0.01),
        loss_function=WormPairLoss(matching_loss()),
        prepare_batch=prepare_worm_pairs("both"),
        decollate=False,
    )
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output["loss"].item())
    )
    trainer.run()
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
