"""Logits of several targets become predictions."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.activations import activate
from voxel_ext.transforms import ActivateTargetsd

TARGETS = {"sheet": {"channels": 1, "activation": "sigmoid"}, "normals": {"channels": 3, "activation": "unit_norm"}}


def test_every_target_gets_its_own_key():
    torch.manual_seed(0)
    logits = {"sheet": torch.randn(1, 3, 4, 5), "normals": MetaTensor(torch.randn(3, 3, 4, 5))}
    result = ActivateTargetsd(TARGETS)({"image": 1, "pred": logits})
    assert set(result) == {"image", "pred_sheet", "pred_normals"}
    assert torch.equal(result["pred_sheet"], activate(logits["sheet"][None], "sigmoid")[0])
    assert torch.equal(result["pred_normals"], activate(logits["normals"].as_tensor()[None], "unit_norm")[0])
    assert not isinstance(result["pred_normals"], MetaTensor)


def test_bad_predictions():
    with pytest.raises(InvalidInputError, match="no target 'normals'"):
        ActivateTargetsd(TARGETS)({"pred": {"sheet": torch.zeros(1, 2, 2, 2)}})
    with pytest.raises(InvalidInputError, match="expected a mapping from targets to logits"):
        ActivateTargetsd(TARGETS)({"pred": torch.zeros(1, 2, 2, 2)})
