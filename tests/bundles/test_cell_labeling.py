"""Every command of the bundle cell_labeling on tiny animals."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import torch
from bundle_commands import configs, run_command, train_on_two_processes, unmet_properties
from cell_labeling_commands import (
    BUNDLE,
    CHANNELS,
    FOLDER,
    NETWORK,
    SIZE,
    TINY,
    evaluate,
    infer,
    places,
    prepare,
    tiny_animals,
    tiny_training,
    train,
)
from monai.bundle import ConfigParser

from voxel_ext.data import read_cell_header, read_cell_volume, write_cell_volume
from voxel_ext.handlers import read_checkpoint, read_history
from voxel_ext.labeling import label_greedy, label_optimal, read_probabilities
from voxel_ext.transforms import RandBendd

COLUMNS = ["Neuron Class", "Coordinates", "ROI ID", "Confidence", "Alternatives", "Notes"]
VARIANTS = {
    "all": CHANNELS,
    "all_red": ("TagRFP",),
    "OFP": ("CyOFP1", "TagRFP"),
    "BFP": ("mTagBFP2", "TagRFP"),
    "mNeptune": ("mNeptune2.5", "TagRFP"),
    "nocustomaug": CHANNELS,
    "noweight": CHANNELS,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return tiny_animals(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return tiny_training(tmp_path_factory.getbasetemp())


def history(folder: Path) -> list[dict]:
    return read_history(folder / "models" / "history.jsonl")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / "models" / "model.pt")


def rows_of(table: Path) -> list[dict[str, str]]:
    with open(table, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames == COLUMNS
        return list(reader)


def parsed(*names: str, **override) -> ConfigParser:
    """The bundle's configs with a tiny network."""
    parser = ConfigParser()
    parser.read_config(configs(BUNDLE, *names))
    parser.update(override)
    return parser


def test_prepare_writes_animals_for_training_and_validation(dataset):
    assert len(list((dataset / "train").glob("*.h5"))) == 4
    assert len(list((dataset / "val").glob("*.h5"))) == 3
    animal = read_cell_volume(next((dataset / "train").glob("*.h5")))
    assert animal.shape == (4, *SIZE)
    assert animal.channels == CHANNELS
    assert len(animal.class_names) == 9
    assert (animal.true_class > 0).all()
    labeled = animal.roi_class > 0
    assert 0 < labeled.sum() < len(animal)
    assert (animal.roi_weight[~labeled] == 1).all()
    assert (animal.roi_weight[labeled] > animal.roi_other_weight[labeled]).all()
    marker = json.loads((dataset / "dataset.json").read_text())
    assert marker["complete"]
    assert len(marker["files"]) == 7


def test_prepare_again_makes_nothing(dataset):
    def state() -> dict[Path, tuple[int, int]]:
        files = [path for path in dataset.rglob("*") if path.is_file() and not path.name.startswith(".")]
        return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}

    before = state()
    prepare(dataset)
    assert len(before) > 30
    assert state() == before


def write_nrrd(path: Path, volume: np.ndarray) -> None:
    """Write (D, H, W) as an NRRD file, whose first axis is x."""
    header = f"NRRD0004\ntype: uint16\ndimension: 3\nsizes: {' '.join(map(str, volume.shape[::-1]))}\n"
    path.write_bytes((header + "encoding: raw\nendian: little\n\n").encode() + volume.astype("<u2").tobytes())


def write_animals(source: Path, folder: Path, labels: bool = True) -> dict[str, int]:
    """Write some of the synthetic animals as NIfTI images, NRRD ROI volumes and tables; the first name is uncertain.

    Returns:
        by animal, the ROI that the uncertain name was given to.
    """
    kinds = ("images", "rois", "labels") if labels else ("images", "rois")
    for kind in kinds:
        (folder / kind).mkdir(parents=True)
    uncertain = {}
    for number, image in enumerate(sorted((source / "images").glob("*.h5"))):
        with h5py.File(image) as file, h5py.File(source / "rois" / image.name) as rois:
            raw, roi = file["raw"][()], rois["roi"][()]
        name = f"worm {number}"
        nibabel.save(nibabel.Nifti1Image(raw.T, np.eye(4)), folder / "images" / f"{name}.nii.gz")
        write_nrrd(folder / "rois" / f"{name}.nrrd", roi)
        if labels:
            lines = list(csv.reader((source / "labels" / f"{image.stem}.csv").read_text().splitlines()))
            first = next(line for line in lines[1:] if line[0][-1] in "LR" and int(line[3]) > 1)
            uncertain[name] = int(first[2])
            first[0] = first[0][:-1] + "?"
            with open(folder / "labels" / f"{name}.csv", "w", newline="") as file:
                csv.writer(file).writerows(lines)
    return uncertain


