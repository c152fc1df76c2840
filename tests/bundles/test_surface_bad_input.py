"""What goes wrong with surface_multitask is said clearly, and no network or result is left behind."""

import json
import logging
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from bundle_commands import configs, reason
from surface_commands import (
    BUNDLE,
    NORMALS,
    SHEET,
    contents,
    entries,
    evaluate,
    infer,
    planes,
    prepare,
    tiny_sheets,
    tiny_training,
    train,
    write_store,
)

from voxel_ext.data import scheduling
from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers import save_checkpoint
from voxel_ext.workflow import check_option_names

SHORT = {"epochs": 1, "iterations_per_epoch": 1, "validation_iterations": 1}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return tiny_sheets(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return tiny_training(tmp_path_factory.getbasetemp())


def refused_training(folder: Path, dataset: Path | str, *words: str, **settings: Any) -> None:
    message = reason(train, folder, dataset, **(SHORT | settings))
    for word in words:
        assert word in message, message
    assert not list(folder.rglob("*.pt"))


def refused_inference(trained: Path, dataset: Path | str, output: Path, *words: str, **settings: Any) -> None:
    message = reason(infer, trained, dataset, output_dir=str(output), **settings)
    for word in words:
        assert word in message, message
    assert not list(output.glob("*.zarr"))


# volumes


def test_target_without_a_path(dataset, tmp_path):
    given = entries(dataset / "train")
    del given[1]["normals"]
    refused_training(tmp_path, "", "'sheets_001'", "no 'normals'", "input", "sheet", volumes=given)


def test_unknown_key_of_a_volume(dataset, tmp_path):
    given = entries(dataset / "train")
    given[0]["normal"] = given[0]["normals"]
    refused_training(tmp_path, "", "'sheets_000'", "'normal'", "'normals'", volumes=given)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"normals": np.zeros((2, 32, 32, 32), np.float32)}, ["normals", "(2, 32, 32, 32)", "channels=3"]),
        ({"image": np.zeros((2, 32, 32, 32), np.float32)}, ["input", "(2, 32, 32, 32)", "channels=1"]),
        ({"sheet": np.ones((32, 32, 30), np.uint8)}, ["sheet", "(32, 32, 30)", "(32, 32, 32)"]),
        ({"image": np.zeros((32, 32, 32), np.complex64)}, ["image", "complex64", "real numbers"]),
        ({"sheet": np.zeros((32, 32, 32), np.uint8)}, ["sheet", "no labeled voxel"]),
        ({"image": np.full((32, 32, 32), 7, np.uint8)}, ["image", "all the same", "zscore"]),
    ],
    ids=["vector", "channels", "shape", "complex", "no-label", "constant"],
)
def test_volumes_that_do_not_fit(tmp_path, changes, words):
    write_store(tmp_path / "data" / "bad.zarr", **(planes() | changes))
    refused_training(tmp_path, tmp_path / "data", "bad", *words)


def test_missing_stores(dataset, tmp_path):
    given = entries(dataset / "train")
    given[1]["input"] = str(tmp_path / "nowhere.zarr" / "image")
    refused_training(tmp_path, "", "'nowhere'", "input", "nowhere.zarr", "does not exist", volumes=given[1:])
    given = entries(dataset / "train")
    given[0]["sheet"] += "s"
    refused_training(tmp_path, "", "'sheets_000'", "sheets_000.zarr", "'sheets'", "normals", volumes=given)
    message = reason(train, tmp_path, "", volumes=str(tmp_path / "nowhere.json"))
    assert "nowhere.json does not exist" in message


def test_list_of_volumes_that_is_no_list(tmp_path):
    file = tmp_path / "volumes.json"
    file.write_text("[{")
    refused_training(tmp_path, "", "volumes.json", "not a JSON file", volumes=str(file))
    file.write_text("{}")
    refused_training(tmp_path, "", "volumes.json", "dict", "a list", volumes=str(file))


def test_volume_that_is_being_written(dataset, trained, tmp_path):
    shutil.copytree(dataset / "val", tmp_path / "sheets.zarr.partial")
    words = ["sheets.zarr.partial", "being written"]
    refused_training(tmp_path, "", *words, volumes=entries(tmp_path / "sheets.zarr.partial"))
    refused_inference(trained, tmp_path / "sheets.zarr.partial", tmp_path / "out", *words)


