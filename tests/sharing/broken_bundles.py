"""Copies of bundles, to be broken."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forked_commands import ROOT

BUNDLES = ROOT / "bundles"
NAMES = sorted(path.parent.parent.name for path in BUNDLES.glob("*/configs/metadata.json"))


def copy_bundle(name: str, folder: Path) -> Path:
    """Copy what belongs to a bundle, not what was made by running it."""
    copy = folder / name
    for part in ("configs", "docs"):
        shutil.copytree(BUNDLES / name / part, copy / part)
    shutil.copy(BUNDLES / name / "LICENSE", copy)
    return copy


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the content of a JSON file."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content, indent=4))


def replace(file: Path, old: str, new: str) -> None:
    """Change a text that stands once in a file."""
    text = file.read_text()
    assert text.count(old) == 1, (old, text.count(old))
    file.write_text(text.replace(old, new))
