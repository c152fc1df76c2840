"""The page that compares runs, and what is read of their folders."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from voxel_ext.cli import main
from voxel_ext.commands.run_folder import read_runs
from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.visualize.overview_report import MAX_PANELS, Run, best_value, key_metric, write_overview


class Page(HTMLParser):
    """Links, table cells and other text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.tags: set[str] = set()
        self._cell = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "a":
            self.links.append(dict(attrs)["href"] or "")
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.tables[-1][-1][-1] += data


def history(offset: float = 0.0, epochs: int = 4) -> list[dict[str, float]]:
    return [
        {"epoch": e, "train_loss": 1 / e, "learning_rate": 0.1, "seconds": 2.0}
        | ({"val_iou": 0.5 + offset - 0.1 * abs(e - 2), "val_dice": 0.7} if e % 2 == 0 else {})
        for e in range(1, epochs + 1)
    ]


def make_run(folder: Path, rate: float = 0.1, **metrics: float) -> Path:
    for name in ("models", "evaluation", "models/previous/1"):
        (folder / name).mkdir(parents=True)
    rows = "\n".join(map(json.dumps, history(rate)))
    for part in ("models", "models/previous/1"):
        (folder / part / "history.jsonl").write_text(rows, encoding="utf-8")
        settings = {"learning_rate": rate, "patch_size": [64, 64], "note": "<script>"}
        (folder / part / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    lines = [f"{name},{value}" for name, value in metrics.items()]
    (folder / "evaluation" / "metrics.csv").write_text("\n".join([*lines, "odd,tensor([1.])"]), encoding="utf-8")
    (folder / "evaluation" / "report.html").write_text("page", encoding="utf-8")
    return folder


def test_page_of_folders(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "runs" / name, rate, val_iou=0.9) for name, rate in (("a <b>&1", 0.1), ("b", 0.2))]
    page = tmp_path / "pages" / "index.html"
    assert main(["report", *map(str, runs), "--output", str(page)]) == 0
    found = Page(page)
    assert [(page.parent / unquote(link)).resolve() for link in found.links] == [
        run / "evaluation" / "report.html" for run in runs
    ]
    table, settings = found.tables
    assert table == [
        ["run", "epochs", "best val_iou", "in epoch", "evaluation: val_iou"],
        ["a <b>&1", "4", "0.6", "2", "0.9"],
        ["b", "4", "0.7", "2", "0.9"],
    ]
    assert settings == [["run", "learning_rate"], ["a <b>&1", "0.1"], ["b", "0.2"]]
    assert "b" not in found.tags
    text = page.read_text(encoding="utf-8")
    assert all(f">{name}<" in text for name in ("val_iou", "train_loss", "val_dice"))


def test_folder_of_one_part_of_a_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", val_iou=0.9)
    (one,) = read_runs([run / "evaluation"])
    assert (one.name, dict(one.metrics), list(one.history), one.settings) == ("evaluation", {"val_iou": 0.9}, [], {})
    page = write_overview(tmp_path / "index.html", [one])
    assert Page(page).tables[0][1] == ["evaluation", "0.9"]


def test_names_are_the_shortest_that_differ(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name / "run") for name in ("x", "y")]
    assert [one.name for one in read_runs(runs)] == ["x/run", "y/run"]


def test_metrics_of_several_evaluations_are_told_apart(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", val_iou=0.9)
    (run / "eval").mkdir()
    (run / "eval" / "metrics.csv").write_text("val_iou,0.5\n", encoding="utf-8")
    (run / "eval" / "report.html").write_text("page", encoding="utf-8")
    (one,) = read_runs([run])
    assert one.metrics == {"val_iou (eval)": 0.5, "val_iou (evaluation)": 0.9}
    assert len(Page(write_overview(tmp_path / "index.html", [one])).links) == 2


def test_key_metric_and_its_best_value() -> None:
    run = Run("a", history=[*history(), {"epoch": 5, "val_iou": float("nan")}])
    assert key_metric(run) == "val_iou"
    assert best_value(run, "val_iou") == (0.5, 2)
    assert best_value(run, "train_loss") == (0.25, 4)
    assert best_value(run, "val_angle") is None
    assert key_metric(Run("b", history=[{"epoch": 1, "train_loss": 1.0}])) == "train_loss"
    assert key_metric(Run("c")) is None


def test_other_metric_and_quantities_that_are_left_out(tmp_path: Path) -> None:
    many: dict[str, Any] = {f"val_{i}": float(i) for i in range(MAX_PANELS + 2)}
    page = write_overview(tmp_path / "i.html", [Run("a", history=[{"epoch": 1, **many}])], metric="val_10")
    text = page.read_text(encoding="utf-8")
    assert "best val_10" in text
    assert "2 more quantities are not drawn" in text
    with pytest.raises(InvalidInputError, match=r"no run has metric='val_x'.*val_0"):
        write_overview(tmp_path / "i.html", [Run("a", history=[{"epoch": 1, **many}])], metric="val_x")


@pytest.mark.parametrize("runs", [[], [Run("a"), Run("a")]])
def test_runs_without_names_of_their_own(runs: list[Run], tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="each with a name of its own"):
        write_overview(tmp_path / "i.html", runs)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("models/settings.json", "{", "is not a settings file"),
        ("models/settings.json", "[1]", "holds a list"),
        ("models/settings.json", "[" * 100_000, "is not a settings file"),
        ("models/history.jsonl", "{}\nx", "line 2"),
        ("evaluation/metrics.csv", "only", "expected lines name,value"),
        ("evaluation/metrics.csv", b"\xff\xfe,1", "not a table of metrics"),
        ("other/settings.json", "{}", "holds several trainings"),
    ],
)
def test_damaged_files(file: str, content: str | bytes, message: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / file).parent.mkdir(exist_ok=True)
    (run / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidInputError, match=message):
        read_runs([run])


def test_folders_that_are_none(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with pytest.raises(MissingDataError, match="no folder"):
        read_runs([run, tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingDataError, match="nothing of a run"):
        read_runs([tmp_path / "empty"])
    with pytest.raises(InvalidInputError, match="named twice"):
        read_runs([run, run])
