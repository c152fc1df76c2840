"""How many instances there are and how large they are, as fragments of HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.visualize import colors
from voxel_ext.visualize.figures import blank_figure, figure_png, picture_element, plain_axes
from voxel_ext.visualize.worm_tables import html_table

_COLUMNS = {
    "name": "volume", "kind": "", "count": "instances", "median": "median size", "low": "5th percentile",
    "high": "95th percentile", "smallest": "smallest", "largest": "largest",
}  # fmt: skip

Sizes = NDArray[np.int64]


def instance_sizes(labels: ArrayLike) -> Sizes:
    """Count the voxels of each instance.

    Args:
        labels: ids of any shape, 0 or less is background.

    Returns:
        (N,) voxels of the N instances, by ascending id.

    Raises:
        InvalidInputError: the ids are not integers.
    """
    ids = np.asarray(labels)
    if ids.dtype.kind not in "iub":
        raise InvalidInputError(f"instance labels have dtype {ids.dtype}, expected integers")
    return np.unique(ids[ids > 0], return_counts=True)[1].astype(np.int64)


def instance_section(volumes: Sequence[Mapping[str, object]]) -> str:
    """Describe the instances of all volumes: a table, and histograms of the sizes.

    Args:
        volumes: each ``{"name": str, "prediction": (N,) sizes in voxels, "truth": (M,) sizes, may be missing}``.

    Returns:
        HTML; empty without volumes.

    Raises:
        InvalidInputError: a size is below 1.
        MissingDependencyError: matplotlib is not installed.
    """
    rows, pooled = [], dict[str, list[Sizes]]()
    for volume in volumes:
        for key, kind in (("prediction", "predicted"), ("truth", "true")):
            if key in volume:
                sizes = _checked(volume[key], f"the {key} of volume {volume['name']!r}")
                rows.append({"name": volume["name"], "kind": kind, **_describe(sizes)})
                pooled.setdefault(kind, []).append(sizes)
    if not rows:
        return ""
    note = "<p class='muted'>Sizes in voxels.</p>"
    return html_table(rows, _COLUMNS) + note + size_histogram({kind: np.concatenate(s) for kind, s in pooled.items()})


def size_histogram(sizes: Mapping[str, ArrayLike], bins: int = 30) -> str:
    """Draw how many instances have which size, on a logarithmic axis.

    Args:
        sizes: ``"predicted"`` and/or ``"true"`` -> (N,) sizes in voxels.
        bins: number of bars between the smallest and the largest instance.

    Returns:
        an HTML element; empty if there are no instances.

    Raises:
        InvalidInputError: a size is below 1.
        MissingDependencyError: matplotlib is not installed.
    """
    series = {name: _checked(values, f"the sizes of {name!r}") for name, values in sizes.items()}
    every = np.concatenate([np.zeros(0, np.int64), *series.values()])
    if not len(every):
        return ""
    low, high = math.log10(every.min()), math.log10(every.max())
    # instances of one size alone need bars of some width
    edges = np.logspace(low - 0.02, max(high, low + 0.1) + 0.02, bins + 1)
    figure = blank_figure(8, 2.6)
    axes = figure.subplots()
    for name, values in series.items():
        true = name == "true"
        look = {"histtype": "step", "linewidth": 1.8} if true else {"alpha": 0.75}
        color = colors.TRUTH if true else colors.SIGNAL
        axes.hist(values, edges, color=color, label=f"{name} ({len(values)})", **look)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(_minor_tick)
    plain_axes(axes, "size (voxels)", "instances")
    axes.legend(frameon=False, fontsize=9, labelcolor=colors.NEUTRAL)
    return picture_element(figure_png(figure), "Histogram of the sizes of the instances: " + ", ".join(series))


def _minor_tick(value: float, _position: int) -> str:
    """2, 3 and 5 times a power of ten."""
    return f"{value:g}" if f"{value:.0e}"[0] in "235" else ""


def _checked(values: object, name: str) -> Sizes:
    sizes = np.asarray(values, dtype=np.int64).ravel()
    if len(sizes) and sizes.min() < 1:
        raise InvalidInputError(f"{name} contain {sizes.min()}, expected counts of voxels from 1 on")
    return sizes


def _describe(sizes: Sizes) -> dict[str, float]:
    if not len(sizes):
        return {"count": 0}
    low, median, high = np.percentile(sizes, (5, 50, 95))
    return {
        "count": len(sizes),
        "median": round(median),
        "low": round(low),
        "high": round(high),
        "smallest": int(sizes.min()),
        "largest": int(sizes.max()),
    }
