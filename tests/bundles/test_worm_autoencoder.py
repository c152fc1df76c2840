"""Every command of the bundle on tiny worms with a tiny network."""

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from bundle_commands import (
    ROOT,
    configs,
    network_settings,
    reason,
    run_command,
    train_on_two_processes,
    unmet_properties,
)
from monai.bundle import verify_net_in_out
from monai.inferers import SlidingWindowInferer

from voxel_ext.data import WormStore, open_volume
from voxel_ext.handlers import load_trunk, read_checkpoint, read_history
from voxel_ext.networks.nets import GroupAutoEncoder, matching_network

BUNDLE = "worm_autoencoder"
FOLDER = ROOT / "bundles" / BUNDLE
WORMS = {"cells": 12, "training_worms": 2, "validation_worms": 1}
NETWORK = {"features": [2, 3]}
TINY = NETWORK | {"epochs": 2, "cells_per_epoch": 8, "batch_size": 4, "val_cells": None}


def places(folder: Path) -> dict[str, str]:
    return {"ckpt_dir": f"{folder}/models", "output_dir": f"{folder}/eval", "bundle_root": str(FOLDER)}


def train(folder: Path, dataset: Path, *overlays: str, run_id: str = "training", **override) -> Path:
    settings = TINY | places(folder) | {"dataset_dir": str(dataset), "log_path": f"{folder}/runs"} | override
    run_command(run_id, configs(BUNDLE, "train", *overlays), **settings)
    return folder


def infer(folder: Path, dataset: Path, *overlays: str, **override) -> Path:
    settings = NETWORK | places(folder) | {"dataset_dir": str(dataset)} | override
    run_command("inference", configs(BUNDLE, "inference", *overlays), **settings)
    return folder / "eval"


def history(folder: Path) -> list[dict[str, float]]:
    return read_history(folder / "models" / "history.jsonl")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("worms")
    run_command("run", configs(BUNDLE, "prepare"), dataset_dir=str(folder), missing_share=0.2, **WORMS)
    return folder


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("trained"), dataset)


def test_training_leaves_weights_history_and_settings(trained):
    assert [row["epoch"] for row in history(trained)] == [1, 2]
    expected = {"train_loss", "val_loss", "val_l1", "val_mse", "val_r2", "learning_rate"}
    assert expected <= set(history(trained)[-1])
    settings = json.loads((trained / "models" / "settings.json").read_text())
    assert settings["features"] == [2, 3]
    assert settings["intensity_std"] > 0
    assert list((trained / "runs" / BUNDLE).glob("events.out.tfevents*"))
    assert (trained / "models" / "checkpoint_last.pt").is_file()


def test_evaluation_repeats_the_best_validation(trained, dataset):
    settings = TINY | places(trained) | {"dataset_dir": str(dataset), "log_path": f"{trained}/runs"}
    settings["output_dir"] = f"{trained}/evaluation"
    run_command("evaluating", configs(BUNDLE, "train", "evaluate"), **settings)
    rows = dict(csv.reader((trained / "evaluation" / "metrics.csv").read_text().splitlines()))
    assert float(rows["val_r2"]) == pytest.approx(max(row["val_r2"] for row in history(trained)), abs=1e-5)
    report = (trained / "evaluation" / "report.html").read_text()
    assert "val_r2" in report
    assert "cells_per_epoch" in report
    assert "Slices of val_0001" in report


def test_inference_writes_what_the_network_gives(trained, dataset):
    output = infer(trained, dataset / "val")
    settings = json.loads((trained / "models" / "settings.json").read_text())
    store = WormStore([dataset / "val" / "val_0001.h5"], mean=settings["intensity_mean"], std=settings["intensity_std"])
    valid = store.headers[0].valid
    assert 0 < valid.sum() < 12
    network = GroupAutoEncoder("C2:x", features=[2, 3], dilated=False, input_pooling=2).eval()
    network.load_state_dict(read_checkpoint(trained / "models" / "model.pt"))
    cubes = torch.from_numpy(store.cubes(0, np.arange(12), valid))
    with torch.no_grad():
        expected, codes = network(cubes).numpy(), network.encode(cubes).flatten(2).mean(2).numpy()
    with h5py.File(output / "val_0001_reconstruction.h5") as file:
        np.testing.assert_array_equal(file["valid"][:], valid)
        np.testing.assert_allclose(file["reconstruction"][:][valid], expected[valid], atol=1e-5)
        np.testing.assert_allclose(file["codes"][:][valid], codes[valid], atol=1e-5)
        assert file["codes"].shape == (12, 3)
        error = np.abs(expected - cubes.numpy()).mean((1, 2, 3, 4))
        np.testing.assert_allclose(file["error"][:][valid], error[valid], rtol=1e-4)
        assert np.isnan(file["error"][:][~valid]).all()
        assert not file["reconstruction"][:][~valid].any()
        assert file.attrs["std"] == pytest.approx(settings["intensity_std"])
    assert "Slices of val_0001" in (output / "report.html").read_text()


def test_resumed_training_equals_an_unbroken_one(trained, dataset, tmp_path):
    train(tmp_path, dataset, epochs=1)
    train(tmp_path, dataset, resume=True)
    for name in ("train_loss", "val_r2"):
        assert [row[name] for row in history(tmp_path)] == pytest.approx([row[name] for row in history(trained)])


def test_the_trunk_loads_into_the_matching_network(trained):
    network = matching_network(
        inputs="cubes", group="C2:x", features=[2, 3], dilated=False, input_pooling=2, grid=2, hidden=8, out_features=4
    )
    load_trunk(trained / "models" / "model.pt", network)
    weights = read_checkpoint(trained / "models" / "model.pt")
    trunk = network.encoder.trunk.state_dict()
    assert trunk
    assert all(torch.equal(weights[f"trunk.{name}"], value) for name, value in trunk.items())


