"""Child processes that read mutated files: started, watched, killed, and what became of each file."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.fuzz_child import Limits, Outcome, Reader, keep_mutant, read_all

PATIENCE = 30.0
"""Wall seconds without a sign of life, beyond ten times the CPU seconds of a file, after which a child is killed."""


def fuzz(
    reader: Reader,
    files: int,
    seed: int,
    limits: Limits,
    folder: Path,
    keep: Path | None = None,
    workers: int = 2,
) -> list[Outcome]:
    """Read mutated files.

    Args:
        reader: what reads them.
        files: how many.
        seed: of the mutations.
        limits: of each file.
        folder: to work in.
        keep: where the first file of each undocumented outcome is copied to; None for nowhere.
        workers: child processes at a time.

    Returns:
        an outcome for each file, by its index.
    """
    context = multiprocessing.get_context("fork")
    originals = folder / "originals"
    originals.mkdir(parents=True)
    seeds = [path.relative_to(originals) for path in _in_child(context, reader.make, originals)]
    pending = [list(range(first, files, workers)) for first in range(workers)]
    outcomes: dict[int, Outcome] = {}
    children: dict[Any, _Child] = {}
    while pending or children:
        while pending:
            if indices := pending.pop():
                child = _Child(context, reader, seed, limits, folder, seeds, indices, keep)
                children[child.connection] = child
        for connection in multiprocessing.connection.wait(list(children), timeout=0.5):
            if not children[connection].receive(outcomes):
                pending.append(_left(children.pop(connection), outcomes, keep))
        for connection in [c for c, child in children.items() if child.is_overdue()]:
            children[connection].process.kill()
            children[connection].killed = True
    return [outcomes[index] for index in sorted(outcomes)]


def _in_child(context: Any, function: Callable[[Path], Any], folder: Path) -> list[Path]:
    """Call a function in a process of its own, so that threads of libraries do not live on in this one."""
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(list(function(folder))))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError as error:
        raise RuntimeError(f"the valid files could not be written to {folder}") from error
    finally:
        process.join()


class _Child:
    """A process that reads some of the files."""

    def __init__(
        self,
        context: Any,
        reader: Reader,
        seed: int,
        limits: Limits,
        folder: Path,
        seeds: Sequence[Path],
        indices: list[int],
        keep: Path | None,
    ) -> None:
        self.indices, self.limits, self.killed = indices, limits, False
        self.case = folder / f"case{indices[0]}"
        self.connection, sender = context.Pipe(duplex=False)
        arguments = (reader, seed, limits, folder / "originals", seeds, indices, keep, self.case, sender)
        self.process = context.Process(target=read_all, args=arguments)
        self.process.start()
        sender.close()
        self.current, self.since = -1, time.monotonic()

    def receive(self, outcomes: dict[int, Outcome]) -> bool:
        """Take a message; False at the end."""
        try:
            message = self.connection.recv()
        except EOFError:
            self.process.join()
            return False
        self.since = time.monotonic()
        if isinstance(message, Outcome):
            outcomes[message.index] = message
        else:
            self.current = message
        return True

    def is_overdue(self) -> bool:
        """Whether it has been silent for too long."""
        return not self.killed and time.monotonic() - self.since > 10 * self.limits.seconds + PATIENCE


def _left(child: _Child, outcomes: dict[int, Outcome], keep: Path | None) -> list[int]:
    """The files that a child which has ended did not read, after the one that ended it has its outcome."""
    left = [index for index in child.indices if index not in outcomes]
    if left:
        code = child.process.exitcode or 0
        trace = child.case.with_suffix(".trace")
        detail = trace.read_text(errors="replace") if trace.exists() else ""
        if left[0] != child.current:
            raise RuntimeError(f"the child ended ({code}) while it mutated file {left[0]}:\n{detail[-1500:]}")
        name = signal.Signals(-code).name if code < 0 else f"exit {code}"
        kind = "timeout" if child.killed else "crash"
        detail = detail[max(detail.find("Fatal Python error"), 0) :][:1500]
        outcomes[left[0]] = Outcome(left[0], kind, name, detail, time.monotonic() - child.since)
        keep_mutant(child.case, keep, kind, detail)
    shutil.rmtree(child.case, ignore_errors=True)
    return left[1:]
