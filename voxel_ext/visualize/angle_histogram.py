"""How large the angles between predicted and true directions are, over all voxels of all volumes."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.metrics.angular_error import angles
from voxel_ext.visualize import colors
from voxel_ext.visualize.figures import blank_figure, figure_png, picture_element, plain_axes
from voxel_ext.visualize.worm_tables import html_table

BINS_PER_DEGREE = 10
LIMIT = 10
"""Degrees below which a direction is good."""


class AngleHistogram:
    """Counts of voxels by the angle between prediction and truth, in bins of 0.1 degree.

    Args:
        oriented: angles from 0 to 180 degrees; if not, v and -v are the same, and angles are from 0 to 90.

    Attributes:
        counts: (N,) int64, voxels in each bin.
        not_finite: known voxels whose prediction is not a number; they are in no bin.
    """

    def __init__(self, oriented: bool = True) -> None:
        self.oriented = oriented
        self.largest = 180 if oriented else 90
        self.counts: NDArray[np.int64] = np.zeros(self.largest * BINS_PER_DEGREE, np.int64)
        self.not_finite = 0

    def add_vectors(self, prediction: torch.Tensor, truth: torch.Tensor) -> float:
        """Count the voxels of a volume where the truth is not zero.

        Args:
            prediction: (3, D, H, W), of any length; a zero vector is 90 degrees from everything.
            truth: likewise.

        Returns:
            the median angle of this volume in degrees; NaN if nothing is known or a prediction is not finite.

        Raises:
            InvalidInputError: the shapes differ or have no 3 components.
        """
        degrees = angles(prediction, truth, self.oriented)
        known = degrees[(truth != 0).any(0).to(degrees.device)].cpu().numpy()
        self.add(known)
        return float(np.median(known)) if known.size and np.isfinite(known).all() else math.nan

    def add(self, degrees: ArrayLike) -> None:
        """Count angles.

        Args:
            degrees: of any shape.

        Raises:
            InvalidInputError: an angle is negative or too large.
        """
        values = np.asarray(degrees, dtype=np.float64).ravel()
        finite = values[np.isfinite(values)]
        if finite.size and not (finite.min() >= 0 and finite.max() <= self.largest + 1e-3):
            raise InvalidInputError(
                f"angles from {finite.min():g} to {finite.max():g} degrees; expected 0 to {self.largest}"
            )
        bins = np.minimum((finite * BINS_PER_DEGREE).astype(np.int64), len(self.counts) - 1)
        self.counts += np.bincount(bins, minlength=len(self.counts))
        self.not_finite += values.size - finite.size

    def to_tensor(self) -> torch.Tensor:
        """Return all numbers, int64, so that processes can add them up."""
        return torch.from_numpy(np.append(self.counts, self.not_finite))

    def take_tensor(self, numbers: torch.Tensor) -> None:
        """Replace all numbers by those of :meth:`to_tensor`."""
        found = numbers.cpu().numpy().astype(np.int64)
        self.counts, self.not_finite = found[:-1], int(found[-1])

    @property
    def voxels(self) -> int:
        """Number of voxels in the bins."""
        return int(self.counts.sum())

    def below(self, degrees: int) -> float:
        """Return the fraction of voxels whose angle is below a whole number of degrees; NaN without voxels."""
        return float(self.counts[: degrees * BINS_PER_DEGREE].sum() / self.voxels) if self.voxels else math.nan

    def median(self) -> float:
        """Return the median in degrees, linear within its bin; NaN without voxels."""
        if not self.voxels:
            return math.nan
        total, half = self.counts.cumsum(), self.voxels / 2
        index = int(np.searchsorted(total, half))
        share = (half - (total[index] - self.counts[index])) / self.counts[index]
        return (index + share) / BINS_PER_DEGREE

    def per_degree(self) -> NDArray[np.int64]:
        """Return the voxels in each bin of one degree."""
        return self.counts.reshape(-1, BINS_PER_DEGREE).sum(axis=1)


def angle_figure(histogram: AngleHistogram) -> Any:
    """Draw the share of voxels by angle, in steps of one degree, with the median and the line of 10 degrees.

    Args:
        histogram: of one target, with voxels.

    Returns:
        a matplotlib figure.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure = blank_figure(8, 2.8)
    axes = figure.subplots()
    counts = histogram.per_degree()
    shares = 100 * counts / max(histogram.voxels, 1)
    axes.bar(np.arange(len(shares)), shares, width=1.0, align="edge", color=colors.SIGNAL, alpha=0.8)
    axes.axvline(histogram.median(), color=colors.PREDICTION, label=f"median {histogram.median():.2f}°")
    share = f"{100 * histogram.below(LIMIT):.1f} % below {LIMIT}°"
    axes.axvline(LIMIT, color=colors.TRUTH, linestyle="--", label=share)
    axes.set_xlim(0, histogram.largest)
    axes.set_xticks(range(0, histogram.largest + 1, 10 if histogram.largest == 90 else 20))
    plain_axes(axes, "angle between prediction and truth (degrees)", "voxels (%)")
    axes.legend(frameon=False, fontsize=9, labelcolor=colors.NEUTRAL)
    return figure


def angle_section(histograms: Mapping[str, AngleHistogram]) -> str:
    """Describe the angle errors of the vector targets: a table and a histogram of each.

    Args:
        histograms: by target.

    Returns:
        HTML; empty if no direction is known.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    known = {name: one for name, one in histograms.items() if one.voxels or one.not_finite}
    columns = {"name": "target", "voxels": "known voxels", "median": "median angle (°)", "below_5": "below 5°",
               "below_10": "below 10°", "below_30": "below 30°", "bad": "predictions not finite"}  # fmt: skip
    rows = [
        {
            "name": name,
            "voxels": one.voxels,
            "median": one.median(),
            **{f"below_{limit}": one.below(limit) for limit in (5, LIMIT, 30)},
            "bad": one.not_finite,
        }
        for name, one in known.items()
    ]
    figures = "".join(
        f'<h3 style="margin-top:1.2rem">{html.escape(name)}</h3>'
        + picture_element(
            figure_png(angle_figure(one)),
            f"Histogram of the angle error of {name}: median {one.median():.2f} degrees",
            "Angles from 0 to 180 degrees." if one.oriented else "v and -v are the same: angles from 0 to 90 degrees.",
        )
        for name, one in known.items()
        if one.voxels
    )
    return html_table(rows, columns) + figures
