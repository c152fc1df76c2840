import json

import numpy as np
import pytest
from ignite.engine import Engine, Events

pytest.importorskip("matplotlib")
pytest.importorskip("plotly")

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers import labeling_report as module
from voxel_ext.handlers.labeling_report import LabelingReportHandler
from voxel_ext.labeling.label import CellLabel
from voxel_ext.visualize.labeled_projection import LabeledAnimal


def make(name, right=True, truth=True):
    roi = np.zeros((4, 6, 10), np.int32)
    roi[1:3, 2:4, 2:5] = 7
    greedy = [CellLabel("AVAL" if right else "RIML", 7, (1.5, 2.5, 3.0), 5, 0.99, 1)]
    image = np.random.default_rng(0).random((1, *roi.shape)) + roi
    return LabeledAnimal(name, image, ["TagRFP"], roi, greedy, greedy, {7: "AVAL"} if truth else None)


def engine_of(handler):
    engine = Engine(lambda _engine, batch: batch)
    engine.add_event_handler(Events.STARTED, lambda e: e.state.metrics.update({"val_iou": 0.625}))
    handler.attach(engine)
    return engine


@pytest.fixture
def seen(monkeypatch):
    """What the handler gives to the report."""
    found = {}
    monkeypatch.setattr(module, "labeling_report", lambda path, animals, *_, **kw: found.update(kw, animals=animals))
    return found


def test_page_counts_all_animals_and_shows_some(tmp_path):
    history = tmp_path / "history.jsonl"
    history.write_text("".join(json.dumps({"epoch": e, "train_loss": 1 / e}) + "\n" for e in (1, 2)))
    path = tmp_path / "out" / "report.html"
    handler = LabelingReportHandler(path, "My worms", {"lr": 0.25}, history, max_animals=2, notes=["a note"])
    rights = (True, True, False, True)
    engine_of(handler).run([[{"labeling": make(f"worm{i}", right)}] for i, right in enumerate(rights)], max_epochs=1)
    page = path.read_text(encoding="utf-8")
    assert page.count('<article class="volume">') == 2
    assert "worm1" in page
    assert "worm2" not in page
    assert "<dt>accuracy, greedy</dt><dd>0.750</dd>" in page
    assert "<dt>accuracy, optimal</dt><dd>0.750</dd>" in page
    for text in ("My worms", "0.25", "train_loss", "a note", "<dt>val_iou</dt><dd>0.625</dd>"):
        assert text in page


def test_only_shown_animals_keep_their_volumes(tmp_path, seen):
    handler = LabelingReportHandler(tmp_path / "r.html", max_animals=1)
    engine = engine_of(handler)
    for _ in range(2):  # a second run starts anew
        engine.run([[{"labeling": make("a")}, {"labeling": make("b")}]], max_epochs=1)
        assert [animal.name for animal in seen["animals"]] == ["a", "b"]
    assert [animal.image.size for animal in seen["animals"]] == [240, 1]
    assert [len(animal.greedy) for animal in seen["animals"]] == [1, 1]
    assert seen["max_animals"] == 1


def test_animals_of_other_processes_are_counted_but_not_shown(tmp_path, seen, monkeypatch):
    monkeypatch.setattr(module.idist, "get_world_size", lambda: 2)

    def gather(parts, mine):
        assert all(animal.image.size == 1 for animal in mine)
        parts[:] = [mine, [module._without_volumes(make("far", right=False))]]

    monkeypatch.setattr(module.torch.distributed, "all_gather_object", gather)
    engine_of(LabelingReportHandler(tmp_path / "r.html")).run([[{"labeling": make("near")}]], max_epochs=1)
    assert [(animal.name, animal.image.size) for animal in seen["animals"]] == [("near", 240), ("far", 1)]
    assert seen["max_animals"] == 1


def test_only_rank_0_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(module.idist, "get_rank", lambda: 1)
    engine_of(LabelingReportHandler(tmp_path / "r.html")).run([[{"labeling": make("a")}]], max_epochs=1)
    assert not (tmp_path / "r.html").exists()


def test_a_batch_that_is_not_decollated_and_another_key(tmp_path, seen):
    engine = engine_of(LabelingReportHandler(tmp_path / "r.html", key="found"))
    engine.run([{"found": [make("a"), make("b")]}, {"found": make("c")}], max_epochs=1)
    assert [animal.name for animal in seen["animals"]] == ["a", "b", "c"]


def test_what_is_wrong_is_named(tmp_path):
    with pytest.raises(InvalidInputError, match="max_animals=-1"):
        LabelingReportHandler(tmp_path / "r.html", max_animals=-1)
    with pytest.raises(InvalidInputError, match=r"no 'labeling'; its keys are \['pred'\]"):
        engine_of(LabelingReportHandler(tmp_path / "r.html")).run([[{"pred": 1}]], max_epochs=1)
    with pytest.raises(InvalidInputError, match="has a str, expected a LabeledAnimal"):
        engine_of(LabelingReportHandler(tmp_path / "r.html")).run([[{"labeling": ["x"]}]], max_epochs=1)
    with pytest.raises(InvalidInputError, match="it is a folder"):
        LabelingReportHandler(tmp_path).attach(Engine(lambda _engine, _batch: None))
