"""Angles and their statistics against NumPy, pooled over volumes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler, from_engine

from voxel_ext.errors import InvalidInputError
from voxel_ext.metrics.angular_error import AngularError, angles


def volumes(shapes=((4, 5, 6), (3, 8, 7)), noise=0.3, known=0.7):
    rng = np.random.default_rng(0)
    pred, truth = [], []
    for k, shape in enumerate(shapes):
        t = rng.normal(size=(3, *shape))
        p = 5 * (t / np.linalg.norm(t, axis=0) + noise * (k + 1) * rng.normal(size=t.shape))
        t *= rng.random(shape) < known
        pred.append(torch.from_numpy(p).float())
        truth.append(torch.from_numpy(t).float())
    return pred, truth


def plain(pred, truth, oriented):
    p, t = (x.double().numpy().reshape(3, -1) for x in (pred, truth))
    known = (t != 0).any(0)
    cosine = (p * t).sum(0)[known] / np.linalg.norm(p, axis=0)[known] / np.linalg.norm(t, axis=0)[known]
    return np.degrees(np.arccos(np.clip(cosine if oriented else np.abs(cosine), -1, 1)))


@pytest.mark.parametrize("oriented", [True, False])
def test_angles_are_those_of_numpy(oriented):
    (pred, *_), (truth, *_) = volumes(noise=2.0)
    degrees = angles(pred, truth, oriented)
    known = (truth != 0).any(0)
    assert degrees.shape == truth.shape[1:]
    assert torch.equal(degrees.isnan(), ~known)
    np.testing.assert_allclose(degrees[known].numpy(), plain(pred, truth, oriented), rtol=1e-5, atol=1e-4)
    assert torch.equal(angles(pred[None], truth[None], oriented)[0].nan_to_num(), degrees.nan_to_num())


def test_angles_at_the_ends():
    truth = torch.tensor([0.0, 0.6, 0.8]).view(3, 1, 1, 1).expand(3, 1, 1, 4)
    pred = torch.stack([truth[..., 0], -truth[..., 0], 0 * truth[..., 0], truth[..., 0].flip(0)], -1)
    assert angles(pred, truth).flatten().tolist() == pytest.approx([0, 180, 90, math.degrees(math.acos(0.36))])
    assert angles(pred, truth, oriented=False).flatten()[1].item() == 0


@pytest.mark.parametrize("oriented", [True, False])
def test_statistics_are_those_of_all_voxels_together(oriented):
    pred, truth = volumes()
    single = [plain(p, t, oriented) for p, t in zip(pred, truth, strict=True)]
    both = np.concatenate(single)
    expected = {"mean": both.mean(), "median": np.median(both), "fraction": (both < 25).mean()}
    for statistic, value in expected.items():
        metric = AngularError(oriented, thresholds=25, statistic=statistic)
        for p, t in zip(pred, truth, strict=True):
            metric(p[None], t[None])
        assert metric.aggregate().item() == pytest.approx(value, abs=0.2 if statistic == "median" else 1e-4)
    rows = metric.get_buffer()
    for row, one in zip(rows.tolist(), single, strict=True):
        assert row == pytest.approx([one.mean(), np.median(one), (one < 25).mean()], abs=1e-4)


def test_pooled_median_is_within_a_bin():
    rng = np.random.default_rng(1)
    truth = torch.from_numpy(rng.normal(size=(2, 3, 20, 30, 30))).float()
    pred = truth + 0.3 * torch.from_numpy(rng.normal(size=truth.shape)).float()
    metric = AngularError()
    metric(pred, truth)
    every = np.concatenate([plain(p, t, True) for p, t in zip(pred, truth, strict=True)])
    assert metric.aggregate().item() == pytest.approx(np.median(every), abs=0.011)
    counts, edges = metric.histogram()
    assert len(counts) == 18000
    assert len(edges) == 18001
    coarse = np.histogram(every, bins=edges[::1000].numpy())[0]
    np.testing.assert_allclose(counts.reshape(-1, 1000).sum(1).numpy(), coarse, atol=1)


def test_order_and_batches_do_not_matter_and_memory_is_bounded():
    pred, truth = volumes()
    one, other = AngularError(), AngularError()
    one(pred, truth)
    for p, t in reversed(list(zip(pred, truth, strict=True))):
        other([p], [t])
    assert other.aggregate() == one.aggregate()
    assert torch.equal(one.histogram()[0], other.histogram()[0])
    assert len(one._buffers[1]) == len(other._buffers[1]) == 1


def test_mask_and_reset():
    (pred, *_), (truth, *_) = volumes()
    mask = torch.zeros(1, *truth.shape[1:])
    mask[:, :2] = 1
    metric = AngularError(statistic="mean")
    metric(pred[None], truth[None], mask[None])
    assert metric.aggregate().item() == pytest.approx(plain(pred[:, :2], truth[:, :2], True).mean(), rel=1e-5)
    metric.reset()
    metric([pred], [truth])
    assert metric.aggregate().item() == pytest.approx(plain(pred, truth, True).mean(), rel=1e-5)


@pytest.mark.parametrize("statistic", ["mean", "median", "fraction"])
def test_nothing_known_and_not_finite_predictions_give_nan(statistic):
    pred, truth = volumes()
    metric = AngularError(statistic=statistic)
    metric([pred[0]], [0 * truth[0]])
    assert metric.aggregate().isnan()
    metric([pred[1]], [truth[1]])
    assert metric.aggregate().isfinite()
    assert metric.get_buffer()[0].isnan().all()
    for wrong in (torch.nan, torch.inf):
        metric([torch.full_like(pred[1], wrong)], [truth[1]])
        assert metric.aggregate().isnan()
        metric.reset()


def test_in_an_evaluator():
    pred, truth = volumes()
    engine = Engine(lambda _, batch: [{"pred": batch[0], "normals": batch[1]}])
    engine.state.metric_details = {}
    settings = {"val_median_angle": "median", "val_mean_angle": "mean", "val_under_10": "fraction"}
    for name, statistic in settings.items():
        metric = AngularError(statistic=statistic)
        IgniteMetricHandler(metric_fn=metric, output_transform=from_engine(["pred", "normals"])).attach(engine, name)
    engine.run(list(zip(pred, truth, strict=True)))
    every = np.concatenate([plain(p, t, True) for p, t in zip(pred, truth, strict=True)])
    assert engine.state.metrics["val_mean_angle"] == pytest.approx(every.mean(), rel=1e-5)
    assert engine.state.metrics["val_under_10"] == pytest.approx((every < 10).mean(), rel=1e-5)
    assert engine.state.metrics["val_median_angle"] == pytest.approx(np.median(every), abs=0.2)
    assert engine.state.metric_details["val_mean_angle"].shape == (2, 3)


def test_several_thresholds():
    pred, truth = volumes()
    metric = AngularError(thresholds=(5, 10, 30), statistic="fraction")
    metric(pred, truth)
    every = np.concatenate([plain(p, t, True) for p, t in zip(pred, truth, strict=True)])
    assert metric.aggregate().tolist() == pytest.approx([(every < limit).mean() for limit in (5, 10, 30)])


def test_refuses_bad_input():
    with pytest.raises(InvalidInputError, match="statistic='mode'"):
        AngularError(statistic="mode")
    with pytest.raises(InvalidInputError, match="thresholds"):
        AngularError(thresholds=())
    with pytest.raises(InvalidInputError, match="bin_width=0"):
        AngularError(bin_width=0)
    metric = AngularError()
    with pytest.raises(InvalidInputError, match="nothing to aggregate"):
        metric.aggregate()
    with pytest.raises(InvalidInputError, match="needs the true vectors"):
        metric(torch.ones(1, 3, 2, 2, 2))
    with pytest.raises(InvalidInputError, match=r"\(3, 2, 2, 2\) and the true ones \(3, 2, 2, 1\)"):
        metric(torch.ones(1, 3, 2, 2, 2), torch.ones(1, 3, 2, 2, 1))
    with pytest.raises(InvalidInputError, match=r"mask of a volume has shape \(2, 2, 2\)"):
        metric(torch.ones(1, 3, 2, 2, 2), torch.ones(1, 3, 2, 2, 2), torch.ones(1, 2, 2, 2))
    with pytest.raises(InvalidInputError, match="1 predictions, 2 targets"):
        metric(torch.ones(1, 3, 2, 2, 2), torch.ones(2, 3, 2, 2, 2))
