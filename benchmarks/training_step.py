"""What the bundle's engine costs on top of a bare PyTorch loop: same network, same batch, same loss and optimizer."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from monai.utils import set_determinism

from benchmarks.harness import Row, compare

ROOT = Path(__file__).resolve().parents[1] / "bundles" / "optic_lobe_segmentation"
STEPS = 20


def run(arguments: argparse.Namespace) -> list[Row]:
    logging.disable(logging.INFO)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for architecture in ("unet", "stacked_hourglass"):
            parser = _parser(folder, architecture)
            rows.append(
                compare(
                    "training_step",
                    f"{STEPS} steps, {architecture}, batch {tuple(_batch()['image'].shape)} / bare loop",
                    _engine(parser),
                    _bare_loop(parser),
                    repeats=arguments.repeats,
                    goal="ratio < 1.05",
                )
            )
    return rows


def _batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 1, 64, 64, 64, generator=generator)
    return {"image": image, "label": (image > 0.8).float()}


def _parser(folder: str, architecture: str) -> ConfigParser:
    """Read the bundle's training config, with one fixed batch in place of the data loader and no validation."""
    parser = ConfigParser()
    parser.read_config(ROOT / "configs" / "train.json")
    parser.update(
        {
            "bundle_root": str(ROOT),
            "ckpt_dir": f"{folder}/models",
            "log_path": f"{folder}/runs",
            "architecture": architecture,
            "epochs": 1,
            "checkpoint_policy": "last",
            "datalists": {"train": [], "val": []},
            "train#dataloader": [_batch()] * STEPS,
            "val_interval": 10**6,
        }
    )
    set_determinism(0)
    return parser


def _engine(parser: ConfigParser) -> Callable[[], object]:
    trainer = parser.get_parsed_content("train#trainer")

    def run() -> None:
        trainer.state.epoch = trainer.state.iteration = 0
        with contextlib.redirect_stderr(io.StringIO()):
            trainer.run()

    return run


def _bare_loop(parser: ConfigParser) -> Callable[[], object]:
    network = parser.get_parsed_content("network")
    loss_function = parser.get_parsed_content("loss")
    optimizer = parser.get_parsed_content("optimizer")
    device = parser.get_parsed_content("device")
    amp = parser.get_parsed_content("amp")
    scaler = torch.amp.GradScaler(enabled=amp)
    batches = [_batch()] * STEPS

    def run() -> None:
        network.train()
        for batch in batches:
            image, label = batch["image"].to(device), batch["label"].to(device)
            optimizer.zero_grad()
            with torch.autocast(device.type, enabled=amp):
                loss = loss_function(network(image), label)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

    return run
