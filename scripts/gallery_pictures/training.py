"""A short training of a network on synthetic data, for a picture of what its output looks like."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gallery_pictures.entries import Context
from tqdm.auto import tqdm

from voxel_ext.synthetic import Mitochondria, NeuroPAL, OpticLobe2D, Sheets, Worm

Batch = dict[str, torch.Tensor]


def train(
    network: torch.nn.Module,
    loss: Callable[[Batch], torch.Tensor],
    batch: Callable[[int], Batch],
    steps: int,
    context: Context,
    learning_rate: float = 3e-3,
) -> str:
    """Train by Adam with a cosine schedule, and leave the network in evaluation mode.

    Args:
        network: to be trained.
        loss: of a batch.
        batch: makes the batch of a step.
        steps: of the optimizer; 3 of a quick run.
        context: of the picture.
        learning_rate: at the start.

    Returns:
        a line on the length of the training.
    """
    steps = 3 if context.quick else steps
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    started = time.monotonic()
    for step in tqdm(range(steps), desc=type(network).__name__, unit="step", leave=False):
        optimizer.zero_grad()
        loss(batch(step)).backward()
        optimizer.step()
        schedule.step()
    network.eval()
    seconds = max(1, round(time.monotonic() - started))
    return f"Trained for {steps} steps ({seconds} s) on synthetic data; it shows the output, not how good it can be."


UNTRAINED = "Random weights, not trained."
"""The line of a network that is shown untrained."""


@functools.cache
def spots(seed: int, size: int = 64) -> Batch:
    """An image of the optic lobe in cross section and its mask, (1, 1, size, size)."""
    made = OpticLobe2D(seed=seed, size=size).generate()
    image = np.sqrt(np.clip(made["image"], 0, None))
    return {"image": _scaled(image)[None], "mask": torch.from_numpy(made["label"] > 0)[None, None].float()}


@functools.cache
def nuclei(seed: int, size: tuple[int, int, int]) -> Batch:
    """The head of a worm in one channel and the mask of its nuclei, (1, 1, *size)."""
    made = NeuroPAL(seed=seed, size=size, cells=24, threads=1).generate()
    return {
        "image": _scaled(made["image"].sum(0))[None],
        "mask": torch.from_numpy(made["label"] > 0)[None, None].float(),
    }


@functools.cache
def sheets(seed: int, size: int) -> Batch:
    """A stack of sheets: image, mask and normals, (1, C, size, size, size)."""
    made = Sheets(seed=seed, size=size, kind="spiral", spacing=10, noise=0.3).generate()
    return {
        "image": _scaled(made["image"])[None],
        "sheet": torch.from_numpy(made["sheet"])[None, None].float(),
        "normals": torch.from_numpy(made["normals"])[None],
    }


@functools.cache
def objects(count: int, size: int) -> tuple[torch.Tensor, list[str]]:
    """Masks of mitochondria in cubes, (N, 1, size, size, size), aligned in size, and their classes."""
    from scipy import ndimage

    made = Mitochondria(
        seed=0, size=(64, 192, 192), objects=count, volume=(0.02, 0.03), voxel_size=(16, 16, 16), gap=16
    ).generate()
    cubes = []
    for region, number in zip(ndimage.find_objects(made["label"]), range(1, count + 1), strict=True):
        inside = (made["label"][region] == number).astype(np.float32)
        longest = max(inside.shape)
        padding = [((longest - n) // 2 + 1, (longest - n + 1) // 2 + 1) for n in inside.shape]
        cube = torch.from_numpy(np.pad(inside, padding))[None, None]
        cubes.append(torch.nn.functional.interpolate(cube, (size,) * 3, mode="trilinear", align_corners=False))
    return torch.cat(cubes), [made["classes"][number] for number in range(1, count + 1)]


@functools.cache
def cells(seed: int, count: int, size: int = 16) -> Batch:
    """The cubes of voxels around the nuclei of a worm, (N, 1, size, size, size), and their positions (N, 3)."""
    made = Worm(seed=seed, cells=count, roll=0, threads=1).generate()
    half = size // 2
    image = np.pad(made["image"], half) / 255
    corners = np.rint(made["positions"]).astype(int)
    cubes = [image[tuple(slice(c, c + size) for c in corner)] for corner in corners]
    return {
        "image": torch.from_numpy(np.stack(cubes)[:, None].astype(np.float32)),
        "positions": torch.from_numpy(made["positions"]),
    }


def _scaled(image: Any) -> torch.Tensor:
    """From 0 to 1 between the 1st and the 99th percentile, with a channel axis."""
    low, high = np.percentile(image, (1, 99))
    return torch.from_numpy(np.clip((image - low) / (high - low), 0, 1.5).astype(np.float32))[None]
