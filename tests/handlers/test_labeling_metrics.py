"""Accuracy of an evaluator's labels: over all animals of all processes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from ignite.engine import Engine, Events

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers import LabelingMetricsHandler
from voxel_ext.handlers import labeling_metrics as module
from voxel_ext.labeling import CellLabel, pooled_accuracy
from voxel_ext.visualize.labeled_projection import LabeledAnimal

TRUE = {1: "AVAL", 2: "AVAR", 3: "DVA", 4: "AVL"}


def labels(*names: str) -> list[CellLabel]:
    return [CellLabel(name, i + 1, (0.0, 0.0, 0.0), 3, 0.8, 1) for i, name in enumerate(names)]


def animal(name: str, greedy: tuple[str, ...], optimal: tuple[str, ...], truth: dict[int, str] | None) -> LabeledAnimal:
    volume = np.zeros((1, 2, 2, 2))
    return LabeledAnimal(name, volume, ["TagRFP"], volume[0].astype(int), labels(*greedy), labels(*optimal), truth)


FIRST = animal("a", ("AVAL", "AVA?", "UNKNOWN", "DVA"), ("AVAL", "AVAR", "DVA", "AVL"), TRUE)
SECOND = animal("b", ("DVA-alt", "RMDL", "DVA"), ("UNKNOWN", "UNKNOWN", "DVA"), {1: "DVA", 3: "DVA"})
NAMELESS = animal("c", ("AVAL", "UNKNOWN"), ("UNKNOWN", "UNKNOWN"), None)


def run(handler: LabelingMetricsHandler, batches: list[Any], epochs: int = 1) -> dict[str, float]:
    engine = Engine(lambda _engine, batch: batch)
    handler.attach(engine)
    seen: dict[str, float] = {}
    # attached after it, as the handlers that use the metrics
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: seen.update(e.state.metrics))
    for _ in range(epochs):
        engine.run(batches, max_epochs=1)
    return seen


def samples(*animals: LabeledAnimal) -> list[Any]:
    return [[{"labeling": one}] for one in animals]


@pytest.mark.parametrize("epochs", [1, 2])
def test_accuracy_is_that_of_all_animals(epochs: int) -> None:
    handler = LabelingMetricsHandler()
    metrics = run(handler, samples(FIRST, SECOND, NAMELESS), epochs)
    for name, end in (("greedy", ""), ("optimal", "_optimal")):
        expected = pooled_accuracy([(getattr(one, name), one.truth or {}) for one in (FIRST, SECOND, NAMELESS)])
        assert handler.accuracy[name] == expected
        assert metrics[f"val_accuracy{end}"] == expected.found
        assert metrics[f"val_accuracy_lenient{end}"] == expected.lenient
        assert metrics[f"val_labeled{end}"] == expected.labeled / expected.rois
    # 6 ROIs have a truth; AVAL and DVA are right, AVA? and DVA-alt in the lenient sense, UNKNOWN has no name
    assert metrics["val_accuracy"] == pytest.approx(2 / 6)
    assert metrics["val_accuracy_lenient"] == pytest.approx(4 / 5)
    assert metrics["val_labeled"] == pytest.approx(7 / 9)
    assert metrics["val_accuracy_optimal"] == pytest.approx(5 / 6)
    assert metrics["val_accuracy_lenient_optimal"] == 1
    assert metrics["val_labeled_optimal"] == pytest.approx(5 / 9)
    assert len(metrics) == 6


def test_without_any_truth() -> None:
    metrics = run(LabelingMetricsHandler(prefix="test_"), samples(NAMELESS))
    assert metrics["test_labeled"] == 0.5
    assert metrics["test_labeled_optimal"] == 0
    accuracies = {name: value for name, value in metrics.items() if "accuracy" in name}
    assert len(accuracies) == 4
    assert all(math.isnan(value) for value in accuracies.values())


def test_a_later_run_starts_anew() -> None:
    handler = LabelingMetricsHandler()
    engine = Engine(lambda _engine, batch: batch)
    handler.attach(engine)
    engine.run(samples(FIRST, SECOND), max_epochs=1)
    engine.run(samples(FIRST), max_epochs=1)
    assert engine.state.metrics["val_accuracy"] == 0.25
    assert handler.accuracy["greedy"].rois == 4


def test_animals_of_all_processes_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes have different numbers of ROIs, so that a mean of their accuracies would be another number."""
    monkeypatch.setattr(module.idist, "get_world_size", lambda: 2)

    def gather(parts: list[Any], mine: dict[str, Any]) -> None:
        assert len(parts) == 2
        parts[:] = [mine, {name: [(getattr(SECOND, name), dict(SECOND.truth or {}))] for name in mine}]

    monkeypatch.setattr(module.torch.distributed, "all_gather_object", gather)
    handler = LabelingMetricsHandler()
    metrics = run(handler, samples(FIRST))
    assert handler.accuracy["greedy"].rois == 7
    assert metrics["val_accuracy"] == pytest.approx(2 / 6)
    assert metrics["val_accuracy_optimal"] == pytest.approx(5 / 6)


def test_a_sample_that_is_not_in_a_list_and_another_key() -> None:
    metrics = run(LabelingMetricsHandler(key="found"), [{"found": FIRST}])
    assert metrics["val_accuracy"] == 0.25


def test_output_without_labels() -> None:
    match = r"no 'labeling'; its keys are \['image', 'pred'\]. Add LabelCellsd to the postprocessing"
    with pytest.raises(InvalidInputError, match=match):
        run(LabelingMetricsHandler(), [[{"pred": 1, "image": 2}]])
