"""Readers of networks, models, meshes and archives for ``benchmarks.fuzz``."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine

from benchmarks.fuzz_child import Reader
from voxel_ext.convert import convert_checkpoint
from voxel_ext.data.surface_sources import read_mesh
from voxel_ext.handlers import CheckpointHandler, HistoryHandler, load_weights, save_checkpoint
from voxel_ext.matching.atlas import WormAtlas
from voxel_ext.networks.nets.unet3d_factory import unet3d_network
from voxel_ext.sharing.archive import unpack_bundle, write_zip
from voxel_ext.sharing.manifest import Manifest
from voxel_ext.synthetic.worm.shape_model import WormShapeModel

CELLS = 12


def network() -> torch.nn.Module:
    """A tiny network."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Conv2d(2, 1, 3))


def training(folder: Path, resume: bool | str) -> tuple[CheckpointHandler, Engine]:
    """A training that does nothing, with all that goes into a checkpoint."""
    trained = network()
    optimizer = torch.optim.Adam(trained.parameters(), lr=0.1)
    states = {
        "network": trained,
        "optimizer": optimizer,
        "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 2),
        "history": HistoryHandler(folder / "history.jsonl", optimizer),
    }
    engine = Engine(functools.partial(_step, trained, optimizer))
    handler = CheckpointHandler(folder, states, "last", resume=resume, settings={"network": "tiny"})
    handler.attach(engine)
    return handler, engine


def _step(trained: torch.nn.Module, optimizer: torch.optim.Optimizer, *_: Any) -> None:
    optimizer.zero_grad()
    trained(torch.ones(2, 1, 6, 6)).sum().backward()
    optimizer.step()


def make_weights(folder: Path) -> Sequence[Path]:
    """A state dict, bare and in a dictionary."""
    save_checkpoint(folder / "a.pt", network().state_dict())
    save_checkpoint(folder / "b.pt", {"network": network().state_dict(), "epoch": 3})
    return [folder / "a.pt", folder / "b.pt"]


def make_resume(folder: Path) -> Sequence[Path]:
    """The folder of a training."""
    _, engine = training(folder / "models", False)
    engine.run([None] * 2, max_epochs=1)
    return [folder / "models" / "checkpoint_last.pt"]


def resume(path: Path) -> None:
    """Go on with a training from a file, for an epoch, beside it."""
    folder = path.with_name("resumed")
    folder.mkdir()
    _, engine = training(folder, str(path))
    try:
        engine.run([None] * 2, max_epochs=2)
    finally:
        if not any(folder.iterdir()):
            folder.rmdir()


def make_foreign(folder: Path) -> Sequence[Path]:
    """Files as pytorch-3dunet writes them."""
    settings: dict[str, Any] = {"in_channels": 1, "out_channels": 2, "f_maps": [2, 4], "num_levels": 2, "num_groups": 2}
    for name, architecture in (("a", "unet3d"), ("b", "residual_unet_se3d")):
        state = unet3d_network(architecture=architecture, layer_order="gcr", **settings).state_dict()
        torch.save(
            {"epoch": 3, "best_eval_score": np.float64(0.5), "model_state_dict": state}, folder / f"{name}.pytorch"
        )
    return [folder / "a.pytorch", folder / "b.pytorch"]


def convert(path: Path) -> None:
    """Convert a foreign checkpoint; only a file that is read may leave something."""
    convert_checkpoint(path, path.with_name("out.pt"), num_groups=2)


def make_atlas(folder: Path) -> Sequence[Path]:
    """An atlas of a few cells."""
    rng = np.random.default_rng(0)
    mean = rng.normal(0, (8, 16, 100), (CELLS, 3))
    worms = [mean + rng.normal(0, 1, mean.shape) for _ in range(4)]
    WormAtlas.fit(worms, [f"CELL{i}" for i in range(CELLS)]).save(folder / "atlas.npz")
    return [folder / "atlas.npz"]


def make_shape_model(folder: Path) -> Sequence[Path]:
    """A shape model of a few cells."""
    rng = np.random.default_rng(0)
    mean = rng.normal(0, (8, 16, 100), (CELLS, 3))
    worms = [mean + rng.normal(0, 1, mean.shape) for _ in range(5)]
    WormShapeModel.fit(worms, [f"CELL{i}" for i in range(CELLS)], 2).save(folder / "model.npz")
    return [folder / "model.npz"]


def make_meshes(folder: Path) -> Sequence[Path]:
    """OBJ and both kinds of PLY."""
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=1)
    ball.export(folder / "a.obj")
    ball.export(folder / "b.ply", encoding="ascii")
    ball.export(folder / "c.ply", encoding="binary")
    return [folder / name for name in ("a.obj", "b.ply", "c.ply")]


def make_archive(folder: Path) -> Sequence[Path]:
    """A packed bundle as far as unpacking looks at it."""
    entries: dict[str, Path | bytes] = {
        f"tiny/configs/{name}.json": b'{"version": "1"}' * 9 for name in ("a", "metadata")
    }

    def manifest(files: Any) -> tuple[str, bytes]:
        below = tuple(type(file)(file.path.removeprefix("tiny/"), file.size, file.sha256) for file in files)
        return "tiny/manifest.json", Manifest("tiny", "1", {"torch": "2"}, "pip", "run", (), below).to_json().encode()

    write_zip(folder / "tiny.zip", entries, manifest)
    return [folder / "tiny.zip"]


def unpack(path: Path) -> None:
    """Unpack into a folder that is there."""
    unpack_bundle(path, path.parent)


READERS = (
    Reader("weights", make_weights, lambda path: load_weights(path, network())),
    Reader("resume", make_resume, resume),
    Reader("convert", make_foreign, convert),
    Reader("atlas", make_atlas, WormAtlas.load),
    Reader("shape_model", make_shape_model, WormShapeModel.load),
    Reader("meshes", make_meshes, read_mesh),
    Reader("archives", make_archive, unpack),
)
