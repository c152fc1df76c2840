"""Metrics of multi-task networks against plain formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers import other_metrics, pick_metric, target_metrics

TARGETS = {
    "sheet": {"channels": 1, "activation": "sigmoid"},
    "logit": {"channels": 1, "loss": "bce"},
    "tissue": {"channels": 3, "activation": "softmax"},
    "depth": {"channels": 1, "loss": "l1"},
    "normals": {"channels": 3, "activation": "unit_norm", "oriented": False},
}


def run(handlers, samples):
    engine = Engine(lambda engine, batch: batch)
    for name, handler in handlers.items():
        handler.attach(engine, name)
    return engine.run([samples]).metrics


def samples(seed=0, count=2):
    torch.manual_seed(seed)
    made = []
    for _ in range(count):
        normals = torch.nn.functional.normalize(torch.randn(3, 6, 6, 6), dim=0)
        normals[:, :2] = 0
        label = {
            "sheet": (torch.rand(1, 6, 6, 6) > 0.5).float(),
            "logit": (torch.rand(1, 6, 6, 6) > 0.5).float(),
            "tissue": torch.randint(0, 3, (1, 6, 6, 6)).float(),
            "depth": torch.rand(1, 6, 6, 6),
            "normals": normals,
        }
        made.append(
            {
                "label": label,
                "pred_sheet": torch.rand(1, 6, 6, 6),
                "pred_logit": torch.randn(1, 6, 6, 6),
                "pred_tissue": torch.softmax(torch.randn(3, 6, 6, 6), 0),
                "pred_depth": torch.rand(1, 6, 6, 6),
                "pred_normals": torch.nn.functional.normalize(torch.randn(3, 6, 6, 6), dim=0),
            }
        )
    return made


def dice(pred, truth):
    return 2 * (pred & truth).sum() / (pred.sum() + truth.sum())


def test_values_by_formula():
    data = samples()
    found = run(target_metrics(TARGETS), data)
    sheet = [dice(s["pred_sheet"] > 0.5, s["label"]["sheet"] > 0) for s in data]
    logit = [dice(s["pred_logit"] > 0, s["label"]["logit"] > 0) for s in data]
    tissue = [dice(s["pred_tissue"].argmax(0) == k, s["label"]["tissue"][0] == k) for s in data for k in (1, 2)]
    assert found["val_sheet_dice"] == pytest.approx(np.mean(sheet), abs=1e-6)
    assert found["val_logit_dice"] == pytest.approx(np.mean(logit), abs=1e-6)
    assert found["val_tissue_dice"] == pytest.approx(np.mean(tissue), abs=1e-6)
    assert found["val_depth_mae"] == pytest.approx(
        np.mean([(s["pred_depth"] - s["label"]["depth"]).abs().mean() for s in data]), abs=1e-6
    )
    cosines = [(s["pred_normals"] * s["label"]["normals"]).sum(0)[2:].abs().clamp(max=1) for s in data]
    angles = np.degrees(np.arccos(torch.cat(cosines).numpy().ravel()))
    middle = np.sort(angles)[len(angles) // 2 - 1 : len(angles) // 2 + 1]  # of an even number of values
    assert middle[0] - 0.01 <= found["val_normals_angle"] <= middle[1] + 0.01
    assert found["val_normals_mean_angle"] == pytest.approx(angles.mean(), abs=1e-3)
    assert found["val_normals_below_10"] == pytest.approx((angles < 10).mean(), abs=1e-6)


def test_ignored_voxels_count_neither_way():
    data = samples()
    expected = run(target_metrics(TARGETS, ignore_label=2), data)
    for sample in data:
        hidden = torch.rand(1, 6, 6, 6) > 0.7
        keep = sample["label"]["sheet"].clone()
        sample["label"]["sheet"] = torch.where(hidden, torch.tensor(2.0), keep)
        sample["pred_sheet"] = torch.where(hidden, 1 - sample["pred_sheet"], sample["pred_sheet"])
    found = run(target_metrics(TARGETS, ignore_label=2), data)
    by_hand = []
    for sample in data:
        known = sample["label"]["sheet"] != 2
        by_hand.append(dice((sample["pred_sheet"] > 0.5) & known, (sample["label"]["sheet"] == 1) & known))
    assert found["val_sheet_dice"] == pytest.approx(np.mean(by_hand), abs=1e-6)
    assert found["val_sheet_dice"] != expected["val_sheet_dice"]
    assert found["val_logit_dice"] == expected["val_logit_dice"]


def test_surface_distance_in_micrometers():
    mask, shifted = torch.zeros(1, 8, 8, 8), torch.zeros(1, 8, 8, 8)
    mask[:, 3] = 1
    shifted[:, 5] = 1
    data = [{"label": {"sheet": mask}, "pred_sheet": shifted}]
    targets = {"sheet": TARGETS["sheet"]}
    for size, expected in ((None, 2.0), ((2.5, 1.0, 1.0), 5.0)):
        found = run(target_metrics(targets, surface_distance=True, voxel_size=size), data)
        assert found["val_sheet_surface_distance"] == pytest.approx(expected)


def test_key_metric_by_name():
    metrics = target_metrics(TARGETS)
    assert list(pick_metric(metrics, "val_sheet_dice")) == ["val_sheet_dice"]
    assert set(other_metrics(metrics, "val_sheet_dice")) == set(metrics) - {"val_sheet_dice"}
    with pytest.raises(InvalidInputError, match=r"key_metric_name='val_sheets_dice'.*val_sheet_dice"):
        pick_metric(metrics, "val_sheets_dice")


def test_missing_predictions_are_named():
    with pytest.raises(InvalidInputError, match="pred_sheet"):
        run(target_metrics({"sheet": TARGETS["sheet"]}), [{"label": {"sheet": torch.zeros(1, 4, 4, 4)}}])
