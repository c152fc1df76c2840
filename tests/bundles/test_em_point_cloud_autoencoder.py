"""Every command of the bundle on a tiny volume with a tiny network."""

from __future__ import annotations

import csv
import inspect
import json

import h5py
import numpy as np
import pytest
import torch
from bundle_commands import configs, network_settings, reason, scalars, train_on_two_processes, unmet_properties
from em_points_commands import BUNDLE, FOLDER, NETWORK, TINY, VOLUME, history, infer, places, prepare, train
from monai.bundle import ConfigParser

from voxel_ext.data import PointCloudDataset, read_features
from voxel_ext.handlers import read_checkpoint
from voxel_ext.losses import ChamferLoss
from voxel_ext.metrics import point_cloud_f_score
from voxel_ext.networks.nets import PointCloudAutoEncoder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    return train(tmp_path_factory.mktemp("trained"), dataset)


def stored(dataset):
    with h5py.File(dataset / "points.h5") as file:
        return {name: file[name][:] for name in file}


def test_preparing_leaves_aligned_clouds_with_their_classes(dataset):
    data = stored(dataset)
    assert data["points"].shape == (12, 96, 3)
    assert data["rotation"].shape == (12, 3, 3)
    assert sorted(data["class"]) == sorted([*range(6)] * 2)
    variance = data["points"].var(axis=1)
    assert (variance[:, 0] > variance[:, 1]).all()
    assert (variance[:, 1] > variance[:, 2]).all()
    assert (dataset / "volume" / "labels.zarr").is_dir()


def test_the_users_own_volumes_give_the_same_as_synthetic_ones(dataset, tmp_path):
    labels, classes = str(dataset / "volume" / "labels.zarr"), str(dataset / "volume" / "classes.csv")
    own = prepare(tmp_path, source="volumes", labels=labels, classes=classes, num_workers=0)
    assert not (tmp_path / "volume").exists()
    for name, values in stored(dataset).items():
        np.testing.assert_array_equal(stored(own)[name], values)


def test_training_leaves_weights_history_and_settings(trained):
    assert [row["epoch"] for row in history(trained)] == [1, 2]
    assert {"train_loss", "val_f_score", "val_chamfer", "val_distance", "learning_rate"} <= set(history(trained)[-1])
    settings = json.loads((trained / "models" / "settings.json").read_text())
    assert settings["latent_size"] == 4
    assert settings["points"] == 32
    assert list((trained / "runs" / BUNDLE).glob("events.out.tfevents*"))
    assert (trained / "models" / "checkpoint_last.pt").is_file()


def test_evaluating_repeats_the_best_validation(trained, dataset):
    train(trained, dataset, "evaluate", run_id="evaluating", output_dir=f"{trained}/evaluation")
    rows = dict(csv.reader((trained / "evaluation" / "metrics.csv").read_text().splitlines()))
    best = max(history(trained), key=lambda row: row["val_f_score"])
    for name in ("val_f_score", "val_chamfer", "val_distance"):
        assert float(rows[name]) == pytest.approx(best[name], rel=1e-4)
    report = (trained / "evaluation" / "report.html").read_text()
    for words in ("val_f_score", "latent_size", "Point clouds of object", "Interpolation from object"):
        assert words in report


def test_inference_writes_what_the_network_gives(trained, dataset):
    output = infer(trained, dataset)
    network = PointCloudAutoEncoder(24, 4, (8, 12), decoder_channels=(16,)).eval()
    network.load_state_dict(read_checkpoint(trained / "models" / "model.pt"))
    data = stored(dataset)
    clouds = torch.from_numpy(data["points"][:, :48])
    with torch.no_grad():
        expected = network(clouds)
    for suffix in ("parquet", "h5"):
        table = read_features(output / "features" / f"ptcf.{suffix}")
        assert table["id"].tolist() == data["id"].tolist()
        assert list(table.columns) == ["id", *(f"ptcf_{index:03d}" for index in range(4))]
        np.testing.assert_allclose(table.drop(columns="id"), expected["latent"], atol=1e-5)
    made = PointCloudDataset(output / "reconstructions.h5")
    assert made.ids.tolist() == data["id"].tolist()
    for index in range(len(made)):
        torch.testing.assert_close(made[index]["points"], expected["reconstruction"][index], atol=1e-5, rtol=0)
    report = (output / "report.html").read_text()
    assert f"{float(point_cloud_f_score(expected['reconstruction'], clouds).mean()):.3f}" in report
    assert f"{float(ChamferLoss()(expected['reconstruction'], clouds)):.3f}" in report


