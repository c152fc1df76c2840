"""The bundles in MONAI Label's bundle app: the package where it is installed, and its steps as we follow them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai_label_contract
import nibabel
import numpy as np
import pytest
import torch
from bundle_commands import run_command
from consumer_bundles import SMALL, copy_bundle, files_in

AFFINE = np.array([[0.5, 0, 0, 3], [0, 0.6, 0, 4], [0, 0, 0.7, 5], [0, 0, 0, 1]])
SHAPE = (18, 20, 22)
NAMES = {"optic_lobe_segmentation": {"visual column": 1}, "neuron_segmentation": {"neuron": 1}}
Infer = Callable[[Path, dict[str, Any], Path], tuple[str, dict[str, Any]]]


@pytest.fixture(params=["its steps", "monailabel"])
def package(request: pytest.FixtureRequest) -> Any:
    """None, or the package."""
    return pytest.importorskip("monailabel") if request.param == "monailabel" else None


@pytest.fixture
def infer(package: Any) -> Infer:
    if package is None:
        return lambda bundle, request, folder: monai_label_contract.InferTask(bundle)(request, folder)
    from monailabel.tasks.infer.bundle import BundleInferTask

    return lambda bundle, request, _: BundleInferTask(str(bundle), {})(request)


def write(path: Path, array: np.ndarray) -> str:
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)
    return str(path)


def image(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An image that is brighter in a box that is not in its middle, and the box."""
    box = np.zeros(SHAPE, np.uint8)
    box[2:8, 4:14, 9:20] = 1
    return np.random.default_rng(seed).random(SHAPE, dtype=np.float32) + box, box


def halve(bundle: Path, request: dict[str, Any]) -> None:
    """Change the last bias of a network so that half of the image is foreground."""
    logits = monai_label_contract.InferTask(bundle).predict(request)["pred"]
    path = bundle / "models" / "model.pt"
    weights = torch.load(path, weights_only=True)
    bias = weights[[name for name in weights if name.endswith("bias")][-1]]
    assert len(bias) == len(logits)
    bias[-1] -= (logits[-1] - (logits[0] if len(logits) > 1 else 0)).median()
    torch.save(weights, path)


@pytest.mark.parametrize("name", NAMES)
def test_label_of_an_image(infer, tmp_path, monkeypatch, name):
    bundle = copy_bundle(name, tmp_path, **SMALL[name])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    source = write(tmp_path / "images" / "a.nii.gz", image()[0])
    halve(bundle, {"image": source, "device": "cpu"})
    before = files_in(bundle)
    file, report = infer(bundle, {"image": source, "device": "cpu"}, tmp_path)
    written = nibabel.load(file)
    label = np.asarray(written.dataobj)
    np.testing.assert_allclose(written.affine, AFFINE, atol=1e-6)
    assert report["label_names"] == NAMES[name]
    assert files_in(bundle) == before
    assert os.listdir() == []
    run_command(
        "inference",
        [str(bundle / "configs" / "inference.json")],
        bundle_root=str(bundle),
        dataset_dir=str(tmp_path / "images"),
        output_dir=str(tmp_path / "eval"),
        output_ext=".nii.gz",
    )
    own = nibabel.load(next((tmp_path / "eval").glob("a_*.nii.gz")))
    assert label.shape == SHAPE
    assert len(np.unique(label)) > 1, "a label without objects proves nothing"
    np.testing.assert_array_equal(label, np.asarray(own.dataobj).reshape(SHAPE))


@pytest.mark.parametrize("name", NAMES)
def test_training_goes_on_from_the_weights(package, tmp_path, monkeypatch, name):
    bundle = copy_bundle(name, tmp_path, **SMALL[name])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    pairs = []
    for number in range(3):
        volume, box = image(number)
        pairs.append(
            {
                "image": write(tmp_path / f"{number}.nii.gz", volume),
                "label": write(tmp_path / f"{number}_l.nii.gz", box),
            }
        )
    earlier = torch.load(bundle / "models" / "model.pt", weights_only=True)
    request = {"model": name, "device": "cpu", "max_epochs": 1, "val_split": 0.34, "multi_gpu": False}
    if package is None:
        monai_label_contract.train(bundle, request, pairs)
    else:
        from monailabel.tasks.train.bundle import BundleTrainTask

        BundleTrainTask(str(bundle), {})(request, type("Store", (), {"datalist": lambda self: pairs})())
    trained = torch.load(bundle / "models" / "model.pt", weights_only=True)
    learned = [key for key in earlier if key.endswith(("weight", "bias"))]
    change = max(float((trained[key] - earlier[key]).abs().max()) for key in learned)
    assert 0 < change < 0.01, "one epoch of Adam at a rate of 0.001 from the weights that were there"
    assert (bundle / "models" / "previous" / "1" / "model.pt").is_file()
    assert not (bundle / "data").exists(), "synthetic data are not needed"
    assert os.listdir() == []
