"""A dictionary transform before and after, on a volume that fits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gallery_pictures.entries import Context, Drawn, Entry, call_text, summary
from gallery_pictures.panels import (
    Panel,
    arrow_panel,
    direction_panel,
    figure_of,
    gray_panel,
    ids_panel,
    text_panel,
)
from gallery_pictures.samples import Item
from monai.transforms import Randomizable

import voxel_ext.transforms
from voxel_ext.errors import InvalidInputError

View = Callable[[Any, Item], list[Panel]]
"""Draws an item; the second one is the item before the transform, whose range of gray is kept."""


@dataclasses.dataclass(frozen=True)
class Example:
    """How a transform is shown.

    Attributes:
        sample: makes the item.
        settings: arguments of the transform.
        before: draws the item.
        after: draws the result; None as ``before``.
        seed: of a random transform.
    """

    sample: Callable[[], Item]
    settings: Mapping[str, Any]
    before: View
    after: View | None = None
    seed: int = 0


def entries(examples: Mapping[str, Example]) -> list[Entry]:
    """Make an entry of each example, by name of its class in voxel_ext.transforms."""
    package = voxel_ext.transforms
    return [
        Entry("Transforms", name, summary(getattr(package, name), package), _drawer(name, example))
        for name, example in examples.items()
    ]


def _drawer(name: str, example: Example) -> Callable[[Context], Drawn]:
    def draw(context: Context) -> Drawn:
        transform = getattr(voxel_ext.transforms, name)(**example.settings)
        if isinstance(transform, Randomizable):
            transform.set_random_state(example.seed)
        item = example.sample()
        try:
            result = transform(example.sample())
        except InvalidInputError as error:
            result = {"error": str(error)}
        first = example.before(item, item)
        shown = error_view(result, item) if "error" in result else (example.after or example.before)(result, item)
        first = [panel._replace(title=f"before: {panel.title}") for panel in first]
        shown = [panel._replace(title=f"after: {panel.title}") for panel in shown]
        rows = [first, shown] if max(panel.ratio for panel in first + shown) < 0.75 else [first + shown]
        call = call_text(name, {key: _plain(value) for key, value in example.settings.items()})
        state = f".set_random_state({example.seed})" if isinstance(transform, Randomizable) else ""
        return Drawn(figure_of(rows), call + state)

    return draw


def _plain(value: Any) -> Any:
    """A transform as its call, anything else as it is."""
    return _Text(value.gallery_call) if hasattr(value, "gallery_call") else value


class _Text(str):
    """A text whose repr is itself."""

    def __repr__(self) -> str:
        return str(self)


def error_view(result: Item, before: Item) -> list[Panel]:
    """Show the message of a refusal."""
    return [text_panel("refused with an error", f"InvalidInputError: {result['error']}")]


def slices(*keys: str, axis: int = 0, index: int | None = None, channel: int = 0) -> View:
    """Show a slice of images across an axis; the middle one without an index."""

    def view(item: Item, before: Item) -> list[Panel]:
        panels = []
        for key in keys:
            volume = np.asarray(item[key])[channel]
            number = volume.shape[axis] // 2 if index is None else index
            like = np.asarray(before[key])[channel] if key in before else None
            panels.append(gray_panel(key, volume.take(number, axis), like, "zyx"[:axis] + "zyx"[axis + 1 :]))
        return panels

    return view


def projection(key: str = "image") -> View:
    """Show the maximum of an image along z."""

    def view(item: Item, before: Item) -> list[Panel]:
        return [
            gray_panel(f"{key}, maximum along z", np.asarray(item[key])[0].max(0), np.asarray(before[key])[0].max(0))
        ]

    return view


def ids(*keys: str, under: str | None = None, channel: int = 0) -> View:
    """Show the middle slice of ids, each in its own color."""

    def view(item: Item, before: Item) -> list[Panel]:
        panels = []
        for key in keys:
            volume = np.asarray(item[key])[channel]
            middle = len(volume) // 2
            image = None if under is None else np.asarray(item[under])[0][middle]
            panels.append(ids_panel(key, volume[middle], image))
        return panels

    return view


def both(*views: View) -> View:
    """Show one view after another."""
    return lambda item, before: [panel for view in views for panel in view(item, before)]


def field(image: str = "image", vectors: str = "normals") -> View:
    """Show the middle slice of vectors as arrows over the image."""

    def view(item: Item, before: Item) -> list[Panel]:
        middle = item[image].shape[1] // 2
        arrows = np.asarray(item[vectors])[:, middle]
        return [arrow_panel(f"{image} and {vectors}", np.asarray(item[image])[0, middle], arrows)]

    return view


def directions(vectors: str, where: str) -> View:
    """Show the middle slice of vectors as colors, where a map exceeds a half."""

    def view(item: Item, before: Item) -> list[Panel]:
        middle = item[vectors].shape[1] // 2
        inside = np.asarray(item[where])[0, middle] > 0.5
        return [direction_panel(f"{vectors}, red |x|, green |y|", np.asarray(item[vectors])[:, middle], inside)]

    return view