@pytest.mark.parametrize("overlay", ["cnn", "s4", "with_skips", "denoise"])
def test_variants(dataset, tmp_path, overlay):
    train(tmp_path, dataset, f"variants/{overlay}", run_id="run", epochs=1, cells_per_epoch=4)
    output = infer(tmp_path, dataset / "val", f"variants/{overlay}")
    with h5py.File(output / "val_0001_reconstruction.h5") as file:
        assert np.isfinite(file["reconstruction"][:]).all()


def test_loss_normalization_and_schedule(dataset, tmp_path):
    settings = {"loss_name": "mse", "normalization": "cube", "lr_scheduler_name": "cosine", "warmup_epochs": 1}
    train(tmp_path, dataset, early_stopping=False, **settings)
    for row in history(tmp_path):
        assert row["val_loss"] == pytest.approx(row["val_mse"], rel=1e-4)
        # cubes with variance 1 and mean 0
        assert row["val_r2"] == pytest.approx(1 - row["val_mse"], abs=1e-3)


def test_a_short_training_learns(dataset, tmp_path):
    train(tmp_path, dataset, target="turned", features=[4, 8], epochs=2, cells_per_epoch=48, learning_rate=0.02)
    assert history(tmp_path)[-1]["val_r2"] > 0.6


def test_first_run_makes_the_synthetic_data(tmp_path):
    prepare = json.loads((FOLDER / "configs" / "prepare.json").read_text()) | WORMS
    (tmp_path / "prepare.json").write_text(json.dumps(prepare))
    own = {"prepare_config": f"{tmp_path}/prepare.json", "prepared_dir": f"{tmp_path}/data"}
    train(tmp_path, "", epochs=1, **own)
    output = infer(tmp_path, "", **own)
    assert (output / "val_0001_reconstruction.h5").is_file()


def test_two_processes_train(dataset, tmp_path):
    given = TINY | places(tmp_path) | {"dataset_dir": dataset, "log_path": tmp_path / "runs", "epochs": 1}
    del given["val_cells"]
    train_on_two_processes(BUNDLE, **given)
    (row,) = history(tmp_path)
    assert np.isfinite(row["val_r2"])
    assert (tmp_path / "models" / "model.pt").is_file()


@pytest.mark.parametrize("group", ["C2:x", None])
def test_network_in_and_out_agree_with_the_metadata(group):
    train_file, metadata = configs(BUNDLE, "train", "metadata")
    check = {"config_file": train_file, "meta_file": metadata, "group": group, "features": [2, 3]}
    verify_net_in_out("network_def", **check)
    with pytest.raises(ValueError, match="output channel number"):
        verify_net_in_out("network_def", **check, **{"_meta_#network_data_format#outputs#pred#num_channels": 2})


def test_whole_volumes_are_reconstructed_block_by_block(trained, tmp_path):
    image = np.random.default_rng(0).normal(300, 50, (20, 18, 22)).astype(np.float32)
    with h5py.File(tmp_path / "worm.h5", "w") as file:
        file["raw"] = image
    output = tmp_path / "out"
    infer(trained, tmp_path, blockwise=True, roi_size=[12, 12, 12], output_dir=str(output))
    settings = json.loads((trained / "models" / "settings.json").read_text())
    network = GroupAutoEncoder("C2:x", features=[2, 3], dilated=False, input_pooling=2).eval()
    network.load_state_dict(read_checkpoint(trained / "models" / "model.pt"))
    scaled = torch.from_numpy((image - settings["intensity_mean"]) / settings["intensity_std"]).float()[None, None]
    with torch.no_grad():
        expected = SlidingWindowInferer(12, overlap=0.5, mode="gaussian")(scaled, network)[0]
    stored = open_volume(output / "worm.zarr").read((slice(None),) * 3)
    np.testing.assert_allclose(stored, expected, atol=1e-4)
    wrong = {"blockwise": True, "output_dir": str(tmp_path / "other")}
    assert "normalization with blockwise='cube'" in reason(
        lambda: infer(trained, tmp_path, normalization="cube", roi_size=[12, 12, 12], **wrong)
    )
    assert "roi_size" in reason(lambda: infer(trained, tmp_path, roi_size=[13, 12, 12], **wrong))


def test_inference_and_training_build_the_same_network():
    train_settings, own = (network_settings(BUNDLE, name) for name in ("train", "inference"))
    assert train_settings == own


def test_required_properties_are_there(dataset, trained):
    settings = NETWORK | places(trained)
    unmet = unmet_properties(BUNDLE, dataset, dataset / "val", **settings)
    assert unmet == {"train": [], "inference": []}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"target": "upside_down"}, ["'upside_down'", "'upright'", "'turned'"]),
        ({"loss_name": "l3"}, ["'l3'", "'l1'", "'mse'"]),
        ({"normalization": "worm"}, ["'worm'", "'global'", "'cube'"]),
        ({"turn_group": "S5"}, ["S5"]),
        ({"turn_angle": 400}, ["400", "180"]),
        ({"cells_per_epoch": 0}, ["0", "at least 1"]),
        ({"input_pooling": 3}, ["cube_size", "stride of 6"]),
        ({"dataset_dir": "/nowhere"}, ["/nowhere"]),
        ({"max_params": 10}, ["max_params", "10"]),
    ],
)
def test_bad_settings(dataset, tmp_path, setting, words):
    message = reason(lambda: train(tmp_path, dataset, **setting))
    for word in words:
        assert word in message
    assert not list((tmp_path / "models").glob("*.pt"))


def test_inference_with_another_architecture(trained, dataset):
    assert "another architecture" in reason(lambda: infer(trained, dataset / "val", features=[2, 4]))
