import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundle_commands import configs, run_command

TINY_VOLUMES = {"volume_size": 32, "volumes_per_file": 2, "validation_volumes": 2, "num_workers": 0}


@pytest.fixture(autouse=True)
def restore_excepthook(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands set sys.excepthook; give every test the original one back."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder that is not the bundle's."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a bundle's synthetic data once per session and set of overlays."""
    made: dict[tuple, Path] = {}

    def make(bundle: str, *overlays: str, **override: Any) -> Path:
        key = (bundle, *overlays, *sorted(override.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("data")
            run_command(
                "run", configs(bundle, "prepare", *overlays), dataset_dir=str(folder), **(TINY_VOLUMES | override)
            )
            made[key] = folder
        return made[key]

    return make
