"""Seconds of the augmentations of one 4-channel patch of 64 × 120 × 284 voxels, with its label and weights."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import Row, compare
from voxel_ext.transforms.intensity.gradual_blur import RandGradualGaussianBlur
from voxel_ext.transforms.spatial.bending import RandBend, RandBendd

SHAPE = (64, 120, 284)
CHANNELS = 4
# every part is drawn every time, on both sides
PARTS = ("rotate_xy", "rotate_yz", "rotate_xz", "translate", "scale", "shear")


def run(arguments: argparse.Namespace) -> list[Row]:
    state = np.random.RandomState(0)
    image = state.uniform(-1, 1, (CHANNELS, *SHAPE)).astype(np.float32)
    label = state.randint(0, 180, (1, *SHAPE)).astype(np.int32)
    weight = state.uniform(0, 1, (1, *SHAPE)).astype(np.float32)
    folder = arguments.original_3dunet
    if not folder:
        sys.stderr.write("bending: ours alone, as there is no --original-3dunet\n")
    original = original_transforms(folder) if folder else None
    against = " / original" if original else ""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = _bending(arguments.repeats, image, label, weight, original, against)
        blur = RandGradualGaussianBlur(prob=1).set_random_state(0)
        other = original.GradualGaussianBlur(np.random.RandomState(0), execution_probability=1) if original else None
        rows.append(
            compare(
                "bending",
                f"gradual blur of 4 channels, one thread{against}",
                lambda: blur(image),
                (lambda: other(image)) if other else None,
                arguments.repeats,
                goal="ratio < 1" if other else "",
            )
        )
    finally:
        torch.set_num_threads(threads)
    return rows


def _bending(
    repeats: int, image: np.ndarray, label: np.ndarray, weight: np.ndarray, original: Any, against: str
) -> list[Row]:
    always: dict[str, Any] = {f"{part}_prob": 1.0 for part in PARTS}
    alone = RandBend(prob=1, **always).set_random_state(0)
    together = RandBendd(
        ["image", "label", "weight"],
        prob=1,
        mode=["bilinear", "nearest", "bilinear"],
        padding=["median", 0, 0],
        **always,
    ).set_random_state(0)
    data = {"image": image, "label": label, "weight": weight}
    image_of, all_of = (_original_runs(original, image, label, weight)) if original else (None, None)
    return [
        compare(
            "bending",
            f"bending and affine of 4 channels, one thread{against}",
            lambda: alone(image),
            image_of,
            repeats,
            goal="< 1 s" + (", ratio < 1" if original else ""),
        ),
        compare(
            "bending",
            f"bending and affine of 4 channels, label and weights, one thread{against}",
            lambda: together(data),
            all_of,
            repeats,
            goal="ratio < 1" if original else "",
        ),
    ]


def _original_runs(original: Any, image: np.ndarray, label: np.ndarray, weight: np.ndarray) -> tuple[Any, Any]:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)

    def make(**more: Any) -> Any:
        names = ("shear", "xy_rotate", "xz_rotate", "yz_rotate", "scale", "translate", "bspline")
        always = {f"{name}_exec_prob": 1.0 for name in names}
        ranges = {"translate_x": 40, "translate_y": 25, "translate_z": 7, "sigma_yz_rotate": 15}
        spline = {"bspline_bend_lim": 0.4, "bspline_sigma": 10}
        return original.RandomITKDeformation(np.random.RandomState(0), **always, **ranges, **spline, **more)

    images, labels, weights = make(), make(interpolator="nn", cval=0), make(cval=0)
    # SimpleITK takes the median of float64 only
    image = image.astype(np.float64)

    def everything() -> None:
        images(image)
        labels(label[0])
        weights(weight[0])

    return lambda: images(image), everything


def original_transforms(folder: str) -> Any:
    """Import the original's transforms, which name packages and modules that are not needed here or are gone."""
    import scipy.ndimage

    filters = types.ModuleType("scipy.ndimage.filters")
    filters.convolve = scipy.ndimage.convolve  # type: ignore[attr-defined]
    vision, transforms = types.ModuleType("torchvision"), types.ModuleType("torchvision.transforms")
    transforms.Compose = list  # type: ignore[attr-defined]
    stubs = {"torchvision": vision, "torchvision.transforms": transforms, "scipy.ndimage.filters": filters}
    before = {name: sys.modules.get(name) for name in stubs}
    sys.modules.update(stubs)
    try:
        path = Path(folder) / "pytorch3dunet" / "augment" / "transforms.py"
        spec = importlib.util.spec_from_file_location("original_transforms", path)
        if spec is None or spec.loader is None:
            raise FileNotFoundError(f"{path} cannot be imported; expected a checkout of pytorch-3dunet")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        for name, had in before.items():
            if had is None:
                del sys.modules[name]
            else:
                sys.modules[name] = had
    return module
