"""MONAI's federated clients on the optic lobe bundle: two clients on their own tiny data, averaged over rounds."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_commands import ROOT
from consumer_bundles import SMALL
from monai.bundle import ConfigWorkflow
from monai.fl.client import MonaiAlgo, MonaiAlgoStats
from monai.fl.utils.constants import ExtraItems, FlStatistics, ModelType
from monai.fl.utils.exchange_object import ExchangeObject
from monai.transforms import AsDiscreted, LoadImaged
from optic_lobe_commands import BUNDLE

CONFIGS = ROOT / "bundles" / BUNDLE / "configs"
pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(scope="module")
def data(tiny_dataset) -> tuple[Path, Path]:
    """The data of two clients."""
    return tuple(
        tiny_dataset(BUNDLE, seed=seed, volume_size=16, volumes_per_file=1, validation_volumes=1) for seed in (0, 1)
    )


def client(app_root: Path, dataset: Path, **options: Any) -> MonaiAlgo:
    shutil.copytree(CONFIGS, app_root / BUNDLE / "configs")
    settings = {
        "train_kwargs": SMALL[BUNDLE] | {"dataset_dir": str(dataset)},
        "eval_kwargs": SMALL[BUNDLE] | {"dataset_dir": str(dataset)},
    }
    algo = MonaiAlgo(bundle_root=BUNDLE, save_dict_key=None, **({"send_weight_diff": False} | settings | options))
    algo.initialize({ExtraItems.CLIENT_NAME: app_root.name, ExtraItems.APP_ROOT: str(app_root)})
    return algo


def average(*weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([one[name].float() for one in weights]).mean(0) for name in weights[0]}


def assert_same(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name])


def copied(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in weights.items()}


def test_two_clients_average_their_weights(tmp_path, data, elsewhere):
    clients = [client(tmp_path / name, dataset) for name, dataset in zip(("a", "b"), data, strict=True)]
    shared = copied(clients[0].get_weights().weights)
    for number in (1, 2):
        found = []
        for algo in clients:
            algo.train(ExchangeObject(weights=copied(shared)))
            sent = algo.get_weights()
            assert sent.statistics[FlStatistics.NUM_EXECUTED_ITERATIONS] == 1
            assert algo.trainer.state.epoch == number
            assert any(not torch.equal(value, shared[name]) for name, value in sent.weights.items())
            found.append(copied(sent.weights))
        shared = average(*found)
    scores = [algo.evaluate(ExchangeObject(weights=copied(shared))).metrics for algo in clients]
    assert all(0 <= score["val_iou"] <= 1 for score in scores)
    assert_same(clients[0].evaluator.network.state_dict(), clients[1].evaluator.network.state_dict())
    for algo in clients:
        models = Path(algo.bundle_root) / "models"
        assert len((models / "history.jsonl").read_text().splitlines()) == 2
        assert not (models / "previous").exists(), "a further round is no new run"
        best = algo.get_weights({ExtraItems.MODEL_TYPE: ModelType.BEST_MODEL})
        assert_same(best.weights, torch.load(models / "model.pt", weights_only=True))
        assert best.weights.keys() == shared.keys()
        algo.finalize()
    assert os.listdir(elsewhere) == []


def test_weight_differences_are_what_training_added(tmp_path, data):
    algo = client(tmp_path / "a", data[0], send_weight_diff=True, config_evaluate_filename=None)
    before = copied(algo.trainer.network.state_dict())
    algo.train(ExchangeObject(weights=copied(before)))
    sent = algo.get_weights().weights
    after = algo.trainer.network.state_dict()
    assert_same(sent, {name: after[name] - before[name] for name in sent})


def test_statistics_of_the_data(tmp_path, data):
    workflow = ConfigWorkflow(
        config_file=str(CONFIGS / "train.json"),
        workflow_type="train",
        logging_file=False,
        dataset_dir=str(data[0]),
        **SMALL[BUNDLE],
    )
    load = LoadImaged(["image", "label"], ensure_channel_first=True, image_only=True)
    foreground = AsDiscreted("label", threshold=0.5)
    stats = MonaiAlgoStats(
        bundle_root=str(CONFIGS.parent), workflow=workflow, data_stats_transform_list=[load, foreground]
    )
    (tmp_path / "app").mkdir()
    stats.initialize({ExtraItems.CLIENT_NAME: "a", ExtraItems.APP_ROOT: str(tmp_path / "app")})
    asked = {FlStatistics.HIST_BINS: 10, FlStatistics.HIST_RANGE: [0, 10]}
    found = stats.get_data_stats(asked).statistics
    for part in ("train", "eval"):
        assert found[part][FlStatistics.DATA_COUNT] == 1
        assert found[part][FlStatistics.FAIL_COUNT] == 0
        histogram = found[part][FlStatistics.DATA_STATS]["image_histogram"]
        assert sum(histogram["histogram"][0]["counts"]) > 0
    assert found[FlStatistics.TOTAL_DATA][FlStatistics.DATA_COUNT] == 2
