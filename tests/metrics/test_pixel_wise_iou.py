"""Weighted IoU against the dense formula with a weight per voxel and channel."""

from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor, decollate_batch
from monai.handlers import IgniteMetricHandler, from_engine

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers.pixel_wise_iou import PixelWiseMeanIoUHandler
from voxel_ext.metrics.pixel_wise_iou import PixelWiseMeanIoU

SHAPES = [(3, 4, 3, 5, 6), (2, 6, 5, 7), (2, 2, 4, 4, 4)]


def sample(shape, seed=0):
    """Logits (B, C, ...), class indices, own and other weight (B, 1, ...), some of them 0."""
    generator = torch.Generator().manual_seed(seed)
    one = (shape[0], 1, *shape[2:])
    target = torch.randint(shape[1], one, generator=generator)
    target[0][target[0] == 1] = 0  # a sample without class 1
    logits = torch.randn(shape, generator=generator)
    logits.scatter_add_(1, target, torch.full(one, 1.0))
    return logits, target, *((4 * torch.rand(one, generator=generator)).floor() for _ in range(2))


def dense(logits, target, own=None, other=None, equal=False, background=True):
    """IoU (B, C) with all masks and weights expanded to channels, one channel at a time."""
    own = torch.ones_like(target) if own is None else own
    other = own if other is None else other
    classes = logits.shape[1]
    iou = torch.full(logits.shape[:2], math.nan, dtype=torch.float64)
    for b in range(len(logits)):
        for c in range(0 if background else 1, classes):
            p, t = logits[b].argmax(0) == c, target[b, 0] == c
            weight = torch.where(t, own[b, 0], other[b, 0]).double()
            weight = (weight > 0).double() if equal else weight
            if (weight * t).sum() > 0:
                iou[b, c] = (weight * (p & t)).sum() / (weight * (p | t)).sum()
    return iou


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("weighting", ["none", "own", "own and other"])
def test_is_the_dense_formula(shape, equal, background, weighting):
    logits, target, own, other = sample(shape)
    weights = {"none": (), "own": (own,), "own and other": (own, other)}[weighting]
    expected = dense(logits, target, *weights, equal=equal, background=background)
    metric = PixelWiseMeanIoU(equal, background)
    torch.testing.assert_close(metric(logits, target, *weights), expected, equal_nan=True)
    torch.testing.assert_close(metric.get_buffer(), expected, equal_nan=True)
    assert metric.aggregate().item() == pytest.approx(expected.nanmean(1).nanmean().item())
    torch.testing.assert_close(metric.per_class(), expected.nanmean(0), equal_nan=True)


