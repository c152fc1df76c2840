import xml.etree.ElementTree as ElementTree

import pytest

from voxel_ext.errors import InvalidInputError
from voxel_ext.visualize import learning_curves
from voxel_ext.visualize.curves import _merge, _panels

HISTORY = [
    {"epoch": 1, "train_loss": 0.9, "learning_rate": 1e-3},
    {"epoch": 1, "val_loss": 0.8, "val_iou": 0.3, "seconds": 4},
    {"epoch": 2, "train_loss": float("nan"), "val_iou": None, "remark": "resumed"},
    {"epoch": 3, "train_loss": 0.4, "val_iou": 0.5, "val_normals_angle": 7},
]


def test_keys_find_their_panels_and_gaps_are_left_out():
    panels = _panels(_merge(HISTORY))
    assert panels["loss"] == {"train_loss": [(1, 0.9), (3, 0.4)], "val_loss": [(1, 0.8)]}
    assert panels["metrics"] == {"val_iou": [(1, 0.3), (3, 0.5)]}
    assert panels["learning rate"] == {"learning_rate": [(1, 1e-3)]}
    assert panels["other"] == {"seconds": [(1, 4)]}
    assert panels["angles (degrees)"] == {"val_normals_angle": [(3, 7)]}


def test_a_resumed_run_replaces_the_epochs_it_repeats():
    rows = _merge([{"epoch": 2, "a": 1}, {"epoch": 3, "a": 2}, {"epoch": 2, "a": 5}])
    assert [(epoch, row["a"]) for epoch, row in rows.items()] == [(2, 5), (3, 2)]


def test_svg_is_well_formed_and_takes_the_color_of_the_page():
    svg = learning_curves([*HISTORY, {"epoch": 4, "<b>&": 3, "_hidden": 1, "$x_": 2}])
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    texts = {element.text.strip() for element in root.iter() if element.tag.endswith("text") and element.text}
    assert {"train_loss", "val_loss", "val_iou", "learning_rate", "loss", "metrics", "<b>&", "hidden", "$x_"} <= texts
    assert "currentColor" in svg
    assert "metadata" not in svg
    assert "<?xml" not in svg


def test_nothing_to_draw():
    assert learning_curves([]) == ""
    assert learning_curves([{"epoch": 1, "note": "x"}]) == ""


def test_a_row_without_epoch_is_named():
    with pytest.raises(InvalidInputError, match=r"row 1 .* no numeric 'epoch'; its keys are \['val_loss'\]"):
        learning_curves([{"epoch": 1}, {"val_loss": 2}])