def test_resumed_training_equals_an_unbroken_one(trained, dataset, tmp_path):
    train(tmp_path, dataset, **{"train#trainer#max_epochs": 1})  # as if it had been stopped there
    train(tmp_path, dataset, resume="true")
    for name in ("train_loss", "learning_rate", "val_f_score", "val_chamfer"):
        assert [row[name] for row in history(tmp_path)] == [row[name] for row in history(trained)]
    weights, expected = (read_checkpoint(folder / "models" / "model.pt") for folder in (tmp_path, trained))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_the_weight_of_the_divergence_rises(dataset, tmp_path):
    train(tmp_path, dataset, "variants/variational", epochs=3, beta=0.5, beta_warmup_epochs=2)
    logged = scalars(tmp_path / "runs" / BUNDLE)
    assert logged["current_beta"] == [(1, 0.0), (2, 0.25), (3, 0.5)]
    assert [step for step, _ in logged["train_kl_loss"]] == [1, 2, 3]


@pytest.mark.parametrize("variant", ["folding", "variational", "published"])
def test_variants(dataset, tmp_path, variant):
    options = {"batch_size": 1} if variant == "published" else {"input_transform": True}
    train(tmp_path, dataset, f"variants/{variant}", run_id="run", epochs=1, **options)
    options.pop("batch_size", None)
    output = infer(tmp_path, dataset, f"variants/{variant}", **options)
    assert np.isfinite(PointCloudDataset(output / "reconstructions.h5")[0]["points"]).all()


def test_published_sizes():
    parser = ConfigParser()
    parser.read_config(configs(BUNDLE, "train", "variants/published"))
    defaults = inspect.signature(PointCloudAutoEncoder).parameters
    for name in ("num_points", "latent_size", "channels"):
        assert parser.get_parsed_content(name) == pytest.approx(defaults[name].default)
    assert parser["decoder_channels"] == [1024, 1024]
    assert (parser["points"], parser["batch_size"], parser["epochs"]) == (4096, 1, 25)
    assert (parser["optimizer_name"], parser["learning_rate"], parser["weight_decay"]) == ("adam", 1e-4, 1e-4)


@pytest.mark.parametrize("loss_name", ["earth_mover", "sinkhorn"])
def test_earth_movers_distance(dataset, tmp_path, loss_name):
    train(tmp_path, dataset, loss_name=loss_name, points=24, epochs=1)
    assert np.isfinite(history(tmp_path)[0]["train_loss"])


def test_a_short_training_learns(dataset, tmp_path):
    sizes = {"latent_size": 8, "channels": [16, 32], "decoder_channels": [64]}
    train(tmp_path, dataset, epochs=25, learning_rate=0.005, val_interval=5, **sizes)
    # without the code, the best is a cloud between all objects
    data = stored(dataset)["points"]
    union = torch.from_numpy(data.reshape(-1, 3)[:: len(data) * 4])[None]
    without = float(ChamferLoss()(union.expand(12, -1, -1), torch.from_numpy(data)))
    assert history(tmp_path)[-1]["train_loss"] < 0.5 * without


def test_first_run_makes_the_synthetic_data(tmp_path):
    settings = json.loads((FOLDER / "configs" / "prepare.json").read_text()) | VOLUME
    (tmp_path / "prepare.json").write_text(json.dumps(settings))
    own = {"prepare_config": f"{tmp_path}/prepare.json", "prepared_dir": f"{tmp_path}/data"}
    train(tmp_path, "", epochs=1, **own)
    assert (infer(tmp_path, "", **own) / "features" / "ptcf.parquet").is_file()
    assert (tmp_path / "data" / "volume" / "image.zarr").is_dir()