def test_own_animals_are_prepared_trained_with_and_labeled(dataset, tmp_path):
    raw = dataset / "raw"
    uncertain = write_animals(raw / "train", tmp_path / "raw")
    shutil.copy(raw / "neuron_names.txt", tmp_path / "raw")
    prepared = prepare(tmp_path / "prepared", source="volumes", raw_dir=str(tmp_path / "raw"))
    for path, original in zip(sorted(prepared.glob("*.h5")), sorted((dataset / "train").glob("*.h5")), strict=True):
        animal, same = read_cell_volume(path), read_cell_volume(original)
        np.testing.assert_array_equal(animal.raw, same.raw)
        np.testing.assert_array_equal(animal.roi, same.roi)
        assert animal.true_class is None
        roi = uncertain[path.stem]
        assert roi in animal.settings["rois_skipped"]["uncertain"]
        assert animal.roi_class[animal.roi_ids == roi] == 0
        other = animal.roi_ids != roi
        np.testing.assert_array_equal(animal.roi_class[other], same.roi_class[other])
    train(tmp_path, prepared, epochs=1)
    assert np.isfinite(history(tmp_path)[0]["train_loss"])

    write_animals(raw / "val", tmp_path / "new", labels=False)
    unlabeled = prepare(tmp_path / "unlabeled", source="volumes", raw_dir=str(tmp_path / "new"))
    header = read_cell_header(unlabeled / "worm 0.h5")
    assert header.class_names == ("background",)
    assert not header.roi_class.any()
    output = infer(tmp_path, unlabeled)
    assert sorted(path.name for path in output.glob("*.csv")) == ["worm 0.csv", "worm 1.csv", "worm 2.csv"]
    assert {int(row["ROI ID"]) for row in rows_of(output / "worm 0.csv")} == set(header.roi_ids.tolist())


def test_training_leaves_weights_history_settings_and_tensorboard(trained, dataset):
    assert all(torch.isfinite(value).all() for value in weights(trained).values())
    rows = history(trained)
    assert [row["epoch"] for row in rows] == [1, 2]
    expected = {"train_loss", "learning_rate", "val_iou", "val_accuracy", "val_accuracy_optimal", "val_labeled"}
    assert expected | {"val_accuracy_lenient", "val_labeled_optimal"} <= set(rows[-1])
    assert all(0 <= row[name] <= 1 for row in rows for name in expected if name.startswith("val_"))
    settings = json.loads((trained / "models" / "settings.json").read_text())
    assert settings["f_maps"] == 4
    headers = [read_cell_header(path) for path in (dataset / "train").glob("*.h5")]
    names = headers[0].class_names
    counts = sum(np.bincount(header.roi_class, minlength=9) for header in headers)
    assert settings["class_counts"] == dict(zip(names[1:], counts[1:].tolist(), strict=True))
    assert list(settings["class_counts"]) == list(names[1:])
    assert list((trained / "runs" / BUNDLE).glob("events.out.tfevents*"))


def test_resumed_training_equals_an_unbroken_one(trained, dataset, tmp_path):
    train(tmp_path, dataset, epochs=1)
    train(tmp_path, dataset, resume="true")
    clocks = ("seconds",)
    broken, whole = (
        [{k: v for k, v in row.items() if k not in clocks} for row in history(f)] for f in (tmp_path, trained)
    )
    assert broken == whole
    ends = [read_checkpoint(f / "models" / "checkpoint_last.pt")["network"] for f in (tmp_path, trained)]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_evaluating_gives_the_metrics_of_the_best_epoch(trained, dataset, tmp_path):
    metrics = evaluate(trained, dataset, output_dir=str(tmp_path))
    best = max(history(trained), key=lambda row: row["val_accuracy"])
    expected = {name: value for name, value in best.items() if name.startswith("val_")}
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    report = (tmp_path / "report.html").read_text()
    assert "val_accuracy" in report
    assert "num_groups" in report


