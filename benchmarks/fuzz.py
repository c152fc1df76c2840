"""``python -m benchmarks.fuzz [reader ...]``: read mutated files, and tell what became of them."""

from __future__ import annotations

import argparse
import collections
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from benchmarks import fuzz_networks, fuzz_prepared, fuzz_state, fuzz_tables, fuzz_volumes
from benchmarks.fuzz_child import FINE, Limits, Outcome, Reader
from benchmarks.fuzz_runner import fuzz
from benchmarks.harness import machine, versions

READERS: dict[str, Reader] = {
    reader.name: reader
    for module in (fuzz_volumes, fuzz_tables, fuzz_prepared, fuzz_state, fuzz_networks)
    for reader in module.READERS
}
COLUMNS = ("reader", "files", "read", "refused", "by", "undocumented", "worst s", "worst MiB")


def row(name: str, outcomes: Sequence[Outcome]) -> str:
    """A line of the table."""
    kinds = collections.Counter(outcome.kind for outcome in outcomes)
    errors = collections.Counter(outcome.error for outcome in outcomes if outcome.kind == "refused")
    others = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()) if kind not in FINE)
    cells = (
        name,
        len(outcomes),
        kinds["read"],
        kinds["refused"],
        ", ".join(f"{count} {error}" for error, count in errors.most_common()),
        others or 0,
        f"{max(outcome.seconds for outcome in outcomes):.2f}",
        f"{max(outcome.mebibytes for outcome in outcomes):.0f}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def describe(name: str, outcomes: Sequence[Outcome]) -> list[str]:
    """The first of each kind of undocumented outcome, with the end of its traceback."""
    seen: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.kind not in FINE:
            where = "" if outcome.kind == "timeout" else "".join(outcome.detail.splitlines()[-4:-1])
            seen.setdefault((outcome.kind, where), []).append(outcome)
    return [
        f"{name}, file {found[0].index} ({len(found)} alike): {kind} {found[0].error}\n{found[0].detail}"
        for (kind, _), found in seen.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the readers that are named, all without a name.

    Returns:
        1 if anything undocumented happened, else 0.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="reader", help=f"of {', '.join(READERS)}; all without a name")
    parser.add_argument("--files", type=int, default=2000, help="mutated files for each reader (default 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (default 0)")
    parser.add_argument("--timeout", type=float, default=5.0, help="CPU seconds for one file (default 5)")
    parser.add_argument("--memory", type=float, default=2.0, help="GiB for one file (default 2)")
    parser.add_argument("--workers", type=int, default=2, help="child processes at a time (default 2)")
    parser.add_argument("--keep", type=Path, help="folder for the first mutant of each undocumented outcome")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.readers) - set(READERS))
    if unknown:
        parser.error(f"no reader {', '.join(unknown)}; expected some of {', '.join(READERS)}")
    lines = [f"| {' | '.join(COLUMNS)} |", "| --- " * len(COLUMNS) + "|"]
    problems: list[str] = []
    start = time.monotonic()
    for name in tqdm(options.readers or list(READERS), unit="reader", file=sys.stderr):
        keep = options.keep / name if options.keep else None
        limits = Limits(options.timeout, options.memory)
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            outcomes = fuzz(READERS[name], options.files, options.seed, limits, Path(folder), keep, options.workers)
        lines.append(row(name, outcomes))
        problems += describe(name, outcomes)
    print("\n".join([*lines, "", f"{time.monotonic() - start:.0f} s. Machine: {machine()}", f"Versions: {versions()}"]))
    print(*problems, sep="\n\n", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
