"""The harness for mutated files: it tells good readers from bad ones, and finds nothing bad in ours."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import pytest

from benchmarks.fuzz import READERS, describe, row
from benchmarks.fuzz_bytes import mutate_bytes, mutate_json, mutate_text
from benchmarks.fuzz_child import Limits, Outcome, Reader
from benchmarks.fuzz_runner import fuzz
from benchmarks.fuzz_structure import mutate
from voxel_ext.errors import InvalidInputError

FILES = 4
SLOW = (
    *("resume", "convert", "images", "images_lazy", "zarr2", "zarr3", "zarr_lazy", "records", "synthetic"),
    *("blocks", "measurement", "meshes", "slices"),
)


def make(folder: Path) -> Sequence[Path]:
    (folder / "a.bin").write_bytes(bytes(range(200)))
    return [folder / "a.bin"]


def refuse(path: Path) -> None:
    raise InvalidInputError(str(path))


def fail(path: Path) -> None:
    dict[str, int]()[path.name]


def spin(path: Path) -> None:
    while True:
        pass


def sleep(path: Path) -> None:
    while True:  # an alarm does not end it, as code in C is not ended
        try:
            time.sleep(60)
        except BaseException:
            continue


def allocate(path: Path) -> None:
    bytearray(2**31)


def abort(path: Path) -> None:
    os.abort()


def leave(path: Path) -> None:
    (path.parent / "half").write_bytes(b"")
    raise InvalidInputError(str(path))


def run(read: Callable[[Path], object], folder: Path, keep: Path | None = None, files: int = FILES) -> list[Outcome]:
    limits = Limits(seconds=0.1, memory=0.5)
    return fuzz(Reader("planted", make, read), files, 0, limits, folder / "work", keep, workers=1)


@pytest.mark.parametrize(
    ("read", "kind", "error"),
    [
        (Path.read_bytes, "read", ""),
        (refuse, "refused", "InvalidInputError"),
        (fail, "exception", "KeyError"),
        (spin, "timeout", ""),
        (allocate, "memory", "MemoryError"),
        (abort, "crash", "SIGABRT"),
        (leave, "left behind", "InvalidInputError"),
    ],
)
def test_planted_readers(tmp_path: Path, read: Callable[[Path], object], kind: str, error: str) -> None:
    outcomes = run(read, tmp_path, tmp_path / "keep")
    assert [(outcome.index, outcome.kind, outcome.error) for outcome in outcomes] == [
        (index, kind, error) for index in range(FILES)
    ]
    kept = list((tmp_path / "keep").glob("*/a.bin"))
    assert len(kept) == (kind not in ("read", "refused"))
    assert len(describe("planted", outcomes)) == len(kept)


def test_a_reader_that_cannot_be_interrupted_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.fuzz_runner.PATIENCE", 0.5)
    (outcome,) = run(sleep, tmp_path, files=1)
    assert (outcome.kind, outcome.error) == ("timeout", "SIGKILL")


def test_table_of_outcomes() -> None:
    outcomes = [Outcome(0, "read", seconds=0.5), Outcome(1, "refused", "A"), Outcome(2, "crash", "SIGSEGV", "x")]
    assert row("r", outcomes) == "| r | 3 | 1 | 1 | 1 A | 1 crash | 0.50 | 0 |"
    assert len(describe("r", outcomes)) == 1


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    seen = []
    for folder in ("a", "b"):
        files: list[bytes] = []
        for seed in range(5):
            target = tmp_path / folder / f"{seed}.bin"
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(bytes(100))
            mutate(target, random.Random(seed))
            files.append(target.read_bytes())
        seen.append(files)
    assert seen[0] == seen[1]
    assert len(set(seen[0])) > 1


@pytest.mark.parametrize("change", [mutate_bytes, mutate_text, mutate_json])
def test_mutations_of_any_bytes(change: Callable[[bytes, random.Random], bytes]) -> None:
    rng = random.Random(0)
    for data in (b"", b"x", b"[1, {}]", b"a,b\n1,2\n", bytes(range(256)), b"\xff" * 3):
        changed = [change(data, rng) for _ in range(100)]
        assert sum(one != data for one in changed) > 50


def test_mutations_of_hdf5_stay_hdf5(tmp_path: Path) -> None:
    from benchmarks.fuzz_structure import mutate_hdf5

    rng, changed = random.Random(0), 0
    for number in range(30):
        path = tmp_path / f"{number}.h5"
        with h5py.File(path, "w") as file:
            file["a/b"] = range(5)
            file.attrs["c"] = "[1, 2]"
        before = path.read_bytes()
        mutate_hdf5(path, rng)
        assert h5py.is_hdf5(path)
        changed += path.read_bytes() != before
    assert changed > 25


@pytest.mark.parametrize("name", READERS)
def test_our_readers(name: str, tmp_path: Path) -> None:
    files = 8 if name in SLOW else 40
    outcomes = fuzz(READERS[name], files, 1, Limits(), tmp_path / "work", workers=1)
    assert len(outcomes) == files
    assert not describe(name, outcomes)
