"""The table of all benchmarks: what fails or lacks something does not take the others along."""

import importlib
import sys
from types import SimpleNamespace

import pytest

from benchmarks import __main__ as program
from benchmarks.harness import Row, table


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the program with benchmarks that take no time; its exit status and what it printed."""
    known = {
        "generator": lambda arguments: iter([Row("generator", "quick / slow", 1.0, 4.0, 0.25)]),
        "startup": lambda arguments: 1 / 0,
        "surfaces": lambda arguments: [Row("surfaces", f"in {arguments.work.name}", 0.5)],
    }

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["benchmarks", *map(str, words)])
        monkeypatch.setattr(
            program, "importlib", SimpleNamespace(import_module=lambda name: SimpleNamespace(run=known[name[11:]]))
        )
        status = program.main()
        return status, capsys.readouterr().out

    return run


def test_a_benchmark_that_fails_is_a_row_and_the_others_are_kept(run, tmp_path):
    status, printed = run("startup", "generator", "--output", tmp_path / "table.md")
    assert status == 1
    assert "| startup | failed: ZeroDivisionError: division by zero |" in printed
    assert "| generator | quick / slow | 1 s | 4 s | 0.25 |" in printed
    assert (tmp_path / "table.md").read_text() == printed


def test_trainings_need_a_work_folder_and_their_data(run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run("surfaces")
    assert "need --work" in capsys.readouterr().err
    status, printed = run("surfaces", "nuclei", "--work", tmp_path / "work")
    assert status == 0
    assert "| surfaces | in work | 0.5 s |" in printed
    assert "| nuclei | not run: needs --volume |" in printed


def test_unknown_names_are_refused_before_anything_runs(run, capsys):
    with pytest.raises(SystemExit):
        run("generator", "speed")
    assert "unknown benchmark speed" in capsys.readouterr().err


def test_all_means_every_benchmark_there_is():
    folder = {*program.NAMES, *program.STUDIES}
    arguments = program._parser().parse_args(["--all", "--work", "x"])
    assert arguments.all
    for name in sorted(folder):
        assert callable(importlib.import_module(f"benchmarks.{name}").run), name


def test_a_row_without_a_figure_has_empty_cells():
    assert "| x | not run |  |  |  |  |" in table([Row("x", "not run", None)])
