"""Targets and weights of voxels that no loss can use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms import CheckTargetsd

SHAPE = (1, 2, 3, 4)


def item(dtype: torch.dtype = torch.float32, **changes: Any) -> dict[Any, Any]:
    label = torch.arange(24).reshape(SHAPE).remainder(3).to(dtype)
    image = MetaTensor(torch.zeros(SHAPE), meta={"filename_or_obj": "deep/a.h5"})
    return {"image": image, "label": label, "weight": torch.linspace(0, 2, 24).reshape(SHAPE), **changes}


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8])
@pytest.mark.parametrize("kind", [torch.Tensor, MetaTensor, np.ndarray])
def test_good_items_stay_as_they_are(dtype: torch.dtype, kind: Any) -> None:
    data = item(dtype)
    for key in ("label", "weight"):
        data[key] = data[key].numpy() if kind is np.ndarray else kind(data[key]) if kind is MetaTensor else data[key]
    result = CheckTargetsd(num_classes=3)(data)
    assert result is not data
    assert result == data  # the very same objects


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8])
@pytest.mark.parametrize("kind", ["tensor", "meta", "numpy"])
def test_missing_weights_are_one(dtype: torch.dtype, kind: str) -> None:
    label = item(dtype)["label"]
    given = {"tensor": label, "meta": MetaTensor(label, meta={"filename_or_obj": "b"}), "numpy": label.numpy()}[kind]
    data = item(label=given)
    del data["weight"]
    weight = CheckTargetsd(num_classes=3)(data)["weight"]
    assert "weight" not in data
    assert type(weight) is type(given)
    assert tuple(weight.shape) == SHAPE
    assert weight.dtype in (torch.float32, np.float32)
    assert (weight == 1).all()


@pytest.mark.parametrize(
    ("value", "settings", "listed"),
    [
        (3, {"num_classes": 3}, "3"),
        (-1, {"num_classes": 3}, "-1"),
        (0.5, {"num_classes": 3}, "0.5"),
        (7, {"num_classes": 3, "ignore_index": 255}, "7"),
        (2, {"num_classes": 2}, "2"),
        (float("nan"), {"num_classes": 3}, "nan"),
    ],
)
def test_an_index_that_is_no_class(value: float, settings: dict[str, int], listed: str) -> None:
    data = item()
    data["label"][0, 1, 2, 3] = value
    match = rf"deep/a\.h5: label has 1 values that are no class: \[{listed}(\.0)?\]; expected 0 to "
    with pytest.raises(InvalidInputError, match=match):
        CheckTargetsd(**settings)(data)


def test_many_wrong_indices_are_shortened() -> None:
    data = item(label=torch.arange(24.0).reshape(SHAPE))
    with pytest.raises(InvalidInputError, match=r"has 21 values that are no class: \[3\.0, .*12\.0\] \.\.\.; expected"):
        CheckTargetsd(num_classes=3)(data)


@pytest.mark.parametrize("index", [-100, 255])
def test_the_ignored_index_is_allowed(index: int) -> None:
    data = item(torch.int64)
    data["label"][0, 0] = index
    assert CheckTargetsd(num_classes=3, ignore_index=index)(data)["label"] is data["label"]


def test_a_regression_takes_any_finite_number() -> None:
    data = item(label=torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)))
    assert CheckTargetsd()(data)["label"] is data["label"]
    for wrong in (float("nan"), float("inf")):
        data["label"][0, 0, 0, 0] = wrong
        with pytest.raises(InvalidInputError, match=r"deep/a\.h5: label has values that are not finite"):
            CheckTargetsd()(data)


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        (torch.ones(1, 2, 3, 5), r"weight has the shape \(1, 2, 3, 5\) and label \(1, 2, 3, 4\); expected the same"),
        (torch.ones(SHAPE[1:]), r"weight has the shape \(2, 3, 4\)"),
        (torch.zeros(SHAPE), "weight: all 24 weights are zero"),
        (-torch.ones(SHAPE), "weight: 24 weights are negative, the least is -1"),
        (torch.full(SHAPE, float("nan")), "weight: 24 weights are NaN or infinite"),
        (torch.full(SHAPE, float("inf")), "weight: 24 weights are NaN or infinite"),
    ],
)
def test_weights_that_cannot_be_used(weight: torch.Tensor, match: str) -> None:
    with pytest.raises(InvalidInputError, match=r"deep/a\.h5: " + match):
        CheckTargetsd(num_classes=3)(item(weight=weight))


def test_own_keys_and_no_file_name() -> None:
    data = {"target": torch.zeros(SHAPE), "w": torch.zeros(SHAPE), "raw": torch.zeros(SHAPE)}
    with pytest.raises(InvalidInputError, match="a volume: w: all 24 weights are zero"):
        CheckTargetsd("target", "w", "raw", num_classes=1)(data)
