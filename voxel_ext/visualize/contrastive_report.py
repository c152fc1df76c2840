"""Pictures of what contrastive learning sees and finds: pairs of views, a map of the features, nearest neighbors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.visualize import colors
from voxel_ext.visualize.figures import blank_figure, figure_png, picture_element, plain_axes
from voxel_ext.visualize.object_views import colored_view, object_shape, shaded_view

PIXELS = 96
_MAX_CLASSES = 12


def principal_plane(features: ArrayLike) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Project standardized features to their first two principal components.

    Args:
        features: (N, L).

    Returns:
        (N, 2) and the share of the variance along each axis; zeros where there are fewer than two.

    Raises:
        InvalidInputError: no features, or values that are not finite.
    """
    values = np.asarray(features, np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise InvalidInputError(f"features of shape {values.shape} are empty, not (N, L), or not finite")
    spread = values.std(axis=0)
    scaled = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)
    left, singular, _ = np.linalg.svd(scaled, full_matrices=False)
    plane = np.zeros((len(values), 2))
    count = min(2, len(singular))
    plane[:, :count] = left[:, :count] * singular[:count]
    shares = np.zeros(2)
    shares[:count] = singular[:count] ** 2 / max(float((singular**2).sum()), np.finfo(float).tiny)
    return plane, (float(shares[0]), float(shares[1]))


def nearest_objects(features: ArrayLike, queries: Sequence[int], k: int = 5) -> NDArray[np.int64]:
    """Return the rows most similar to some rows by the cosine, the most similar first, without themselves.

    Args:
        features: (N, L).
        queries: Q rows.
        k: how many; fewer where there are fewer rows.

    Returns:
        (Q, min(k, N - 1)).
    """
    values = np.asarray(features, np.float64)
    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), np.finfo(float).tiny)
    rows = np.asarray(queries, np.int64)
    similarity = unit[rows] @ unit.T
    similarity[np.arange(len(rows)), rows] = -np.inf
    return np.argsort(-similarity, axis=1, kind="stable")[:, : min(k, len(values) - 1)]


def feature_map(features: ArrayLike, classes: Sequence[str] | None = None) -> str:
    """Draw objects as points in the plane of their features' first two principal components.

    Args:
        features: (N, L).
        classes: (N,) of the objects, "" where unknown; colors the points. Beyond the 12 most frequent ones they share
            the color of unknown ones.

    Returns:
        an HTML element.

    Raises:
        InvalidInputError: as :func:`principal_plane`.
        MissingDependencyError: matplotlib is not installed.
    """
    plane, shares = principal_plane(features)
    figure = blank_figure(8.4, 5.6)
    axes = figure.subplots()
    given = np.array(classes if classes is not None else [""] * len(plane))
    names, counts = np.unique(given[given != ""], return_counts=True)
    shown = sorted(names[np.argsort(-counts, kind="stable")[:_MAX_CLASSES]].tolist())
    other = ~np.isin(given, shown)
    size = float(np.clip(6000 / len(plane), 4, 30))
    if other.any():
        axes.scatter(*plane[other].T, s=size, color=colors.NEUTRAL, label="other or unknown" if shown else None)
    for name, color in zip(shown, _class_colors(len(shown)), strict=True):
        axes.scatter(*plane[given == name].T, s=size, color=color, label=name, linewidths=0)
    plain_axes(axes, f"component 1 ({shares[0]:.0%} of variance)", f"component 2 ({shares[1]:.0%})")
    axes.set(xticks=[], yticks=[])
    if shown:
        legend = axes.legend(frameon=False, labelcolor=colors.NEUTRAL, loc="upper left", bbox_to_anchor=(1, 1))
        for text in legend.get_texts():
            text.set_parse_math(False)
    caption = f"{len(plane)} objects. Principal components of the standardized features."
    return picture_element(figure_png(figure), "Map of the features of the objects", caption)


def neighbor_gallery(
    cubes: Sequence[Sequence[NDArray[np.float32]]], names: Sequence[Sequence[str]], agreeing: Sequence[Sequence[bool]]
) -> str:
    """Draw a row for each query: the object, and beside it those with the most similar features.

    Args:
        cubes: per row, the masks (S, S, S) of the query and of its neighbors; an empty one is drawn as background.
        names: likewise, below the pictures.
        agreeing: likewise, whether to mark the object as of the query's class.

    Returns:
        an HTML element.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    columns = max(len(row) for row in cubes)
    figure = blank_figure(1.55 * columns, 1.75 * len(cubes) + 0.2)
    axes = figure.subplots(len(cubes), columns, squeeze=False)
    for panel in axes.flat:
        panel.set_axis_off()
    for row, (masks, texts, same) in enumerate(zip(cubes, names, agreeing, strict=True)):
        for column, (mask, text, agrees) in enumerate(zip(masks, texts, same, strict=True)):
            color = colors.SIGNAL if column == 0 else colors.TRUTH if agrees else colors.NEUTRAL
            axes[row, column].imshow(_picture(mask, color))
            axes[row, column].set_title(text, color=colors.NEUTRAL, fontsize=8, parse_math=False)
    return picture_element(
        figure_png(figure),
        "Objects and those with the most similar features",
        "Left, in blue: objects drawn at random. Beside each: those with the most similar features, the most similar "
        "first; green: known to be of the same class.",
    )


def view_pairs(first: NDArray[np.float32], second: NDArray[np.float32], names: Sequence[str]) -> str:
    """Draw pairs of views, each channel as the mean along z.

    Args:
        first: (N, C, S, S, S).
        second: likewise.
        names: (N,) of the objects.

    Returns:
        an HTML element.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    count, channels = len(first), first.shape[1]
    figure = blank_figure(1.5 * count, 1.6 * 2 * channels + 0.3)
    axes = figure.subplots(2 * channels, count, squeeze=False)
    for column, name in enumerate(names):
        for channel in range(channels):
            pictures = [views[column, channel].mean(axis=0) for views in (first, second)]
            low, high = min(float(p.min()) for p in pictures), max(float(p.max()) for p in pictures)
            for row, picture in enumerate(pictures):
                panel = axes[2 * channel + row, column]
                panel.imshow(picture, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="nearest")
                panel.set(xticks=[], yticks=[])
                panel.spines[:].set_visible(False)
        axes[0, column].set_title(name, color=colors.NEUTRAL, fontsize=8, parse_math=False)
    for row in range(2 * channels):
        axes[row, 0].set_ylabel(f"view {row % 2 + 1}", color=colors.NEUTRAL, fontsize=9)
    return picture_element(
        figure_png(figure), "Pairs of views of objects", "Two views of each object, as in training: means along z."
    )


def _class_colors(count: int) -> list[NDArray[np.float32]]:
    return list(colors.instance_palette()[:count])


def _picture(mask: NDArray[np.float32], color: str) -> NDArray[np.uint8]:
    if not mask.any():  # intensities that are all 0 show nothing of the object
        return (np.tile(colors.rgb(colors.DARK), (PIXELS, PIXELS, 1)) * 255).round().astype(np.uint8)
    return colored_view(shaded_view(object_shape(mask, (1.0, 1.0, 1.0)), PIXELS), color)
