"""Instance overlap against brute force, and the metric built on it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler

from voxel_ext.errors import InvalidInputError
from voxel_ext.metrics import InstanceDetectionRate, best_instance_iou, instance_iou


def random_ids(shape, ids, seed):
    """Random boxes of random ids on background, so that instances overlap in all sizes."""
    rng = np.random.default_rng(seed)
    volume = np.zeros(shape, np.int64)
    for _ in range(2 * len(ids)):
        start = [rng.integers(0, n) for n in shape]
        box = tuple(slice(s, s + int(rng.integers(1, 6))) for s in start)
        volume[box] = rng.choice(ids)
    return torch.from_numpy(volume)


def brute_force(pred, truth):
    """IoU of each pair of instances, by sets of voxels."""
    table = {}
    for t in set(truth.flatten().tolist()) - {0}:
        for p in set(pred.flatten().tolist()) - {0}:
            intersection = int(((truth == t) & (pred == p)).sum())
            if intersection:
                table[t, p] = intersection / int(((truth == t) | (pred == p)).sum())
    return table


@pytest.mark.parametrize("shape", [(9, 8, 7), (14, 13), (40,)])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ids", [range(1, 9), [3, 70_000, 2**40, 2**62]])
def test_pairs_are_those_of_brute_force(shape, seed, ids):
    pred, truth = random_ids(shape, ids, seed), random_ids(shape, ids, seed + 100)
    expected = brute_force(pred, truth)
    t, p, iou = instance_iou(pred, truth)
    assert list(zip(t.tolist(), p.tolist(), strict=True)) == sorted(expected)
    assert iou.tolist() == pytest.approx([expected[pair] for pair in sorted(expected)])
    best = [
        max([v for (a, _), v in expected.items() if a == t] + [0]) for t in sorted(set(truth.flatten().tolist()) - {0})
    ]
    assert best_instance_iou(pred, truth).tolist() == pytest.approx(best)


@pytest.mark.parametrize("kind", [torch.uint8, torch.uint16, torch.int32, torch.float32])
def test_ids_of_any_type(kind):
    pred, truth = random_ids((9, 9), range(1, 6), 0), random_ids((9, 9), range(1, 6), 1)
    assert torch.equal(best_instance_iou(pred.to(kind), truth.to(kind)), best_instance_iou(pred, truth))


def test_no_instances_on_either_side():
    ids, none = random_ids((6, 6), [1, 2], 0), torch.zeros(6, 6, dtype=torch.int64)
    assert best_instance_iou(ids, none).shape == (0,)
    assert not best_instance_iou(none, ids).any()
    assert [part.numel() for part in instance_iou(none, none)] == [0, 0, 0]


def test_rate_counts_instances_at_the_threshold_and_above():
    truth = torch.zeros(1, 1, 1, 30, dtype=torch.int64)
    pred = truth.clone()
    truth[..., 0:4], pred[..., 0:4] = 1, 9  # IoU 1
    truth[..., 10:14], pred[..., 10:12] = 2, 8  # IoU 0.5
    truth[..., 20:24], pred[..., 20:21] = 3, 7  # IoU 0.25
    for threshold, rate in [(0.2, 1), (0.25, 1), (0.5, 2 / 3), (0.51, 1 / 3), (1, 1 / 3)]:
        assert InstanceDetectionRate(threshold)(pred, truth).tolist() == [[pytest.approx(rate)]]


def test_rate_ignores_the_numbering():
    truth = random_ids((1, 1, 12, 12), range(1, 8), 3)
    pred = random_ids((1, 1, 12, 12), range(1, 8), 4)
    renumbered = torch.where(pred > 0, 1000 - 7 * pred, 0)
    assert torch.equal(InstanceDetectionRate(0.2)(pred, truth), InstanceDetectionRate(0.2)(renumbered, truth))
    assert InstanceDetectionRate()(truth + (truth > 0) * 50, truth).item() == 1


def test_aggregate_is_the_mean_over_volumes_with_instances():
    whole = torch.zeros(1, 4, 4)
    whole[0, :2, :2], whole[0, 3, 3] = 1, 2
    half = whole * (whole == 1)
    empty = torch.zeros(1, 4, 4)
    metric = InstanceDetectionRate()
    metric(torch.stack([whole, half, half]), torch.stack([whole, whole, empty]))
    metric([half], [MetaTensor(half)])
    buffer = metric.get_buffer()
    assert buffer.shape == (4, 1)
    assert buffer[:, 0].nan_to_num(-1).tolist() == [1, 0.5, -1, 1]
    assert metric.aggregate().item() == pytest.approx((1 + 0.5 + 1) / 3)
    metric.reset()
    metric([half], [empty])
    assert math.isnan(metric.aggregate().item())


def test_works_as_an_ignite_handler():
    truth = [random_ids((1, 10, 10), range(1, 5), seed) for seed in range(4)]
    pred = [torch.where(t == 1, 0, t) for t in truth]
    batches = [(pred[:2], truth[:2]), (torch.stack(pred[2:]), torch.stack(truth[2:]))]
    engine = Engine(lambda _, batch: batch)
    IgniteMetricHandler(metric_fn=InstanceDetectionRate()).attach(engine, "detection")
    engine.run(batches)
    expected = np.mean([1 - ((t == 1).any() / len(t[t > 0].unique())).item() for t in truth])
    assert engine.state.metrics["detection"] == pytest.approx(expected)
    assert engine.state.metric_details["detection"].shape == (4, 1)


def test_bad_input():
    ids = torch.ones(1, 1, 4, 4, dtype=torch.int64)
    metric = InstanceDetectionRate()
    with pytest.raises(InvalidInputError, match=r"\(4,\).*\(5,\)"):
        instance_iou(torch.ones(4), torch.ones(5))
    with pytest.raises(InvalidInputError, match="predicted instances have values that are not integers"):
        metric(ids * 0.5, ids)
    with pytest.raises(InvalidInputError, match="true instances have the id -1"):
        metric(ids, -ids)
    with pytest.raises(InvalidInputError, match=r"y has shape \(1, 2, 4, 4\)"):
        metric(ids, ids.repeat(1, 2, 1, 1))
    with pytest.raises(InvalidInputError, match="needs the true instances"):
        metric(ids)
    with pytest.raises(InvalidInputError, match="nothing to aggregate"):
        InstanceDetectionRate().aggregate()
    for threshold in (0, 1.1):
        with pytest.raises(InvalidInputError, match=f"threshold={threshold}"):
            InstanceDetectionRate(threshold)
