"""Every command of the bundle worm_matching on tiny worms."""

import csv
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from bundle_commands import (
    configs,
    network_settings,
    options,
    run_command,
    shell,
    train_on_two_processes,
    unmet_properties,
)
from monai.bundle import ConfigParser, ckpt_export, verify_net_in_out
from worm_commands import (
    ATTENTION,
    BUNDLE,
    COORDINATES,
    ENCODER,
    FOLDER,
    TINY,
    TINY_WORMS,
    evaluate,
    infer,
    places,
    prepare,
    train,
)

from voxel_ext.data import read_worm, read_worm_header
from voxel_ext.errors import CheckpointError, InvalidInputError, MissingDataError
from voxel_ext.handlers import read_checkpoint, read_history
from voxel_ext.workflow import root_cause


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return prepare(tmp_path_factory.mktemp("worms"))


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("trained"), dataset)


def failure(action, *arguments, **override) -> BaseException:
    """Run something that must fail, and return what the user reads of it."""
    try:
        action(*arguments, **override)
    except Exception as error:
        return root_cause(error)
    raise AssertionError("it did not fail")


def test_prepare_writes_worms_and_statistics(dataset):
    assert len(list((dataset / "train").glob("*.h5"))) == 3
    worm = read_worm(next((dataset / "val").glob("*.h5")))
    assert worm.cubes.shape == (12, 1, 16, 16, 16)
    assert worm.valid.all()
    values = np.concatenate([read_worm(path).cubes.ravel() for path in (dataset / "train").glob("*.h5")])
    statistics = json.loads((dataset / "statistics.json").read_text())
    assert statistics["mean"] == pytest.approx(values.mean(), rel=1e-5)
    assert statistics["std"] == pytest.approx(values.std(), rel=1e-4)


def test_prepare_from_volumes_gives_the_same_cubes(tmp_path):
    """The synthetic volumes, written as Vaa3D files and read again, are cut to the same cubes."""
    raw = prepare(tmp_path / "raw", keep_volumes="true", training_worms=1, validation_worms=1)
    folders = {f"{kind}_dir": str(raw / f"{kind}s") for kind in ("image", "label")}
    prepare(tmp_path / "again", source="volumes", coordinate_dir=str(raw / "coordinates"), **folders)
    for path in sorted(raw.glob("*/*.h5")):
        again = read_worm(tmp_path / "again" / path.name)
        np.testing.assert_array_equal(again.cubes, read_worm(path).cubes)


def test_missing_cells_keep_every_other_identity_in_place(tmp_path):
    whole = prepare(tmp_path / "whole")
    part = prepare(tmp_path / "part", missing_share=0.3)
    for path in sorted(part.glob("*/*.h5")):
        header = read_worm_header(path)
        assert 0 < (~header.valid).sum() < 12
        same = read_worm_header(whole / path.relative_to(part))
        np.testing.assert_allclose(header.positions[header.valid], same.positions[header.valid], atol=1e-3)
    train(tmp_path / "trained", part)
    assert np.isfinite(read_history(tmp_path / "trained" / "models" / "history.jsonl")[-1]["val_loss"])


def test_validate_tells_by_its_exit(dataset, tmp_path):
    run_command("validate", configs(BUNDLE, "prepare"), dataset_dir=str(dataset), bundle_root=str(FOLDER))
    broken = Path(shutil.copytree(dataset, tmp_path / "broken"))
    path = next((broken / "val").glob("*.h5"))
    with h5py.File(path, "r+") as file:
        file["cubes"][3, 0, 1, 1, 1] = np.nan
    files = configs(BUNDLE, "prepare")
    error = failure(run_command, "validate", files, dataset_dir=str(broken), bundle_root=str(FOLDER))
    assert isinstance(error, InvalidInputError)
    assert path.name in str(error)


def test_view_writes_a_picture(dataset, tmp_path):
    picture = tmp_path / "cells.png"
    settings = {"dataset_dir": str(dataset), "picture": str(picture), "view_seed": 1, "bundle_root": str(FOLDER)}
    run_command("view", configs(BUNDLE, "prepare"), **settings)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_training_leaves_weights_history_and_settings(trained):
    rows = read_history(trained / "models" / "history.jsonl")
    assert [row["epoch"] for row in rows] == [1, 2]
    assert {"train_loss", "val_loss", "val_accuracy", "val_top_5", "learning_rate"} <= set(rows[-1])
    assert all(torch.isfinite(v).all() for v in read_checkpoint(trained / "models" / "model.pt").values())
    assert json.loads((trained / "models" / "settings.json").read_text())["group"] == "C2:x"


