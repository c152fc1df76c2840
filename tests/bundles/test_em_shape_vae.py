"""Every command of em_shape_vae on tiny objects with a tiny network."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_commands import ROOT, configs, network_settings, reason, scalars, train_on_two_processes, unmet_properties
from em_vae_commands import BUNDLE, FOLDER, NETWORK, TINY, evaluate, infer, places, prepare, train
from monai.bundle import ConfigParser

from voxel_ext.data import ObjectDataset, read_features
from voxel_ext.handlers import read_checkpoint, read_history
from voxel_ext.networks.nets import ShapeVAE


def history(folder: Path) -> list[dict[str, float]]:
    return read_history(folder / "models" / "history.jsonl")


def images(path: Path) -> torch.Tensor:
    dataset = ObjectDataset(path)
    return torch.stack([item["image"] for item in dataset])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return prepare(tmp_path_factory.mktemp("objects"))


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("trained"), dataset)


def test_preparation_leaves_objects_and_their_volume(dataset):
    objects = ObjectDataset(dataset / "objects.h5")
    assert objects.item_shape == (1, 16, 16, 16)
    assert objects.ids.tolist() == list(range(1, 13))
    assert objects.settings["align"] is True
    assert objects.settings["contents"] == "mask"
    assert sorted(objects.class_names) == ["branched", "curved_tube", "donut", "rod", "sheet", "spheroid"]
    assert np.bincount(objects.classes).tolist() == [2] * 6
    assert sorted(path.name for path in (dataset / "volume").iterdir() if not path.name.startswith(".")) == [
        "classes.csv",
        "image.zarr",
        "labels.zarr",
    ]


def test_own_volumes_are_prepared(dataset, tmp_path):
    volume = {"image": f"{dataset}/volume/image.zarr", "labels": f"{dataset}/volume/labels.zarr"}
    prepare(tmp_path, source="volumes", contents="both", **volume)
    objects = ObjectDataset(tmp_path / "objects.h5")
    assert objects.item_shape == (2, 16, 16, 16)
    assert objects.classes is None
    np.testing.assert_array_equal(images(tmp_path / "objects.h5")[:, 0], images(dataset / "objects.h5")[:, 0])


def test_training_leaves_weights_history_and_settings(trained):
    assert [row["epoch"] for row in history(trained)] == [1, 2]
    expected = {"train_loss", "val_loss", "val_ssim", "val_l1", "val_kl_loss", "val_dice", "learning_rate"}
    assert expected <= set(history(trained)[-1])
    last = history(trained)[-1]
    # the validation loss has the full weight from the first epoch on: bce + beta kl
    assert last["val_loss"] > 1e-4 * last["val_kl_loss"]
    settings = json.loads((trained / "models" / "settings.json").read_text())
    assert settings["filters"] == [2, 4]
    assert settings["contents"] == "mask"
    logged = scalars(trained / "runs" / BUNDLE)
    assert logged["current_beta"] == [(1, 0.0), (2, pytest.approx(5e-5))]
    for name in ("train_reconstruction_loss", "train_kl_loss", "learning_rate", "val_ssim"):
        assert [step for step, _ in logged[name]] == [1, 2]
    assert (trained / "models" / "checkpoint_last.pt").is_file()


def test_training_and_validation_share_no_object(dataset):
    parser = ConfigParser()
    parser.read_config(configs(BUNDLE, "train"))
    parser.update({"dataset_dir": str(dataset)})
    parts = [set(parser.get_parsed_content(f"{part}#dataset").ids.tolist()) for part in ("train", "validate")]
    assert [len(part) for part in parts] == [9, 3]
    assert not parts[0] & parts[1]


def test_evaluation_repeats_the_best_validation(trained, dataset):
    output = evaluate(trained, dataset, output_dir=f"{trained}/evaluation")
    rows = dict(csv.reader((output / "metrics.csv").read_text().splitlines()))
    assert float(rows["val_ssim"]) == pytest.approx(max(row["val_ssim"] for row in history(trained)), abs=1e-5)
    report = (output / "report.html").read_text()
    for words in ("val_dice", "latent_size", "Along the code", "Between two codes", "Reconstructions by class"):
        assert words in report


def test_inference_writes_the_means_and_the_reconstructions(trained, dataset):
    output = infer(trained, dataset)
    network = ShapeVAE(1, size=16, latent_size=3, filters=[2, 4], anisotropic_levels=0).eval()
    network.load_state_dict(read_checkpoint(trained / "models" / "model.pt"))
    with torch.no_grad():
        expected = network(images(dataset / "objects.h5"))
    for suffix in ("parquet", "h5"):
        table = read_features(output / "features" / f"shapef.{suffix}")
        assert table["id"].tolist() == list(range(1, 13))
        assert list(table.columns) == ["id", "shapef_000", "shapef_001", "shapef_002"]
        np.testing.assert_allclose(table.iloc[:, 1:].to_numpy(), expected["mean"].numpy(), atol=1e-4)
    np.testing.assert_allclose(
        images(output / "reconstructions.h5").numpy(), expected["reconstruction"].numpy(), atol=2e-3
    )
    assert "Objects and their reconstructions" in (output / "report.html").read_text()


def test_parts_of_large_objects_are_averaged(trained, tmp_path):
    prepare(tmp_path / "data", large_object_samples=2)
    objects = ObjectDataset(tmp_path / "data" / "objects.h5")
    assert len(objects) > 12
    output = infer(trained, tmp_path / "data", output_dir=str(tmp_path / "out"), save_reconstructions=False)
    table = read_features(output / "features" / "shapef.parquet")
    assert table["id"].tolist() == list(range(1, 13))
    assert not (output / "reconstructions.h5").exists()
    network = ShapeVAE(1, size=16, latent_size=3, filters=[2, 4], anisotropic_levels=0).eval()
    network.load_state_dict(read_checkpoint(trained / "models" / "model.pt"))
    with torch.no_grad():
        codes = network.encode(images(tmp_path / "data" / "objects.h5")).numpy()
    several = int(objects.ids[np.flatnonzero(np.diff(objects.ids) == 0)[0]])
    row = table[table["id"] == several].to_numpy()[0, 1:]
    np.testing.assert_allclose(row, codes[objects.ids == several].mean(axis=0), atol=1e-4)
    whole = infer(trained, tmp_path / "data", output_dir=str(tmp_path / "whole"), whole_only=True)
    rows = read_features(whole / "features" / "shapef.parquet").to_numpy()[:, 1:]
    np.testing.assert_allclose(rows, codes[np.flatnonzero(np.diff(objects.ids, prepend=0))], atol=1e-4)


def test_objects_turned_otherwise_than_in_training(trained, dataset, tmp_path, caplog):
    data = prepare(tmp_path, source="volumes", labels=f"{dataset}/volume/labels.zarr", align=False)
    infer(trained, data, output_dir=f"{tmp_path}/out")
    assert "align was True in training, is now False" in caplog.text
    caplog.clear()
    infer(trained, dataset, output_dir=f"{tmp_path}/out")
    assert "in training" not in caplog.text


def test_own_settings_of_the_default_data_are_kept(dataset, tmp_path):
    prepared = tmp_path / "data"
    prepare(prepared)
    train(tmp_path, "", prepared_dir=str(prepared), epochs=1)
    np.testing.assert_array_equal(images(prepared / "objects.h5"), images(dataset / "objects.h5"))


def test_resumed_training_equals_an_unbroken_one(dataset, tmp_path):
    train(tmp_path, dataset, epochs=1, lr_scheduler_name="plateau")
    train(tmp_path, dataset, resume=True, lr_scheduler_name="plateau")
    train(tmp_path / "other", dataset, lr_scheduler_name="plateau")
    for name in ("train_loss", "val_ssim", "val_loss"):
        expected = [row[name] for row in history(tmp_path / "other")]
        assert [row[name] for row in history(tmp_path)] == pytest.approx(expected, rel=1e-5)


def test_a_short_training_learns(dataset, tmp_path):
    settings = {"filters": [4, 8], "latent_size": 4, "epochs": 12, "learning_rate": 0.02, "val_interval": 12}
    train(tmp_path, dataset, beta=0, **settings)
    rows = history(tmp_path)
    assert rows[-1]["train_loss"] < 0.6 * rows[0]["train_loss"]


@pytest.mark.parametrize(
    ("overlay", "feature", "columns"), [("texture", "texturef", 1), ("shape_texture", "shape_texturef", 2)]
)
def test_contents_with_the_image(dataset, tmp_path, overlay, feature, columns):
    volume = {"image": f"{dataset}/volume/image.zarr", "labels": f"{dataset}/volume/labels.zarr"}
    data = prepare(tmp_path / "data", f"variants/{overlay}", source="volumes", **volume)
    train(tmp_path, data, f"variants/{overlay}", run_id="run", epochs=1)
    output = infer(tmp_path, data, f"variants/{overlay}")
    assert (output / "features" / f"{feature}.parquet").is_file()
    assert images(output / "reconstructions.h5").shape == (12, columns, 16, 16, 16)
    assert ("val_dice" in history(tmp_path)[0]) == (overlay == "shape_texture")


def test_published_network_is_built():
    parser = ConfigParser()
    parser.read_config(configs(BUNDLE, "train", "variants/published"))
    network = parser.get_parsed_content("network_def")
    assert network.size == (64, 64, 64)
    assert network.latent_size == 100
    assert network.encoder.stem.conv.kernel_size == (1, 5, 5)
    assert parser["batch_size"] == 2


def test_first_run_makes_the_synthetic_data(tmp_path):
    from em_vae_commands import OBJECTS

    settings = json.loads((FOLDER / "configs" / "prepare.json").read_text()) | OBJECTS
    (tmp_path / "prepare.json").write_text(json.dumps(settings))
    own = {"prepare_config": f"{tmp_path}/prepare.json", "prepared_dir": f"{tmp_path}/data"}
    train(tmp_path, "", epochs=1, **own)
    assert (infer(tmp_path, "", **own) / "features" / "shapef.h5").is_file()


def test_two_processes_train(dataset, tmp_path):
    given = TINY | places(tmp_path) | {"dataset_dir": dataset, "log_path": tmp_path / "runs", "epochs": 1}
    train_on_two_processes(BUNDLE, **given)
    (row,) = history(tmp_path)
    assert np.isfinite(row["val_ssim"])
    assert (tmp_path / "models" / "model.pt").is_file()


def test_inference_and_training_build_the_same_network():
    train_settings, own = (network_settings(BUNDLE, name) for name in ("train", "inference"))
    assert train_settings == own


def test_network_in_and_out_agree_with_the_metadata():
    parser = ConfigParser()
    parser.read_config(configs(BUNDLE, "train"))
    parser.read_meta(configs(BUNDLE, "metadata"))
    formats = parser["_meta_"]["network_data_format"]
    given, wanted = formats["inputs"]["image"], formats["outputs"]["pred"]
    with torch.no_grad():
        output = parser.get_parsed_content("network_def").eval()(
            torch.rand(1, given["num_channels"], *given["spatial_shape"])
        )
    assert list(output["reconstruction"].shape[1:]) == [wanted["num_channels"], *wanted["spatial_shape"]]
    assert 0 <= output["reconstruction"].min() <= output["reconstruction"].max() <= 1


def test_required_properties_are_there(dataset, trained):
    unmet = unmet_properties(BUNDLE, dataset, dataset, **(NETWORK | places(trained)))
    assert unmet == {"train": [], "inference": []}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"dataset_dir": "/nowhere"}, ["/nowhere", "does not exist"]),
        ({"size": 32}, ["size=32", "objects.h5", "size=16"]),
        ({"contents": "both"}, ["contents='both'", "contents='mask'"]),
        ({"contents": "masks"}, ["contents='masks'", "'masked_image'"]),
        ({"filters": [2, 4, 8, 8, 8, 8]}, ["size=[16, 16, 16]", "stride"]),
        ({"loss_name": "l3"}, ["'l3'", "'bce'", "'dice'"]),
        ({"beta_warmup": "steep"}, ["'steep'", "'cyclic'"]),
        ({"beta": -1}, ["beta=-1"]),
        ({"latent_size": 0}, ["latent_size=0"]),
        ({"validation_fraction": 1.0}, ["validation_fraction=1.0"]),
        ({"max_params": 10}, ["max_params", "10"]),
    ],
)
def test_bad_settings(dataset, tmp_path, setting, words):
    message = reason(lambda: train(tmp_path, dataset, **setting))
    for word in words:
        assert word in message
    assert not list((tmp_path / "models").glob("*.pt"))


def test_data_that_cannot_be_used(trained, dataset, tmp_path, caplog):
    (tmp_path / "empty").mkdir()
    assert "is empty" in reason(lambda: infer(trained, tmp_path / "empty"))
    assert "objects.h5" in reason(lambda: infer(trained, dataset / "volume"))
    assert "size=24" in reason(lambda: infer(trained, dataset, size=24))
    assert "another architecture" in reason(lambda: infer(trained, dataset, latent_size=4))
    assert "latent_size was 3 in training, is now 4" in caplog.text
    assert "no checkpoint" in reason(lambda: infer(tmp_path / "untrained", dataset))
    assert "volume" not in [path.name for path in trained.iterdir()]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"source": "files"}, ["source='files'", "'volumes'"]),
        ({"contents": "masks"}, ["contents='masks'"]),
        ({"source": "volumes", "labels": "/nowhere/labels.zarr"}, ["/nowhere/labels.zarr"]),
        ({"source": "volumes"}, ["labels=''", "set labels"]),
        ({"bounds": [10**9, None]}, ["bounds"]),
    ],
)
def test_bad_preparation(dataset, tmp_path, setting, words):
    folder = tmp_path / "objects"
    if "bounds" in setting:
        setting = setting | {"source": "volumes", "labels": f"{dataset}/volume/labels.zarr"}
    message = reason(lambda: prepare(folder, **setting))
    for word in words:
        assert word in message
    assert not (folder / "objects.h5").exists()


def test_bundle_has_its_license():
    assert (FOLDER / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