def test_the_same_volume_in_both_parts(dataset, tmp_path):
    given = entries(dataset / "train")
    words = ["'sheets_001'", "training", "validation"]
    refused_training(tmp_path, "", *words, volumes=given, validation_volumes=given[1:])
    refused_training(tmp_path, dataset, "validation_volumes", "without volumes", validation_volumes=given)


def test_wrong_folders(trained, tmp_path):
    refused_training(tmp_path, tmp_path / "nowhere", "nowhere", "does not exist")
    (tmp_path / "empty").mkdir()
    refused_training(tmp_path, tmp_path / "empty", "empty")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("hello")
    refused_training(tmp_path, tmp_path / "other", "other", "no volumes", "sheet", "normals")
    refused_inference(trained, tmp_path / "nowhere", tmp_path / "out", "nowhere", "does not exist")
    refused_inference(trained, tmp_path / "other", tmp_path / "out", "other", "no volumes", "notes.txt")


# settings of training


def other(name: str, **changes: Any) -> dict[str, Any]:
    """The targets with something changed in one of them."""
    targets = {"sheet": dict(SHEET), "normals": dict(NORMALS)}
    targets[name] |= changes
    return {"targets": targets}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (other("sheet", activation="sigmoyd"), ["targets#sheet#activation", "'sigmoyd'", "'sigmoid'", "'unit_norm'"]),
        (other("normals", loss="cosin"), ["targets#normals#loss", "'cosin'", "'cosine'"]),
        (other("normals", channels=2), ["targets#normals#channels", "2", "3"]),
        (other("sheet", wait=1.0), ["targets#sheet", "'wait'", "'weight'"]),
        ({"patch_size": [16, 15, 16]}, ["[16, 15, 16]", "stride of 2", "[16, 16, 16]"]),
        ({"roi_size": [16, 16]}, ["roi_size", "3 positive whole numbers"]),
        ({"f_maps": [8, 12], "num_groups": 8}, ["num_groups", "8", "12"]),
        ({"patch_size": [64, 64, 64]}, ["(32, 32, 32)", "smaller than a patch", "patch_size"]),
        ({"key_metric_name": "val_sheet_dise"}, ["key_metric_name", "'val_sheet_dise'", "'val_sheet_dice'"]),
        ({"ref_label": "sheets"}, ["'sheets'", "'sheet'", "'normals'"]),
        ({"min_labeled_ratio": 0.9}, ["min_labeled_ratio=0.9", "Best labeled ratio 0."]),
        ({"min_bbox_percent": 95}, ["min_bbox_percent=95", "between 0 and 1"]),
        ({"ratio_of": "box"}, ["ratio_of", "'box'", "'bounding_box'"]),
        ({"normalization": "z-score"}, ["'z-score'", "'zscore'", "'ct'"]),
        ({"weighting": "learned"}, ["weighting", "'learned'", "'uncertainty'"]),
        ({"gradient_clip": -1}, ["gradient_clip", "-1"]),
        ({"lr_scheduler_name": "step"}, ["lr_scheduler_name", "'step'", "'polynomial'"]),
        ({"ema_decay": 1.5}, ["ema_decay", "1.5"]),
        ({"ema_decay": 0}, ["ema_decay", "0"]),
        ({"resume": "/nowhere/checkpoint.pt"}, ["/nowhere/checkpoint.pt"]),
        ({"deep_supervision": "maybe"}, ["deep_supervision", "'maybe'", "true or false"]),
        ({"deep_supervision": True}, ["deep_supervision", "2 levels", "at least 3"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_settings(dataset, tmp_path, settings, words):
    refused_training(tmp_path, dataset, *words, **settings)


def test_damaged_cache_of_patches_is_replaced_and_said(dataset, tmp_path, caplog):
    caplog.set_level(logging.INFO, "voxel_ext")
    train(tmp_path, dataset, **SHORT)
    cache = tmp_path / "models" / "patches" / "train_sheets_000.json"
    good = cache.read_bytes()
    cache.write_bytes(good[: len(good) // 2])
    caplog.clear()
    train(tmp_path, dataset, **SHORT)
    assert f"{cache} is damaged: not JSON" in caplog.text
    assert caplog.text.count("taken from the cache") == 2
    assert cache.read_bytes() == good


def test_too_few_patches_to_divide(dataset, tmp_path):
    words = ["cannot be divided", "without overlap", "smaller patch_size"]
    refused_training(tmp_path, dataset / "val", *words, patch_size=[32, 32, 32], min_bbox_percent=0.1)


@pytest.mark.parametrize(
    ("command", "wrong", "right"),
    [("train", "learning_rat", "learning_rate"), ("inference", "output_target", "output_targets")],
)
def test_misspelt_option(command, wrong, right):
    arguments = ["run", "--config_file", *configs(BUNDLE, command), "--seed", "1", f"--{wrong}", "0.1"]
    with pytest.raises(InvalidInputError, match=f"'{wrong}' is not known.*'{right}'"):
        check_option_names(arguments)


def test_learned_weights_on_several_devices(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    message = reason(train, tmp_path, dataset, "multi_gpu_train", weighting="uncertainty", **SHORT)
    for word in ("weighting", "'uncertainty'", "'fixed'"):
        assert word in message
    monkeypatch.delenv("LOCAL_RANK")
    assert "torchrun" in reason(train, tmp_path, dataset, "multi_gpu_train", **SHORT)


# checkpoints and inference


def test_without_a_checkpoint(dataset, tmp_path):
    for call in (evaluate, infer):
        message = reason(call, tmp_path, dataset)
        assert "model.pt" in message
        assert "train first" in message


def test_foreign_checkpoints(dataset, trained, tmp_path):
    output = tmp_path / "out"
    words = ["model.pt", "another architecture", "encoder.2", "unexpected", "missing"]
    refused_inference(trained, dataset / "val", output, *words[:3], f_maps=[8, 16, 32])
    targets = {"ink": SHEET}
    refused_inference(trained, dataset / "val", output, *words[:2], "decoders.ink", "decoders.sheet", targets=targets)
    model = tmp_path / "models" / "model.pt"
    model.parent.mkdir()
    whole = (trained / "models" / "model.pt").read_bytes()
    model.write_bytes(whole[: len(whole) // 2])
    refused_inference(tmp_path, dataset / "val", output, "truncated or foreign")
    save_checkpoint(model, {"text": "hello"})
    refused_inference(tmp_path, dataset / "val", output, "no network weights")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"overlap": 1.0}, ["overlap=1.0", "below 1"]),
        ({"overlap": -0.5}, ["overlap=-0.5", "0"]),
        ({"blending": "gauss"}, ["'gauss'", "'gaussian'"]),
        ({"output_targets": ["sheets"]}, ["'sheets'", "'sheet'", "'normals'"]),
        ({"output_targets": "sheet"}, ["targets='sheet'", "a list"]),
        ({"reductions": {"sheet": "argmaxx"}}, ["sheet", "'argmaxx'", "argmax"]),
        ({"output_dtype": "int8"}, ["output_dtype", "'int8'", "'uint8'"]),
        ({"chunks": [16, 16]}, ["chunks=[16, 16]", "3"]),
        ({"roi_size": [15, 16, 16]}, ["roi_size", "[15, 16, 16]", "stride of 2"]),
        ({"normalization": "z"}, ["'z'", "'zscore'"]),
        ({"normalization_bounds": [0, 1]}, ["bounds=[0, 1]", "'zscore'", "'ct'"]),
        ({"mask": "/nowhere/mask.zarr"}, ["/nowhere/mask.zarr"]),
        ({"num_workers": -1}, ["num_workers", "-1"]),
        ({"scheduler": "nowhere.json"}, ["scheduler='nowhere.json'", "tcp://"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_settings_of_inference(trained, dataset, tmp_path, settings, words):
    refused_inference(trained, dataset / "val", tmp_path / "out", *words, **settings)


def test_unreachable_scheduler(trained, dataset, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(scheduling, "CONNECT_SECONDS", 0.2)
    with socket.socket() as held:  # a port that nobody listens to
        held.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{held.getsockname()[1]}"
        refused_inference(trained, dataset / "val", tmp_path / "out", address, "cannot be reached", scheduler=address)


def test_other_results_are_kept_unless_overwritten(trained, dataset, tmp_path):
    settings = {"output_dir": str(tmp_path), "output_targets": ["sheet"]}
    store = infer(trained, dataset / "val", **settings) / "sheets_000.zarr"
    before = contents(store)
    message = reason(infer, trained, dataset / "val", overlap=0.5, **settings)
    for word in (str(store), "overlap", "0.25", "0.5", "overwrite"):
        assert word in message
    assert contents(store) == before
    infer(trained, dataset / "val", overlap=0.5, overwrite="true", **settings)
    assert contents(store) != before


def test_damaged_volume(trained, dataset, tmp_path):
    shutil.copytree(dataset / "val" / "sheets_000.zarr", tmp_path / "damaged.zarr")
    chunk = next(path for path in (tmp_path / "damaged.zarr" / "image" / "0" / "c").rglob("*") if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:20])
    refused_inference(trained, tmp_path / "damaged.zarr", tmp_path / "out", "damaged.zarr", "cannot be read")


# preparing


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"source": "file"}, ["'file'", "'synthetic'", "'mask'", "'mesh'"]),
        ({"source": "mask"}, ["input_dir"]),
        ({"source": "mask", "raw_dir": "/nowhere"}, ["/nowhere"]),
        ({"source": "mask", "method": "splat"}, ["'splat'", "'distance'"]),
        ({"source": "mask", "sigma": -1}, ["sigma", "-1"]),
        ({"kind": "spirals"}, ["'spirals'", "'spiral'"]),
        ({"normals_dtype": "int8"}, ["normals_dtype", "'int8'", "'uint8'"]),
        ({"training_volumes": 0}, ["volumes=0"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_settings_of_prepare(tmp_path, settings, words):
    if settings.get("source") == "mask" and len(settings) > 1:
        (tmp_path / "raw").mkdir()
        for name in ("a", "a_mask"):
            np.save(tmp_path / "raw" / f"{name}.npy", planes()["sheet"])
        settings = {"raw_dir": str(tmp_path / "raw")} | settings
    message = reason(prepare, tmp_path / "data", **settings)
    for word in words:
        assert word in message, message
    assert not (tmp_path / "data" / "dataset.json").exists()


def test_image_without_a_mask(tmp_path):
    (tmp_path / "raw").mkdir()
    np.save(tmp_path / "raw" / "a.npy", planes()["image"])
    message = reason(prepare, tmp_path / "data", source="mask", raw_dir=str(tmp_path / "raw"))
    assert "a.npy" in message
    assert "<name>_mask" in message


def test_one_bad_mask_does_not_stop_the_others(tmp_path):
    (tmp_path / "raw").mkdir()
    made = planes()
    for name, mask in (("bad", made["sheet"][:, :, 2:]), ("good", made["sheet"])):
        np.save(tmp_path / "raw" / f"{name}.npy", made["image"])
        np.save(tmp_path / "raw" / f"{name}_mask.npy", mask)
    message = reason(prepare, tmp_path / "data", source="mask", raw_dir=str(tmp_path / "raw"))
    for word in ("1 of 2", "bad", "(32, 32, 30)", "(32, 32, 32)"):
        assert word in message, message
    assert [path.name for path in (tmp_path / "data").glob("*/*.zarr")] == ["good.zarr"]
    assert not (tmp_path / "data" / "dataset.json").exists()


def test_volumes_of_other_settings_are_kept(tmp_path):
    made = prepare(tmp_path, training_volumes=1, validation_volumes=0)
    before = contents(made / "train")
    message = reason(prepare, tmp_path, training_volumes=1, validation_volumes=0, noise=0.25)
    for word in ("sheets_000", "noise", "0.25", "overwrite"):
        assert word in message, message
    assert contents(made / "train") == before
    attributes = zarr.open_group(str(made / "train" / "sheets_000.zarr"), mode="r").attrs
    assert json.loads(str(attributes["settings"]))["generator"]["noise"] == 0.5
