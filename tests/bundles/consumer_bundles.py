"""Copies of the bundles with weights, as a user has them in some folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from bundle_commands import ROOT
from monai.bundle import ConfigParser

NETWORKS = sorted(path.parents[1].name for path in (ROOT / "bundles").glob("*/configs/train.json"))
SMALL: dict[str, dict[str, Any]] = {
    "optic_lobe_segmentation": {"depth": 2, "start_channels": 2, "patch_size": [16] * 3, "patches_per_volume": 1},
    "neuron_segmentation": {
        "f_maps": 4,
        "num_groups": 2,
        "num_levels": 2,
        "patch_size": [16] * 3,
        "patches_per_volume": 1,
        "min_size": 2,
    },
}


def copy_bundle(name: str, target: Path, **defaults: Any) -> Path:
    """Copy a bundle's configs, without its logging settings, with other defaults and random weights."""
    folder = target / name
    shutil.copytree(ROOT / "bundles" / name / "configs", folder / "configs", ignore=lambda *_: ["logging.conf"])
    for file in folder.glob("configs/*.json"):
        config = json.loads(file.read_text())
        file.write_text(json.dumps(config | {key: value for key, value in defaults.items() if key in config}))
    (folder / "models").mkdir()
    torch.manual_seed(1)  # the commands themselves start from 0
    torch.save(network_of(folder).state_dict(), folder / "models" / "model.pt")
    return folder


def network_of(folder: Path) -> torch.nn.Module:
    """The network of a bundle as its inference builds it, without the weights of its file."""
    parser = ConfigParser()
    parser.read_config(folder / "configs" / "inference.json")
    parser["bundle_root"] = str(folder)
    return parser.get_parsed_content("network_def")


def files_in(folder: Path) -> set[Path]:
    """All files and folders below one."""
    return set(folder.rglob("*"))
