"""Every command of the bundle on tiny data."""

import csv
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from bundle_commands import (
    ROOT,
    configs,
    distributed_training,
    kill_training,
    network_settings,
    options,
    python,
    run_command,
    shell,
    unmet_properties,
)
from monai.bundle import ConfigParser, ckpt_export, verify_net_in_out
from optic_lobe_commands import BUNDLE, FOLDER, TINY, TINY_2D, infer, places, train

from voxel_ext.handlers import read_checkpoint, read_history

NUCLEI = ROOT.parent / "shared" / "data" / "nuclei" / "1135_mini.h5"


@pytest.fixture(scope="module")
def dataset(tiny_dataset) -> Path:
    return tiny_dataset(BUNDLE)


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("trained"), dataset)


def test_prepare_writes_training_and_validation_files(dataset):
    with h5py.File(dataset / "train" / "train_1.h5") as file:
        assert file["data"].shape == file["labels"].shape == (2, 32, 32, 32)
        assert {"seeds", "parameters"} <= set(file)
        assert file["labels"][0].max() >= 1
    with h5py.File(dataset / "val" / "val.h5") as file:
        assert file["data"].shape == (2, 32, 32, 32)


def test_training_leaves_weights_history_settings_and_tensorboard(trained):
    weights = read_checkpoint(trained / "models" / "model.pt")
    assert all(torch.isfinite(value).all() for value in weights.values() if value.is_floating_point())
    rows = read_history(trained / "models" / "history.jsonl")
    assert [row["epoch"] for row in rows] == [1, 2]
    expected = {"train_loss", "val_loss", "val_iou", "val_dice", "val_precision", "val_recall", "val_accuracy"}
    assert expected | {"val_columns_found", "learning_rate"} <= set(rows[-1])
    assert json.loads((trained / "models" / "settings.json").read_text())["depth"] == 2
    assert list((trained / "runs" / BUNDLE).glob("events.out.tfevents*"))


def test_evaluate_writes_metrics_and_report(trained, dataset):
    settings = TINY | places(trained) | {"dataset_dir": str(dataset), "bundle_root": str(FOLDER)}
    run_command("evaluating", configs(BUNDLE, "train", "evaluate"), **settings)
    rows = dict(csv.reader((trained / "eval" / "metrics.csv").read_text().splitlines()))
    best = max(row["val_iou"] for row in read_history(trained / "models" / "history.jsonl"))
    assert float(rows["val_iou"]) == pytest.approx(best, abs=1e-6)
    report = (trained / "eval" / "report.html").read_text()
    assert "val_iou" in report
    assert "start_channels" in report


def test_inference_writes_segmentations_and_report(trained, dataset):
    output = infer(trained, dataset / "val")
    for index in range(2):
        with h5py.File(output / f"val_{index:04d}_segmentation.h5") as file:
            segmentation = file["segmentation"][()]
        assert segmentation.shape == (32, 32, 32)
        assert segmentation.dtype == np.uint8
        assert set(np.unique(segmentation)) <= {0, 1}
    assert (output / "report.html").stat().st_size > 10_000


def test_inference_equals_the_network_on_the_whole_volume(trained, dataset, tmp_path):
    """With a patch as large as the volume the segmentation is sigmoid(network(scaled image)) >= threshold."""
    probability = torch.sigmoid(trained_logits(trained, dataset)).numpy()
    # a threshold that divides the voxels, whatever the tiny network predicts
    threshold = float(probability.min() + probability.max()) / 2
    infer(trained, dataset / "val", patch_size=[32, 32, 32], output_dir=str(tmp_path), threshold=threshold)
    with h5py.File(tmp_path / "val_0000_segmentation.h5") as file:
        segmentation = file["segmentation"][()]
    assert segmentation.min() == 0
    assert segmentation.max() == 1
    assert np.mean(segmentation == (probability >= threshold)) > 0.999


