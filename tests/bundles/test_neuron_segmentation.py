"""Every command of the bundle on tiny data."""

import csv
import json
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from bundle_commands import ROOT, configs, run_command, train_on_two_processes, unmet_properties
from monai.bundle import ConfigParser, verify_net_in_out
from neuron_commands import (
    BUNDLE,
    FLAT,
    FOLDER,
    NETWORK,
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

from voxel_ext.convert import convert_checkpoint
from voxel_ext.handlers import read_checkpoint, read_history
from voxel_ext.networks.nets import unet3d_network
from voxel_ext.transforms.label.sparse_labels import sparse_label_weights

NUCLEI = ROOT.parent / "shared" / "data" / "nuclei" / "1135_mini.h5"
INSTANCE_METRICS = {"val_ap50", "val_ap", "val_rand_error", "val_panoptic_quality"}
SHAPE = (16, 32, 40)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    return prepare(tmp_path_factory.mktemp("neurons"))


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("trained"), dataset)


def history(folder: Path) -> list[dict[str, float]]:
    return read_history(folder / "models" / "history.jsonl")


def metrics(folder: Path) -> dict[str, float]:
    rows = csv.reader((folder / "metrics.csv").read_text().splitlines())
    return {name: float(value) for name, value in rows}


def result(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return file["segmentation"][()]


def assert_instances(path: Path, shape: tuple[int, ...] = SHAPE) -> None:
    """Integer ids 0, 1, ... n without gaps."""
    ids = result(path)
    assert ids.shape == shape
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(np.unique(ids[ids > 0]), np.arange(1, ids.max() + 1))


def iterations(folder: Path) -> list[int]:
    """The iterations of training whose loss TensorBoard has."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    steps = []
    for file in (folder / "runs" / BUNDLE).glob("events.out.tfevents*"):
        events = EventAccumulator(str(file)).Reload()
        if "train_loss" in events.Tags()["scalars"]:
            steps += [event.step for event in events.Scalars("train_loss")]
    return sorted(steps)


def tiny_parser(*names: str, **override) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(configs(BUNDLE, *names))
    parser.update(override)
    return parser


def test_prepared_volumes_are_sparse_for_training_and_dense_for_validation(dataset):
    assert json.loads((dataset / "dataset.json").read_text())["complete"]
    assert len(list((dataset / "train").glob("*.h5"))) == 3
    assert len(list((dataset / "val").glob("*.h5"))) == 2
    for name, dense in (("train/train_000.h5", False), ("val/val_000.h5", True)):
        with h5py.File(dataset / name) as file:
            assert {key: file[key].shape for key in file} == dict.fromkeys(
                ["instances", "label", "raw", "weight"], SHAPE
            )
            assert set(np.unique(file["label"])) == {0, 1}
            assert file["instances"][()].max() > 1
            assert (file["weight"][()] > 0).all() == dense
            assert (file["weight"][()] > 0).mean() >= 0.3


def test_a_second_prepare_writes_nothing(dataset):
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*.*")}
    prepare(dataset)
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*.*")} == before


@pytest.mark.parametrize(
    ("image_suffix", "label_suffix"), [(".mhd", ".nrrd"), (".nrrd", ".mhd"), (".nii.gz", ".nii.gz")]
)
def test_prepare_takes_sparse_labels_of_every_format(tmp_path, image_suffix, label_suffix):
    image, ids = blobs()
    labels = sparse_labels(ids)
    write_image(tmp_path / "raw" / f"a_img{image_suffix}", image)
    write_image(tmp_path / "raw" / f"a_label{label_suffix}", labels)
    prepare(tmp_path / "data", source="volumes", raw_dir=str(tmp_path / "raw"))
    target, weight = sparse_label_weights(labels)
    with h5py.File(tmp_path / "data" / "a.h5") as file:
        np.testing.assert_array_equal(file["raw"], image)
        np.testing.assert_array_equal(file["label"], target)
        np.testing.assert_array_equal(file["weight"], weight)
        assert "instances" not in file
        assert file["raw"].attrs["element_size_um"] == pytest.approx([3, 2, 1])


def test_prepare_takes_instances_and_changes_geometry(tmp_path):
    image, ids = blobs()
    write_hdf5(tmp_path / "raw" / "a.h5", raw=image, label=ids)
    prepare(
        tmp_path / "data",
        source="volumes",
        raw_dir=str(tmp_path / "raw"),
        label_kind="instances",
        crop=[[0, 12], [0, 32], [4, 32]],
        transpose_xy=True,
    )
    with h5py.File(tmp_path / "data" / "a.h5") as file:
        np.testing.assert_array_equal(file["raw"], image[:12, :, 4:].transpose(0, 2, 1))
        np.testing.assert_array_equal(file["instances"], ids[:12, :, 4:].transpose(0, 2, 1))
        np.testing.assert_array_equal(file["label"], file["instances"][()] > 0)
        assert (file["weight"][()] > 0).all()


def test_training_leaves_weights_history_settings_and_tensorboard(trained):
    weights = read_checkpoint(trained / "models" / "model.pt")
    assert all(torch.isfinite(value).all() for value in weights.values())
    assert [row["epoch"] for row in history(trained)] == [1, 2]
    assert {"train_loss", "learning_rate", "val_iou"} | INSTANCE_METRICS <= set(history(trained)[-1])
    assert all(np.isfinite(value) for row in history(trained) for value in row.values())
    settings = json.loads((trained / "models" / "settings.json").read_text())
    assert {name: settings[name] for name in NETWORK} == NETWORK
    assert iterations(trained) == [1, 2, 3, 4, 5, 6]  # 3 volumes, 2 patches of each, 2 in a batch
    assert (trained / "models" / "checkpoint_last.pt").is_file()


def test_resumed_training_equals_an_unbroken_one(trained, dataset, tmp_path):
    train(tmp_path, dataset, epochs=1)
    train(tmp_path, dataset, resume="true")
    rows = [[row | {"seconds": 0} for row in history(folder)] for folder in (trained, tmp_path)]
    assert rows[0] == rows[1]
    whole, resumed = (read_checkpoint(f / "models" / "checkpoint_last.pt")["network"] for f in (trained, tmp_path))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_evaluation_repeats_the_best_validation(trained, dataset):
    output = evaluate(trained, dataset)
    best = max(history(trained), key=lambda row: row["val_iou"])
    found = metrics(output)
    assert set(found) == {"val_iou"} | INSTANCE_METRICS
    assert found == pytest.approx({name: best[name] for name in found}, abs=1e-6)
    report = (output / "report.html").read_text()
    assert "val_panoptic_quality" in report
    assert "num_groups" in report
    assert "val_000" in report


def test_inference_writes_instances_probabilities_and_report(trained, dataset):
    output = infer(trained, dataset / "val", save_probability="true", threshold=0.4)
    assert {path.name for path in output.iterdir()} == {
        *(f"val_00{i}_{kind}.h5" for i in (0, 1) for kind in ("instances", "probability")),
        "report.html",
    }
    for index in (0, 1):
        assert_instances(output / f"val_00{index}_instances.h5")
        probability = result(output / f"val_00{index}_probability.h5")
        assert probability.shape == SHAPE
        assert probability.dtype == np.float32
        assert probability.min() >= 0
        assert probability.max() <= 1
        # instances are where the probability is above the threshold
        assert (probability[result(output / f"val_00{index}_instances.h5") > 0] >= 0.4).all()
    assert (output / "report.html").stat().st_size > 10_000


def test_inference_sees_plain_images_as_it_sees_hdf5(trained, dataset, tmp_path):
    """The axes of a NIfTI file, x first, are turned to those of training."""
    with h5py.File(dataset / "val" / "val_000.h5") as file:
        write_image(tmp_path / "plain" / "a.nii.gz", file["raw"][()])
    settings = {"save_probability": True, "output_dir": str(tmp_path / "out")}
    infer(trained, dataset / "val", **settings)
    infer(trained, tmp_path / "plain", **settings)
    for kind in ("probability", "instances"):
        expected, found = (result(tmp_path / "out" / f"{name}_{kind}.h5") for name in ("val_000", "a"))
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_other_settings_than_in_training_are_noticed(trained, dataset, tmp_path, caplog):
    infer(trained, dataset / "val", num_groups=1, upper_percentile=99, output_dir=str(tmp_path))
    assert "num_groups was 2 in training, is now 1" in caplog.text
    assert "upper_percentile was 100.0 in training, is now 99" in caplog.text
    assert "num_levels was" not in caplog.text


def test_a_converted_checkpoint_gives_its_networks_probabilities(dataset, tmp_path):
    """With a patch as large as the volume they are softmax(network(scaled image))."""
    torch.manual_seed(0)
    network = unet3d_network(f_maps=[4, 6], num_groups=2, flavor="wolny").eval()
    torch.save({"model_state_dict": network.state_dict(), "best_eval_score": 0.5}, tmp_path / "best.pytorch")
    model = tmp_path / "models" / "model.pt"
    convert_checkpoint(tmp_path / "best.pytorch", model, num_groups=2, flavor="wolny")
    files = [*configs(BUNDLE, "inference"), str(model.with_suffix(".json"))]
    settings = places(tmp_path) | {"dataset_dir": str(dataset / "val"), "patch_size": list(SHAPE)}
    run_command("inference", files, save_probability=True, min_size=2, **settings)
    with h5py.File(dataset / "val" / "val_000.h5") as file:
        image = torch.from_numpy(file["raw"][()])
    scaled = 2 * (image - image.min()) / (image.max() - image.min()) - 1
    with torch.no_grad():
        expected = torch.softmax(network(scaled[None, None]), 1)[0, 1]
    probability = result(tmp_path / "eval" / "val_000_probability.h5")
    np.testing.assert_allclose(probability, expected.numpy(), atol=1e-5)
    assert_instances(tmp_path / "eval" / "val_000_instances.h5")


@pytest.mark.parametrize("overlay", ["residual", "residual_se", "two_dimensional"])
def test_variants(dataset, tmp_path, overlay):
    variant = f"variants/{overlay}"
    flat = FLAT if overlay == "two_dimensional" else {}
    train(tmp_path, dataset, variant, run_id="run", **({"epochs": 1} | flat))
    (row,) = history(tmp_path)
    assert metrics(evaluate(tmp_path, dataset, variant, **flat))["val_iou"] == pytest.approx(row["val_iou"], abs=1e-6)
    patch = {"patch_size": flat["patch_size"]} if flat else {}
    assert_instances(infer(tmp_path, dataset / "val", variant, run_id="run", **patch) / "val_001_instances.h5")


def test_two_dimensional_network_takes_single_slices():
    network = tiny_parser("train", "variants/two_dimensional", f_maps=4, num_groups=1, num_levels=2)
    network = network.get_parsed_content("network_def").eval()
    assert all(m.kernel_size[0] == 1 for m in network.modules() if isinstance(m, torch.nn.Conv3d))
    slices = torch.randn(5, 1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert network(slices).shape == (5, 2, 1, 16, 16)


def test_regression(dataset, tmp_path):
    train(tmp_path, dataset, "variants/regression", epochs=1)
    (row,) = history(tmp_path)
    found = metrics(evaluate(tmp_path, dataset, "variants/regression"))
    assert set(found) == {"val_psnr", "val_mean_absolute_error"}
    assert found == pytest.approx({name: row[name] for name in found}, abs=1e-4)  # the noise of validation is fixed
    output = infer(tmp_path, dataset / "val", "variants/regression")
    assert {path.name for path in output.iterdir()} == {"val_000_denoised.h5", "val_001_denoised.h5"}
    denoised = result(output / "val_000_denoised.h5")
    assert denoised.shape == SHAPE
    assert denoised.dtype == np.float32
    assert np.isfinite(denoised).all()


def test_segmentation_net_has_the_published_settings():
    parser = tiny_parser("train", "variants/segmentation_net")
    expected = {
        "patch_size": [51, 96, 210],
        "batch_size": 1,
        "learning_rate": 1e-4,
        "lr_scheduler_factor": 0.5,
        "lr_scheduler_patience": 500,
        "iterations_per_epoch": 10,
        "optimizer_name": "adam",
        "loss_name": "pixel_wise_cross_entropy",
    }
    assert {name: parser.get_parsed_content(name) for name in expected} == expected
    assert parser["epochs"] * parser["iterations_per_epoch"] == 150_000
    with torch.device("meta"):
        network = parser.get_parsed_content("network_def")
    assert sum(p.numel() for p in network.parameters()) == parameters_of_gcr_unet([64, 128, 256, 512], 1, 2)
    groups = {(m.num_channels, m.num_groups) for m in network.modules() if isinstance(m, torch.nn.GroupNorm)}
    assert groups == {(1, 1), *((c, 16) for c in (32, 64, 128, 192, 256, 384, 768))}


def parameters_of_gcr_unet(f_maps: list[int], in_channels: int, out_channels: int) -> int:
    """Of group norm (2 per channel), 3 x 3 x 3 convolution without bias, twice per level; a final 1 x 1 x 1."""

    def block(before: int, middle: int, after: int) -> int:
        return 2 * before + 27 * before * middle + 2 * middle + 27 * middle * after

    befores = [in_channels, *f_maps[:-1]]
    down = sum(block(b, max(b, c // 2), c) for b, c in zip(befores, f_maps, strict=True))
    up = sum(block(above + below, above, above) for above, below in pairwise(f_maps))
    return down + up + f_maps[0] * out_channels + out_channels


def test_segmentation_net_trains(dataset, tmp_path):
    overlay = "variants/segmentation_net"
    train(tmp_path, dataset, overlay, epochs=1, iterations_per_epoch=1)
    assert len(history(tmp_path)) == 1
    assert iterations(tmp_path) == [1]
    assert_instances(infer(tmp_path, dataset / "val", overlay) / "val_001_instances.h5")


def test_cosine_schedule_and_number_of_iterations(dataset, tmp_path):
    train(tmp_path, dataset, lr_scheduler_name="cosine", lr_scheduler_min=1e-4, iterations_per_epoch=4)
    # half a cosine wave from 1e-3 to 1e-4, at the start of each epoch
    assert [row["learning_rate"] for row in history(tmp_path)] == pytest.approx([1e-3, 5.5e-4])
    assert iterations(tmp_path) == list(range(1, 9))


def test_volumes_with_only_image_and_label(tmp_path):
    for index in range(3):
        image, ids = blobs(index)
        write_hdf5(tmp_path / "data" / f"v{index}.h5", raw=image, label=(ids > 0).astype(np.uint8))
    train(tmp_path, tmp_path / "data", epochs=1)
    (row,) = history(tmp_path)
    assert np.isfinite(row["val_iou"])
    assert not INSTANCE_METRICS & set(row)
    assert set(metrics(evaluate(tmp_path, tmp_path / "data"))) == {"val_iou"}
    assert_instances(infer(tmp_path, tmp_path / "data") / "v2_instances.h5", (16, 32, 32))


def test_a_single_volume_is_split_along_z(tmp_path):
    image, ids = blobs(shape=(20, 32, 32))
    write_hdf5(tmp_path / "a.h5", raw=image, label=(ids > 0).astype(np.uint8))
    parser = tiny_parser("train", dataset_dir=str(tmp_path / "a.h5"))
    parts = parser.get_parsed_content("datalists")
    assert [entry["label"].rpartition("/")[2] for part in ("train", "val") for entry in parts[part]] == [
        "label[0:16]",
        "label[16:20]",
    ]
    train(tmp_path, tmp_path / "a.h5", epochs=1)
    assert len(history(tmp_path)) == 1


@pytest.mark.skipif(not NUCLEI.is_file(), reason="the nuclei volume is not beside the project")
def test_real_nuclei(tmp_path):
    prepare(
        tmp_path / "data",
        source="volumes",
        raw_dir=str(NUCLEI.parent),
        label_kind="instances",
        crop=[[0, 40], [20, 68], [20, 68]],
    )
    settings = {"patch_size": [16, 32, 32], "patches_per_volume": 2, "epochs": 1}
    train(tmp_path, tmp_path / "data", "variants/nuclei", **settings)
    assert set(history(tmp_path)[0]) >= INSTANCE_METRICS
    output = infer(tmp_path, tmp_path / "data")
    assert_instances(output / "1135_mini_instances.h5", (40, 48, 48))


def test_two_processes_train(dataset, tmp_path):
    settings = TINY | {"epochs": 1, "dataset_dir": dataset, "log_path": tmp_path / "runs"} | places(tmp_path)
    train_on_two_processes(BUNDLE, **settings)
    (row,) = history(tmp_path)
    assert np.isfinite(row["train_loss"])
    assert np.isfinite(row["val_iou"])
    assert (tmp_path / "models" / "model.pt").is_file()


def test_required_properties_are_there(dataset, trained):
    settings = TINY | places(trained) | {"log_path": f"{trained}/runs"}
    unmet = unmet_properties(BUNDLE, dataset, dataset / "val", **settings)
    assert unmet == {"train": [], "inference": []}


def test_inference_and_training_have_the_same_settings_of_network_and_image():
    parsers = [tiny_parser(name) for name in ("train", "inference")]
    names = [f"network_def#{name}" for name in parsers[0]["network_def"] if name != "_target_"]
    names += ["lower_percentile", "upper_percentile", "threshold", "min_size", "seed_method", "overlap", "patch_size"]
    train_values, inference_values = ([parser.get_parsed_content(name) for name in names] for parser in parsers)
    assert train_values == inference_values


METADATA = FOLDER / "configs" / "metadata.json"


@pytest.mark.skipif(not METADATA.is_file(), reason="the bundle has no metadata yet")
@pytest.mark.parametrize("architecture", ["unet3d", "residual_unet3d", "residual_unet_se3d"])
def test_network_in_and_out_agree_with_the_metadata(architecture):
    check = {"config_file": configs(BUNDLE, "train"), "meta_file": str(METADATA), "architecture": architecture}
    check |= {"f_maps": 4, "num_groups": 2}
    verify_net_in_out("network_def", **check)
    with pytest.raises(ValueError, match="output channel number"):
        verify_net_in_out("network_def", **check, **{"_meta_#network_data_format#outputs#pred#num_channels": 3})
