"""Training on a regular grid of patches."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from bundle_commands import configs
from monai.bundle import ConfigParser
from neuron_commands import BUNDLE, blobs, evaluate, train, write_hdf5

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers import read_checkpoint, read_history

OVERLAY = "variants/grid_patches"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Two volumes for training, of which the left halves are labeled, one smaller than a patch; one for validation."""
    folder = tmp_path_factory.mktemp("volumes")
    for name, shape in (("train/a", (16, 32, 32)), ("train/b", (12, 32, 32)), ("val/c", (16, 32, 32))):
        image, ids = blobs(shape=shape)
        weight = np.ones(shape, np.float32)
        if name != "val/c":
            weight[:, :, 16:] = 0
        write_hdf5(folder / f"{name}.h5", raw=image, label=(ids > 0).astype(np.uint8), weight=weight)
    return folder


def train_dataset(dataset: Path, **override):
    parser = ConfigParser()
    parser.read_config(configs(BUNDLE, "train", OVERLAY))
    parser.update({"dataset_dir": str(dataset), "patch_size": [16, 16, 16], **override})
    return parser.get_parsed_content("train#dataset")


def test_patches_of_the_labeled_half(dataset):
    patches = train_dataset(dataset)
    assert patches.stride == (8, 8, 8)
    # along x the patches at 0 and 8 are labeled to 100 % and 50 %, that at 16 not at all; 3 along y
    assert [(i, *(part.start for part in window)) for i, window in patches.patches] == [
        (i, 0, y, x) for i in (0, 1) for y in (0, 8, 16) for x in (0, 8)
    ]
    half = train_dataset(dataset, min_labeled=0.6)
    assert [window[2].start for _, window in half.patches] == [0] * 6
    assert len(train_dataset(dataset, patch_stride=16)) == 4
    assert set(patches[7]) == {"image", "label", "weight"}


def test_patches_without_augmentation_are_those_of_the_files(dataset):
    names = ("bend", "affine", "flip", "contrast", "noise", "poisson")
    patches = train_dataset(dataset, **{f"{name}_probability": 0.0 for name in names})
    with h5py.File(dataset / "train" / "a.h5") as file:
        raw, label = file["raw"][()], file["label"][()]
    scaled = 2 * (raw - raw.min()) / (raw.max() - raw.min()) - 1
    for index in range(6):
        window = patches.patches[index][1]
        np.testing.assert_allclose(patches[index]["image"][0], scaled[window], atol=1e-5)
        np.testing.assert_array_equal(patches[index]["label"][0], label[window])


def rows(folder: Path) -> list[dict[str, float]]:
    return read_history(folder / "models" / "history.jsonl")


def test_training_resumes_and_evaluates(dataset, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(whole, dataset, OVERLAY, batch_size=3)
    train(parts, dataset, OVERLAY, batch_size=3, epochs=1)
    train(parts, dataset, OVERLAY, batch_size=3, resume="true")
    assert [row | {"seconds": 0} for row in rows(whole)] == [row | {"seconds": 0} for row in rows(parts)]
    ends = [read_checkpoint(folder / "models" / "checkpoint_last.pt")["network"] for folder in (whole, parts)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    optimizer = read_checkpoint(whole / "models" / "checkpoint_last.pt")["optimizer"]
    assert optimizer["state"][0]["step"] == 8  # 12 patches, 3 in a batch, 2 epochs
    output = evaluate(whole, dataset)
    assert float((output / "metrics.csv").read_text().splitlines()[0].split(",")[1]) == pytest.approx(
        max(row["val_iou"] for row in rows(whole)), abs=1e-6
    )


def test_two_loading_processes(dataset, tmp_path):
    train(tmp_path, dataset, OVERLAY, epochs=1, num_workers=2, batch_size=4)
    assert np.isfinite(rows(tmp_path)[0]["train_loss"])


def test_a_volume_that_is_labeled_too_little_is_named(tmp_path):
    for name, part in (("a", 32), ("b", 2), ("c", 32), ("d", 32)):
        image, ids = blobs()
        weight = np.zeros(image.shape, np.float32)
        weight[:, :, :part] = 1
        kind = "val" if name == "d" else "train"
        write_hdf5(tmp_path / kind / f"{name}.h5", raw=image, label=(ids > 0).astype(np.uint8), weight=weight)
    with pytest.raises(RuntimeError) as raised:
        train_dataset(tmp_path)
    assert isinstance(raised.value.__cause__, InvalidInputError)
    assert re.search(r"none of the 9 patches .*b\.h5.* labeled share of 0\.125", str(raised.value.__cause__))
