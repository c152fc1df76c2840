"""MONAI's metrics are what the configs take them for: the plain formulas on one-channel binary masks."""

from __future__ import annotations

import math

import pytest
import torch
from monai.metrics import ConfusionMatrixMetric, DiceMetric, MeanIoU

NAMES = ["threat score", "f1 score", "precision", "recall", "accuracy"]


def masks(count=3, shape=(6, 7, 5)):
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(count, 1, *shape, generator=generator) < torch.tensor([0.1, 0.3, 0.6]).view(-1, 1, 1, 1, 1)
    pred = truth ^ (torch.rand(truth.shape, generator=generator) < 0.2)
    return pred.float(), truth.float()


def formulas(pred, truth):
    tp, fp = (pred * truth).sum().item(), (pred * (1 - truth)).sum().item()
    fn, tn = ((1 - pred) * truth).sum().item(), ((1 - pred) * (1 - truth)).sum().item()
    iou, dice = tp / (tp + fp + fn), 2 * tp / (2 * tp + fp + fn)
    return [iou, dice, tp / (tp + fp), tp / (tp + fn), (tp + tn) / (tp + fp + fn + tn)]


@pytest.mark.parametrize("as_list", [False, True])
def test_of_each_volume_and_of_all_voxels_together(as_list):
    pred, truth = masks()
    each = torch.tensor([formulas(p, t) for p, t in zip(pred, truth, strict=True)]).mean(0)
    pooled = ConfusionMatrixMetric(metric_name=NAMES)
    mean = ConfusionMatrixMetric(metric_name=NAMES, compute_sample=True)
    for metric in (pooled, mean):
        metric(list(pred), list(truth)) if as_list else metric(pred, truth)
    assert [v.item() for v in pooled.aggregate()] == pytest.approx(formulas(pred, truth), rel=1e-5)
    assert [v.item() for v in mean.aggregate()] == pytest.approx(each.tolist(), rel=1e-5)


def test_mean_iou_and_dice_agree_with_them():
    pred, truth = masks()
    for metric, column in ((MeanIoU(), 0), (DiceMetric(), 1)):
        metric(pred, truth)
        expected = [formulas(p, t)[column] for p, t in zip(pred, truth, strict=True)]
        assert metric.get_buffer()[:, 0].tolist() == pytest.approx(expected, rel=1e-5)


def test_empty_truth_is_left_out_by_mean_iou_and_dice_but_not_by_the_confusion_matrix():
    empty, full = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    for kind in (MeanIoU, DiceMetric):
        for pred in (empty, full):
            metric = kind()
            metric(pred, empty)
            assert math.isnan(metric.get_buffer().item())
            metric(full, full)
            assert metric.aggregate().item() == 1
        assert kind(ignore_empty=False)(empty, empty).item() == 1
        assert kind(ignore_empty=False)(full, empty).item() == 0
    confusion = ConfusionMatrixMetric(metric_name="threat score", compute_sample=True, reduction="none")
    confusion(torch.cat([empty, full]), torch.cat([empty, empty]))
    nothing, false_alarm = confusion.aggregate()[0].flatten().tolist()
    assert math.isnan(nothing)
    assert false_alarm == 0
