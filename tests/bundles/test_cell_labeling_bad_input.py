"""What goes wrong with cell_labeling is said clearly, and nothing half-written stays behind."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from bundle_commands import options, reason, shell
from cell_labeling_commands import (
    CHANNELS,
    FOLDER,
    TINY,
    infer,
    places,
    prepare,
    tiny_animals,
    tiny_training,
    train,
)

from voxel_ext.data import read_cell_volume, write_cell_volume
from voxel_ext.handlers import save_checkpoint


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return tiny_animals(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return tiny_training(tmp_path_factory.getbasetemp())


@pytest.fixture
def copied(dataset, tmp_path) -> Path:
    """Prepared animals that a test may change."""
    for part in ("train", "val"):
        shutil.copytree(dataset / part, tmp_path / "data" / part)
    return tmp_path / "data"


@pytest.fixture
def raw(dataset, tmp_path) -> Path:
    """Two annotated animals that a test may change, neither for training nor for validation."""
    shutil.copytree(dataset / "raw" / "val", tmp_path / "raw")
    for path in (tmp_path / "raw").glob("*/val_0003.*"):
        path.unlink()
    shutil.rmtree(tmp_path / "raw" / "truth")
    shutil.copy(dataset / "raw" / "neuron_names.txt", tmp_path / "raw")
    return tmp_path / "raw"


def prepare_fails(folder: Path, raw: Path, **override) -> str:
    message = reason(prepare, folder / "prepared", source="volumes", raw_dir=str(raw), **override)
    assert not list((folder / "prepared").rglob("*.h5"))
    assert not (folder / "prepared" / "dataset.json").exists()
    return message


def train_fails(folder: Path, dataset: Path, *overlays: str, **override) -> str:
    message = reason(train, folder, dataset, *overlays, **override)
    assert not list((folder / "models").glob("*.pt"))
    return message


def infer_fails(folder: Path, dataset: Path, *overlays: str, **override) -> str:
    message = reason(infer, folder, dataset, *overlays, **override)
    assert not list((folder / "eval").glob("*"))
    return message


# tables and volumes of annotated animals


def other_ids(lines: list[str]) -> list[str]:
    return [*lines, 'MI,"(1, 2, 3)",98,4,', 'MI,"(1, 2, 3)",99,4,']


def mistyped(lines: list[str]) -> list[str]:
    return [*lines, 'I2LL,"(1, 2, 3)",1,4,', 'XYZ9,"(1, 2, 3)",2,4,']


def twice(lines: list[str]) -> list[str]:
    return [*lines, lines[1]]


def without_roi(lines: list[str]) -> list[str]:
    return [*lines, 'MI,"(1, 2, 3)",,4,']


def confidence(value: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [*lines, f'MI,"(1, 2, 3)",1,{value},']


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (other_ids, ["ROI 98", "ROI 99", "MI", "ids are from 1 to 8"]),
        (mistyped, ["I2LL", "near: I2L", "XYZ9", "no name is like it"]),
        (twice, ["is also in line 2"]),
        (without_roi, ["the ROI cell of 'MI' is empty"]),
        (confidence("6"), ["confidence '6'", "1 to 5"]),
        (confidence("0"), ["confidence '0'", "1 to 5"]),
        (confidence("high"), ["confidence 'high'", "1 to 5"]),
        (lambda lines: lines[:1], ["has a header but no rows"]),
    ],
    ids=["ids", "names", "twice", "no-roi", "confidence-6", "confidence-0", "confidence-text", "no-rows"],
)
def test_wrong_tables(raw, tmp_path, edit, words):
    table = raw / "labels" / "val_0001.csv"
    table.write_text("\n".join(edit(table.read_text().splitlines())) + "\n")
    message = prepare_fails(tmp_path, raw)
    for word in ("val_0001.csv", *words):
        assert word in message


def test_everything_wrong_with_all_tables_is_told_at_once(raw, tmp_path):
    for number, edit in ((1, mistyped), (2, without_roi)):
        table = raw / "labels" / f"val_000{number}.csv"
        table.write_text("\n".join(edit(table.read_text().splitlines())) + "\n")
    message = prepare_fails(tmp_path, raw)
    assert "2 animals cannot be prepared" in message
    assert "I2LL" in message
    assert "val_0002.csv" in message


def test_empty_roi_volume(raw, tmp_path):
    with h5py.File(raw / "rois" / "val_0001.h5", "r+") as file:
        file["roi"][...] = 0
    message = prepare_fails(tmp_path, raw)
    assert "val_0001.h5" in message
    assert "all voxels are 0" in message


@pytest.mark.parametrize("kind", ["images", "rois", "labels"])
def test_missing_files_are_named(raw, tmp_path, kind):
    (path,) = (raw / kind).glob("val_0002.*")
    path.unlink()
    if kind == "images":  # the labels and ROIs without an image are passed over
        shutil.rmtree(raw / kind)
    message = prepare_fails(tmp_path, raw)
    assert kind in message
    assert "val_0002" in message or kind == "images"


def test_the_same_image_for_training_and_validation(dataset, tmp_path):
    shutil.copytree(dataset / "raw", tmp_path / "raw")
    image = tmp_path / "raw" / "val" / "images" / "val_0001.h5"
    image.unlink()
    os.link(tmp_path / "raw" / "train" / "images" / "train_0001.h5", image)
    message = prepare_fails(tmp_path, tmp_path / "raw")
    assert "train_0001.h5" in message
    assert "val_0001.h5 are the same image" in message


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"source": "volume"}, ["source", "'volume'", "'volumes'"]),
        ({"weighting": "confident"}, ["weighting", "'confident'", "'confidence'", "'equal'"]),
        ({"uncertain": "keep"}, ["uncertain", "'keep'", "'skip'", "'expand'"]),
        ({"center": "middle"}, ["center", "'middle'", "'bounding_box'", "'mass'"]),
        ({"min_confidence": 6}, ["min_confidence=6"]),
        ({"confidence_weights": [1.0, 2.0]}, ["confidence_weights=(1.0, 2.0)", "five"]),
        ({"volume_size": [24, 40]}, ["(24, 40)", "(D, H, W)"]),
        ({"turned": ["worm"]}, ["turned", "worm", "val_0001"]),
        ({"channels": ["red", "green"]}, ["val_0001.h5", "4 channels", "red, green"]),
        ({"class_names_file": "nowhere.txt"}, ["nowhere.txt"]),
        ({"raw_dir": "nowhere"}, ["nowhere"]),
        ({"overwrite": "maybe"}, ["overwrite", "'maybe'"]),
    ],
)
def test_bad_settings_of_prepare(raw, tmp_path, setting, words):
    settings = {"source": "volumes", "raw_dir": str(raw)} | setting
    message = reason(prepare, tmp_path / "prepared", **settings)
    for word in words:
        assert word in message
    assert not list((tmp_path / "prepared").rglob("*.h5"))


def test_data_made_with_other_settings_are_kept(dataset):
    path = dataset / "val" / "val_0001.h5"
    before = path.read_bytes()
    message = reason(prepare, dataset, other_weight=0.5)
    assert "train_0001.h5" in message
    assert "other_weight" in message
    assert path.read_bytes() == before


# prepared animals


def test_the_same_file_in_train_and_val(copied, tmp_path):
    os.link(copied / "train" / "train_0002.h5", copied / "val" / "again.h5")
    message = train_fails(tmp_path, copied)
    assert "train_0002.h5" in message
    assert "again.h5" in message


@pytest.mark.parametrize("what", ["class_names", "channels"])
def test_files_that_were_not_prepared_together(copied, tmp_path, what):
    path = copied / "val" / "val_0002.h5"
    animal = read_cell_volume(path)
    names = getattr(animal, what)
    write_cell_volume(path, replace(animal, **{what: (*names[:-1], "other")}))
    message = train_fails(tmp_path, copied)
    for word in ("val_0002.h5", what, repr(names[-1]), "'other'"):
        assert word in message


@pytest.mark.parametrize("key", ["roi_weight", "roi_other_weight"])
@pytest.mark.parametrize(("value", "word"), [(-1.0, "negative"), (0.0, "zero"), (np.nan, "NaN")])
def test_weights_that_cannot_be_used(copied, tmp_path, key, value, word):
    with h5py.File(copied / "train" / "train_0003.h5", "r+") as file:
        file[key][...] = value
    message = train_fails(tmp_path, copied)
    for part in ("train_0003.h5", key, word):
        assert part in message


def test_damaged_and_foreign_files(copied, trained, tmp_path):
    path = copied / "val" / "val_0001.h5"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "val_0001.h5" in train_fails(tmp_path, copied)
    models = {"ckpt_dir": str(trained / "models")}
    assert "val_0001.h5" in infer_fails(tmp_path, path, **models)
    with h5py.File(path, "w") as file:
        file["raw"] = np.zeros((4, 12, 24, 40), np.float32)
    message = infer_fails(tmp_path, path, **models)
    assert "val_0001.h5 is no prepared animal" in message
    assert "roi_ids" in message


def test_animals_as_they_were_before_preparation(dataset, tmp_path):
    message = train_fails(tmp_path, dataset / "raw")
    assert "no prepared animals" in message


def test_nan_in_an_image(copied, tmp_path):
    path = copied / "train" / "train_0001.h5"
    animal = read_cell_volume(path)
    image = animal.raw.astype(np.float32)
    image[0, 3, 3, 3] = np.nan
    write_cell_volume(path, replace(animal, raw=image))
    message = train_fails(tmp_path, copied)
    assert "train_0001.h5" in message
    assert "NaN" in message


def test_fewer_channels_than_the_variant_needs(copied, tmp_path):
    for path in copied.glob("*/*.h5"):
        animal = read_cell_volume(path)
        write_cell_volume(path, replace(animal, raw=animal.raw[2:], channels=CHANNELS[2:]))
    for overlays in ((), ("variants/OFP",)):
        message = train_fails(tmp_path, copied, *overlays)
        for word in (".h5", "2 channels", "mNeptune2.5, TagRFP", "CyOFP1", "another variant"):
            assert word in message


def test_unlabeled_animals_are_no_training_data(raw, tmp_path):
    shutil.rmtree(raw / "labels")
    (raw / "neuron_names.txt").unlink()
    prepared = prepare(tmp_path / "prepared", source="volumes", raw_dir=str(raw))
    message = train_fails(tmp_path, prepared)
    assert "for training has a labeled ROI" in message
    assert ".h5" in message


def test_validation_needs_labels_or_the_truth(copied, tmp_path):
    for path in (copied / "val").glob("*.h5"):
        animal = read_cell_volume(path)
        write_cell_volume(path, replace(animal, roi_class=0 * animal.roi_class, true_class=None))
    message = train_fails(tmp_path, copied)
    assert "none of the 3 animals for validation has a labeled ROI" in message
    assert "val_0001.h5" in message


# training


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"dataset_dir": "nowhere"}, ["dataset_dir", "nowhere"]),
        ({"channels": ["TagRFP", "GCaMP"]}, ["GCaMP", "mTagBFP2, CyOFP1, mNeptune2.5, TagRFP"]),
        ({"weighting": "confident"}, ["weighting", "'confident'", "'confidence'", "'equal'"]),
        ({"unlabeled_weight": -1.0}, ["unlabeled_weight=-1.0"]),
        ({"patch_size": [24, 40]}, ["patch_size", "3"]),
        ({"patch_size": [12, 24, 0]}, ["patch_size", "[12, 24, 0]"]),
        ({"patch_size": 24}, ["patch_size", "24"]),
        ({"architecture": "unet"}, ["'unet'", "'unet3d'", "'residual_unet3d'"]),
        ({"num_levels": 5}, ["[12, 24, 40]", "[16, 16, 16]", "fewer levels"]),
        ({"layer_order": "gxr"}, ["gxr"]),
        ({"loss_name": "dyce"}, ["'dyce'", "'pixel_wise_cross_entropy'"]),
        ({"optimizer_name": "adagrad"}, ["'adagrad'", "'adam'"]),
        ({"lr_scheduler_name": "linear"}, ["'linear'", "'plateau'", "'cosine'"]),
        ({"checkpoint_policy": "every"}, ["'every'", "'last'", "'best'", "'all'"]),
        ({"max_params": 10}, ["max_params", "10"]),
        ({"resume": "/nowhere/checkpoint.pt"}, ["/nowhere/checkpoint.pt"]),
        ({"slab": 0}, ["slab=0"]),
    ],
)
def test_bad_settings_of_training(dataset, tmp_path, setting, words):
    message = train_fails(tmp_path, dataset, **setting)
    for word in words:
        assert word in message


def test_train_without_val(copied, tmp_path):
    shutil.rmtree(copied / "val")
    message = train_fails(tmp_path, copied)
    assert str(copied / "val") in message


def test_misspelled_option(dataset, tmp_path):
    settings = options(TINY | places(tmp_path) | {"dataset_dir": dataset, "weigthing": "equal"})
    done = shell(["monai.bundle", "run", "training", "--config_file", "configs/train.json", *settings], FOLDER)
    assert done.returncode != 0
    last = done.stderr.splitlines()[-1]
    assert "weigthing" in last
    assert "weighting" in last
    assert not (tmp_path / "models").exists()


# inference


@pytest.fixture
def models(trained, tmp_path) -> Path:
    """A trained network that a test may change; its folder."""
    return Path(shutil.copytree(trained / "models", tmp_path / "models"))


def test_missing_checkpoint(dataset, models, tmp_path):
    (models / "model.pt").unlink()
    message = infer_fails(tmp_path, dataset / "val")
    assert str(models / "model.pt") in message


def test_missing_and_unusable_settings(dataset, models, tmp_path):
    settings = models / "settings.json"
    counts = json.loads(settings.read_text())
    del counts["class_counts"]
    settings.write_text(json.dumps(counts))
    message = infer_fails(tmp_path, dataset / "val")
    assert "class_counts" in message
    settings.unlink()
    message = infer_fails(tmp_path, dataset / "val")
    assert str(settings) in message
    assert "class_names_file" in message


@pytest.mark.parametrize("count", [5, 12])
def test_class_names_file_of_another_length(dataset, models, tmp_path, count):
    names = tmp_path / "names.txt"
    names.write_text("".join(f"N{number}\n" for number in range(count)))
    message = infer_fails(tmp_path, dataset / "val", class_names_file=str(names))
    for word in ("model.pt tells 9 classes apart", f"there are {count + 1} names", "class_names_file"):
        assert word in message


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"architecture": "residual_unet3d"}, ["model.pt", "another architecture", "missing"]),
        ({"f_maps": 8}, ["model.pt", "another architecture", "of another shape"]),
        ({"num_levels": 3}, ["model.pt", "another architecture"]),
        ({"channels": ["TagRFP"]}, ["model.pt", "(4, 4, 3, 3, 3)"]),
        ({"channels": ["GCaMP", *CHANNELS[1:]]}, ["val_0001.h5", "GCaMP"]),
        ({"assignment": "best"}, ["assignment", "'best'", "'greedy'", "'optimal'"]),
        ({"save_probabilities": "maybe"}, ["save_probabilities", "'maybe'"]),
        ({"edge_weight": 0.0}, ["edge_weight=0.0"]),
        ({"min_probability": 2.0}, ["min_probability"]),
        ({"class_names_file": "nowhere.txt"}, ["nowhere.txt"]),
        ({"dataset_dir": "nowhere"}, ["dataset_dir", "nowhere"]),
        ({"checkpoint": "nowhere.pt"}, ["nowhere.pt"]),
    ],
)
def test_bad_settings_of_inference(dataset, models, tmp_path, setting, words):
    message = infer_fails(tmp_path, dataset / "val", **setting)
    for word in words:
        assert word in message


def test_foreign_checkpoints(dataset, models, tmp_path):
    model = models / "model.pt"
    whole = model.read_bytes()
    model.write_bytes(whole[: len(whole) // 2])
    assert "truncated or foreign" in infer_fails(tmp_path, dataset / "val")
    save_checkpoint(model, {"text": "hello"})
    assert "no network weights" in infer_fails(tmp_path, dataset / "val")


def test_output_folder_not_writable(dataset, models, tmp_path):
    (tmp_path / "file").write_text("")
    message = reason(infer, tmp_path, dataset / "val", output_dir=str(tmp_path / "file" / "eval"))
    assert "cannot write to the output folder" in message
    assert os.path.join("file", "eval") in message
