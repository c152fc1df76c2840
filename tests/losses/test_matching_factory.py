"""Matching losses by name: each setting reaches the loss it belongs to."""

from __future__ import annotations

import pytest

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses import ContrastiveMatchingLoss, LinearAssignmentLoss, SinkhornMatchingLoss, matching_loss

SETTINGS = {"distance": "l1", "layer_weights": [0.3, 0.7], "temperature": 0.4, "dummy_cost": 0.6, "lambda_": 15.0}


@pytest.mark.parametrize(
    ("name", "kind", "own"),
    [
        ("contrastive", ContrastiveMatchingLoss, ()),
        ("sinkhorn", SinkhornMatchingLoss, ("dummy_cost",)),
        ("linear_assignment", LinearAssignmentLoss, ("dummy_cost", "lambda_")),
    ],
)
def test_settings_reach_the_loss(name, kind, own):
    loss = matching_loss(name, scale_lambda=False, **SETTINGS)
    assert type(loss) is kind
    assert (loss.distance, loss.layer_weights) == ("l1", (0.3, 0.7))
    assert {key: float(getattr(loss, key)) for key in own} == {key: SETTINGS[key] for key in own}
    if name == "linear_assignment":
        assert loss.scale_lambda is False
    else:
        assert float(loss.temperature) == pytest.approx(0.4)


def test_an_unknown_name_is_refused():
    with pytest.raises(InvalidInputError, match="Did you mean 'sinkhorn'"):
        matching_loss("sinkhor")
