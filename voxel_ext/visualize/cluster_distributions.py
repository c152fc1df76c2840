"""How the features of objects differ from cluster to cluster."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.visualize import colors
from voxel_ext.visualize.figures import blank_figure, figure_png, picture_element, plain_axes

NOISE_COLOR = colors.NEUTRAL

_FIRST = ("#3b82f6", "#f97316", "#16a34a", "#ef4444", "#a855f7", "#0ea5b7", "#d6a400", "#ec4899", "#84744b", "#6d8f12")
_COLUMNS = 4
_PANELS = 24
_BOXES = 24  # clusters beyond this, the smallest, are left out of the panels
_LOGARITHMIC = 30  # a positive feature that spans more than this between its 2nd and 98th percentile


def group_colors(count: int) -> list[str]:
    """Return colors for clusters, or for classes, as ``"#rrggbb"``: readable on a white as well as on a dark page.

    Args:
        count: of groups; the first ten are told apart easily, beyond 130 they repeat.
    """
    others = ["#" + bytes(row).hex() for row in (colors.instance_palette() * 235).astype(np.uint8).tolist()]
    return [[*_FIRST, *others][number % (len(_FIRST) + len(others))] for number in range(count)]


def separation(values: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """Compute which share of the variance of features lies between clusters: eta squared of the analysis of variance.

    Args:
        values: (N, F); values that are not finite are left out.
        labels: (N,) cluster of each object; -1 for noise, which is left out.

    Returns:
        (F,) from 0 (the means of all clusters are equal) to 1 (all members of a cluster are equal); 0 for a constant
        feature.

    Raises:
        InvalidInputError: another number of labels than rows.
    """
    table, clusters = np.asarray(values, np.float64), np.asarray(labels)
    if table.ndim != 2 or clusters.shape != table.shape[:1]:
        raise InvalidInputError(
            f"labels of shape {clusters.shape} for values of shape {table.shape}; expected (N,) and (N, F)"
        )
    table, clusters = table[clusters >= 0], clusters[clusters >= 0]
    result = np.zeros(table.shape[1])
    for column in range(table.shape[1]):
        known = np.isfinite(table[:, column])
        result[column] = _eta_squared(table[known, column], clusters[known])
    return result


def _eta_squared(values: NDArray[np.float64], clusters: NDArray[np.integer]) -> float:
    if not len(values) or values.max() == values.min():
        return 0.0
    # of values around 0 and of size 1, squares neither overflow nor vanish
    values = (values - values.mean()) / np.abs(values - values.mean()).max()
    _, member = np.unique(clusters, return_inverse=True)
    counts = np.bincount(member)
    means = np.bincount(member, values) / counts
    return float(np.clip((counts * means**2).sum() / (values**2).sum(), 0, 1))


def feature_distributions(features: Mapping[str, ArrayLike], labels: ArrayLike, max_panels: int = _PANELS) -> str:
    """Draw box plots of features by cluster, the feature that separates the clusters best first.

    A box is from the lower to the upper quartile with a line at the median, the whiskers are at the 5th and the 95th
    percentile. A feature that is positive and spans more than a factor of 30 has a logarithmic axis.

    Args:
        features: by name, (N,) values; those that are not finite are left out.
        labels: (N,) cluster of each object, -1 for noise, which has a gray box.
        max_panels: how many features to draw.

    Returns:
        HTML with a picture; the caption says what is left out. Empty without features.

    Raises:
        InvalidInputError: another number of labels than values.
        MissingDependencyError: matplotlib is not installed.
    """
    names = list(features)
    if not names:
        return ""
    values, clusters = np.column_stack([np.asarray(features[name], np.float64) for name in names]), np.asarray(labels)
    shares = separation(values, clusters)
    order = np.argsort(-shares, kind="stable")[:max_panels]
    found = np.unique(clusters[clusters >= 0]).tolist()
    shown = [*found[:_BOXES], *([-1] if (clusters < 0).any() else [])]
    rows = math.ceil(len(order) / _COLUMNS)
    figure = blank_figure(12.4, 0.35 + 2.15 * rows)
    for place, column in enumerate(order):
        axes = figure.add_subplot(rows, _COLUMNS, place + 1)
        _box_plot(axes, values[:, column], clusters, shown)
        plain_axes(axes, "", "")
        axes.set_title(
            f"η² {shares[column]:.2f}  {short_name(names[column])}",
            color=colors.NEUTRAL, fontsize=9, loc="left", parse_math=False,
        )  # fmt: skip
        axes.tick_params(labelsize=8)
    return picture_element(
        figure_png(figure),
        f"Box plots of {len(order)} features by cluster, first {names[order[0]]}",
        _caption(len(order), len(names), len(shown) - (-1 in shown), len(found)),
    )


def short_name(name: str, length: int = 30) -> str:
    """Return the name of a feature, cut in its middle where it is longer than ``length`` characters."""
    half = (length - 1) // 2
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"


def _box_plot(axes: Any, values: NDArray[np.float64], clusters: NDArray[np.integer], shown: Sequence[int]) -> None:
    known = values[np.isfinite(values)]
    groups = [values[(clusters == number) & np.isfinite(values)] for number in shown]
    palette = group_colors(max([*shown, 0]) + 1)
    boxes = axes.boxplot(
        groups, whis=(5, 95), showfliers=False, patch_artist=True, widths=0.65,
        tick_labels=["noise" if number < 0 else str(number) for number in shown],
        medianprops={"color": "white", "linewidth": 1.2},
        whiskerprops={"color": colors.NEUTRAL}, capprops={"color": colors.NEUTRAL},
    )  # fmt: skip
    for patch, number in zip(boxes["boxes"], shown, strict=True):
        color = NOISE_COLOR if number < 0 else palette[number]
        # an edge wider than the white line of the median: a box without height is still seen
        patch.set(facecolor=color, edgecolor=color, linewidth=2.6)
    if len(known) and known.min() > 0:
        low, high = np.percentile(known, (2, 98))
        if high / low > _LOGARITHMIC:
            axes.set_yscale("log")


def _caption(panels: int, features: int, boxes: int, clusters: int) -> str:
    text = (
        "Boxes: quartiles and median; whiskers: 5th and 95th percentile. η² is the share of the variance that lies "
        "between clusters (analysis of variance)"
    )
    text += f"; the {panels} of {features} features with the largest are shown." if panels < features else "."
    return text + (f" Shown are the {boxes} largest of {clusters} clusters." if boxes < clusters else "")