def test_inference_names_every_roi_once(trained, dataset, tmp_path):
    output = infer(trained, dataset / "val", output_dir=str(tmp_path))
    assert len(list(output.glob("*.csv"))) == 3
    assert not list(output.glob("*.npz"))
    for path in (dataset / "val").glob("*.h5"):
        header = read_cell_header(path)
        rows = rows_of(output / f"{path.stem}.csv")
        assert sorted(int(row["ROI ID"]) for row in rows) == header.roi_ids.tolist()
        written = {row["Neuron Class"].removesuffix("-alt").rstrip("?") for row in rows} - {"UNKNOWN"}
        assert all(any(name.startswith(text) for name in header.class_names[1:]) for text in written)
        assert {int(row["Confidence"]) for row in rows} <= set(range(6))
    assert (output / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize(("assignment", "function"), [("greedy", label_greedy), ("optimal", label_optimal)])
def test_labels_are_those_of_the_saved_probabilities(trained, dataset, tmp_path, assignment, function):
    override = {"assignment": assignment, "save_probabilities": "true", "min_examples": 0}
    output = infer(trained, dataset / "val", output_dir=str(tmp_path), **override)
    for table in output.glob("val_*.csv"):
        rois, names = read_probabilities(table.with_suffix(".npz"))
        assert names == list(read_cell_header(dataset / "val" / f"{table.stem}.h5").class_names)
        found = [(row["Neuron Class"], int(row["ROI ID"]), int(row["Confidence"])) for row in rows_of(table)]
        assert found == [(label.neuron_class, label.roi_id, label.confidence) for label in function(rois, names)]


def test_probabilities_are_the_means_of_those_of_the_voxels(trained, dataset, tmp_path):
    """Inference goes slab by slab; without weighted edges the result is the plain mean of the network's softmax."""
    override = {"save_probabilities": "true", "edge_weight": 1.0, "slab": 5}
    output = infer(trained, dataset / "val", output_dir=str(tmp_path), **override)
    animal = read_cell_volume(dataset / "val" / "val_0001.h5")
    low, high = (getattr(animal.raw, kind)(axis=(1, 2, 3), keepdims=True).astype(np.float32) for kind in ("min", "max"))
    image = torch.from_numpy(2 * (animal.raw - low) / (high - low) - 1)
    network = parsed("inference", **NETWORK, ckpt_dir=str(trained / "models")).get_parsed_content("network_def")
    network.load_state_dict(weights(trained))
    with torch.no_grad():
        probability = network.eval()(image[None])[0].double().softmax(0).numpy()
    expected = [probability[:, animal.roi == roi].mean(axis=1) for roi in animal.roi_ids]
    rois, _ = read_probabilities(output / "val_0001.npz")
    np.testing.assert_array_equal(rois.roi_ids, animal.roi_ids)
    np.testing.assert_allclose(rois.probabilities, expected, atol=1e-5)


def test_class_names_file_stands_in_for_the_settings(trained, dataset, tmp_path):
    """Weights that come without settings.json are used with a list of names."""
    (tmp_path / "models").mkdir()
    shutil.copy(trained / "models" / "model.pt", tmp_path / "models")
    names = tmp_path / "names.txt"
    names.write_text("\n".join(read_cell_header(dataset / "val" / "val_0001.h5").class_names[1:]))
    alone = infer(tmp_path, dataset / "val", class_names_file=str(names))
    known = infer(trained, dataset / "val", output_dir=str(tmp_path / "known"), min_examples=0)
    for table in known.glob("val_*.csv"):
        assert rows_of(alone / table.name) == rows_of(table)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_train_and_infer(dataset, tmp_path, variant):
    overlay = f"variants/{variant}"
    train(tmp_path, dataset, overlay, epochs=1)
    assert np.isfinite(history(tmp_path)[0]["train_loss"])
    first = next(value for value in weights(tmp_path).values() if value.ndim == 5)
    assert first.shape[1] == len(VARIANTS[variant])
    settings = json.loads((tmp_path / "models" / "settings.json").read_text())
    assert settings["channels"] == list(VARIANTS[variant])
    assert len(list(infer(tmp_path, dataset / "val", overlay).glob("val_*.csv"))) == 3


def test_all_red_sees_the_red_channel_only(dataset):
    path = str(next((dataset / "val").glob("*.h5")))
    load = parsed("train", "variants/all_red").get_parsed_content("load_volumes#0")
    image = load({"path": path})["image"]
    np.testing.assert_array_equal(image.numpy(), read_cell_volume(path).raw[3:].astype(np.float32))


def drawn(transform, data: dict) -> bool:
    """Whether a random transform does anything in some of many draws; of bending, its affine part left out."""
    transform.set_random_state(0)
    if isinstance(transform, RandBendd):
        deformations = [transform.bend.randomize(SIZE) for _ in range(40)]
        return any(one is not None and one.coefficients is not None for one in deformations)
    return any(not torch.equal(torch.as_tensor(transform(dict(data))["image"]), data["image"]) for _ in range(40))


def test_nocustomaug_switches_off_bending_contrast_and_blur():
    custom = {"bend": "train#deformation#0", "contrast": "train#intensity#0", "blur": "train#intensity#1"}
    others = {"noise": "train#intensity#2", "poisson": "train#intensity#3"}
    data = {"image": torch.rand(4, *SIZE, generator=torch.Generator().manual_seed(0))}
    for names, off in ((("train",), set()), (("train", "variants/nocustomaug"), set(custom))):
        parser = parsed(*names)
        transforms = {name: parser.get_parsed_content(place) for name, place in (custom | others).items()}
        assert {name for name, transform in transforms.items() if not drawn(transform, data)} == off


def test_noweight_gives_every_voxel_the_same_weight(dataset):
    found = {}
    for names in (("train",), ("train", "variants/noweight")):
        override = {"dataset_dir": str(dataset), "bundle_root": str(FOLDER), "cache_num": 0} | TINY
        batch = next(iter(parsed(*names, **override).get_parsed_content("train#dataloader")))
        assert batch["image"].shape == (2, 4, *SIZE)
        assert batch["weight"].shape == batch["label"].shape == (2, 1, *SIZE)
        assert batch["label"].max() > 0
        found[names[-1]] = (float(batch["weight"].min()), float(batch["weight"].max()))
    assert found["variants/noweight"] == (1, 1)
    assert found["train"][0] == 1
    assert found["train"][1] > 100


def test_published_settings(dataset, tmp_path):
    parser = parsed("train", "variants/published", class_names=["background", *map(str, range(184))])
    network = parser.get_parsed_content("network_def")
    convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv3d)]
    assert (convolutions[0].in_channels, convolutions[-1].out_channels) == (4, 185)
    assert max(convolution.out_channels for convolution in convolutions) == 512
    groups = {module.num_groups for module in network.modules() if isinstance(module, torch.nn.GroupNorm)}
    assert max(groups) == 16
    assert parser.get_parsed_content("optimizer").param_groups[0]["lr"] == 1e-4
    assert parser["epochs"] * parser["iterations_per_epoch"] == pytest.approx(150_000, rel=1e-3)
    assert (parser["lr_scheduler_factor"], parser["lr_scheduler_patience"]) == (0.5, 500)
    assert parser["patch_size"] == parser["volume_size"] == [64, 120, 284]
    bend = {name: parser.get_parsed_content(f"train#deformation#0#{name}") for name in ("prob", "bend_limit", "jitter")}
    assert bend == {"prob": 0.8, "bend_limit": 0.4, "jitter": 10.0}

    tiny = {"epochs": 1, "iterations_per_epoch": 1, "train#deformation#0#bend_limit": 0.1}
    train(tmp_path, dataset, "variants/published", **tiny)
    (row,) = history(tmp_path)
    assert np.isfinite(row["train_loss"])


