"""Every command of the bundle surface_multitask on tiny volumes of sheets."""

import csv
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_commands import configs, kill_training, run_command, train_on_two_processes, unmet_properties
from monai.bundle import ConfigParser
from monai.inferers import SlidingWindowInferer
from surface_commands import (
    BUNDLE,
    FOLDER,
    NETWORK,
    NORMALS,
    SHEET,
    SIZE,
    TINY,
    VOLUMES,
    array,
    contents,
    entries,
    evaluate,
    infer,
    places,
    planes,
    prepare,
    tiny_sheets,
    tiny_training,
    train,
    vectors,
    write_store,
)

from voxel_ext.data import open_volume
from voxel_ext.handlers import read_checkpoint, read_history

METRICS = {"val_sheet_dice", "val_normals_angle", "val_normals_mean_angle", "val_normals_below_10"}
PLAIN = dict.fromkeys((f"{kind}_probability" for kind in ("flip", "rotation", "affine", "elastic", "intensity")), 0.0)
SHORT = {"epochs": 1, "iterations_per_epoch": 1, "validation_iterations": 1}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return tiny_sheets(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return tiny_training(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def inferred(trained, dataset, tmp_path_factory) -> Path:
    """The store of a whole result; do not change it."""
    output = infer(trained, dataset / "val", output_dir=str(tmp_path_factory.mktemp("inferred")))
    return output / "sheets_000.zarr"


def history(folder: Path) -> list[dict[str, float]]:
    return [row | {"seconds": 0} for row in read_history(folder / "models" / "history.jsonl")]


def last(folder: Path) -> dict[str, Any]:
    return read_checkpoint(folder / "models" / "checkpoint_last.pt")


def assert_same_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def metrics(folder: Path) -> dict[str, float]:
    return {name: float(value) for name, value in csv.reader((folder / "metrics.csv").read_text().splitlines())}


def scalars(folder: Path) -> dict[str, list[float]]:
    """What TensorBoard has, by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, list[float]] = {}
    for file in sorted((folder / "runs" / BUNDLE).glob("events.out.tfevents*")):
        events = EventAccumulator(str(file)).Reload()
        for name in events.Tags()["scalars"]:
            found.setdefault(name, []).extend(event.value for event in events.Scalars(name))
    return found


def parsed(*names: str, **override: Any) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(configs(BUNDLE, *names))
    parser.update({"bundle_root": str(FOLDER)} | override)
    return parser


def trained_network(folder: Path) -> torch.nn.Module:
    network = parsed("inference", **NETWORK).get_parsed_content("network_def").eval()
    network.load_state_dict(read_checkpoint(folder / "models" / "model.pt"))
    return network


# preparing


def test_prepared_volumes(dataset):
    marker = json.loads((dataset / "dataset.json").read_text())
    assert marker["complete"]
    stores = sorted(path.relative_to(dataset).as_posix() for path in dataset.glob("*/*.zarr"))
    assert stores == ["train/sheets_000.zarr", "train/sheets_001.zarr", "val/sheets_000.zarr"]
    for store in stores:
        sheet, normals = array(dataset / store, "sheet"), vectors(dataset / store)
        assert array(dataset / store, "image").shape == sheet.shape == SIZE
        assert set(np.unique(sheet)) == {0, 1}
        length = np.linalg.norm(normals, axis=0)
        np.testing.assert_allclose(length[sheet > 0], 1, atol=1e-3)


def test_a_second_prepare_writes_nothing(dataset):
    def state() -> dict[Path, int]:
        files = (path for path in dataset.rglob("*") if path.is_file() and not path.name.startswith("."))
        return {path: path.stat().st_mtime_ns for path in files}

    before = state()
    assert len(before) > 20
    prepare(dataset)
    assert state() == before


def test_masks_are_prepared_and_trained_with(tmp_path):
    for part in ("train", "val"):
        made = planes(seed=len(part))
        (tmp_path / "raw" / part).mkdir(parents=True)
        np.save(tmp_path / "raw" / part / "scan.npy", made["image"])
        np.save(tmp_path / "raw" / part / "scan_mask.npy", made["sheet"])
    prepared = prepare(tmp_path / "data", source="mask", raw_dir=str(tmp_path / "raw"), sigma=1.0)
    store = prepared / "train" / "scan.zarr"
    sheet, normals = array(store, "sheet"), vectors(store)
    np.testing.assert_array_equal(sheet, planes()["sheet"])
    assert (np.linalg.norm(normals, axis=0)[sheet > 0] > 0.99).mean() > 0.6  # not those halfway between two faces
    known = np.abs(normals).max(axis=0) > 0
    assert np.abs(normals[0][known]).min() > 0.999  # the sheets are normal to z
    train(tmp_path, prepared, **SHORT)
    assert set(history(tmp_path)[0]) >= METRICS


def test_a_mesh_is_prepared(tmp_path):
    pytest.importorskip("trimesh")
    (tmp_path / "raw").mkdir()
    np.save(tmp_path / "raw" / "scan.npy", planes()["image"])
    corners = [(x, y, 12) for y in (-1, 40) for x in (-1, 40)]  # the plane z = 12; a mesh has x, y, z
    lines = [*(f"v {x} {y} {z}" for x, y, z in corners), "f 1 2 4", "f 1 4 3"]
    (tmp_path / "raw" / "scan_mesh.obj").write_text("\n".join(lines) + "\n")
    prepared = prepare(tmp_path / "data", source="mesh", raw_dir=str(tmp_path / "raw"), max_distance=1.25)
    store = prepared / "train" / "scan.zarr"
    sheet, normals = array(store, "sheet"), vectors(store)
    assert np.flatnonzero(sheet.any(axis=(1, 2))).tolist() == [11, 12, 13]
    assert sheet[11:14].all()
    np.testing.assert_allclose(normals[:, 12, 5, 5], [1, 0, 0], atol=1e-4)
    np.testing.assert_array_equal(array(store, "image"), planes()["image"])


# training


def test_training_leaves_weights_history_settings_and_tensorboard(trained):
    weights = read_checkpoint(trained / "models" / "model.pt")
    assert all(torch.isfinite(value).all() for value in weights.values())
    rows = history(trained)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert METRICS | {"train_loss", "learning_rate"} <= set(rows[-1])
    assert all(0 <= row["val_sheet_dice"] <= 1 and 0 <= row["val_normals_angle"] <= 90 for row in rows)
    settings = json.loads((trained / "models" / "settings.json").read_text())
    assert {name: settings[name] for name in NETWORK} == NETWORK
    found = scalars(trained)
    parts = [found[f"train_{name}_loss"] for name in ("sheet", "normals")]
    assert list(map(len, parts)) == [2, 2]
    total = [parts[0][epoch] + NORMALS["weight"] * parts[1][epoch] for epoch in range(2)]
    losses = found["train_loss"]
    assert total == pytest.approx([sum(losses[:2]) / 2, sum(losses[2:]) / 2], rel=1e-5)
    assert len(found["gradient_norm"]) == 4
    assert set(found) >= METRICS


def test_resumed_training_equals_an_unbroken_one(trained, dataset, tmp_path):
    train(tmp_path, dataset, **{"train#trainer#max_epochs": 1})  # as if it had been stopped there
    assert last(tmp_path)["epoch"] == 1
    train(tmp_path, dataset, resume="true")
    assert history(tmp_path) == history(trained)
    assert_same_weights(last(tmp_path)["network"], last(trained)["network"])


def test_load_weights_only_starts_anew(trained, dataset, tmp_path):
    settings = SHORT | {"learning_rate": 1e-9, "lr_scheduler_min": 0.0, "weight_decay": 0.0}
    resume = {"resume": str(trained / "models" / "model.pt"), "load_weights_only": "true"}
    train(tmp_path, dataset, **settings, **resume)
    assert [row["epoch"] for row in history(tmp_path)] == [1]
    before, after = (read_checkpoint(folder / "models" / "model.pt") for folder in (trained, tmp_path))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_patches_are_remembered(dataset, tmp_path, caplog):
    caplog.set_level(logging.INFO, "voxel_ext")
    train(tmp_path, dataset, **SHORT)
    files = sorted((tmp_path / "models" / "patches").glob("*.json"))
    assert [file.name for file in files] == ["train_sheets_000.json", "train_sheets_001.json", "val_sheets_000.json"]
    before = files[0].read_bytes()
    caplog.clear()
    train(tmp_path, dataset, **SHORT)
    assert caplog.text.count("taken from the cache") == 3
    caplog.clear()
    train(tmp_path, dataset, min_labeled_ratio=0.2, **SHORT)
    assert caplog.text.count("stale: min_labeled_ratio is 0.07 there, 0.2 now") == 3
    assert "taken from the cache" not in caplog.text
    fewer = json.loads(files[0].read_text())["positions"]
    assert 0 < len(fewer) <= len(json.loads(before)["positions"])
    train(tmp_path / "without", dataset, use_cache="false", **SHORT)
    assert not (tmp_path / "without" / "models" / "patches").exists()


def boxes(patches: list) -> np.ndarray:
    return np.array([(number, *start) for number, start in patches])


def test_without_volumes_for_validation_blocks_are_kept_for_it(dataset, tmp_path):
    settings = {"dataset_dir": str(dataset / "train"), "patch_size": [8, 8, 8], "f_maps": [8, 16]}
    parts = parsed("train", ckpt_dir=str(tmp_path), **settings).get_parsed_content("patches")
    training, validation = boxes(parts.training), boxes(parts.validation)
    assert len(training) > 10
    assert 0.05 < len(validation) / (len(training) + len(validation)) < 0.5
    gaps = np.abs(training[:, None, 1:] - validation[None, :, 1:]).max(-1)
    same = training[:, None, 0] == validation[None, :, 0]
    assert gaps[same].min() >= 8
    assert same.any()


def test_evaluation_of_patches_repeats_the_best_validation(dataset, tmp_path):
    """Without volumes for validation, training and evaluation see the same patches, if all are looked at."""
    settings = {"patch_size": [8, 8, 8], "patch_stride": [8, 8, 8], "iterations_per_epoch": 1}
    settings |= {"validation_iterations": 1000}
    train(tmp_path, dataset / "train", **settings)
    found = metrics(evaluate(tmp_path, dataset / "train", **settings))
    best = max(history(tmp_path), key=lambda row: row["val_sheet_dice"])
    assert set(found) == METRICS
    assert found == pytest.approx({name: best[name] for name in METRICS}, abs=1e-4)


def test_volumes_as_a_list_with_one_mask(dataset, tmp_path):
    """A network of one target and no vectors, with other names than those in the files."""
    volumes = [
        {"input": one["input"], "membrane": one["sheet"], "name": f"v{i}"}
        for i, one in enumerate(entries(dataset / "train"))
    ]
    validation = [{"input": one["input"], "membrane": one["sheet"]} for one in entries(dataset / "val")]
    given = {"volumes": volumes, "validation_volumes": validation}
    train(tmp_path, "", "variants/membranes", **given, **SHORT)
    (row,) = history(tmp_path)
    assert {name for name in row if name.startswith("val_")} == {"val_membrane_dice"}
    assert sorted(file.stem for file in (tmp_path / "models" / "patches").iterdir()) == [
        "train_v0",
        "train_v1",
        "val_sheets_000",
    ]
    output = infer(tmp_path, dataset / "val", "variants/membranes", **_network_of("membrane", SHEET))
    membrane = array(output / "sheets_000.zarr", "membrane")
    assert membrane.shape == SIZE
    assert len(np.unique(membrane)) > 10


def _network_of(name: str, target: dict[str, Any]) -> dict[str, Any]:
    return {"targets": {name: target}}


def test_volumes_in_a_json_file_with_classes(dataset, tmp_path):
    """A softmax target, whose file has class indices; paths in the file start at its folder."""
    shutil.copytree(dataset / "train", tmp_path / "stores")
    listed = [
        {"input": f"stores/{i}/image", "tissue": f"stores/{i}/sheet"} for i in ("sheets_000.zarr", "sheets_001.zarr")
    ]
    (tmp_path / "volumes.json").write_text(json.dumps(listed))
    targets = _network_of("tissue", {"channels": 2, "activation": "softmax"})
    settings = targets | {"ref_label": "tissue", "key_metric_name": "val_tissue_dice", "patch_size": [8, 8, 8]}
    train(tmp_path, "", volumes=str(tmp_path / "volumes.json"), **settings, **SHORT)
    (row,) = history(tmp_path)
    assert 0 <= row["val_tissue_dice"] <= 1
    inference = targets | {"patch_size": [8, 8, 8], "reductions": {"tissue": "argmax"}}
    output = infer(tmp_path, dataset / "val", **inference)
    classes = array(output / "sheets_000.zarr", "tissue")
    assert classes.shape == SIZE
    assert set(np.unique(classes)) <= {0, 1}


def test_averaged_weights_are_validated_and_resumed(dataset, tmp_path):
    """network = decay * network before + (1 - decay) * trained_network, after each iteration."""
    settings = {
        "ema_decay": 0.75,
        "iterations_per_epoch": 1,
        "validation_iterations": 1,
        "lr_scheduler_name": "plateau",
    }
    train(tmp_path / "whole", dataset, **settings)
    train(tmp_path / "broken", dataset, epochs=1, **settings)
    before = last(tmp_path / "broken")
    train(tmp_path / "broken", dataset, resume="true", **settings)
    after, whole = last(tmp_path / "broken"), last(tmp_path / "whole")
    assert_same_weights(after["network"], whole["network"])
    assert_same_weights(after["trained_network"], whole["trained_network"])
    assert history(tmp_path / "broken") == history(tmp_path / "whole")
    different = 0
    for name, average in after["network"].items():
        expected = 0.75 * before["network"][name] + 0.25 * after["trained_network"][name]
        torch.testing.assert_close(average, expected, atol=1e-6, rtol=0)
        different += not torch.equal(average, after["trained_network"][name])
    assert different > 10
    best = max(history(tmp_path / "whole"), key=lambda row: row["val_sheet_dice"])["epoch"]
    if best == 2:
        assert_same_weights(read_checkpoint(tmp_path / "whole" / "models" / "model.pt"), whole["network"])


def test_accumulated_gradients_equal_those_of_a_larger_batch(dataset, tmp_path):
    settings = PLAIN | _network_of("sheet", SHEET | {"loss": "bce"})  # a mean over voxels, unlike Dice
    settings |= {"optimizer_name": "sgd", "dropout": 0.0, "epochs": 1, "validation_iterations": 1, "learning_rate": 0.1}
    together = train(tmp_path / "a", dataset, batch_size=2, iterations_per_epoch=2, **settings)
    parts = train(tmp_path / "b", dataset, batch_size=1, iterations_per_epoch=4, accumulation_steps=2, **settings)
    assert len(scalars(together)["gradient_norm"]) == len(scalars(parts)["gradient_norm"]) == 2
    assert scalars(parts)["gradient_norm"] == pytest.approx(scalars(together)["gradient_norm"], rel=1e-3)
    first, second = last(together)["network"], last(parts)["network"]
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)


def test_gradients_are_clipped(dataset, tmp_path):
    """A step of plain descent is as long as rate x gradient_clip."""
    settings = {"optimizer_name": "sgd", "weight_decay": 0.0, "learning_rate": 1.0, "gradient_clip": 0.01}
    settings |= {"checkpoint_policy": "all", "iterations_per_epoch": 1, "validation_iterations": 1}
    train(tmp_path, dataset, **settings)
    weights = [read_checkpoint(tmp_path / "models" / f"model_epoch_000{epoch}.pt") for epoch in (1, 2)]
    moved = sum(((weights[1][name] - weights[0][name]).double() ** 2).sum() for name in weights[0]) ** 0.5
    rate = history(tmp_path)[1]["learning_rate"]
    assert float(moved) == pytest.approx(rate * 0.01, rel=1e-3)
    assert min(scalars(tmp_path)["gradient_norm"]) > 0.02


def test_polynomial_schedule(dataset, tmp_path):
    settings = {"lr_scheduler_name": "polynomial", "lr_scheduler_min": 1e-4, "lr_scheduler_power": 2.0}
    train(tmp_path, dataset, **(SHORT | settings | {"epochs": 2}))
    rates = [row["learning_rate"] for row in history(tmp_path)]
    assert rates == pytest.approx([1e-3, 1e-4 + 9e-4 * 0.5**2])


def test_plateau_schedule_follows_the_metric(dataset, tmp_path):
    train(tmp_path, dataset, lr_scheduler_name="plateau", iterations_per_epoch=1, validation_iterations=1)
    schedule = last(tmp_path)["lr_scheduler"]
    assert schedule["mode"] == "max"
    assert schedule["best"] == pytest.approx(max(row["val_sheet_dice"] for row in history(tmp_path)))


def test_learned_weights_are_trained_and_resumed(dataset, tmp_path):
    settings = {"weighting": "uncertainty", "iterations_per_epoch": 1, "validation_iterations": 1}
    settings |= {"lr_scheduler_name": "plateau"}
    train(tmp_path / "broken", dataset, epochs=1, **settings)
    first = last(tmp_path / "broken")["loss"]["weighting.log_variance"]
    assert first.shape == (2,)
    assert (first != 0).all()
    train(tmp_path / "broken", dataset, resume="true", **settings)
    train(tmp_path / "whole", dataset, **settings)
    broken, whole = (last(tmp_path / name) for name in ("broken", "whole"))
    assert not torch.equal(broken["loss"]["weighting.log_variance"], first)
    assert_same_weights(broken["loss"], whole["loss"])
    assert_same_weights(broken["network"], whole["network"])


def test_gradient_normalization_trains(dataset, tmp_path):
    train(tmp_path, dataset, weighting="gradient_norm", **SHORT)
    assert np.isfinite(history(tmp_path)[0]["train_loss"])


def test_deep_supervision_trains_and_infers(dataset, tmp_path):
    settings = {"deep_supervision": "true", "f_maps": [8, 8, 16]}
    train(tmp_path, dataset, **settings, **SHORT)
    assert np.isfinite(history(tmp_path)[0]["train_loss"])
    output = infer(tmp_path, dataset / "val", **settings)
    assert sorted(path.name for path in (output / "sheets_000.zarr").iterdir()) == ["normals", "sheet", "zarr.json"]


def test_compile_reaches_torch(dataset, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda network, **_: compiled.append(network) or network)
    train(tmp_path, dataset, compile="true", **SHORT)
    assert [type(network).__name__ for network in compiled] == ["MultiTaskUNet"]
    assert len(history(tmp_path)) == 1


def test_oriented_normals(dataset, tmp_path):
    train(tmp_path, dataset, "variants/oriented", **SHORT)
    (row,) = history(tmp_path)
    assert 0 <= row["val_normals_angle"] <= 180


@pytest.mark.parametrize(
    ("setting", "counts"),
    [
        ({"ignore_label": 2}, lambda made: made["sheet"] != 2),
        ({"loss_only_on_label": "true"}, lambda made: made["sheet"] == 1),
    ],
    ids=["ignore_label", "loss_only_on_label"],
)
def test_voxels_that_do_not_count_change_nothing(tmp_path, setting, counts):
    """The normals differ in voxels without a label, or with the ignored one, and the trained weights do not."""
    folders = []
    for name in ("known", "random"):
        stores = tmp_path / name / "data"
        for part in ("train", "val"):
            made = planes()
            if "ignore_label" in setting:
                made["sheet"][:, 16:] = 2
            if name == "random":
                noise = np.random.default_rng(1).normal(size=made["normals"].shape)
                noise /= np.linalg.norm(noise, axis=0)
                made["normals"] = np.where(counts(made), made["normals"], noise).astype(np.float32)
            write_store(stores / part / "a.zarr", **made)
        folders.append(train(tmp_path / name, stores, **PLAIN, **SHORT, **setting))
    losses = [row["train_loss"] for folder in folders for row in history(folder)]
    assert losses[0] == losses[1]
    assert_same_weights(*(last(folder)["network"] for folder in folders))


@pytest.mark.parametrize(
    ("mode", "bounds"), [("zscore", None), ("ct", None), ("ct", [50, 200]), ("minmax", None), ("none", None)]
)
def test_training_and_inference_normalize_alike(dataset, mode, bounds):
    settings = {"dataset_dir": str(dataset), "normalization": mode, "normalization_bounds": bounds}
    volume = open_volume(f"{dataset}/val/sheets_000.zarr/image")
    image = volume.read([slice(None)] * 3).astype(np.float32)
    training = np.asarray(parsed("train", **settings).get_parsed_content("normalizations")[2](image))
    inference = np.asarray(parsed("inference", **settings).get_parsed_content("scaling")(volume)(image))
    np.testing.assert_array_equal(training, inference)
    if mode in ("zscore", "ct"):
        assert abs(training.mean()) < 0.05
        assert training.std() == pytest.approx(1, abs=0.05)
    elif mode == "minmax":
        assert (training.min(), training.max()) == pytest.approx((0, 1), abs=1e-6)
    else:
        np.testing.assert_array_equal(training, image)


# inference


def windows_in_memory(folder: Path, store: Path, **settings: Any) -> dict[str, torch.Tensor]:
    """Logits of a whole volume by MONAI's sliding windows."""
    volume = open_volume(f"{store}/image")
    image = volume.read([slice(None)] * 3).astype(np.float32)
    scaled = parsed("inference").get_parsed_content("scaling")(volume)(image)
    inferer = SlidingWindowInferer(**({"roi_size": [16] * 3, "overlap": 0.25, "mode": "gaussian"} | settings))
    with torch.no_grad():
        found = inferer(torch.as_tensor(scaled)[None], trained_network(folder))
    return {name: values[0] for name, values in found.items()}


def assert_result(store: Path, logits: dict[str, torch.Tensor]) -> None:
    """Masks are at most half a step of uint8 off; the smallest code of a component is 1."""
    sheet, normals = array(store, "sheet"), array(store, "normals")
    assert (sheet.dtype, normals.dtype) == (np.uint8, np.uint8)
    np.testing.assert_allclose(sheet / 255, torch.sigmoid(logits["sheet"])[0].numpy(), atol=0.5 / 255 + 1e-4)
    expected = torch.nn.functional.normalize(logits["normals"], dim=0).numpy()
    np.testing.assert_allclose(vectors(store), expected, atol=2 / 255 + 1e-4)


def test_result_equals_monais_windows(trained, dataset, inferred):
    assert_result(inferred, windows_in_memory(trained, dataset / "val" / "sheets_000.zarr"))
    group = json.loads((inferred / "sheet" / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]
    scale = group["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scale == pytest.approx([7.91] * 3)


def test_result_with_other_windows(trained, dataset, tmp_path):
    settings = {"overlap": 0.5, "roi_size": [16, 8, 16]}
    output = infer(
        trained, dataset / "val", blending="constant", output_dir=str(tmp_path), show_report="true", **settings
    )
    assert (output / "report.html").stat().st_size > 10_000
    assert_result(
        output / "sheets_000.zarr",
        windows_in_memory(trained, dataset / "val" / "sheets_000.zarr", mode="constant", **settings),
    )


def test_evaluation_of_whole_volumes_is_of_what_inference_stores(trained, dataset, inferred):
    output = evaluate(trained, dataset, surface_distance="true", voxel_size=[2, 2, 2])
    found = metrics(output)
    assert set(found) == METRICS | {"val_sheet_surface_distance"}
    truth = dataset / "val" / "sheets_000.zarr"
    mask, sheet = array(truth, "sheet") > 0, array(inferred, "sheet") > 127
    dice = 2 * (mask & sheet).sum() / (mask.sum() + sheet.sum())
    assert found["val_sheet_dice"] == pytest.approx(dice, abs=2e-3)
    assert "val_normals_angle" in (output / "report.html").read_text()
    normals = vectors(truth)
    known = np.abs(normals).max(axis=0) > 0
    cosine = np.abs((normals * vectors(inferred)).sum(axis=0))[known]
    angles = np.degrees(np.arccos(np.clip(cosine, 0, 1)))
    assert found["val_normals_mean_angle"] == pytest.approx(angles.mean(), abs=0.3)
    assert found["val_normals_angle"] == pytest.approx(np.median(angles), abs=0.3)


def test_only_the_wanted_targets_are_stored(trained, dataset, inferred, tmp_path):
    store = infer(trained, dataset / "val", output_dir=str(tmp_path), output_targets=["sheet"]) / "sheets_000.zarr"
    assert sorted(path.name for path in store.iterdir()) == ["sheet", "zarr.json"]
    np.testing.assert_array_equal(array(store, "sheet"), array(inferred, "sheet"))


def test_a_second_run_changes_nothing(trained, dataset, inferred, tmp_path, caplog):
    caplog.set_level(logging.INFO, "voxel_ext")
    shutil.copytree(inferred, tmp_path / inferred.name)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    infer(trained, dataset / "val", output_dir=str(tmp_path))
    assert "sheets_000.zarr is complete" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.parent != tmp_path} == {
        path: time_ns for path, time_ns in before.items() if path.parent != tmp_path
    }


@pytest.mark.slow
def test_dask_writes_the_same_bytes(trained, dataset, inferred, tmp_path):
    pytest.importorskip("distributed")
    output = infer(trained, dataset / "val", output_dir=str(tmp_path), num_workers=2, scheduler="dask")
    assert contents(output / "sheets_000.zarr") == contents(inferred)


# the bundle as a whole


def test_two_processes_train_alike(dataset, tmp_path):
    """Both have the same weights at the end, and the metrics are those of all patches."""
    at_the_end = "$torch.save(@local_network.state_dict(), @ckpt_dir + '/rank_%d.pt' % torch.distributed.get_rank())"
    (tmp_path / "save.json").write_text(json.dumps({"run": ["$@train#trainer.run()", at_the_end]}))
    settings = TINY | SHORT | places(tmp_path) | {"dataset_dir": dataset / "train"}
    small = {"patch_size": [8, 8, 8], "patch_stride": [8, 8, 8], "validation_iterations": 1000}
    settings |= small | {"batch_size": 1}
    train_on_two_processes(BUNDLE, tmp_path / "save.json", **settings)
    ranks = [read_checkpoint(tmp_path / "models" / f"rank_{rank}.pt") for rank in (0, 1)]
    assert_same_weights(*ranks)
    assert_same_weights(ranks[0], last(tmp_path)["network"])
    (row,) = history(tmp_path)
    found = metrics(evaluate(tmp_path, dataset / "train", **small))
    assert found == pytest.approx({name: row[name] for name in METRICS}, abs=1e-3)


def test_killed_training_resumes_to_the_same_losses(dataset, tmp_path):
    """The first part from the shell, as a user would."""
    settings = {"epochs": 6, "iterations_per_epoch": 1, "validation_iterations": 1}
    whole, broken = train(tmp_path / "whole", dataset, **settings), tmp_path / "broken"
    given = TINY | settings | places(broken) | {"dataset_dir": dataset}
    kill_training(BUNDLE, given, broken / "models" / "checkpoint_last.pt")
    assert last(broken)["epoch"] < 6
    train(broken, dataset, resume="true", **settings)
    losses = [[row["train_loss"] for row in history(folder)] for folder in (whole, broken)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_first_run_makes_the_synthetic_data(tmp_path):
    """With an empty dataset_dir, training runs the bundle's prepare config first."""
    bundle = tmp_path / BUNDLE
    shutil.copytree(FOLDER / "configs", bundle / "configs")
    prepare_config = json.loads((bundle / "configs" / "prepare.json").read_text()) | VOLUMES | {"training_volumes": 1}
    (bundle / "configs" / "prepare.json").write_text(json.dumps(prepare_config))
    settings = TINY | SHORT | {"bundle_root": str(bundle)}
    run_command("training", [str(bundle / "configs" / "train.json")], **settings)
    assert (bundle / "data" / "synthetic" / "val" / "sheets_000.zarr").is_dir()
    settings = NETWORK | {"bundle_root": str(bundle), "show_report": False}
    run_command("inference", [str(bundle / "configs" / "inference.json")], **settings)
    assert array(bundle / "eval" / "sheets_000.zarr", "sheet").shape == SIZE


def test_required_properties_are_there(dataset, trained):
    settings = {"bundle_root": str(FOLDER)} | places(trained) | NETWORK
    assert unmet_properties(BUNDLE, dataset, dataset / "val", **settings) == {"train": [], "inference": []}


def test_inference_and_training_build_the_same_network():
    defined = []
    for name in ("train", "inference"):
        parser = parsed(name)
        keys = set(parser["network_def"]) - {"_target_", "patch_size"}
        defined.append({key: parser.get_parsed_content(f"network_def#{key}") for key in keys})
    assert defined[0] == defined[1]


def test_published_settings_fit_together():
    parser = parsed("train", "variants/published")
    with torch.device("meta"):
        network = parser.get_parsed_content("network_def")
    assert network.stride == 32
    assert len(network.f_maps) == 6
