"""The command line: help, and that nothing is done before the whole line is understood."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import voxel_ext
from voxel_ext.cli import main
from voxel_ext.commands import COMMANDS
from voxel_ext.commands.generate import CLASSES
from voxel_ext.commands.line import WIDTH, Command, Job, do, understand
from voxel_ext.errors import InvalidInputError

SCREEN = 50


def output(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(words) == 0
    written = capsys.readouterr()
    assert written.err == ""
    return written.out


def complaint(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> str:
    """The one line that the program ends with."""
    assert main(words) == code
    written = capsys.readouterr()
    assert written.out == ""
    (line,) = written.err.splitlines()
    return line


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_overview_has_a_line_for_each_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    lines = output(capsys, *words).splitlines()
    for name, command in COMMANDS.items():
        (line,) = [one for one in lines if one.split()[:1] == [name]]
        assert line.endswith((command.function.__doc__ or "").splitlines()[0])
    assert max(map(len, lines)) <= 120


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, "--version") == f"voxel_ext {voxel_ext.__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_fits_a_screen_and_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, name, "--help")
    assert text == output(capsys, name, "whatever", "-h")
    assert "Example: python -m voxel_ext" in text
    assert len(text.splitlines()) <= SCREEN
    assert max(map(len, text.splitlines())) <= WIDTH + 10
    known = inspect.signature(COMMANDS[name].function).parameters.values()
    listed = set(re.findall(r"^  --(\w+)", text, re.MULTILINE))
    assert listed == {one.name for one in known if one.kind is one.KEYWORD_ONLY}


@pytest.mark.parametrize("what", CLASSES)
def test_help_of_a_generator_lists_its_parameters(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "generate", what, "--help")
    parameters = inspect.signature(getattr(voxel_ext.synthetic, CLASSES[what])).parameters
    listed = set(re.findall(r"^  --(\w+)", text, re.MULTILINE))
    assert listed == set(parameters) - {"seed"}


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_in_the_help_are_understood(name: str) -> None:
    lines = re.findall(r"Example: python -m voxel_ext (\w+) (.*)", COMMANDS[name].help())
    assert lines
    for command, words in lines:
        assert command == name
        assert isinstance(understand(COMMANDS[name], shlex.split(words)), Job)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["genrate"], "Did you mean 'generate'"),
        (["--verison"], "'--verison' is not known"),
        (["pack", "a", "b.zip", "--weigths", "w"], "Did you mean 'weights'"),
        (["pack", "a"], "no value for target"),
        (["pack", "a", "b.zip", "c"], "no place for c"),
        (["pack", "a", "b.zip", "--overwrite=maybe"], "--overwrite=maybe must be true or false"),
        (["pack", "a", "b.zip", "--overwrite", "maybe"], "no place for maybe"),
        (["pack", "a", "b.zip", "--weights"], "--weights needs a value"),
        (["pack", "a", "b.zip", "--weights", "--overwrite"], "--weights needs a value"),
        (["unpack", "a.zip", "b", "-o"], "-o is not understood"),
        (["unpack", "a.zip", "b", "--", "--trace"], "-- is not understood"),
        (["verify"], "needs the folder of a bundle"),
        (["report"], "needs an image or a folder"),
        (["report", "a.h5", "--output", "a.h5"], "--output=a.h5 must be a file that ends with .html"),
        (["report", "a.h5", "b.h5"], "one image, but there are 2 arguments"),
        (["report", "a.h5", "--metric", "val_iou"], "--metric is not for a page about a volume"),
        (["report", "a.h5", "--reference", "b.h5"], "--reference needs --labels"),
        (["generate", "worms", "out"], "Did you mean 'worm'"),
        (["generate", "worm", "out", "--cell", "4"], "Did you mean 'cells'"),
        (["generate", "worm", "out", "--cells"], "--cells needs a value"),
        (
            ["generate", "mitochondria", "out", "--touch_border", "maybe"],
            "--touch_border='maybe' must be true or false",
        ),
        (["generate", "sheets", "out", "--number", "0"], "--number=0 must be a whole number of at least 1"),
        (["generate", "sheets", "out", "--seed", "one"], "--seed=one must be a whole number"),
        (["generate", "sheets", "out", "--preview", "a.jpg"], "--preview=a.jpg must be a file that ends with .png"),
    ],
)
def test_words_that_are_not_understood(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in complaint(capsys, 2, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["convert_checkpoint", "a.pytorch", "m.pt"],
        ["pack", "nowhere", "b.zip"],
        ["unpack", "nowhere.zip", "b"],
        ["verify", "nowhere"],
        ["report", "nowhere.h5"],
        ["report", "nowhere.nii.gz"],
        ["generate", "sheets", "a.h5", "--size", "2"],
    ],
)
def test_a_failure_is_one_line_and_leaves_nothing(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    complaint(capsys, 1, *words)
    assert list(tmp_path.iterdir()) == []


def recorder(calls: list[Any]) -> Command:
    """A command that tells what it was asked to do."""

    def record(
        *names: str, flag: bool = False, maybe: bool | None = None, count: int = 1, text: str | None = None
    ) -> Job:
        return Job(lambda: calls.append((names, flag, maybe, count, text)))

    return Command(record)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ((), False, None, 1, None)),
        (["--flag", "a"], (("a",), True, None, 1, None)),
        (["--flag", "true", "a"], (("a",), True, None, 1, None)),
        (["a", "--flag", "FALSE"], (("a",), False, None, 1, None)),
        (["--flag=true", "--maybe=false"], ((), True, False, 1, None)),
        (["--maybe", "a", "b", "--count", "-3"], (("a", "b"), False, True, -3, None)),
        (["--count=4", "--text", "a=b"], ((), False, None, 4, "a=b")),
    ],
)
def test_switches_and_values(words: Sequence[str], expected: tuple[Any, ...]) -> None:
    calls: list[Any] = []
    job = understand(recorder(calls), words)
    assert calls == []
    assert do(job) == 0
    assert calls == [expected]


def test_exit_code_is_that_of_the_job() -> None:
    assert do(Job(lambda: 1)) == 1


def test_paths_are_taken_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("voxel_ext.sharing.archive.unpack_bundle", lambda *paths: seen.append(paths) or Path("x"))
    do(understand(COMMANDS["unpack"], ["1e5", "007"]))
    assert seen == [("1e5", "007")]


def test_options_of_fire_itself_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="not understood"):
        understand(COMMANDS["verify"], ["a", "--", "--interactive"])


def test_verify_fails_where_a_check_has(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from voxel_ext.sharing.checks_outcome import Check

    found = {"good": [Check("files", "passed", "")], "bad": [Check("files", "failed", "no LICENSE")]}
    monkeypatch.setattr("voxel_ext.sharing.verify.verify_bundle", lambda bundle, run_configs: found[bundle])
    assert main(["verify", "good"]) == 0
    assert main(["verify", "bad", "good"]) == 1
    text = capsys.readouterr().out
    assert "no LICENSE" in text
    assert text.count("good") == 2


def test_pack_passes_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr("voxel_ext.sharing.pack.pack_bundle", lambda *paths, **options: seen.update(options))
    words = ["pack", "b", "b.zip", "--variants", "large,fast", "--export", "false", "--run_configs", "--overwrite"]
    assert main(words) == 0
    assert seen == {
        "weights": None,
        "sample": None,
        "variants": ["large", "fast"],
        "export": False,
        "run_configs": True,
        "overwrite": True,
    }
