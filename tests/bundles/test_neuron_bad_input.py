"""What goes wrong is said clearly, and nothing half-written stays behind."""

from pathlib import Path

import numpy as np
import pytest
from bundle_commands import options, reason, shell
from neuron_commands import (
    FOLDER,
    TINY,
    blobs,
    evaluate,
    infer,
    places,
    prepare,
    sparse_labels,
    train,
    write_hdf5,
    write_image,
)

from voxel_ext.handlers import save_checkpoint
from voxel_ext.networks.nets import unet3d_network

SHAPE = (16, 32, 32)


def files_in(folder: Path) -> list[str]:
    """Results and half-written files; not the events of TensorBoard, nor what locks a folder."""
    found = [path for path in folder.rglob("*") if path.is_file() and "tfevents" not in path.name]
    return sorted(path.name for path in found if not path.name.endswith(".lock"))


def refused_training(folder: Path, dataset: Path, *words: str, **settings) -> None:
    message = reason(lambda: train(folder / "out", dataset, **settings))
    for word in words:
        assert word in message, message
    assert set(files_in(folder / "out")) <= {"settings.json"}


def volume(**changes: np.ndarray) -> dict[str, np.ndarray]:
    """A good file's datasets, with some replaced."""
    image, ids = blobs(shape=SHAPE)
    good = {"raw": image, "label": (ids > 0).astype(np.uint8), "weight": np.ones(SHAPE, np.float32), "instances": ids}
    return good | changes


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    write_hdf5(folder / "train" / "a.h5", **volume())
    write_hdf5(folder / "val" / "b.h5", **volume())
    return folder


def test_wrong_folder(tmp_path):
    refused_training(tmp_path, tmp_path / "nowhere", "nowhere", "does not exist")
    save_checkpoint(tmp_path / "models" / "model.pt", unet3d_network(f_maps=[4, 8], num_groups=2).state_dict())
    assert "nowhere" in reason(lambda: infer(tmp_path, tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    refused_training(tmp_path, tmp_path / "empty", "empty")


@pytest.mark.parametrize("part", ["folder", "file"])
def test_volumes_in_training_and_in_validation(tmp_path, part):
    folder = write_hdf5(tmp_path / "data" / "train" / "a.h5", **volume())
    if part == "folder":
        (tmp_path / "data" / "val").symlink_to(folder)
    else:
        (tmp_path / "data" / "val").mkdir()
        (tmp_path / "data" / "val" / "other_name.h5").symlink_to(folder / "a.h5")
    refused_training(tmp_path, tmp_path / "data", "the same volume", "training", "validation", "a.h5")


def bad_image() -> np.ndarray:
    image = blobs(shape=SHAPE)[0]
    image[3, 4, 5] = np.nan
    return image


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label": blobs(shape=SHAPE)[1]}, ["a.h5", "label", "[2.0, 3.0, 4.0]", "0 to 1", "run prepare"]),
        ({"label": np.ones((16, 32, 30), np.uint8)}, ["a.h5", "(16, 32, 32)", "(16, 32, 30)"]),
        ({"weight": np.full(SHAPE, -1, np.float32)}, ["a.h5", "weight", "negative"]),
        ({"weight": np.zeros(SHAPE, np.float32)}, ["a.h5", "weight", "zero"]),
        ({"weight": np.full(SHAPE, np.nan, np.float32)}, ["a.h5", "weight", "NaN"]),
        ({"weight": np.ones((16, 32, 30), np.float32)}, ["a.h5", "weight", "(16, 32, 32)", "(16, 32, 30)"]),
        ({"raw": bad_image()}, ["a.h5", "1 NaN"]),
        ({"raw": np.ones(SHAPE, np.float32)}, ["a.h5", "constant"]),
    ],
)
@pytest.mark.parametrize("part", ["train", "val"])
def test_bad_volumes(tmp_path, part, changes, words):
    other = "val" if part == "train" else "train"
    write_hdf5(tmp_path / "data" / part / "a.h5", **volume(**changes))
    write_hdf5(tmp_path / "data" / other / "b.h5", **volume())
    refused_training(tmp_path, tmp_path / "data", *words)


def test_file_without_an_image_or_label(tmp_path):
    without = {key: array for key, array in volume().items() if key != "label"}
    write_hdf5(tmp_path / "data" / "a.h5", **without)
    refused_training(tmp_path, tmp_path / "data", "a.h5", "label", "weight", "raw")
    write_hdf5(tmp_path / "others" / "a.h5", picture=without["raw"])
    refused_training(tmp_path, tmp_path / "others", "a.h5", "picture", "raw")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"patch_size": [16, 16]}, ["patch_size", "3 positive whole numbers"]),
        ({"patch_size": 16}, ["patch_size", "3 positive whole numbers"]),
        ({"patch_size": [16, 16, 0]}, ["patch_size", "3 positive whole numbers"]),
        ({"roi_size": [16, 16]}, ["roi_size", "3 positive whole numbers"]),
        ({"architecture": "unet"}, ["'unet'", "'unet3d'", "'residual_unet3d'"]),
        ({"layer_order": "gxr"}, ["layer_order", "gxr"]),
        ({"num_groups": 3}, ["num_groups", "3"]),
        ({"loss_name": "cross"}, ["'cross'", "'pixel_wise_cross_entropy'"]),
        ({"lr_scheduler_name": "step"}, ["'step'", "'cosine'", "'plateau'"]),
        ({"seed_method": "distanse"}, ["'distanse'", "'distance'"]),
        ({"max_params": 10}, ["max_params", "10"]),
        ({"resume": "/nowhere/checkpoint.pt"}, ["/nowhere/checkpoint.pt"]),
    ],
)
def test_bad_settings(tmp_path, dataset, setting, words):
    refused_training(tmp_path, dataset, *words, **setting)


