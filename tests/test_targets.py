"""Targets of a multi-task network as configs give them."""

from __future__ import annotations

import pytest

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.activations import ACTIVATIONS
from voxel_ext.targets import ACTIVATION_NAMES, Target, activations, component_orders, read_targets, storage_types


def test_defaults_follow_the_activation():
    targets = read_targets(
        {
            "sheet": {"channels": 1, "activation": "sigmoid"},
            "normals": {"channels": 3, "activation": "unit_norm"},
            "tissue": {"channels": 4, "activation": "softmax"},
            "depth": {"channels": 1, "loss": "mse"},
            "flow": {"channels": 3, "vector": True, "loss": "mse"},
            "logit": {"channels": 1},
            "fibers": {"channels": 3, "loss": "cosine"},
            "smooth": {"channels": 1, "activation": "sigmoid", "loss": "mse"},
            "part": {"channels": 2, "loss": "cross_entropy"},
            "texture": {"channels": 1, "loss": "SSIMLoss"},
        }
    )
    assert {name: target.loss_name for name, target in targets.items()} == {
        "sheet": "bce_dice",
        "normals": "cosine",
        "tissue": "cross_entropy",
        "depth": "mse",
        "flow": "mse",
        "logit": "bce_dice",
        "fibers": "cosine",
        "smooth": "mse",
        "part": "cross_entropy",
        "texture": "SSIMLoss",
    }
    kinds = ["mask", "vectors", "classes", "values", "vectors", "mask", "vectors", "mask", "classes", "values"]
    assert [target.kind for target in targets.values()] == kinds
    assert [target.name for target in targets.values()] == list(targets)
    assert read_targets(targets) == targets


def test_what_inferers_ask_for():
    targets = {"sheet": {"channels": 1, "activation": "sigmoid"}, "depth": Target("depth", 1, loss="mse")}
    assert activations(targets) == {"sheet": "sigmoid", "depth": "none"}
    assert storage_types(targets) == {"sheet": "uint8", "depth": "float16"}
    vectors = {"normals": {"channels": 3, "activation": "unit_norm", "component_order": "xyz"}}
    assert component_orders({**targets, **vectors}) == {"normals": "xyz"}
    assert ACTIVATION_NAMES == ACTIVATIONS


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({}, "expected a mapping"),
        (None, "expected a mapping"),
        ({"sheet": 1}, "targets#sheet=1; expected a mapping with channels"),
        ({"sheet": {"activation": "sigmoid"}}, "targets#sheet has no channels"),
        ({"sheet": {"channels": 0}}, r"targets#sheet#channels=0"),
        ({"sheet": {"channels": True}}, r"targets#sheet#channels=True"),
        ({"sheet": {"channels": 1, "activation": "sigmod"}}, "Did you mean 'sigmoid'"),
        ({"sheet": {"channels": 1, "wieght": 2}}, "Did you mean 'weight'"),
        ({"sheet": {"channels": 1, "weight": -1}}, "weight=-1"),
        ({"sheet": {"channels": 1, "activation": "softmax"}}, "at least 2 classes"),
        ({"normals": {"channels": 2, "activation": "unit_norm"}}, "vectors in space have 3 components"),
        ({"normals": {"channels": 3, "component_order": "yxz"}}, "component_order='yxz'"),
        ({"sheet": {"channels": 1, "loss_options": 3}}, "loss_options=3"),
    ],
)
def test_bad_targets(targets, message):
    with pytest.raises(InvalidInputError, match=message):
        read_targets(targets)
