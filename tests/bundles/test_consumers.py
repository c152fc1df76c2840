"""The bundles from Python: monai.bundle.load and create_workflow from any folder, without traces."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import monai.bundle
import pytest
import torch
from bundle_commands import ROOT, configs, reason
from consumer_bundles import NETWORKS, SMALL, copy_bundle, files_in
from monai.bundle import create_workflow

from voxel_ext.errors import CheckpointError
from voxel_ext.handlers import load_weights

DOCUMENT = ROOT / "bundles" / "README.md"
OPTIC = "optic_lobe_segmentation"
pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(scope="session")
def bundle_with_weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A copy of a bundle with random weights, made once per session."""
    target = tmp_path_factory.mktemp("bundles")

    def make(name: str) -> Path:
        return target / name if (target / name).exists() else copy_bundle(name, target)

    return make


def load(folder: Path, workflow_type: str, **options: object) -> torch.nn.Module:
    return monai.bundle.load(
        folder.name, bundle_dir=folder.parent, workflow_type=workflow_type, device="cpu", **options
    )


def assert_has_weights(network: torch.nn.Module, folder: Path) -> None:
    weights, own = torch.load(folder / "models" / "model.pt", weights_only=True), network.state_dict()
    assert own.keys() == weights.keys()
    for name, value in weights.items():
        torch.testing.assert_close(own[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("workflow_type", ["train", "inference"])
@pytest.mark.parametrize("name", NETWORKS)
def test_loaded_network_is_the_trained_one(bundle_with_weights, elsewhere, name, workflow_type):
    folder = bundle_with_weights(name)
    before, hook = files_in(folder), sys.excepthook
    # the classes of a new training are those of its data, which load() does not have
    override = {"net_override": {"out_channels": 61}} if (name, workflow_type) == ("cell_labeling", "train") else {}
    assert_has_weights(load(folder, workflow_type, **override), folder)
    assert files_in(folder) == before
    assert os.listdir(elsewhere) == []
    assert sys.excepthook is hook


@pytest.mark.parametrize("workflow_type", ["train", "inference"])
@pytest.mark.parametrize("name", NETWORKS)
def test_creating_a_workflow_leaves_no_trace(bundle_with_weights, elsewhere, name, workflow_type):
    folder = bundle_with_weights(name)
    before = files_in(folder)
    file = str(folder / "configs" / f"{workflow_type}.json")
    workflow = create_workflow(config_file=file, workflow_type=workflow_type, bundle_root=str(folder))
    assert workflow.version == "0.1.0"
    if name != "cell_labeling" or workflow_type == "inference":
        assert isinstance(workflow.network_def, torch.nn.Module)
    assert files_in(folder) == before
    assert os.listdir(elsewhere) == []


def test_every_other_command_of_every_bundle_leaves_no_trace(elsewhere):
    commands = [("em_clustering", name) for name in ("prepare", "features", "clustering", "view")]
    commands += [(name, "prepare") for name in NETWORKS] + [("worm_matching", "atlas")]
    for bundle, command in commands:
        create_workflow(config_file=configs(bundle, command)[0], logging_file=False)
    for bundle in NETWORKS:
        create_workflow(config_file=configs(bundle, "train", "evaluate"), workflow_type="train", logging_file=False)
    assert os.listdir(elsewhere) == []


def test_clustering_commands_from_python(tmp_path, elsewhere):
    from em_contrastive_commands import VOLUME

    prepared = {key: value for key, value in VOLUME.items() if key.startswith("synthetic_")}
    made = create_workflow(
        config_file=configs("em_clustering", "prepare"),
        logging_file=False,
        dataset_dir=str(tmp_path / "data"),
        **prepared,
    )
    made.run()
    made.finalize()
    volume = tmp_path / "data" / "volume"
    assert (volume / "labels.zarr").is_dir()
    measured = create_workflow(
        config_file=configs("em_clustering", "features"),
        logging_file=False,
        labels=str(volume / "labels.zarr"),
        output_dir=str(tmp_path / "eval"),
        features=["size"],
    )
    measured.run()
    measured.finalize()
    assert list((tmp_path / "eval").rglob("*.parquet"))
    assert os.listdir(elsewhere) == []


def test_inference_workflow_has_the_weights_or_says_that_there_are_none(bundle_with_weights, tiny_dataset, tmp_path):
    folder = bundle_with_weights(OPTIC)
    settings = {"config_file": str(folder / "configs" / "inference.json"), "workflow_type": "inference"}
    settings |= {"dataset_dir": str(tiny_dataset(OPTIC) / "val"), "output_dir": str(tmp_path / "result")}
    workflow = create_workflow(**settings, bundle_root=str(folder))
    assert_has_weights(workflow.evaluator.network, folder)
    assert_has_weights(workflow.network_def, folder)
    settings["output_dir"] = str(tmp_path / "nothing")
    assert "models/model.pt" in reason(create_workflow(**settings).run)
    assert not (tmp_path / "nothing" / "report.html").exists()
    without = create_workflow(**settings)
    assert "models/model.pt" in reason(lambda: without.evaluator)


def test_weights_of_another_architecture(bundle_with_weights):
    folder = bundle_with_weights(OPTIC)
    other = load(folder, "train", net_override={"start_channels": 4})  # MONAI takes what fits, and logs how much
    weights = torch.load(folder / "models" / "model.pt", weights_only=True)
    assert any(value.shape != weights[name].shape for name, value in other.state_dict().items())
    with pytest.raises(CheckpointError, match="another architecture"):
        load_weights(folder / "models" / "model.pt", other)


def test_what_load_cannot_know_is_said(bundle_with_weights, elsewhere):
    folder = bundle_with_weights("cell_labeling")
    message = reason(load, folder, "train")
    assert "bundle_root" in message
    assert "configs/prepare.json" in message
    assert os.listdir(elsewhere) == []


def snippets() -> list[str]:
    section = DOCUMENT.read_text(encoding="utf-8").split("\n## Python, ")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


@pytest.mark.parametrize("number", range(5))
def test_documented_snippets(tiny_dataset, tmp_path, elsewhere, number):
    """In a folder with a bundle that has weights, with data for training and an image."""
    import nibabel
    import numpy as np

    text = snippets()
    assert len(text) == 5, "a snippet was added or taken away: count it here"
    if "monailabel" in text[number]:
        pytest.importorskip("monailabel.tasks.infer.bundle")
    copy_bundle(OPTIC, elsewhere / "bundles", **SMALL[OPTIC])
    tiny = tiny_dataset(OPTIC, seed=0, volume_size=16, volumes_per_file=1, validation_volumes=1)
    (elsewhere / "data").symlink_to(tiny)
    image = np.random.default_rng(0).random((16, 18, 20), dtype=np.float32)
    nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), elsewhere / "image.nii.gz")
    exec(compile(text[number], str(DOCUMENT), "exec"), {"__name__": "snippet"})
