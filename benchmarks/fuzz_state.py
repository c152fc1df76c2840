"""Readers of caches, records and interrupted work for ``benchmarks.fuzz``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzz_child import Reader
from benchmarks.fuzz_tables import make_features
from voxel_ext.data.measurement_tables import MeasurementFolder
from voxel_ext.data.part_folder import begin_parts
from voxel_ext.data.patch_cache import read_cached_positions, write_cached_positions
from voxel_ext.data.volume_record import VolumeRecord
from voxel_ext.data.volume_store import open_store, read_settings, salvage
from voxel_ext.data.worm_store import intensity_statistics
from voxel_ext.engines.cell_labeling import trained_classes
from voxel_ext.handlers.history import read_history
from voxel_ext.inferers import block_store
from voxel_ext.inferers.block_state import BlockState
from voxel_ext.workflow import run_settings

SETTINGS: dict[str, Any] = {"network": "unet", "size": [4, 5, 6], "nested": {"a": 1.5, "b": None}}
FINGERPRINT: dict[str, Any] = {"label": {"shape": [1, 9, 9, 9], "dtype": "uint8"}, "patch_size": [4, 4, 4]}


def make_patch_cache(folder: Path) -> Sequence[Path]:
    """Positions of patches."""
    positions = np.random.default_rng(0).integers(0, 5, (20, 3))
    write_cached_positions(folder / "patches.json", FINGERPRINT, positions)
    return [folder / "patches.json"]


def make_blocks(folder: Path) -> Sequence[Path]:
    """A result of block-wise inference that was interrupted, beside one that is complete."""
    import zarr

    state = BlockState(folder / "run" / "result.zarr")
    for place in (state.result, state.store):
        zarr.open_group(str(place), mode="w").attrs[block_store.SETTINGS_ATTRIBUTE] = json.dumps(SETTINGS)
    state.begin(SETTINGS)
    for tile in range(3):
        state.mark(tile, 0)
    return [folder / "run"]


def read_blocks(path: Path) -> None:
    """Look for what is finished, as a run with the same settings does."""
    state = BlockState(path / "result.zarr")
    state.is_complete(SETTINGS, True, False)
    if state.can_continue(SETTINGS, True, False):
        state.finished()


def make_parts(folder: Path) -> Sequence[Path]:
    """The folder of interrupted work."""
    (folder / "parts").mkdir()
    (folder / "parts" / "settings.json").write_text(json.dumps(SETTINGS))
    (folder / "parts" / "batch_000000.h5").write_bytes(b"")
    return [folder / "parts"]


def read_parts(path: Path) -> None:
    """Go on with it."""
    begin_parts(path, SETTINGS, lambda: lambda: None, False, "work", "output")


def make_measurement(folder: Path) -> Sequence[Path]:
    """A folder of feature tables with its record."""
    (folder / "tables").mkdir()
    for suffix in (".parquet", ".h5"):
        make_features(folder / "tables", suffix)
    (folder / "tables" / "a.parquet").rename(folder / "tables" / "objects.parquet")
    record = {"settings": SETTINGS, "objects": 5, "tables": ["objects", "b"]}
    (folder / "tables" / "measurement.json").write_text(json.dumps(record))
    return [folder / "tables"]


def read_measurement(path: Path) -> None:
    """Look for what is missing, and read what is there."""
    measured = MeasurementFolder(path)
    measured.missing(["objects", "moments"], SETTINGS, False)
    measured.read(["objects", "b"])


def make_synthetic(folder: Path) -> Sequence[Path]:
    """Interrupted files of synthetic volumes."""
    for name in ("a.h5.partial", "b.zarr.partial"):
        with open_store(folder / name, 3, {"generator": "x"}) as store:
            for number in range(2):
                image = np.full((4, 5, 6), number, np.float32)
                store.append(
                    VolumeRecord({"raw": image}, {"seeds": np.ones((number, 3))}, json.dumps({"seed": number}))
                )
    return [folder / "a.h5.partial", folder / "b.zarr.partial"]


def read_synthetic(path: Path) -> None:
    """Go on with an interrupted file."""
    salvage(path, 3, read_settings(path))


def make_history(folder: Path) -> Sequence[Path]:
    """The history of a training."""
    rows = [{"epoch": i, "train_loss": 1 / i, "seconds": 0.5, "val_iou": 0.1 * i} for i in range(1, 5)]
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [folder / "history.jsonl"]


def make_settings(folder: Path) -> Sequence[Path]:
    """The settings of a training."""
    (folder / "models").mkdir()
    values = {
        **SETTINGS,
        "intensity_mean": 3.0,
        "intensity_std": 2.0,
        "class_counts": {"AVAL": 3, "AVAR": 4},
        "seed": 0,
    }
    (folder / "models" / "settings.json").write_text(json.dumps(values, indent=2))
    return [folder / "models"]


def read_training(path: Path) -> None:
    """Read what other commands take from there."""
    if not (path / "settings.json").is_file():
        return
    intensity_statistics(path, settings=path / "settings.json")
    trained_classes(path)
    run_settings(path, SETTINGS)


READERS: tuple[Reader, ...] = (
    Reader("patch_cache", make_patch_cache, lambda path: read_cached_positions(path, FINGERPRINT, (5, 5, 5))),
    Reader("blocks", make_blocks, read_blocks),
    Reader("part_folder", make_parts, read_parts),
    Reader("measurement", make_measurement, read_measurement),
    Reader("synthetic", make_synthetic, read_synthetic),
    Reader("history", make_history, read_history),
    Reader("settings", make_settings, read_training),
)