def test_misspelled_option(tmp_path, dataset):
    settings = TINY | places(tmp_path / "out") | {"dataset_dir": dataset, "learning_rat": 0.1}
    command = ["monai.bundle", "run", "training", "--config_file", "configs/train.json"]
    done = shell([*command, *options(settings)], FOLDER)
    assert done.returncode != 0
    assert "'learning_rat'" in done.stderr.splitlines()[-1]
    assert "'learning_rate'" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_without_a_checkpoint(tmp_path, dataset):
    for call in (lambda: evaluate(tmp_path, dataset), lambda: infer(tmp_path, dataset / "val")):
        message = reason(call)
        assert "model.pt" in message
        assert "train first" in message
    assert files_in(tmp_path) == []


def test_bad_checkpoints(tmp_path, dataset):
    model = tmp_path / "models" / "model.pt"
    model.parent.mkdir()
    save_checkpoint(model, unet3d_network(f_maps=[4, 8, 16], num_groups=2).state_dict())
    message = reason(lambda: infer(tmp_path, dataset / "val"))
    for word in (
        str(model),
        "another architecture",
        "unexpected",
        "encoders.2.",
        "(8, 24, 3, 3, 3)",
        "(4, 12, 3, 3, 3)",
    ):
        assert word in message
    assert "another architecture" in reason(lambda: infer(tmp_path, dataset / "val", architecture="residual_unet3d"))
    whole = model.read_bytes()
    model.write_bytes(whole[: len(whole) // 2])
    assert "truncated or foreign" in reason(lambda: infer(tmp_path, dataset / "val"))
    save_checkpoint(model, {"text": "hello"})
    assert "no network weights" in reason(lambda: evaluate(tmp_path, dataset))
    assert files_in(tmp_path) == ["model.pt"]


def refused_preparation(tmp_path: Path, *words: str, **settings) -> None:
    settings = {"source": "volumes", "raw_dir": str(tmp_path / "raw")} | settings
    message = reason(lambda: prepare(tmp_path / "out", **settings))
    for word in words:
        assert word in message, message


def write_pair(folder: Path, name: str, labels: np.ndarray, image: np.ndarray | None = None) -> None:
    write_image(folder / f"{name}_img.mhd", blobs(shape=SHAPE)[0] if image is None else image)
    write_image(folder / f"{name}_label.nrrd", labels)


@pytest.mark.parametrize(
    ("labels", "image", "words"),
    [
        (np.full(SHAPE, 4, np.uint8), None, ["bad_label.nrrd", "values 4", "0 (not labeled)"]),
        (np.zeros(SHAPE, np.uint8), None, ["bad_label.nrrd", "label"]),
        (np.ones((16, 32, 30), np.uint8), None, ["bad_img.mhd", "bad_label.nrrd", "(16, 32, 32)", "(16, 32, 30)"]),
        (sparse_labels(blobs(shape=SHAPE)[1]), bad_image(), ["bad_img.mhd", "NaN"]),
    ],
)
def test_bad_volumes_are_named_and_the_others_prepared(tmp_path, labels, image, words):
    write_pair(tmp_path / "raw", "good", sparse_labels(blobs(shape=SHAPE)[1]))
    write_pair(tmp_path / "raw", "bad", labels, image)
    refused_preparation(tmp_path, "1 of 2 volumes", *words)
    assert files_in(tmp_path / "out") == ["good.h5"]  # no dataset.json: the data set is not complete


def test_label_without_partner(tmp_path):
    write_pair(tmp_path / "raw", "a", sparse_labels(blobs(shape=SHAPE)[1]))
    (tmp_path / "raw" / "a_label.nrrd").unlink()
    refused_preparation(tmp_path, "a_img.mhd", "partner", "<name>_label")
    assert files_in(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"source": "files"}, ["'files'", "'synthetic'", "'volumes'"]),
        ({"label_kind": "dense"}, ["'dense'", "'sparse'", "'instances'"]),
        ({"crop": [[0, 20], [0, 32], [0, 32]]}, ["crop", "a_img.mhd", "(16, 32, 32)"]),
        ({"target_voxel_size": [1, 1]}, ["voxel_size", "three positive numbers"]),
        ({"raw_dir": "/nowhere"}, ["/nowhere", "does not exist"]),
        ({"weight_gap": -1}, ["weight_gap", "-1"]),
        ({"transpose_xy": "yes"}, ["transpose_xy", "'yes'", "true or false"]),
    ],
)
def test_bad_settings_of_prepare(tmp_path, settings, words):
    write_pair(tmp_path / "raw", "a", sparse_labels(blobs(shape=SHAPE)[1]))
    refused_preparation(tmp_path, *words, **settings)
    assert files_in(tmp_path / "out") == []


def test_other_settings_need_overwrite(tmp_path):
    write_pair(tmp_path / "raw", "a", sparse_labels(blobs(shape=SHAPE)[1]))
    settings = {"source": "volumes", "raw_dir": str(tmp_path / "raw")}
    prepare(tmp_path / "out", **settings)
    before = (tmp_path / "out" / "a.h5").read_bytes()
    refused_preparation(tmp_path, "a.h5", "weight_gap", "20", "30", "overwrite", weight_gap=30)
    assert (tmp_path / "out" / "a.h5").read_bytes() == before
    prepare(tmp_path / "out", overwrite="true", **(settings | {"weight_gap": 30}))
    assert (tmp_path / "out" / "a.h5").read_bytes() != before
