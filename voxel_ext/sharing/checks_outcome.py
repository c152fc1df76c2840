"""What a check of a bundle found, and a table of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

PASSED, FAILED, SKIPPED, DOES_NOT_APPLY = "passed", "failed", "skipped", "does not apply"
STATUSES = (PASSED, FAILED, SKIPPED, DOES_NOT_APPLY)


@dataclass(frozen=True)
class Check:
    """Outcome of one check.

    Attributes:
        name: what was checked.
        status: one of ``STATUSES``.
        message: why; of a failure one line for each thing that is wrong: file, key and value, and what was expected.
    """

    name: str
    status: str
    message: str


def outcome(name: str, problems: Sequence[str], passed: str) -> Check:
    """Return a check that failed if there are problems, each named once.

    Args:
        name: what was checked.
        problems: one line for each thing that is wrong.
        passed: the message when there is none.
    """
    if problems:
        return Check(name, FAILED, "\n".join(dict.fromkeys(problems)))
    return Check(name, PASSED, passed)


def _printable(line: str) -> str:
    """A line without characters that control a terminal, which a bundle's files may hold."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line)


def format_checks(checks: Sequence[Check]) -> str:
    """Return a table of checks, one line or more for each, and a last line that counts them.

    Args:
        checks: as :func:`voxel_ext.sharing.verify_bundle` gives them.
    """
    widths = [
        max((len(text) for text in column), default=0)
        for column in ((c.status for c in checks), (c.name for c in checks))
    ]
    lines = []
    for check in checks:
        first, *others = [_printable(line) for line in check.message.splitlines()] or [""]
        lines.append(f"{check.status:<{widths[0]}}  {check.name:<{widths[1]}}  {first}".rstrip())
        lines += [" " * (sum(widths) + 4) + line for line in others]
    counts = Counter(check.status for check in checks)
    total = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    return "\n".join([*lines, "", total or "nothing was checked"])
