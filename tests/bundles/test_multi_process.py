"""Two processes train like one with twice the batch: same weights and metrics, apart from the order of summation.

Both take the data in their order: the batches of the two processes are then the batches of the one. Augmentation and
sampled noise, which each process draws for itself, are off, and so are batch norms, which without GPUs see the batch of
their process only. Plain gradient descent: Adam's first steps are the signs of gradients that may be zero but for
rounding.
"""

import json
from pathlib import Path

import em_vae_commands
import optic_lobe_commands
import pytest
import torch
from bundle_commands import ROOT, TRAINING, options, shell, train_on_two_processes

from voxel_ext.handlers import read_checkpoint, read_history

SGD = {"optimizer_name": "sgd", "learning_rate": 0.05}
NO_NOISE = "$setattr(torch, 'randn_like', torch.zeros_like)"


def overlay(path: Path, values: dict[str, object]) -> Path:
    """A config file that runs the training without noise."""
    run = [NO_NOISE, "$voxel_ext.workflow.check_writable(@ckpt_dir, @log_dir)", "$@train#trainer.run()"]
    path.write_text(json.dumps(values | {"run": run}))
    return path


def train_twice(
    bundle: str, folder: Path, dataset: Path, values: dict[str, object], batch_size: int, **settings: object
) -> tuple[Path, Path]:
    """Train in one process, and in two with half the batch each; with further values of the config."""
    one, two = folder / "one", folder / "two"
    common = {"epochs": 2, "dataset_dir": dataset} | settings
    files = ["configs/train.json", str(overlay(folder / "one.json", values | {"train#dataloader#shuffle": False}))]
    command = ["monai.bundle", *TRAINING, str(files), *options(common | places(one) | {"batch_size": batch_size})]
    done = shell(command, ROOT / "bundles" / bundle)
    assert done.returncode == 0, done.stderr
    in_order = overlay(folder / "two.json", values | {"train#sampler#shuffle": False})
    train_on_two_processes(bundle, in_order, **common, **places(two), batch_size=batch_size // 2)
    return one, two


def places(folder: Path) -> dict[str, Path]:
    return {"ckpt_dir": folder / "models", "output_dir": folder / "eval", "log_path": folder / "runs"}


def assert_alike(one: Path, two: Path) -> None:
    """Weights and all that is measured each epoch agree; the training has changed the weights."""
    weights = [read_checkpoint(folder / "models" / "checkpoint_last.pt")["network"] for folder in (one, two)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        torch.testing.assert_close(
            weights[1][name], value, rtol=1e-3, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
        )
    rows = [read_history(folder / "models" / "history.jsonl") for folder in (one, two)]
    assert [row["epoch"] for row in rows[0]] == [1, 2]
    assert rows[0][0]["train_loss"] != rows[0][1]["train_loss"]
    for first, second in zip(*rows, strict=True):
        compared = first.keys() - {"seconds"}
        assert compared <= second.keys()
        assert {name: second[name] for name in compared} == pytest.approx(
            {name: first[name] for name in compared}, rel=1e-3, abs=1e-4
        )


def test_optic_lobe_segmentation(tiny_dataset, tmp_path):
    """Patches are whole volumes; three validation volumes, which two processes cannot divide evenly."""
    network = {"_target_": "voxel_ext.networks.nets.UNet", "spatial_dims": "@spatial_dims", "norm": "instance"}
    network |= {"in_channels": 1, "out_channels": 1, "depth": "@depth", "start_channels": "@start_channels"}
    tiny = optic_lobe_commands.TINY | SGD | {"patch_size": [32, 32, 32], "patches_per_volume": 1}
    dataset = tiny_dataset(optic_lobe_commands.BUNDLE, validation_volumes=3)
    settings = tiny | {"augmentation_probability": 0, "batch_size": 2}
    files = {"network_def": network}
    assert_alike(*train_twice(optic_lobe_commands.BUNDLE, tmp_path, dataset, files, **settings))


def test_em_shape_vae(tmp_path):
    """Of 13 objects, 8 make two batches of each epoch; 5 are validated, in batches of three."""
    dataset = em_vae_commands.prepare(tmp_path / "data", synthetic_objects=13)
    settings = em_vae_commands.TINY | SGD | {"norm": "group", "filters": [4, 8], "batch_size": 4}
    settings |= {"validation_fraction": 0.39, "val_batch_size": 3}
    assert_alike(*train_twice(em_vae_commands.BUNDLE, tmp_path, dataset, {}, **settings))


def test_training_goes_on_with_another_number_of_processes(tmp_path):
    dataset = em_vae_commands.prepare(tmp_path / "data")
    common = em_vae_commands.TINY | places(tmp_path) | {"dataset_dir": dataset}
    train_on_two_processes(em_vae_commands.BUNDLE, **(common | {"epochs": 1}))
    em_vae_commands.train(tmp_path, dataset, resume=True, epochs=2)
    assert [row["epoch"] for row in read_history(tmp_path / "models" / "history.jsonl")] == [1, 2]
