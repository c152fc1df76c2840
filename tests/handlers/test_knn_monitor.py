"""Nearest neighbors against scikit-learn's, and the handler in a training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from torch import nn

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers import knn_monitor
from voxel_ext.handlers.knn_monitor import KNNMonitorHandler, knn_predict

T = 0.1


def clusters(count=60, classes=4, values=6, noise=1.2, seed=0):
    """Return vectors around one center a class, so that neighbors are often but not always right."""
    rng = np.random.default_rng(seed)
    label = rng.integers(classes, size=count)
    centers = np.random.default_rng(99).normal(size=(classes, values))
    return torch.tensor(centers[label] + noise * rng.normal(size=(count, values))), torch.tensor(label)


def reference(bank, label, weighted, k=5):
    neighbors = pytest.importorskip("sklearn.neighbors")
    weights = (lambda distance: np.exp((1 - distance) / T)) if weighted else "uniform"
    found = neighbors.KNeighborsClassifier(k, weights=weights, metric="cosine", algorithm="brute")
    return found.fit(bank.numpy(), label.numpy())


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("k", [1, 5, 8])
def test_predictions_are_those_of_scikit_learn(weighted, k, monkeypatch):
    monkeypatch.setattr(knn_monitor, "CHUNK", 7)
    (bank, label), (queries, truth) = clusters(), clusters(40, seed=1)
    found = knn_predict(queries, bank, label, k, T if weighted else None)
    expected = reference(bank, label, weighted, k).predict(queries.numpy())
    assert found.tolist() == expected.tolist()
    assert 0.3 < (found == truth).double().mean() < 1


def test_a_low_temperature_is_the_nearest_neighbor():
    (bank, label), (queries, _) = clusters(), clusters(40, seed=1)
    assert torch.equal(knn_predict(queries, bank, label, 5, 1e-6), knn_predict(queries, bank, label, 1, None))


class Table(nn.Module):
    """An encoder that scales: the features are the images."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.modes = []

    def encode(self, x):
        self.modes.append(self.training)
        return self.scale * x.flatten(1)


def loader(vectors, label, batch=16, **more):
    rows = {"image": vectors.float()[:, :, None, None, None], "class": label} | more
    return [
        {key: value[start : start + batch] for key, value in rows.items()} for start in range(0, len(vectors), batch)
    ]


@pytest.mark.parametrize("weighted", [True, False])
def test_leave_one_out_is_that_of_scikit_learn(weighted):
    vectors, label = clusters()
    right = 0
    for index in range(len(vectors)):
        rest = torch.arange(len(vectors)) != index
        predicted = reference(vectors[rest], label[rest], weighted).predict(vectors[index : index + 1].numpy())
        right += int(predicted[0] == label[index])
    handler = KNNMonitorHandler(Table(), loader(vectors, label), temperature=T if weighted else None)
    assert handler.accuracy() == pytest.approx(right / len(vectors))


def test_a_bank_of_other_objects_with_names_of_classes():
    names = np.array(["rod", "donut", "sheet", "branched"])
    (bank, label), (queries, truth) = clusters(), clusters(40, seed=1)
    expected = reference(bank, label, weighted=True).score(queries.numpy(), truth.numpy())
    handler = KNNMonitorHandler(
        Table(),
        loader(queries, names[truth].tolist()),
        loader(bank, names[label].tolist(), batch=7),
        temperature=T,
    )
    assert handler.accuracy() == pytest.approx(expected)


def test_other_crops_of_the_same_object_are_not_neighbors():
    vectors, label = clusters(30, classes=2, noise=5)
    ids = torch.arange(30) + 2**62
    twice = {"vectors": torch.cat([vectors, vectors]), "label": torch.cat([label, label])}
    data = loader(*twice.values(), id=torch.cat([ids, ids]))
    assert KNNMonitorHandler(Table(), data, k=1).accuracy() == 1
    once = KNNMonitorHandler(Table(), loader(vectors, label), k=1).accuracy()
    assert once < 1
    assert KNNMonitorHandler(Table(), data, k=1, id_key="id").accuracy() == once


@pytest.mark.parametrize("missing", [-1, None, ""])
def test_objects_without_a_class_are_left_out(missing):
    vectors, label = clusters()
    labels = [f"class {one}" for one in label.tolist()] if missing != -1 else label.tolist()
    expected = KNNMonitorHandler(Table(), loader(vectors, labels)).accuracy()
    mixed = torch.cat([vectors[:20], -vectors, vectors[20:]])
    handler = KNNMonitorHandler(Table(), loader(mixed, labels[:20] + [missing] * 60 + labels[20:]))
    assert handler.accuracy() == expected


def train(network, epochs, **settings):
    seen = []
    engine = Engine(lambda _engine, _batch: seen.append(network.training))
    handler = KNNMonitorHandler(network, loader(*clusters()), **settings)
    handler.attach(engine)
    engine.run([0], max_epochs=epochs)
    return engine, handler, seen


def test_the_network_trains_on_after_a_computation(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    network = Table()
    engine, handler, seen = train(network, 5, interval=2, log_dir=tmp_path)
    assert seen == [True] * 5
    assert not any(network.modes)
    assert engine.state.metrics == {"knn_accuracy": handler.accuracy()}
    log = EventAccumulator(str(tmp_path))
    log.Reload()
    assert [event.step for event in log.Scalars("knn_accuracy")] == [2, 4]
    assert log.Scalars("knn_accuracy")[0].value == pytest.approx(handler.accuracy())


def test_another_encoder_than_that_of_the_network():
    network = Table()
    constant = KNNMonitorHandler(network, loader(*clusters()), encode=lambda x: torch.ones(len(x), 2))
    assert constant.accuracy() != KNNMonitorHandler(network, loader(*clusters())).accuracy()
    assert not constant.network.scale.grad


def test_arguments_that_are_not_valid():
    for settings, message in (
        ({"k": 0}, "k=0"),
        ({"temperature": 0}, "temperature=0"),
        ({"interval": 0}, "interval=0"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            KNNMonitorHandler(Table(), [], **settings)
    with pytest.raises(InvalidInputError, match="Linear has no method encode"):
        KNNMonitorHandler(nn.Linear(1, 1), [])


def test_data_that_do_not_fit():
    vectors, label = clusters(5)
    with pytest.raises(InvalidInputError, match=r"k=5.*only 4 labeled objects"):
        KNNMonitorHandler(Table(), loader(vectors, label)).accuracy()
    with pytest.raises(InvalidInputError, match="no 'kind'; its keys are"):
        KNNMonitorHandler(Table(), loader(vectors, label), label_key="kind").accuracy()
    with pytest.raises(InvalidInputError, match="data_loader has no object with a class"):
        KNNMonitorHandler(Table(), loader(vectors, torch.full((5,), -1))).accuracy()
    with pytest.raises(InvalidInputError, match="finite values"):
        KNNMonitorHandler(Table(), loader(vectors * torch.nan, label), k=1).accuracy()
    with pytest.raises(InvalidInputError, match=r"classes \(4,\) do not fit"):
        knn_predict(vectors, vectors, label[:4])