def test_half_hour_follows_a_cosine_after_a_warm_up(dataset, tmp_path):
    train(tmp_path, dataset, "variants/half_hour", epochs=4)
    rows = history(tmp_path)
    rates = [row["learning_rate"] for row in rows]
    assert max(rates) == pytest.approx(0.003)
    assert rates[1] > rates[2] > rates[3] > 0
    assert ["val_accuracy" in row for row in rows] == [False, True, False, True]


def test_a_residual_network_trains_and_infers(dataset, tmp_path):
    settings = {"architecture": "residual_unet3d"}
    train(tmp_path, dataset, epochs=1, **settings)
    assert len(list(infer(tmp_path, dataset / "val", **settings).glob("val_*.csv"))) == 3


def test_animals_with_different_numbers_of_rois_share_a_batch(dataset, tmp_path):
    for path in dataset.glob("*/*.h5"):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        animal = read_cell_volume(path)
        kept = slice(int(path.stem[-1]), None)
        vectors = ("roi_ids", "roi_class", "roi_weight", "roi_other_weight", "roi_confidence", "true_class")
        fewer = {name: getattr(animal, name)[kept] for name in vectors}
        roi = np.where(np.isin(animal.roi, fewer["roi_ids"]), animal.roi, 0).astype(animal.roi.dtype)
        write_cell_volume(tmp_path / path.relative_to(dataset), replace(animal, roi=roi, **fewer))
    assert len({len(read_cell_header(path)) for path in (tmp_path / "train").glob("*.h5")}) == 4
    train(tmp_path, tmp_path, epochs=1, batch_size=2)
    assert np.isfinite(history(tmp_path)[0]["train_loss"])
    assert evaluate(tmp_path, tmp_path)["val_labeled"] <= 1