def test_a_small_case_by_hand():
    target = torch.tensor([0, 0, 1, 1, 2]).view(1, 1, 5)
    pred = torch.tensor([0, 1, 1, 0, 2]).view(1, 1, 5)
    weight = torch.tensor([1.0, 2, 3, 4, 0]).view(1, 1, 5)
    other = torch.tensor([9.0, 0.5, 9, 0.25, 9]).view(1, 1, 5)
    metric = PixelWiseMeanIoU(num_classes=4)
    iou = metric(pred, target, weight, other)
    torch.testing.assert_close(
        iou, torch.tensor([[1 / 3.25, 3 / 7.5, math.nan, math.nan]]).double(), equal_nan=True, rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_logits_probabilities_one_hot_and_indices_are_the_same(scale):
    logits, target, own, other = sample(SHAPES[0])
    index = logits.argmax(1, keepdim=True)
    one_hot = torch.zeros_like(logits).scatter_(1, index, 1.0)
    expected = dense(logits, target, own, other)
    for pred in (scale * logits, logits.softmax(1), one_hot, index, index.float(), index.to(torch.uint16)):
        metric = PixelWiseMeanIoU(num_classes=4, ignore_index=-1)
        torch.testing.assert_close(metric(pred, target.float(), scale * own, scale * other), expected, equal_nan=True)


def test_weights_as_part_of_the_truth():
    logits, target, own, other = sample(SHAPES[0])
    expected = dense(logits, target, own, other)
    mapping = {"label": target, "weight": own, "other_weight": other}
    forms = [torch.cat([target.float(), own, other], 1), (target, own, other), [target, own, other], mapping]
    for y in forms:
        torch.testing.assert_close(PixelWiseMeanIoU()(logits, y), expected, equal_nan=True)
    samples = [
        [MetaTensor(one) for one in torch.cat([target.float(), own, other], 1)],
        decollate_batch((target, own, other), detach=True),
        [{key: value[i] for key, value in mapping.items()} for i in range(3)],
    ]
    for y in samples:
        torch.testing.assert_close(PixelWiseMeanIoU()(list(logits), y), expected, equal_nan=True)
    own_only = dense(logits, target, own)
    for y in (
        torch.cat([target.float(), own], 1),
        (target, own),
        (target, own, None),
        {"label": target, "weight": own},
    ):
        torch.testing.assert_close(PixelWiseMeanIoU()(logits, y), own_only, equal_nan=True)


def test_ignored_class():
    logits, target, own, other = sample(SHAPES[0])
    kept = torch.rand(target.shape, generator=torch.Generator().manual_seed(9)) < 0.6
    metric = PixelWiseMeanIoU(ignore_index=-1)
    expected = dense(logits, target, own * kept, other * kept)
    torch.testing.assert_close(metric(logits, target.where(kept, -1), own, other), expected, equal_nan=True)
    metric = PixelWiseMeanIoU(ignore_index=9)
    marked = target.where(kept, 9).to(torch.uint16)
    torch.testing.assert_close(metric(logits, marked, own, other), expected, equal_nan=True)


def test_samples_without_a_class_do_not_count():
    logits, target, own, _ = sample(SHAPES[0])
    metric = PixelWiseMeanIoU()
    metric(logits, target, own)
    alone = metric.aggregate()
    metric(logits, target, 0 * own)
    assert metric.get_buffer()[3:].isnan().all()
    assert metric.aggregate() == alone
    metric.reset()
    metric(logits, target, 0 * own)
    assert metric.aggregate().isnan()


@pytest.mark.parametrize("decollate", [False, True])
def test_in_an_evaluator(decollate):
    batches = []
    for seed in range(3):
        logits, target, own, other = sample(SHAPES[0], seed)
        batch = {"pred": logits, "label": target, "weight": own, "other": other, "both": (target, own, other)}
        batches.append(decollate_batch(batch) if decollate else batch)
    expected = torch.cat([dense(*sample(SHAPES[0], seed)) for seed in range(3)])
    engine = Engine(lambda _, batch: batch)
    together = from_engine(["pred", "both"])
    IgniteMetricHandler(metric_fn=PixelWiseMeanIoU(), output_transform=together).attach(engine, "monai")
    apart = from_engine(["pred", "label", "weight", "other"])
    PixelWiseMeanIoUHandler(output_transform=apart).attach(engine, "ours")
    PixelWiseMeanIoUHandler(output_transform=from_engine(["pred", "label"])).attach(engine, "alone")
    engine.run(batches, max_epochs=2)
    for name in ("monai", "ours"):
        assert engine.state.metrics[name] == pytest.approx(expected.nanmean(1).mean().item())
        torch.testing.assert_close(engine.state.metric_details[name], expected, equal_nan=True)
    plain = torch.cat([dense(*sample(SHAPES[0], seed)[:2]) for seed in range(3)])
    assert engine.state.metrics["alone"] == pytest.approx(plain.nanmean(1).mean().item())


def test_bad_input():
    logits, target, own, other = sample(SHAPES[0])
    metric = PixelWiseMeanIoU()
    with pytest.raises(InvalidInputError, match="nothing to aggregate"):
        metric.aggregate()
    with pytest.raises(InvalidInputError, match="num_classes=1"):
        PixelWiseMeanIoU(num_classes=1)
    with pytest.raises(InvalidInputError, match="needs the true classes"):
        metric(logits)
    with pytest.raises(InvalidInputError, match=r"target has the values \[4\].*0 to 3"):
        metric(logits, target + 1)
    with pytest.raises(InvalidInputError, match=r"target has the values \[0.5\]"):
        metric(logits, torch.full(target.shape, 0.5))
    with pytest.raises(InvalidInputError, match="num_classes=None"):
        metric(logits.argmax(1, keepdim=True), target)
    with pytest.raises(InvalidInputError, match="num_classes=5"):
        PixelWiseMeanIoU(num_classes=5)(logits, target)
    with pytest.raises(InvalidInputError, match=r"target of a sample has shape \(1, 3, 5\)"):
        metric(logits, target[..., 0])
    for value in (-1.0, math.nan, math.inf):
        with pytest.raises(InvalidInputError, match="weight has values from"):
            metric(logits, target, own.index_fill(2, torch.tensor([1]), value))
    with pytest.raises(InvalidInputError, match="other_weight has values from -1"):
        metric(logits, target, own, -torch.ones_like(other))
    with pytest.raises(InvalidInputError, match="twice"):
        metric(logits, (target, own), own)
    with pytest.raises(InvalidInputError, match="3 predictions but 2 targets"):
        metric(logits, target[:2])
    with pytest.raises(InvalidInputError, match="5 parts"):
        metric(logits, torch.cat([target] * 5, 1))
    with pytest.raises(InvalidInputError, match="gave 5 items"):
        PixelWiseMeanIoUHandler().update([logits] * 5)
    assert metric.get_buffer() is None
