"""Pictures of the transforms that move, crop or pad volumes and point clouds."""

from __future__ import annotations

from typing import Any

import numpy as np
from gallery_pictures import samples
from gallery_pictures.panels import Panel, cloud_panel, gray_panel, ids_panel
from gallery_pictures.samples import Item
from gallery_pictures.transform_examples import Example, both, ids, projection, slices

from voxel_ext.transforms import RandPosed


def cloud(item: Any, before: Item) -> list[Panel]:
    """Show the points of a cloud."""
    return [cloud_panel(f"{len(item['points'])} points", item["points"])]


def windows(items: Any, before: Item) -> list[Panel]:
    """Show the middle slices of several windows."""
    return [
        ids_panel(
            f"window {number}",
            item["label"][0, item["label"].shape[1] // 2],
            item["image"][0, item["label"].shape[1] // 2],
        )
        for number, item in enumerate(items, 1)
    ]


def views(item: Any, before: Item) -> list[Panel]:
    """Show the middle slices of two views."""
    return [
        gray_panel(key, np.asarray(item[key])[0, item[key].shape[1] // 2], before["image"])
        for key in ("view1", "view2")
    ]


class Pose(RandPosed):
    """A random pose that tells how it was made, for the text below the picture."""

    gallery_call = "RandPosed('image', scale_range=(0.8, 1.1))"


EXAMPLES = {
    "RandBendd": Example(
        samples.worm,
        {
            "keys": ("image", "label"),
            "mode": ("bilinear", "nearest"),
            "prob": 1.0,
            "bend_limit": 0.6,
            "jitter": 0.0,
            "control_points": 2,
            "scale_prob": 0.0,
            "shear_prob": 0.0,
            "rotate_xy_prob": 0.0,
            "rotate_yz_prob": 0.0,
            "translate_prob": 0.0,
        },
        both(projection("image"), ids("label", under="image")),
        seed=2,
    ),
    "RandWormRotationd": Example(
        samples.nucleus_cube, {"keys": "image"}, both(slices("image"), slices("image", axis=2)), seed=3
    ),
    "RandPosed": Example(
        samples.one_mitochondrion,
        {"keys": ("image", "mask"), "scale_range": (0.8, 1.2)},
        both(slices("image"), slices("mask")),
        seed=1,
    ),
    "TwoViewsd": Example(
        samples.nucleus_cube,
        {"transform": Pose("image", scale_range=(0.8, 1.1)), "seed": 0, "seed_keys": ()},
        slices("image"),
        views,
    ),
    "RandAcceptedCropd": Example(
        samples.mitochondria,
        {
            "keys": ("image", "label"),
            "spatial_size": (16, 40, 40),
            "instance_key": "label",
            "min_instances": 3,
            "num_samples": 3,
        },
        ids("label", under="image"),
        windows,
    ),
    "ReflectPadd": Example(
        samples.one_mitochondrion, {"keys": ("image", "mask"), "spatial_size": (32, 160, 160)}, slices("image")
    ),
    "FirstPointsd": Example(samples.points, {"keys": "points", "count": 512}, cloud),
}
"""By name of the transform."""
