"""Config files are merged as MONAI merges them, and what an overlay brings that nobody needs is told."""

import pytest
from broken_bundles import BUNDLES, NAMES
from monai.bundle import ConfigParser

from voxel_ext.sharing.checks_commands import Command, commands, overlaid, references

BASE = Command(
    ("base.json",),
    {
        "lr": 0.1,
        "optimizer": {"_target_": "SGD", "lr": "@lr"},
        "train": {"handlers": [{"_target_": "A"}], "trainer": {"_target_": "T", "epochs": 3}},
        "settings": {"lr": "@lr"},
        "written": "@settings",
        "run": ["$@optimizer"],
    },
)


@pytest.mark.parametrize(
    ("overlay", "unknown"),
    [
        ({"lr": 1}, ()),
        ({"rate": 1}, ("rate",)),
        ({"rate": 1, "lr": "@rate"}, ()),
        ({"train#trainer#epochs": 5}, ()),
        ({"train#trainer#amp": True}, ()),
        ({"train#sampler": 1}, ("train::sampler",)),
        ({"train#sampler": 1, "train#trainer#sampler": "@train#sampler"}, ()),
        ({"settings#epochs": 3}, ()),
        ({"train#handlers#0#_disabled_": True}, ()),
        ({"train#handlers#1#_disabled_": True}, ("train::handlers::1::_disabled_",)),
        ({"validate#handlers": []}, ("validate::handlers",)),
        ({"initialize": [], "finalize": [], "+run": ["$1"], "training": "@run"}, ()),
    ],
)
def test_ids_of_an_overlay_that_nobody_needs(overlay, unknown):
    merged = overlaid(BASE, "overlay.json", overlay)
    assert merged.unknown == unknown
    assert merged.label == "base.json + overlay.json"
    assert BASE.content["lr"] == 0.1


def test_references_are_found_by_their_whole_id():
    content = {"a": {"b": "@#c", "c": 1}, "d": ["$@a#b + len('@')", "mail@host"], "e": "@a::c"}
    assert references(content) == [("a::b", "a::c"), ("d::0", "a::b"), ("d::0", ""), ("e", "a::c")]


@pytest.mark.parametrize("name", NAMES)
def test_every_config_file_is_in_a_command_merged_as_monai_does(name):
    root = BUNDLES / name
    made = commands(root)
    files = {file.relative_to(root).as_posix() for file in (root / "configs").rglob("*.json")}
    assert {file for command in made for file in command.files} == files - {"configs/metadata.json"}
    for command in made:
        if not command.unknown:
            assert command.content == ConfigParser.load_config_files([str(root / file) for file in command.files])


def test_overlays_go_on_top_of_evaluation_and_several_devices():
    made = {command.label for command in commands(BUNDLES / "optic_lobe_segmentation")}
    for first in ("train.json", "train.json + configs/evaluate.json", "train.json + configs/multi_gpu_train.json"):
        assert f"configs/{first} + configs/variants/unet.json" in made
    assert "configs/inference.json + configs/variants/unet.json" in made
    assert "configs/prepare.json + configs/variants/unet.json" not in made
