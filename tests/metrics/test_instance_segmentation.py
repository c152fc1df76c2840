"""Scores of instance segmentations against brute force, scikit-image, SciPy and MONAI."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics.panoptic_quality import compute_panoptic_quality
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from skimage.metrics import adapted_rand_error as rand_of_skimage
from skimage.metrics import variation_of_information as information_of_skimage

from voxel_ext.errors import InvalidInputError
from voxel_ext.metrics.instance_scores import IOU_THRESHOLDS, instance_scores, panoptic_quality
from voxel_ext.metrics.instance_segmentation import (
    AdaptedRandError,
    BoundaryAveragePrecision,
    InstanceAveragePrecision,
    PanopticQuality,
    VariationOfInformation,
)
from voxel_ext.metrics.partition import adapted_rand_error, variation_of_information

METRICS = [
    InstanceAveragePrecision,
    PanopticQuality,
    AdaptedRandError,
    VariationOfInformation,
]


def random_pair(seed, shape=(8, 9, 10), instances=8):
    """Random boxes with background, and a copy in which some are moved, joined, split or lost."""
    rng = np.random.default_rng(seed)
    truth, pred = np.zeros((2, *shape), np.int64)
    for i in range(1, instances + 1):
        start = rng.integers(0, np.array(shape) - 3)
        size = rng.integers(2, 6, len(shape))
        truth[tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))] = i
        shift = rng.integers(0, 2, len(shape))
        moved = tuple(slice(s + d, s + d + n) for s, d, n in zip(start, shift, size, strict=True))
        pred[moved] = rng.integers(1, instances + 3)
    return torch.from_numpy(pred), torch.from_numpy(truth)


def ious(pred, truth):
    """Dense matrix of the IoU of true and predicted instances, by masks."""
    ids = [sorted(set(x.flatten().tolist()) - {0}) for x in (truth, pred)]
    matrix = np.zeros((len(ids[0]), len(ids[1])))
    for i, t in enumerate(ids[0]):
        for j, p in enumerate(ids[1]):
            matrix[i, j] = int(((truth == t) & (pred == p)).sum()) / int(((truth == t) | (pred == p)).sum())
    return matrix


def counts(pred, truth, threshold):
    """TP, FP and FN by optimal assignment on the dense matrix."""
    matrix = ious(pred, truth)
    reached = matrix >= threshold
    tp = int(reached[linear_sum_assignment(-reached.astype(float))].sum())
    return tp, matrix.shape[1] - tp, matrix.shape[0] - tp


small_volume = st.lists(st.integers(0, 4), min_size=24, max_size=24).map(lambda ids: torch.tensor(ids).view(2, 3, 4))


@settings(max_examples=60, deadline=None)
@given(small_volume, small_volume)
def test_scores_are_those_of_an_optimal_assignment(pred, truth):
    levels = [0.05, 0.2, 1 / 3, 0.5, 0.75, 1]
    scores = instance_scores(pred, truth, levels)
    for k, level in enumerate(levels):
        tp, fp, fn = counts(pred, truth, level)
        found = (scores.true_positives[k], scores.false_positives[k], scores.false_negatives[k])
        assert tuple(map(int, found)) == (tp, fp, fn)
        if tp + fp + fn:
            assert scores.average_precision[k] == tp / (tp + fp + fn)
            assert scores.f1[k] == 2 * tp / (2 * tp + fp + fn)
            assert scores.precision[k] == (tp / (tp + fp) if tp else 0)
            assert scores.recall[k] == (tp / (tp + fn) if tp else 0)


def test_one_prediction_matches_one_truth():
    truth = torch.tensor([1, 1, 2, 2, 3, 3, 3, 3])
    pred = torch.tensor([7, 7, 7, 7, 8, 8, 9, 9])  # IoU 0.5 with all four overlaps
    scores = instance_scores(pred, truth, [0.5, 0.51])
    assert scores.true_positives.tolist() == [2, 0]
    assert scores.false_positives.tolist() == [1, 3]
    assert scores.false_negatives.tolist() == [1, 3]


def test_an_iou_at_a_threshold_counts():
    for level in IOU_THRESHOLDS:
        hit = round(20 * level)
        truth = torch.ones(20, dtype=torch.int64)
        pred = (torch.arange(20) < hit).long()
        assert instance_scores(pred, truth, [level]).true_positives.item() == 1
    assert pytest.approx(np.arange(0.5, 1, 0.05)) == IOU_THRESHOLDS


@pytest.mark.parametrize("seed", range(4))
def test_panoptic_quality_is_that_of_monai(seed):
    pred, truth = random_pair(seed)
    ours = panoptic_quality(pred, truth)
    for value, name in zip(ours, ("pq", "sq", "rq"), strict=True):
        monai = compute_panoptic_quality(pred, truth, name, smooth_numerator=0)
        assert value == pytest.approx(float(monai), rel=1e-6)
    matrix = ious(pred, truth)
    assert ours[0] == pytest.approx(matrix[matrix > 0.5].sum() / (sum(matrix.shape) / 2))
    assert 0 < ours[0] < ours[1] <= 1


@settings(max_examples=60, deadline=None)
@given(small_volume, small_volume)
def test_partition_distances_are_those_of_scikit_image(pred, truth):
    p, t = pred.numpy(), truth.numpy()
    assert variation_of_information(pred, truth) == pytest.approx(information_of_skimage(t, p).tolist(), abs=1e-9)
    together = sum(n * (n - 1) for labels in (p, t) for n in np.unique(labels, return_counts=True)[1])
    if together:
        expected = rand_of_skimage(t, p, ignore_labels=())[0]
        assert adapted_rand_error(pred, truth, ignore_background=False) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(4))
def test_ignored_voxels_are_left_out(seed):
    pred, truth = random_pair(seed)
    t, p = truth.numpy(), pred.numpy()
    assert adapted_rand_error(pred, truth) == pytest.approx(rand_of_skimage(t, p, ignore_labels=(0,))[0])
    assert variation_of_information(pred, truth, ignore_background=True, ignore_label=3) == pytest.approx(
        information_of_skimage(t, p, ignore_labels=(0, 3)).tolist()
    )
    assert adapted_rand_error(pred, truth, ignore_label=3) == pytest.approx(
        rand_of_skimage(t, p, ignore_labels=(0, 3))[0]
    )
    hidden = torch.rand(truth.shape, generator=torch.Generator().manual_seed(seed)) < 0.3
    marked, cut = truth.masked_fill(hidden, -1), (pred.masked_fill(hidden, 0), truth.masked_fill(hidden, 0))
    for level in (0.3, 0.5, 0.7):
        scores = instance_scores(pred, marked, [level], ignore_label=-1)
        found = (scores.true_positives, scores.false_positives, scores.false_negatives)
        assert tuple(map(int, found)) == counts(*cut, level)
    assert panoptic_quality(pred, marked, ignore_label=-1) == panoptic_quality(*cut)
    for metric in METRICS:
        garbage = torch.where(hidden, 99, pred)
        values = [metric(ignore_label=-1)(x[None, None], marked[None, None]) for x in (pred, garbage)]
        torch.testing.assert_close(*values, rtol=0, atol=0)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", [torch.uint8, torch.uint16, torch.int32, torch.float32])
def test_ids_of_any_type(metric, kind):
    pred, truth = (ids[None, None] for ids in random_pair(2))
    for ignored in (None, -1, 3):
        values = [metric(ignore_label=ignored)(p, t) for p, t in [(pred, truth), (pred.to(kind), truth.to(kind))]]
        torch.testing.assert_close(*values, rtol=0, atol=0)


@pytest.mark.parametrize("metric", METRICS)
def test_numbering_does_not_matter(metric):
    pred, truth = random_pair(5)
    far = torch.where(pred > 0, 2**60 - 3 * pred, 0)
    values = [metric()(x[None, None], truth[None, None]) for x in (pred, far)]
    torch.testing.assert_close(*values, rtol=0, atol=1e-12)
    perfect = metric()(truth[None, None] * 7, truth[None, None])[0]
    if metric in (AdaptedRandError, VariationOfInformation):
        assert not perfect.any()
    else:
        assert (perfect == 1).all()


def test_empty_truth_and_empty_prediction():
    some, none = torch.tensor([0, 1, 1, 2]), torch.zeros(4, dtype=torch.int64)
    for pred, truth, value in [(some, none, 0), (none, some, 0), (none, none, math.nan)]:
        scores = instance_scores(pred, truth, [0.5])
        for name in ("average_precision", "f1", "precision", "recall"):
            assert getattr(scores, name).item() == pytest.approx(value, nan_ok=True)
        assert panoptic_quality(pred, truth) == pytest.approx((value,) * 3, nan_ok=True)
    assert math.isnan(adapted_rand_error(some, none))
    assert all(map(math.isnan, variation_of_information(some, none, ignore_background=True)))
    assert variation_of_information(some, none) == pytest.approx((1.5, 0))
    assert variation_of_information(none, some) == pytest.approx((0, 1.5))
    alone = torch.arange(1, 5)
    assert adapted_rand_error(alone, alone) == 0  # no two voxels are together
    assert adapted_rand_error(none, alone) == 1
    metric = InstanceAveragePrecision(0.5)
    metric([none[None], some[None], none[None]], [none[None], some[None], some[None]])
    assert metric.get_buffer().flatten().nan_to_num(-1).tolist() == [-1, 1, 0]
    assert metric.aggregate() == 0.5


def test_average_precision_over_thresholds_and_volumes():
    pairs = [random_pair(seed) for seed in range(3)]
    metric = InstanceAveragePrecision()
    metric(torch.stack([p for p, _ in pairs[:2]])[:, None], torch.stack([t for _, t in pairs[:2]])[:, None])
    metric([MetaTensor(pairs[2][0][None])], [pairs[2][1][None].float()])
    expected = np.array(
        [[counts(*pair, level)[0] / sum(counts(*pair, level)) for level in IOU_THRESHOLDS] for pair in pairs]
    )
    np.testing.assert_allclose(metric.get_buffer(), expected)
    np.testing.assert_allclose(metric.per_threshold(), expected.mean(0))
    assert metric.aggregate().item() == pytest.approx(expected.mean())
    tp, fp, fn = counts(*pairs[0], 0.5)
    for name, value in {
        "f1": 2 * tp / (2 * tp + fp + fn),
        "precision": tp / (tp + fp),
        "recall": tp / (tp + fn),
    }.items():
        single = InstanceAveragePrecision(0.5, score_name=name)(*(x[None, None] for x in pairs[0]))
        assert single.tolist() == [[pytest.approx(value)]]


def test_columns_of_the_buffers():
    pred, truth = random_pair(1)
    p, t = pred[None, None], truth[None, None]
    assert PanopticQuality()(p, t)[0].tolist() == pytest.approx(panoptic_quality(pred, truth))
    split, merge = variation_of_information(pred, truth)
    metric = VariationOfInformation()
    assert metric(p, t)[0].tolist() == pytest.approx([split + merge, split, merge])
    assert metric.aggregate().item() == pytest.approx(split + merge)
    assert AdaptedRandError(ignore_background=False)(p, t).item() == adapted_rand_error(pred, truth, False)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("minimum_size", [0, 4])
def test_boundary_average_precision(seed, minimum_size):
    rng = np.random.default_rng(seed)
    truth = random_pair(seed)[1]
    boundary = ndimage.gaussian_filter(rng.random(truth.shape), 1.0)
    boundary = (boundary - boundary.min()) / np.ptp(boundary)
    probability = torch.from_numpy(np.stack([boundary, 1 - boundary]).astype(np.float32))
    expected = []
    for level in (0.4, 0.6):
        ids = ndimage.label(probability[1].numpy() <= level)[0]
        for i in range(1, ids.max() + 1):
            if (ids == i).sum() < minimum_size:
                ids[ids == i] = 0
        expected.append(instance_scores(torch.from_numpy(ids), truth, [0.1, 0.2]).average_precision)
    for levels, value in [(0.4, expected[0]), ([0.6], expected[1]), ([0.4, 0.6], max(expected, key=sum))]:
        metric = BoundaryAveragePrecision(levels, [0.1, 0.2], channel=1, minimum_size=minimum_size)
        assert metric(probability[None], truth[None, None])[0].tolist() == value.tolist()


def test_boundary_between_two_cells():
    truth = torch.ones(1, 1, 4, 4, 9, dtype=torch.int64)
    truth[..., 4], truth[..., 5:] = 0, 2
    boundary = (truth == 0).float()
    assert BoundaryAveragePrecision()(boundary, truth).eq(1).all()
    boundary[0, 0, 0, 0, 4] = 0  # a hole joins them
    assert not BoundaryAveragePrecision([0.2, 0.5])(boundary, truth).any()
    assert BoundaryAveragePrecision()(torch.ones_like(boundary), 0 * truth).isnan().all()


@pytest.mark.parametrize("metric", METRICS)
def test_in_an_evaluator(metric):
    pairs = [random_pair(seed) for seed in range(4)]
    batches = [[{"pred_instances": p[None], "instances": t[None]} for p, t in part] for part in (pairs[:2], pairs[2:])]
    engine = Engine(lambda _, batch: batch)
    transform = from_engine(["pred_instances", "instances"])
    IgniteMetricHandler(metric_fn=metric(), output_transform=transform).attach(engine, "score")
    engine.run(batches)
    rows = [metric()(p[None, None], t[None, None])[0] for p, t in pairs]
    expected = torch.stack(rows) if metric is InstanceAveragePrecision else torch.stack(rows)[:, :1]
    assert engine.state.metrics["score"] == pytest.approx(expected.mean().item())
    torch.testing.assert_close(engine.state.metric_details["score"], torch.stack(rows))


def test_bad_input():
    pred, truth = random_pair(0)
    p, t = pred[None, None], truth[None, None]
    for metric in METRICS:
        with pytest.raises(InvalidInputError, match="needs the true instances"):
            metric()(p)
        with pytest.raises(InvalidInputError, match=r"y_pred has shape \(8, 9, 10\)"):
            metric()(pred, truth)
        with pytest.raises(InvalidInputError, match="y has shape"):
            metric()(p, torch.cat([t, t], 1))
        with pytest.raises(InvalidInputError, match="expected the same"):
            metric()(p, t[..., 1:])
        with pytest.raises(InvalidInputError, match="not integers"):
            metric()(p + 0.5, t)
        with pytest.raises(InvalidInputError, match="nothing to aggregate"):
            metric().aggregate()
    with pytest.raises(InvalidInputError, match="true instances have the id -1"):
        InstanceAveragePrecision()(p, t - 1)
    for levels in ([0.0, 0.5], [1.5], [], math.nan):
        with pytest.raises(InvalidInputError, match="thresholds="):
            InstanceAveragePrecision(levels)
    with pytest.raises(InvalidInputError, match="score_name='f2'"):
        InstanceAveragePrecision(score_name="f2")


def test_bad_boundaries():
    _, truth = random_pair(0)
    boundary, t = torch.rand(1, 2, *truth.shape), truth[None, None]
    for settings_ in (
        {"threshold": 1.0},
        {"threshold": []},
        {"threshold": [0.5, -0.1]},
        {"channel": -1},
        {"minimum_size": -1},
    ):
        with pytest.raises(InvalidInputError, match=f"{next(iter(settings_))}="):
            BoundaryAveragePrecision(**settings_)
    with pytest.raises(InvalidInputError, match=r"values from .*sigmoid"):
        BoundaryAveragePrecision()(10 * boundary, t)
    with pytest.raises(InvalidInputError, match="channel=2"):
        BoundaryAveragePrecision(channel=2)(boundary, t)
    with pytest.raises(InvalidInputError, match="same spatial axes"):
        BoundaryAveragePrecision()(boundary[..., 1:], t)
    with pytest.raises(InvalidInputError, match="y has shape"):
        BoundaryAveragePrecision()(boundary, torch.cat([t, t], 1))