def test_two_processes_train_and_gather_their_metrics(dataset, tmp_path):
    settings = TINY | {"epochs": 1, "dataset_dir": dataset, "batch_size": 1} | places(tmp_path)
    train_on_two_processes(BUNDLE, **settings)
    (row,) = history(tmp_path)
    metrics = evaluate(tmp_path, dataset)  # one process sees all three animals
    expected = {name: value for name, value in row.items() if name.startswith("val_")}
    assert len(expected) >= 7
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-4)


def test_first_run_makes_the_synthetic_data(tmp_path):
    """With an empty dataset_dir, training runs the bundle's prepare config first."""
    bundle = tmp_path / BUNDLE
    shutil.copytree(FOLDER / "configs", bundle / "configs")
    prepare_config = json.loads((bundle / "configs" / "prepare.json").read_text())
    prepare_config |= {"volume_size": SIZE, "cells": 4, "training_animals": 2, "validation_animals": 1}
    (bundle / "configs" / "prepare.json").write_text(json.dumps(prepare_config))
    run_command("training", [str(bundle / "configs" / "train.json")], bundle_root=str(bundle), **(TINY | {"epochs": 1}))
    assert (bundle / "data" / "synthetic" / "val" / "val_0001.h5").is_file()
    run_command("inference", [str(bundle / "configs" / "inference.json")], bundle_root=str(bundle), **NETWORK)
    assert len(rows_of(bundle / "eval" / "val_0001.csv")) == 4


def test_a_short_training_learns_the_names(tmp_path):
    """Six cells of clear color, two pairs among them; guessing finds one in six, or in four where ``?`` is allowed."""
    clear = {"labeled_share": 1.0, "question_share": 0.0, "wrong_share": 0.0, "synthetic#generator#color_noise": 0.0}
    dataset = prepare(tmp_path / "data", cells=6, training_animals=8, **clear)
    settings = {"f_maps": 8, "num_levels": 3, "learning_rate": 0.003, "epochs": 30, "val_interval": 10}
    train(tmp_path, dataset, bend_probability=0.0, noise_probability=0.0, **settings)
    rows = [row for row in history(tmp_path) if "val_accuracy" in row]
    assert max(row["val_accuracy_lenient"] for row in rows) > 0.9
    assert max(row["val_accuracy"] for row in rows) > 0.5


def test_required_properties_are_there(dataset, trained):
    settings = {"bundle_root": str(FOLDER)} | places(trained) | TINY
    unmet = unmet_properties(BUNDLE, dataset, dataset / "val", **settings)
    assert unmet == {"train": [], "inference": []}


def test_inference_and_training_build_the_same_network(tmp_path):
    (tmp_path / "names.txt").write_text("a\n")
    defined = []
    for name, classes in (
        ("train", {"class_names": ["background", "a"]}),
        ("inference", {"class_names_file": str(tmp_path / "names.txt")}),
    ):
        parser = parsed(name, **classes)
        parts = {k: parser.get_parsed_content(f"network_def#{k}") for k in parser["network_def"] if k != "_target_"}
        defined.append(parts)
    assert defined[0] == defined[1]
