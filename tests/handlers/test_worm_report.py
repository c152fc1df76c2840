import csv

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from torch.utils.data import DataLoader

pytest.importorskip("matplotlib")
pytest.importorskip("plotly")

from voxel_ext.data import WormCubes, WormDataset, WormStore, write_worm
from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers import WormMatchingHandler, WormReportHandler
from voxel_ext.losses import matching_loss

NAMES = ("AL", "AR", "B", "C")
# features of worm b: AL and AR are exchanged; those of c, the reference, are the identity
FEATURES = {"a": [0, 1, 2, 3], "b": [1, 0, 2, 3], "c": [0, 1, 2, 3]}


def make_store(folder, names=NAMES, missing=()):
    files = []
    for number, worm in enumerate("abc"):
        rng = np.random.default_rng(number)
        valid = np.array([(worm, slot) not in missing for slot in range(4)])
        positions = np.array([[1.0, 5, 10], [1, 0, 20], [5, 1, 30], [5, 5, 40]], np.float32) + rng.random((4, 3)) / 10
        positions[~valid] = np.nan
        cubes = rng.random((4, 1, 2, 2, 2)).astype(np.float32) * valid[:, None, None, None, None]
        cells = WormCubes(worm, valid, positions.astype(np.float32), names, (8, 8, 50), "raw", 2, cubes=cubes)
        files.append(write_worm(folder / f"{worm}.h5", cells))
    return WormStore(files)


def run(store, output, references=1, kept=None, **options):
    def step(_engine, batch):
        features = [[FEATURES[store.headers[n].worm][c] for c in cells] for n, cells in zip(
            batch["worm"].tolist(), batch["cells"].tolist(), strict=True)]  # fmt: skip
        return {"pred": torch.eye(4)[torch.tensor(features)], "label": batch}

    engine = Engine(step)
    matching = WormMatchingHandler(store, matching_loss("contrastive", distance="mse"), references=references)
    matching.attach(engine)
    if kept is not None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: matching.matches.__delitem__(slice(kept, None)))
    WormReportHandler(matching, output, **options).attach(engine)
    engine.run(DataLoader(WormDataset(store, cubes=False), batch_size=2), max_epochs=1)
    return (output / "report.html").read_text(encoding="utf-8")


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_pairs_names_and_cells_are_written(tmp_path):
    out = tmp_path / "out"
    page = run(make_store(tmp_path), out)
    rows = read(out / "pairs" / "a__b.csv")
    assert list(rows[0]) == ["cell_a", "slot_a", "cell_b", "slot_b", "cost", "margin", "correct"]
    assert [(r["cell_a"], r["cell_b"], r["correct"]) for r in rows] == [
        ("AL", "AR", "false"),
        ("AR", "AL", "false"),
        ("B", "B", "true"),
        ("C", "C", "true"),
    ]
    (pair,) = read(out / "pairs.csv")
    assert (pair["worm_a"], pair["worm_b"], pair["accuracy"], pair["opposite_roll"]) == ("a", "b", "0.5", "false")
    assert [worm["accuracy"] for worm in read(out / "names.csv")] == ["1", "0.5"]
    named = read(out / "names" / "b.csv")[0]
    assert (named["slot"], named["name"], named["true_name"], named["correct"]) == ("0", "AR", "AL", "false")
    assert float(named["x"]) == pytest.approx(10, abs=0.1)
    cells = {(row["source"], row["name"]): row for row in read(out / "per_cell.csv")}
    assert cells["pairs", "AL"]["left_right"] == "1"
    assert cells["naming", "AL"]["accuracy"] == "0.5"
    assert cells["naming", "AL"]["confused_with"] == "AR"
    assert cells["naming", "B"]["left_right"] == ""
    for text in ("pair accuracy, equal roll", "naming accuracy, worst", "wrong (2)", "#ef4444", "Doubtful cells"):
        assert text in page


@pytest.mark.parametrize(("names", "truth"), [(NAMES, False), (("", "?x", "", "?y"), True)])
def test_unknown_truth_leaves_out_accuracies(tmp_path, names, truth):
    out = tmp_path / "out"
    page = run(make_store(tmp_path, names), out, truth=truth)
    rows = read(out / "pairs" / "a__b.csv")
    assert "correct" not in rows[0]
    assert [row["slot_b"] for row in rows] == ["1", "0", "2", "3"]
    assert "true_name" not in read(out / "names" / "a.csv")[0]
    assert "accuracy" not in read(out / "pairs.csv")[0]
    assert not (out / "per_cell.csv").exists()
    for text in ("pair accuracy", "naming accuracy", "(wrong)", "Most confused"):
        assert text not in page
    assert "matched (4)" in page


def test_missing_cells_are_neither_matched_nor_counted(tmp_path):
    out = tmp_path / "out"
    run(make_store(tmp_path, missing={("a", 2), ("b", 3)}), out)
    (pair,) = read(out / "pairs.csv")
    assert (pair["cells"], pair["matched"], pair["accuracy"]) == ("3", "3", "0")
    assert [row["slot"] for row in read(out / "names" / "a.csv")] == ["0", "1", "3"]
    counts = {row["name"]: row["count"] for row in read(out / "per_cell.csv") if row["source"] == "naming"}
    assert counts == {"AL": "2", "AR": "2", "B": "1", "C": "1"}


def test_only_the_report_without_references(tmp_path):
    out = tmp_path / "out"
    page = run(make_store(tmp_path), out, references=0, write_csv=False, max_pairs=2, settings={"lr": 0.25})
    assert sorted(path.name for path in out.iterdir()) == ["report.html"]
    assert 'id="match-1"' in page
    assert 'id="match-2"' not in page
    assert "naming accuracy" not in page
    assert "0.25" in page


def test_pairs_that_other_processes_matched_are_in_the_report_too(tmp_path):
    store = make_store(tmp_path)
    run(store, tmp_path / "all", references=0)
    run(store, tmp_path / "some", references=0, kept=1)
    files = sorted(path.relative_to(tmp_path / "all") for path in (tmp_path / "all").rglob("*.csv"))
    assert len(files) == 5
    for file in files:
        assert (tmp_path / "some" / file).read_bytes() == (tmp_path / "all" / file).read_bytes()


def test_output_that_cannot_be_written_is_refused_at_the_start(tmp_path):
    store = make_store(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match="cannot write to the output folder"):
        run(store, tmp_path / "file" / "out")


def test_bad_settings_and_a_matching_handler_that_saw_nothing(tmp_path):
    matching = WormMatchingHandler(make_store(tmp_path), matching_loss("contrastive", distance="mse"))
    with pytest.raises(InvalidInputError, match="max_pairs=-1"):
        WormReportHandler(matching, tmp_path, max_pairs=-1)
    engine = Engine(lambda _engine, _batch: None)
    WormReportHandler(matching, tmp_path).attach(engine)
    with pytest.raises(InvalidInputError, match="attach the WormMatchingHandler"):
        engine.run([0])
