"""A picture of what each synthetic generator makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gallery_pictures.entries import Context, Drawn, Entry, call_text, summary
from gallery_pictures.panels import (
    INK,
    Panel,
    direction_panel,
    figure_of,
    gray_panel,
    ids_panel,
    png_panel,
    rgb_panel,
)

import voxel_ext.synthetic
from voxel_ext.synthetic.neuropal import CHANNELS
from voxel_ext.visualize import colors, render_volume
from voxel_ext.visualize.labeled_projection import composite

_QUICK: dict[str, dict[str, Any]] = {
    "Mitochondria": {"size": (24, 80, 80), "objects": 3, "volume": (0.016, 0.02), "voxel_size": (24.0, 16.0, 16.0)},
    "NeuroPAL": {"size": (12, 24, 48), "cells": 12},
    "OpticLobe": {"size": 32},
    "OpticLobe2D": {"size": 48},
    "Sheets": {"size": 24},
    "Worm": {"cells": 20},
}
_FULL: dict[str, dict[str, Any]] = {
    "Mitochondria": {"size": (48, 192, 192), "objects": 36},
    "NeuroPAL": {},
    "OpticLobe": {"size": 96},
    "OpticLobe2D": {"size": 128},
    "Sheets": {"size": 96, "kind": "spiral"},
    "Worm": {},
}


def mitochondria(volume: dict[str, Any]) -> bytes:
    """A slice of electron microscopy, its ids, and all objects in 3D."""
    middle = len(volume["image"]) // 2
    image, label = volume["image"][middle], volume["label"][middle]
    scene = render_volume(volume["image"] * 0, volume["label"], size=320, voxel_size=(30, 16, 16))
    pair = np.asarray(png_picture(scene))[:, 320:]
    return figure_of(
        [[gray_panel("image", image), ids_panel("label", label, image), rgb_panel("all objects", pair, "")]]
    )


def png_picture(png: bytes) -> Any:
    """Decode a PNG file."""
    import io

    from PIL import Image

    return Image.open(io.BytesIO(png)).convert("RGB")


def neuropal(animal: dict[str, Any]) -> bytes:
    """The channels as colors and the ROIs, both as maxima along z."""
    picture = composite(animal["image"], CHANNELS, 0)
    label = animal["label"].max(0)
    return figure_of([[rgb_panel("4 channels, maximum along z", picture)], [ids_panel("ROIs", label)]], cell=6)


def optic_lobe(volume: dict[str, Any]) -> bytes:
    """A slice, its ids, and the volume in 3D."""
    middle = len(volume["image"]) // 2
    image, label = volume["image"][middle], volume["label"][middle]
    scene = png_panel("signal; signal and columns", render_volume(volume["image"], volume["label"] > 0, size=320))
    return figure_of([[gray_panel("image", np.sqrt(image), axes="yz"), ids_panel("label", label, axes="yz")], [scene]])


def optic_lobe_2d(volume: dict[str, Any]) -> bytes:
    """The image and its ids."""
    image = np.sqrt(np.clip(volume["image"], 0, None))
    return figure_of([[gray_panel("image", image, axes="xy"), ids_panel("label", volume["label"], axes="xy")]])


def sheets(volume: dict[str, Any]) -> bytes:
    """A slice, the ids of the sheets, and their normals as colors."""
    middle = len(volume["image"]) // 2
    normals = direction_panel("normals, red |x|, green |y|", volume["normals"][:, middle], volume["sheet"][middle])
    return figure_of(
        [[gray_panel("image", volume["image"][middle]), ids_panel("label", volume["label"][middle]), normals]]
    )


def worm(volume: dict[str, Any]) -> bytes:
    """The image and the nuclei, both as maxima along z."""
    image, label = volume["image"].max(0), volume["label"].max(0)
    return figure_of([[gray_panel("image, maximum along z", image)], [ids_panel("nuclei", label)]], cell=9)


def worm_shape_model(context: Context) -> Drawn:
    """The mean worm, and the mean with twice the deviation of the first component."""
    model = voxel_ext.synthetic.WormShapeModel.load()

    low, high = model.mean[:, 2].min(), model.mean[:, 2].max()

    def panel(title: str, factor: float) -> Panel:
        points = model.mean + factor * model.standard_deviations[0] * model.components[0]

        def paint(axes: Any) -> None:
            axes.scatter(points[:, 2], points[:, 1], s=5, color=colors.SIGNAL, linewidths=0)
            axes.set(aspect="equal", xlim=(low - 60, high + 60), ylim=(80, -80))
            axes.set_xlabel("x (voxels)", color=INK, fontsize=8)
            axes.set_ylabel("y (voxels)", color=INK, fontsize=8)
            axes.tick_params(labelsize=7)

        return Panel(title, paint, 0.13)

    rows = [[panel("mean", 0)], [panel("mean + 2 sd of component 1", 2)], [panel("mean - 2 sd of component 1", -2)]]
    return Drawn(figure_of(rows, cell=9), "WormShapeModel.load()")


DRAWERS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "Mitochondria": mitochondria,
    "NeuroPAL": neuropal,
    "OpticLobe": optic_lobe,
    "OpticLobe2D": optic_lobe_2d,
    "Sheets": sheets,
    "Worm": worm,
}
"""By name of the generator."""


def entries() -> list[Entry]:
    """An entry for each generator."""
    package = voxel_ext.synthetic
    result = [
        Entry("Synthetic data", name, summary(getattr(package, name), package), _drawer(name)) for name in DRAWERS
    ]
    model = Entry("Synthetic data", "WormShapeModel", summary(package.WormShapeModel, package), worm_shape_model)
    return [*result, model]


def _drawer(name: str) -> Callable[[Context], Drawn]:
    def draw(context: Context) -> Drawn:
        settings = {"seed": context.seed, **(_QUICK if context.quick else _FULL)[name]}
        made = getattr(voxel_ext.synthetic, name)(**settings).generate()
        return Drawn(DRAWERS[name](made), call_text(name, settings) + ".generate()")

    return draw
