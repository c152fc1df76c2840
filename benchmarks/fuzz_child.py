"""What a child process of ``benchmarks.fuzz`` does: it reads mutated files with limits, one after the other."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import hashlib
import logging
import os
import random
import re
import resource
import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.fuzz_structure import mutate
from voxel_ext.errors import VoxelExtError

FINE = ("read", "refused")


@dataclass(frozen=True)
class Reader:
    """Something that reads files.

    Attributes:
        name: on the command line.
        make: writes valid files into a folder; what it returns, files or folders, are mutated one at a time.
        read: reads one of these; may only raise what is documented.
        documented: the errors that are.
    """

    name: str
    make: Callable[[Path], Sequence[Path]]
    read: Callable[[Path], object]
    documented: tuple[type[BaseException], ...] = (VoxelExtError,)


@dataclass(frozen=True)
class Limits:
    """Of one file: CPU seconds, and GiB of address space beyond what the process has already."""

    seconds: float = 5.0
    memory: float = 2.0


@dataclass(frozen=True)
class Outcome:
    """What became of a mutated file.

    Attributes:
        index: number of the file, which with the seed gives it again.
        kind: "read", "refused" with a documented error, or "exception", "timeout", "crash", "memory", "left behind".
        error: class of the error.
        detail: end of the traceback.
        seconds: CPU time.
        mebibytes: resident memory at the peak above that before.
    """

    index: int
    kind: str
    error: str = ""
    detail: str = ""
    seconds: float = 0.0
    mebibytes: float = 0.0


class _OvertimeError(BaseException):
    """The CPU time is used up; no reader may catch it."""


def read_all(
    reader: Reader,
    seed: int,
    limits: Limits,
    originals: Path,
    seeds: Sequence[Path],
    indices: Sequence[int],
    keep: Path | None,
    case: Path,
    connection: Any,
) -> None:
    """Mutate and read some files; ``connection`` is told the number of each, and when it was read its outcome."""
    _prepare_process(limits, case)
    for index in indices:
        rng = random.Random(f"{reader.name} {seed} {index}")
        shutil.rmtree(case, ignore_errors=True)
        case.mkdir()
        target = case / seeds[index % len(seeds)].name
        original = originals / seeds[index % len(seeds)]
        _ = shutil.copytree(original, target) if original.is_dir() else shutil.copyfile(original, target)
        with contextlib.suppress(OSError):  # of a folder that an earlier mutation put in a file's place
            mutate(target, rng)
        gc.collect()
        gc.freeze()  # libraries import when they are first used
        connection.send(index)
        outcome = replace(_read_one(reader, target, limits), index=index)
        if outcome.kind not in FINE:
            keep_mutant(case, keep, outcome.kind, outcome.detail)
        connection.send(outcome)
    shutil.rmtree(case, ignore_errors=True)


def _prepare_process(limits: Limits, case: Path) -> None:
    """Silence it, limit its memory, and let it tell where it crashes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(case.with_suffix(".trace"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    faulthandler.enable()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(-8, 1)  # one arena: each would reserve address space for itself
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = _status("VmSize") + int(limits.memory * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGPROF, _overtime)
    gc.freeze()  # a collection then passes over all that was imported


def _overtime(*_: Any) -> None:
    raise _OvertimeError


def _status(name: str) -> int:
    """A figure in bytes about this process."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{name}:"))


@contextlib.contextmanager
def _cpu_limit(seconds: float) -> Iterator[None]:
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _read_one(reader: Reader, target: Path, limits: Limits) -> Outcome:
    before = {path.relative_to(target.parent) for path in target.parent.rglob("*")}
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew
    resident, start = _status("VmRSS"), time.process_time()
    kind, error, detail = "read", "", ""
    try:
        with _cpu_limit(limits.seconds):
            reader.read(target)
    except _OvertimeError:
        kind, detail = "timeout", traceback.format_exc()[-1500:]
    except MemoryError:
        kind, error, detail = "memory", "MemoryError", traceback.format_exc()[-1500:]
    except reader.documented as caught:
        kind, error = "refused", type(caught).__name__
    except BaseException as caught:  # any failure of the reader is what is looked for
        kind, error, detail = "exception", type(caught).__name__, traceback.format_exc()[-1500:]
    seconds, peak = time.process_time() - start, (_status("VmHWM") - resident) / 2**20
    new = {path.relative_to(target.parent) for path in target.parent.rglob("*")} - before
    if kind == "refused" and new:
        kind, detail = "left behind", ", ".join(map(str, sorted(new)))
    return Outcome(0, kind, error, detail, seconds, max(peak, 0.0))


def keep_mutant(case: Path, keep: Path | None, kind: str, detail: str) -> None:
    """Copy a mutant, the first of its kind."""
    if keep is None:
        return
    last = "" if kind == "timeout" else "\n".join(re.findall(r'File "[^"]*", line \d+', detail)[-2:])
    target = keep / f"{kind.replace(' ', '_')}-{hashlib.sha256(last.encode()).hexdigest()[:8]}"
    if not target.exists():
        shutil.copytree(case, target, symlinks=True)
