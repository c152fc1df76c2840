"""Every command of the bundle em_contrastive with a tiny network on few objects."""

import csv
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from bundle_commands import configs, network_settings, reason, train_on_two_processes, unmet_properties
from em_contrastive_commands import (
    BUNDLE,
    CUBES,
    FOLDER,
    NETWORK,
    TINY,
    VOLUME,
    evaluate,
    infer,
    places,
    prepare,
    tiny_objects,
    tiny_training,
    train,
)
from monai.bundle import verify_net_in_out

from voxel_ext.data import ObjectDataset, read_features
from voxel_ext.handlers import read_checkpoint, read_history
from voxel_ext.networks.nets import FeatureNetwork, SimSiam


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return tiny_objects(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return tiny_training(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def changed(dataset, tmp_path_factory):
    """Return a function that copies the objects and changes the file."""

    def change(name: str, **columns: np.ndarray | None) -> Path:
        folder = tmp_path_factory.mktemp(name)
        shutil.copy(dataset / "objects.h5", folder)
        with h5py.File(folder / "objects.h5", "r+") as file:
            for column, values in columns.items():
                del file[column]
                if values is not None:
                    file[column] = values
        return folder

    return change


def history(folder: Path) -> list[dict[str, float]]:
    return read_history(folder / "models" / "history.jsonl")


def tiny_network(folder: Path) -> SimSiam:
    network = SimSiam(encoder="resnet10", stem_size=3, stem_pool=False, variant="simclr", **NETWORK).eval()
    network.load_state_dict(read_checkpoint(folder / "models" / "model.pt"))
    return network


def test_preparation_makes_objects_with_classes(dataset):
    objects = ObjectDataset(dataset / "objects.h5")
    assert len(objects) == VOLUME["synthetic_objects"]
    assert objects.item_shape == (1, 16, 16, 16)
    assert np.bincount(objects.classes).tolist() == [3] * 6
    assert "donut" in objects.class_names
    assert {path.name for path in (dataset / "volume").iterdir()} >= {"image.zarr", "labels.zarr", "classes.csv"}
    stamp = (dataset / "objects.h5").stat().st_mtime_ns
    prepare(dataset)
    assert (dataset / "objects.h5").stat().st_mtime_ns == stamp


def test_the_users_own_volumes(dataset, tmp_path):
    own = dataset / "volume"
    given = {"source": "volumes", "labels": str(own / "labels.zarr"), "image": str(own / "image.zarr")}
    prepare(tmp_path, contents="both", **given)
    objects = ObjectDataset(tmp_path / "objects.h5")
    assert objects.item_shape == (2, 16, 16, 16)
    assert objects.classes is None
    first = ObjectDataset(dataset / "objects.h5")[0]["image"]
    assert torch.equal(objects[0]["image"][:1], first)


def test_training_leaves_weights_history_and_settings(trained):
    rows = history(trained)
    assert [row["epoch"] for row in rows] == [1, 2]
    expected = {
        "train_loss",
        "learning_rate",
        "val_loss",
        "val_agreement",
        "knn_accuracy",
        "output_std",
        "output_spread",
    }
    assert expected <= set(rows[-1])
    assert rows[-1]["val_agreement"] == pytest.approx(-rows[-1]["val_loss"])
    settings = json.loads((trained / "models" / "settings.json").read_text())
    assert settings["variant"] == "simclr"
    assert settings["key_metric_name"] == "val_agreement"
    assert (settings["size"], settings["align"]) == (16, False)
    assert list((trained / "runs" / BUNDLE).glob("events.out.tfevents*"))
    assert (trained / "models" / "checkpoint_last.pt").is_file()


def test_resumed_training_equals_an_unbroken_one(trained, dataset, tmp_path):
    train(tmp_path, dataset, epochs=1, lr_scheduler_min=0.001)
    train(tmp_path, dataset, epochs=2, lr_scheduler_min=0.001, resume=True)
    train(tmp_path / "unbroken", dataset, lr_scheduler_min=0.001)
    for name in ("train_loss", "val_loss", "knn_accuracy", "output_std"):
        assert [row[name] for row in history(tmp_path)] == pytest.approx(
            [row[name] for row in history(tmp_path / "unbroken")], rel=1e-5
        )


def test_evaluation_repeats_the_best_validation(trained, dataset):
    output = evaluate(trained, dataset, average_turns=False, max_report_objects=6)
    rows = {name: float(value) for name, value in csv.reader((output / "metrics.csv").read_text().splitlines())}
    best = max(history(trained), key=lambda row: row["val_agreement"])
    for name in ("val_loss", "knn_accuracy", "output_spread"):
        assert rows[name] == pytest.approx(best[name], rel=1e-4)
    report = (output / "report.html").read_text()
    for words in ("Learning curves", "knn_accuracy", "Map of the features", "Nearest neighbors", "Two views"):
        assert words in report


@pytest.mark.parametrize("layer", ["encoder", "projector"])
def test_inference_writes_the_features_of_the_network(trained, dataset, tmp_path, layer):
    output = infer(trained, dataset, output_dir=str(tmp_path), feature_layer=layer, val_batch_size=5)
    network = FeatureNetwork(tiny_network(trained), layer, turns=True)
    objects = ObjectDataset(dataset / "objects.h5")
    with torch.no_grad():
        expected = network(torch.stack([item["image"] for item in objects])).numpy()
    for suffix in (".parquet", ".h5"):
        table = read_features(output / "features" / f"clf{suffix}")
        np.testing.assert_array_equal(table["id"], objects.ids)
        np.testing.assert_allclose(table.drop(columns="id"), expected, atol=1e-5)
    report = (output / "report.html").read_text()
    assert "no reconstructions" in report
    assert "Two views" not in report


def test_parts_of_large_objects_are_averaged(trained, dataset, changed, tmp_path):
    count = VOLUME["synthetic_objects"]
    ids = np.repeat(np.arange(1, count // 2 + 1), 2)
    output = infer(trained, changed("parts", id=ids, chunk=np.tile([0, 1], count // 2)), output_dir=str(tmp_path))
    whole = infer(trained, dataset, output_dir=str(tmp_path / "whole"))
    rows = read_features(whole / "features" / "clf.h5").drop(columns="id").to_numpy()
    table = read_features(output / "features" / "clf.h5")
    np.testing.assert_allclose(table.drop(columns="id"), rows.reshape(count // 2, 2, -1).mean(1), atol=1e-5)


def test_objects_without_classes(changed, tmp_path, caplog):
    caplog.set_level("INFO")
    dataset = changed("unknown", **{"class": None})
    train(tmp_path, dataset, epochs=1)
    assert "without the accuracy of nearest neighbors" in caplog.text
    assert "knn_accuracy" not in history(tmp_path)[0]
    assert (tmp_path / "models" / "model.pt").is_file()
    output = evaluate(tmp_path, dataset)
    assert "Classes are known of too few objects" in (output / "report.html").read_text()
    infer(tmp_path, dataset)
    message = reason(train, tmp_path / "by_classes", dataset, key_metric_name="knn_accuracy")
    assert "key_metric_name='knn_accuracy'" in message
    assert "'val_agreement'" in message


def test_the_best_epoch_by_the_accuracy_of_neighbors(trained, dataset, tmp_path):
    train(tmp_path, dataset, key_metric_name="knn_accuracy")
    assert history(tmp_path) == [
        row | {"seconds": own["seconds"]} for row, own in zip(history(trained), history(tmp_path), strict=True)
    ]
    best = max(history(tmp_path), key=lambda row: row["knn_accuracy"])
    assert read_checkpoint(tmp_path / "models" / "checkpoint_last.pt")["best_metric"] == best["knn_accuracy"]


def test_simsiam(dataset, tmp_path):
    train(tmp_path, dataset, "variants/simsiam", run_id="run", epochs=1)
    assert -1 <= history(tmp_path)[0]["val_loss"] <= 1
    settings = json.loads((tmp_path / "models" / "settings.json").read_text())
    assert settings["checkpoint_policy"] == "last"  # the best agreement is that of a collapsed network
    output = infer(tmp_path, dataset, "variants/simsiam")
    assert (output / "features" / "clf.parquet").is_file()


def test_published_settings_with_a_smaller_network(tmp_path):
    folder = prepare(tmp_path / "data", "variants/published", size=16)
    objects = ObjectDataset(folder / "objects.h5")
    assert len(objects) > VOLUME["synthetic_objects"]
    train(tmp_path, folder, "variants/published", epochs=1, warmup_epochs=0)
    settings = json.loads((tmp_path / "models" / "settings.json").read_text())
    assert (settings["optimizer_name"], settings["momentum"], settings["weight_decay"]) == ("sgd", 0.9, 0.0005)
    assert history(tmp_path)[0]["learning_rate"] == pytest.approx(0.05 * 4 / 256)


def test_first_run_makes_the_synthetic_data(tmp_path):
    settings = json.loads((FOLDER / "configs" / "prepare.json").read_text()) | VOLUME
    (tmp_path / "prepare.json").write_text(json.dumps(settings))
    own = {"prepare_config": f"{tmp_path}/prepare.json", "prepared_dir": f"{tmp_path}/data"}
    train(tmp_path, "", epochs=1, **own)
    output = infer(tmp_path, "", **own)
    assert (output / "features" / "clf.h5").is_file()


def test_two_processes_train(dataset, tmp_path):
    given = TINY | places(tmp_path) | {"dataset_dir": dataset, "epochs": 1, "scale_learning_rate": True}
    train_on_two_processes(BUNDLE, **given)
    (row,) = history(tmp_path)
    assert row["learning_rate"] == pytest.approx(0.001 * 8 / 256)
    assert np.isfinite([row["val_loss"], row["knn_accuracy"], row["output_spread"]]).all()
    assert (tmp_path / "models" / "model.pt").is_file()


def test_network_in_and_out_agree_with_the_metadata():
    train_file, metadata = configs(BUNDLE, "train", "metadata")
    verify_net_in_out("feature_network", config_file=train_file, meta_file=metadata, device="cpu")
    with pytest.raises(ValueError, match="output channel number"):
        verify_net_in_out("feature_network", config_file=train_file, meta_file=metadata, device="cpu", width=0.125)


def test_inference_and_training_build_the_same_network():
    train_settings, own = (network_settings(BUNDLE, name) for name in ("train", "inference"))
    assert train_settings == own


def test_required_properties_are_there(dataset, trained):
    settings = NETWORK | CUBES | {"bundle_root": str(FOLDER), "batch_size": 4} | places(trained)
    assert unmet_properties(BUNDLE, dataset, dataset, **settings) == {"train": [], "inference": []}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"dataset_dir": "/nowhere"}, ["/nowhere"]),
        ({"batch_size": 1}, ["batch_size=1", "at least 2"]),
        ({"batch_size": 64}, ["13 cubes", "batch_size=64"]),
        ({"val_batch_size": 1}, ["val_batch_size=1"]),
        ({"contents": "both"}, ["contents='both'", "contents='mask'"]),
        ({"contents": "masked_image"}, ["contents='masked_image'", "contents='mask'"]),
        ({"size": 32}, ["size=32", "size=16"]),
        ({"key_metric_name": "val_los"}, ["key_metric_name='val_los'", "'val_agreement'", "'knn_accuracy'"]),
        ({"max_params": 10}, ["max_params", "10"]),
        ({"variant": "byol"}, ["'byol'", "'simsiam'", "'simclr'"]),
        ({"encoder": "resnet19"}, ["'resnet19'", "'resnet18'"]),
        ({"rotation": "some"}, ["'some'", "'cube'"]),
        ({"feature_layer": "predictor"}, ["'predictor'", "'projector'"]),
        ({"scale_range": [1.0, 0.5]}, ["scale_range"]),
        ({"lr_scheduler_name": "plateau"}, ["'plateau'", "'cosine'"]),
        ({"temperature": 0}, ["temperature=0"]),
        ({"knn_neighbors": 0}, ["k=0"]),
        ({"validation_fraction": 1.0}, ["validation_fraction=1.0"]),
    ],
)
def test_bad_settings(dataset, tmp_path, setting, words):
    message = reason(train, tmp_path, setting.pop("dataset_dir", dataset), **setting)
    for word in words:
        assert word in message, message
    assert not list(tmp_path.rglob("*.pt"))


def test_bad_folders_and_checkpoints(trained, dataset, tmp_path, caplog):
    (tmp_path / "empty").mkdir()
    assert "is empty" in reason(train, tmp_path, tmp_path / "empty")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("no objects")
    assert "objects.h5" in reason(train, tmp_path, tmp_path / "other")
    assert "another architecture" in reason(infer, trained, dataset, width=0.125, output_dir=str(tmp_path))
    assert "width was 0.0625 in training, is now 0.125" in caplog.text
    assert "'texture'" in reason(prepare, tmp_path / "data", contents="texture")
    assert "'files'" in reason(prepare, tmp_path / "data", source="files")
    assert "/nowhere.h5" in reason(prepare, tmp_path / "data", source="volumes", labels="/nowhere.h5")
    assert "set labels" in reason(prepare, tmp_path / "data", source="volumes")