def trained_logits(trained: Path, dataset: Path) -> torch.Tensor:
    """The first validation volume, scaled and put through the trained network as a whole."""
    with h5py.File(dataset / "val" / "val.h5") as file:
        image = file["data"][0].astype(np.float32)
    low, high = np.percentile(image, [1, 99])
    scaled = np.sqrt(np.clip((image - low) / (high - low), 0, 1)).astype(np.float32)  # gamma is 0.5
    parser = ConfigParser()
    parser.read_config(configs(BUNDLE, "inference"))
    parser.update(TINY)
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(read_checkpoint(trained / "models" / "model.pt"))
    with torch.no_grad():
        return network(torch.from_numpy(scaled)[None, None])[0, 0]


def test_same_seed_same_losses(trained, dataset, tmp_path):
    again = train(tmp_path, dataset)
    losses = [[row["train_loss"] for row in read_history(f / "models" / "history.jsonl")] for f in (trained, again)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("overlay", ["variants/unet", "variants/stacked_hourglass"])
def test_architecture_overlays(dataset, tmp_path, overlay):
    train(tmp_path, dataset, overlay, epochs=1, run_id="run", max_params=20000)
    output = infer(tmp_path, dataset / "val", overlay, run_id="run")
    assert len(list(output.glob("*_segmentation.h5"))) == 2


def test_two_dimensional_overlay(tiny_dataset, tmp_path):
    overlay = "variants/two_dimensional"
    flat = tiny_dataset(BUNDLE, overlay)
    train(tmp_path, flat, overlay, **TINY_2D)
    output = infer(tmp_path, flat / "val", overlay, patch_size=[16, 16])
    with h5py.File(output / "val_0000_segmentation.h5") as file:
        assert file["segmentation"].shape == (32, 32)


@pytest.mark.parametrize("loss_name", ["bce", "weighted_bce", "boundary_weighted_dice"])
def test_losses(dataset, tmp_path, loss_name):
    train(tmp_path, dataset, epochs=1, loss_name=loss_name, certain_background=0.95)
    (row,) = read_history(tmp_path / "models" / "history.jsonl")
    assert np.isfinite(row["train_loss"])


def test_first_run_makes_the_synthetic_data(tmp_path):
    """With an empty dataset_dir, training runs the bundle's prepare config first."""
    bundle = tmp_path / BUNDLE
    shutil.copytree(FOLDER / "configs", bundle / "configs")
    prepare = json.loads((bundle / "configs" / "prepare.json").read_text())
    prepare |= {"volume_size": 32, "volumes_per_file": 2, "validation_volumes": 1, "num_workers": 0}
    (bundle / "configs" / "prepare.json").write_text(json.dumps(prepare))
    files = [str(bundle / "configs" / "train.json")]
    run_command("training", files, bundle_root=str(bundle), **(TINY | {"epochs": 1}))
    assert (bundle / "data" / "synthetic_3d" / "val" / "val.h5").is_file()
    assert (bundle / "models" / "model.pt").is_file()
    files = [str(bundle / "configs" / "inference.json")]
    tiny = {name: TINY[name] for name in ("depth", "start_channels", "patch_size")}
    run_command("inference", files, bundle_root=str(bundle), **tiny)
    assert (bundle / "eval" / "val_0000_segmentation.h5").is_file()


@pytest.mark.parametrize("place", ["bundle", "root"])
def test_commands_from_the_shell(dataset, tmp_path, place):
    folder, prefix = (FOLDER, "") if place == "bundle" else (ROOT, f"bundles/{BUNDLE}/")
    base = [] if place == "bundle" else ["--bundle_root", f"bundles/{BUNDLE}"]
    run = python if place == "bundle" else shell
    settings = options(TINY | {"epochs": 1, "dataset_dir": dataset} | places(tmp_path))
    train_file = f"{prefix}configs/train.json"
    done = run(["monai.bundle", "run", "training", "--config_file", train_file, *base, *settings], folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "training" in done.stderr  # the progress bar
    pair = f"['{train_file}','{prefix}configs/evaluate.json']"
    done = shell(["monai.bundle", "run", "evaluating", "--config_file", pair, *base, *settings], folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "eval" / "report.html").is_file()


def test_error_from_the_shell_ends_with_the_reason(tmp_path):
    settings = options(TINY | places(tmp_path) | {"dataset_dir": tmp_path / "nowhere"})
    done = shell(["monai.bundle", "run", "--config_file", "configs/train.json", *settings], FOLDER)
    assert done.returncode != 0
    assert "nowhere" in done.stderr.splitlines()[-1]


def test_torchrun_trains_with_two_processes(dataset, tmp_path):
    settings = TINY | {"epochs": 1, "dataset_dir": dataset, "batch_size": 1} | places(tmp_path)
    torchrun = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    done = python([*torchrun, *distributed_training(**settings)], FOLDER)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = read_history(tmp_path / "models" / "history.jsonl")
    assert np.isfinite(row["val_iou"])
    assert (tmp_path / "models" / "model.pt").is_file()


def test_killed_training_resumes_to_the_same_losses(trained, dataset, tmp_path):
    epochs = 30
    whole = train(tmp_path / "whole", dataset, epochs=epochs)
    broken = tmp_path / "broken"
    settings = TINY | {"epochs": epochs, "dataset_dir": dataset} | places(broken)
    kill_training(BUNDLE, settings, broken / "models" / "checkpoint_last.pt")
    assert read_checkpoint(broken / "models" / "checkpoint_last.pt")["epoch"] < epochs
    train(broken, dataset, epochs=epochs, resume="true")
    rows = [read_history(folder / "models" / "history.jsonl") for folder in (whole, broken)]
    assert [row["train_loss"] for row in rows[0]] == pytest.approx([row["train_loss"] for row in rows[1]], rel=1e-5)


@pytest.mark.parametrize("architecture", ["unet", "stacked_hourglass"])
def test_network_in_and_out_agree_with_the_metadata(architecture):
    (train_file, metadata) = configs(BUNDLE, "train", "metadata")
    check = {"config_file": train_file, "meta_file": metadata, "n": 2, "architecture": architecture}
    verify_net_in_out("network_def", **check)
    with pytest.raises(ValueError, match="output channel number"):
        verify_net_in_out("network_def", **check, **{"_meta_#network_data_format#outputs#pred#num_channels": 2})


@pytest.mark.parametrize("overlay", [(), ("variants/stacked_hourglass",)])
def test_torchscript_export_and_reload_give_the_same(dataset, tmp_path, overlay):
    train(tmp_path, dataset, *overlay, epochs=1)
    files = configs(BUNDLE, "train", *overlay)
    script = tmp_path / "model.ts"
    ckpt_export(
        "network_def",
        filepath=str(script),
        ckpt_file=str(tmp_path / "models" / "model.pt"),
        meta_file=configs(BUNDLE, "metadata")[0],
        config_file=files,
        input_shape=[1, 1, 16, 16, 16],
        **{name: TINY[name] for name in ("depth", "start_channels")},
    )
    parser = ConfigParser()
    parser.read_config(files)
    parser.update(TINY)
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(read_checkpoint(tmp_path / "models" / "model.pt"))
    image = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(torch.jit.load(script).eval()(image), network(image))


def test_required_properties_are_there(dataset, trained):
    settings = {"bundle_root": str(FOLDER)} | places(trained) | TINY
    unmet = unmet_properties(BUNDLE, dataset, dataset / "val", **settings)
    assert unmet == {"train": [], "inference": []}


def test_inference_and_training_build_the_same_network():
    train_settings, own = (network_settings(BUNDLE, name) for name in ("train", "inference"))
    assert train_settings == own


@pytest.mark.skipif(not NUCLEI.is_file(), reason="the nuclei volume is not beside the project")
def test_real_nuclei_train_and_infer(tmp_path):
    """One HDF5 file with `raw` and instance `label`: part of it is kept aside for validation."""
    train(tmp_path, NUCLEI.parent, epochs=1, patches_per_volume=2)
    output = infer(tmp_path, NUCLEI)
    with h5py.File(output / "1135_mini_segmentation.h5") as file, h5py.File(NUCLEI) as source:
        assert file["segmentation"].shape == source["raw"].shape
    assert (output / "report.html").is_file()