def test_two_processes_train(dataset, tmp_path):
    given = TINY | places(tmp_path) | {"dataset_dir": dataset, "epochs": 1}
    train_on_two_processes(BUNDLE, **given)
    (row,) = history(tmp_path)
    assert np.isfinite(row["val_f_score"])
    assert (tmp_path / "models" / "model.pt").is_file()


def test_inference_and_training_build_the_same_network():
    train_settings, own = (network_settings(BUNDLE, name) for name in ("train", "inference"))
    assert train_settings == own


def test_required_properties_are_there(dataset, trained):
    settings = NETWORK | places(trained) | {"points": 32, "val_points": 48}
    assert unmet_properties(BUNDLE, dataset, dataset, **settings) == {"train": [], "inference": []}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"points": 97}, ["97", "1 to 96"]),
        ({"val_points": 97}, ["96 points", "97"]),
        ({"validation_fraction": 1.5}, ["validation_fraction=1.5"]),
        ({"loss_name": "l1"}, ["'l1'", "'chamfer'", "'earth_mover'"]),
        ({"loss_name": "earth_mover"}, ["as many points", "sinkhorn"]),
        ({"decoder": "cnn"}, ["'cnn'", "'mlp'", "'folding'"]),
        ({"latent_size": 0}, ["latent_size"]),
        ({"variational": "maybe"}, ["variational='maybe'"]),
        ({"beta": -1}, ["beta=-1"]),
        ({"beta_warmup": "steep"}, ["'steep'", "'cyclic'"]),
        ({"f_score_threshold": 0}, ["threshold=0"]),
        ({"lr_scheduler_name": "plateau"}, ["'plateau'", "'cosine'"]),
        ({"max_params": 10}, ["max_params", "10"]),
        ({"dataset_dir": "/nowhere"}, ["/nowhere"]),
    ],
)
def test_bad_settings(dataset, tmp_path, setting, words):
    message = reason(lambda: train(tmp_path, dataset, **setting))
    for word in words:
        assert word in message
    assert not list((tmp_path / "models").glob("*.pt"))


def test_bad_folders_and_files(dataset, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "is empty" in reason(lambda: train(tmp_path / "run", tmp_path / "empty"))
    assert "points.h5" in reason(lambda: train(tmp_path / "run", dataset / "volume"))
    (tmp_path / "cubes").mkdir()
    with h5py.File(tmp_path / "cubes" / "points.h5", "w") as file:
        file["volumes"], file["id"] = np.zeros((2, 1, 4, 4, 4)), np.arange(2)
    for command in (train, infer):
        message = reason(lambda run=command: run(tmp_path / "run", tmp_path / "cubes"))
        assert "no file of prepared objects with 'points'" in message


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"source": "volume"}, ["source='volume'", "'volumes'"]),
        ({"source": "volumes", "labels": "/nowhere.zarr"}, ["/nowhere.zarr"]),
        ({"source": "volumes"}, ["labels=''", "set labels"]),
        ({"method": "grid"}, ["method='grid'", "'uniform'"]),
        ({"points": 1}, ["points=1"]),
        ({"align": "perhaps"}, ["align='perhaps'"]),
    ],
)
def test_bad_settings_of_preparing(tmp_path, setting, words):
    message = reason(lambda: prepare(tmp_path, **setting))
    for word in words:
        assert word in message


def test_other_settings_do_not_replace_prepared_data(dataset):
    before = (dataset / "points.h5").read_bytes()
    assert "align" in reason(lambda: prepare(dataset, align=False))
    assert (dataset / "points.h5").read_bytes() == before


def test_inference_with_another_architecture_or_without_training(trained, dataset, tmp_path, caplog):
    assert "another architecture" in reason(lambda: infer(trained, dataset, latent_size=5))
    assert "latent_size was 4 in training, is now 5" in caplog.text
    assert "model.pt" in reason(lambda: infer(tmp_path, dataset))
    assert "max_report_objects=-1" in reason(lambda: infer(trained, dataset, max_report_objects=-1))