def test_same_seed_same_losses(trained, dataset, tmp_path):
    again = train(tmp_path, dataset)
    losses = [[row["train_loss"] for row in read_history(f / "models" / "history.jsonl")] for f in (trained, again)]
    assert losses[0] == losses[1]


def test_resumed_training_equals_an_unbroken_one(dataset, tmp_path):
    whole = train(tmp_path / "whole", dataset, epochs=3)
    train(tmp_path / "broken", dataset, epochs=1)
    broken = train(tmp_path / "broken", dataset, epochs=3, resume="true")
    losses = [[row["train_loss"] for row in read_history(f / "models" / "history.jsonl")] for f in (whole, broken)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("inputs", ["both", "cubes", "positions"])
def test_evaluating_names_and_matches(trained, dataset, tmp_path, inputs):
    output = evaluate(trained, dataset, eval_inputs=inputs, output_dir=str(tmp_path))
    rows = dict(csv.reader((output / "metrics.csv").read_text().splitlines()))
    assert 0 <= float(rows["val_naming_worst"]) <= float(rows["val_naming_accuracy"]) <= 1
    if inputs == "both":
        best = max(row["val_accuracy"] for row in read_history(trained / "models" / "history.jsonl"))
        assert float(rows["val_accuracy"]) == pytest.approx(best, abs=1e-6)
    assert (output / "report.html").stat().st_size > 10_000


def test_inference_writes_matches_names_and_report(trained, dataset, tmp_path):
    output = infer(trained, dataset / "val", reference_dir=str(dataset / "train"), output_dir=str(tmp_path))
    (pairs,) = (output / "pairs").glob("*.csv")
    rows = list(csv.DictReader(pairs.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 12
    assert {"cell_a", "cell_b", "cost", "margin"} <= set(rows[0])
    assert len({row["cell_b"] for row in rows}) == 12
    assert len(list((output / "names").glob("*.csv"))) == 2
    assert (output / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("overlay", "override"),
    [
        ("cnn", {"features": [2, 3], "attention_layers": 0}),
        ("s4", {"features": [2, 3], "attention_layers": 0}),
        ("positions", {}),
        ("multi_layer", {"attention_layers": 0}),
        ("positions_first", {"epochs": 2, "pairs_per_epoch": 2}),
        ("cubes_second", {"epochs": 2, "pairs_per_epoch": 2}),
        ("short_cosine", {"epochs": 2, "pairs_per_epoch": 2}),
        ("original", {"depth": 2, "divider": 32, "hidden": 8, "grid": 2, "num_cells": 5, "epochs": 1}),
    ],
)
def test_overlays(dataset, tmp_path, overlay, override):
    folder = Path(FOLDER / "configs" / "variants" / f"{overlay}.json")
    settings = {k: v for k, v in TINY.items() if k not in json.loads(folder.read_text())} | override
    run_command(
        "training",
        configs(BUNDLE, "train", f"variants/{overlay}"),
        **(settings | places(tmp_path) | {"dataset_dir": str(dataset), "bundle_root": str(FOLDER)}),
    )
    assert np.isfinite(read_history(tmp_path / "models" / "history.jsonl")[0]["train_loss"])


@pytest.mark.parametrize("loss_name", ["sinkhorn", "linear_assignment"])
def test_losses(dataset, tmp_path, loss_name):
    train(tmp_path, dataset, epochs=1, loss_name=loss_name, missing=0.0, distance="mse")
    assert np.isfinite(read_history(tmp_path / "models" / "history.jsonl")[0]["train_loss"])


def test_stages_share_their_weights(dataset, tmp_path):
    """A network trained on positions is the start of one that takes cubes as well."""
    first = train(tmp_path / "first", dataset, train_inputs="positions")
    weights = str(first / "models" / "model.pt")
    train(tmp_path / "second", dataset, resume=weights, load_weights_only="true", epochs=1)
    assert (tmp_path / "second" / "models" / "model.pt").is_file()


def test_commands_from_the_shell(tmp_path):
    def run(run_id: str, files: str, **settings) -> None:
        done = shell(["monai.bundle", "run", run_id, "--config_file", files, *options(settings)], FOLDER)
        assert done.returncode == 0, done.stdout + done.stderr

    data = tmp_path / "data"
    run("prepare", "configs/prepare.json", dataset_dir=data, **TINY_WORMS)
    run("training", "configs/train.json", dataset_dir=data, **(TINY | {"epochs": 1}), **places(tmp_path))
    pair = "['configs/train.json','configs/evaluate.json']"
    run("evaluating", pair, dataset_dir=data, **TINY, **places(tmp_path))
    settings = ENCODER | ATTENTION | {k: v for k, v in places(tmp_path).items() if k != "log_path"}
    run("inference", "configs/inference.json", dataset_dir=data / "val", **settings)
    run(
        "atlas",
        "configs/atlas.json",
        dataset_dir=data,
        output_dir=tmp_path / "atlas",
        atlas_file=tmp_path / "atlas.npz",
    )
    assert (tmp_path / "eval" / "report.html").is_file()


def test_two_processes_train(dataset, tmp_path):
    settings = TINY | {"epochs": 1, "dataset_dir": str(dataset), "pairs_per_epoch": 4} | places(tmp_path)
    train_on_two_processes(BUNDLE, **settings)
    (row,) = read_history(tmp_path / "models" / "history.jsonl")
    assert np.isfinite(row["val_loss"])
    assert 0 <= row["val_accuracy"] <= 1


def test_network_in_and_out_agree_with_the_metadata():
    (train_file, metadata) = configs(BUNDLE, "train", "metadata")
    check = {"config_file": train_file, "meta_file": metadata}
    verify_net_in_out("network_def", **check)
    with pytest.raises(ValueError, match="output channel number"):
        verify_net_in_out("network_def", **check, **{"_meta_#network_data_format#outputs#pred#num_channels": 255})


@pytest.mark.parametrize("inputs", ["both", "cubes"])
def test_torchscript_export_gives_the_same(dataset, tmp_path, inputs):
    settings = ENCODER | ATTENTION | {"inputs": inputs}
    train(tmp_path, dataset, inputs=inputs, epochs=1)
    script = tmp_path / "model.ts"
    ckpt_export(
        "network_def",
        filepath=str(script),
        ckpt_file=str(tmp_path / "models" / "model.pt"),
        meta_file=configs(BUNDLE, "metadata")[0],
        config_file=configs(BUNDLE, "train"),
        **settings,
    )
    parser = ConfigParser()
    parser.read_config(configs(BUNDLE, "train"))
    parser.update(settings)
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(read_checkpoint(tmp_path / "models" / "model.pt"))
    cubes = torch.rand(5, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(script).eval()(cubes), network(cubes), rtol=0, atol=1e-6)


def test_required_properties_are_there(dataset, trained):
    settings = {"bundle_root": str(FOLDER)} | places(trained) | TINY
    unmet = unmet_properties(BUNDLE, dataset, dataset / "val", **settings)
    assert unmet == {"train": [], "inference": []}


def test_inference_and_training_build_the_same_network():
    train_settings, own = (
        network_settings(BUNDLE, name, "input_dropout", "recompute") for name in ("train", "inference")
    )
    assert train_settings == own


@pytest.mark.parametrize(
    ("override", "kind", "text"),
    [
        ({"dataset_dir": "nowhere"}, MissingDataError, "nowhere"),
        ({"num_cells": 13}, InvalidInputError, "num_cells=13"),
        ({"group": "S5"}, InvalidInputError, "S5"),
        ({"loss_name": "hungarian"}, InvalidInputError, "hungarian"),
        ({"inputs": "images"}, InvalidInputError, "images"),
        ({"attention_width": 20}, InvalidInputError, "attention_width=20"),
        ({"input_pooling": 3}, InvalidInputError, "multiple of 6"),
        ({"encoder_weights": "nowhere.pt"}, MissingDataError, "nowhere.pt"),
        ({"lambda": 0.0, "loss_name": "linear_assignment"}, InvalidInputError, "lambda"),
    ],
)
def test_bad_settings_are_named(dataset, tmp_path, override, kind, text):
    error = failure(train, tmp_path, dataset, **override)
    assert isinstance(error, kind)
    assert text in str(error)


def test_checkpoint_of_another_architecture_is_refused(trained, dataset, tmp_path):
    error = failure(infer, trained, dataset / "val", features=[3, 4], output_dir=str(tmp_path))
    assert isinstance(error, CheckpointError)


def test_worms_with_different_cell_counts_are_refused(dataset, tmp_path):
    mixed = Path(shutil.copytree(dataset, tmp_path / "mixed"))
    other = prepare(tmp_path / "other", cells=10)
    path = next((other / "train").glob("*.h5"))
    shutil.copy(path, mixed / "train" / "other.h5")
    error = failure(train, tmp_path, mixed)
    assert isinstance(error, InvalidInputError)
    assert "(10, 1, 16, 16, 16)" in str(error)


@pytest.mark.skipif(not COORDINATES.is_dir(), reason="the real coordinates are not beside the project")
def test_real_coordinates_are_rendered(tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(COORDINATES.glob("*.txt"))[:2]:
        shutil.copy(path, few)
    folder = prepare(tmp_path / "real", coordinate_dir=str(few), training_worms=1, validation_worms=1)
    names = {path.stem for path in folder.glob("*/*.h5")}
    assert names == {path.stem for path in few.glob("*.txt")}
