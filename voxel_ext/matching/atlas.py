"""A labelled atlas of worms: mean, covariance and joint variation of the cells; aligning and naming by it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError, MissingDataError, VoxelExtError, check_option
from voxel_ext.files import atomic_path
from voxel_ext.matching.alignment import checked_positions, polynomial_fit, roll_candidates
from voxel_ext.matching.assignment import assign, assignment_margin
from voxel_ext.matching.drift import coherent_point_drift
from voxel_ext.matching.naming import gaussian_cost, refine
from voxel_ext.matching.pairs import refit, same_extent
from voxel_ext.matching.shape_prior import LeaveOneOut, cell_covariance, joint_covariance
from voxel_ext.npz import read_arrays

Array = NDArray[np.floating]
_KEYS = ("mean", "covariance", "residuals", "names")


@dataclass(frozen=True)
class AtlasAlignment:
    """A worm laid over an atlas.

    Attributes:
        positions: (N, 3) zyx in the atlas; NaN where missing.
        roll: 0 or 180: how the worm was turned about x.
        cost: mean assignment cost of a cell (Mahalanobis distance squared plus log-determinant).
        assignment: (N,) cell of the atlas for each row; -1 if missing or left over.
    """

    positions: Array
    roll: int
    cost: float
    assignment: NDArray[np.intp]


@dataclass(frozen=True)
class AtlasNaming:
    """Names of a worm's cells.

    Attributes:
        index: (N,) cell of the atlas for each row; -1 if missing or left over.
        cost: (N,) of the name given; NaN where none.
        margin: (N,) to the second best choice; NaN where none.
        matrix: (N, M) cost of every name; NaN rows where missing.
        alignment: the alignment by the quadratic map that the names rest on.
    """

    index: NDArray[np.intp]
    cost: Array
    margin: Array
    matrix: Array
    alignment: AtlasAlignment


class WormAtlas:
    """Mean and variation of labelled worms after alignment.

    Args:
        mean: (M, 3) zyx, centred.
        covariance: (M, 3, 3) of each cell.
        residuals: (W, M, 3) positions of the aligned worms minus the mean; NaN where missing.
        names: of the M cells.

    Raises:
        InvalidInputError: shapes that do not belong together.
    """

    def __init__(self, mean: ArrayLike, covariance: ArrayLike, residuals: ArrayLike, names: Sequence[str]) -> None:
        self.mean = np.asarray(mean, dtype=np.float64)
        self.covariance = np.asarray(covariance, dtype=np.float64)
        self.residuals = np.asarray(residuals, dtype=np.float64)
        self.names = [str(name) for name in names]
        cells = len(self.names)
        shapes = (self.mean.shape, self.covariance.shape, self.residuals.shape[1:])
        if shapes != ((cells, 3), (cells, 3, 3), (cells, 3)):
            raise InvalidInputError(f"mean, covariance and residuals of {cells} names have the shapes {shapes}")
        self.scale = np.sqrt(np.median(np.diagonal(self.covariance, axis1=1, axis2=2), axis=0))

    @classmethod
    def fit(cls, worms: Sequence[ArrayLike], names: Sequence[str], iterations: int = 6) -> WormAtlas:
        """Build an atlas by labelled alignment of worms to their running mean (generalised Procrustes).

        Args:
            worms: two or more, each (M, 3) zyx in voxels, the same cell in the same row; NaN where missing.
            names: of the M cells.
            iterations: the first two affine, the others quadratic (6).

        Returns:
            the atlas, in the roll of the first worm.

        Raises:
            InvalidInputError: fewer than two worms, shapes that differ, or a cell that no worm has.
        """
        centred = _canonical_rolls(worms, len(names))
        size = np.mean([np.nanstd(worm, axis=0) for worm in centred], axis=0)
        present = ~np.isnan(np.stack(centred))
        absent = np.flatnonzero(~present[..., 0].any(axis=0))
        if len(absent):
            raise InvalidInputError(f"no worm has the cell {names[absent[0]]!r} (row {absent[0]}; {len(absent)} such)")
        # the first worm that has a cell stands in until the first mean
        mean = np.stack([centred[worm][cell] for cell, worm in enumerate(present[..., 0].argmax(axis=0))])
        for iteration in range(iterations + 1):
            degree = 1 if iteration < 2 else 2
            aligned = np.stack([polynomial_fit(worm, mean, degree)(worm) for worm in centred])
            if iteration < iterations:
                mean = np.nanmean(aligned, axis=0)
                mean = (mean - mean.mean(axis=0)) / mean.std(axis=0) * size  # fits to a mean shrink
        residuals = aligned - mean
        return cls(mean, cell_covariance(residuals), residuals, names)

    @cached_property
    def prior(self) -> LeaveOneOut:
        """How the other cells predict each cell; made on first use (about a second for 558 cells)."""
        return LeaveOneOut.of(joint_covariance(self.residuals, self.mean, self.covariance))

    def align(self, positions: ArrayLike, method: str = "drift") -> AtlasAlignment:
        """Lay a worm over the atlas without knowing its names, in the cheaper of the two rolls.

        Args:
            positions: (N, 3) zyx in voxels; NaN where missing.
            method: "quadratic": a quadratic map, found by assigning and fitting in turn; "drift" (default): then
                coherent point drift.

        Returns:
            the alignment.

        Raises:
            InvalidInputError: bad shapes, fewer than 10 cells, or another method.
        """
        check_option("method", method, ("quadratic", "drift"))
        points, valid = checked_positions(positions, "positions", 10)
        tries = []
        for angle, turned in zip((0, 180), roll_candidates(points), strict=True):
            moved = self._quadratic(turned[valid])
            cost = gaussian_cost(moved, self.mean, self.covariance)
            tries.append((float(cost[assign(cost)].mean()), angle, moved))
        price, roll, moved = min(tries, key=lambda item: item[0])
        if method == "drift":
            moved = coherent_point_drift(moved, self.mean, 10.0, 3.0, 0.02, scale=self.scale, sigma2=4.0).moved
            cost = gaussian_cost(moved, self.mean, self.covariance)
            price = float(cost[assign(cost)].mean())
        rows, cells = assign(gaussian_cost(moved, self.mean, self.covariance))
        found = np.full_like(points, np.nan)
        found[valid] = moved
        assignment = np.full(len(points), -1, dtype=np.intp)
        assignment[np.flatnonzero(valid)[rows]] = cells
        return AtlasAlignment(found, roll, price, assignment)

    def name(self, positions: ArrayLike, dummy_cost: float | None = None) -> AtlasNaming:
        """Name the cells of a worm.

        The quadratic alignment in the cheaper roll is refined: each cell of the atlas is predicted from the soft
        correspondences of all others under the joint variation of the training worms, see
        :func:`voxel_ext.matching.naming.refine`.

        Args:
            positions: (N, 3) zyx in voxels; NaN where missing; fewer or more than the atlas has.
            dummy_cost: leave a cell unnamed rather than pay this; None (default) names as many as can be.

        Returns:
            names, costs and margins.

        Raises:
            InvalidInputError: bad shapes or fewer than 10 cells.
        """
        start = self.align(positions, "quadratic")
        valid = np.flatnonzero(~np.isnan(start.positions[:, 0]))
        moved, cost = refine(start.positions[valid], start.assignment[valid], self.mean, self.prior)
        rows, cells = assign(cost, dummy_cost)
        count = len(start.positions)
        index = np.full(count, -1, dtype=np.intp)
        paid, margin = np.full(count, np.nan), np.full(count, np.nan)
        index[valid[rows]], paid[valid[rows]] = cells, cost[rows, cells]
        margin[valid[rows]] = assignment_margin(cost, rows, cells)
        matrix, found = np.full((count, len(self.mean)), np.nan), np.full((count, 3), np.nan)
        matrix[valid], found[valid] = cost, moved
        mean_cost = float(paid[valid[rows]].mean()) if len(rows) else float("nan")
        return AtlasNaming(index, paid, margin, matrix, AtlasAlignment(found, start.roll, mean_cost, index))

    def _quadratic(self, source: Array) -> Array:
        """Fit a worm of the right roll to the cells it is assigned to: affine, then quadratic."""
        moved = same_extent(source, self.mean)
        for degree in (1, 1, 1, 2, 2, 2, 2):
            moved = refit(source, self.mean, gaussian_cost(moved, self.mean, self.covariance), degree)
        return moved

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the atlas to an ``.npz`` file.

        Args:
            path: the file; replaced at once when complete.
        """
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            names = np.array(self.names, dtype=str)
            np.savez(file, mean=self.mean, covariance=self.covariance, residuals=self.residuals, names=names)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> WormAtlas:
        """Read an atlas that :meth:`save` wrote.

        Args:
            path: the file.

        Raises:
            MissingDataError: there is no such file.
            InvalidInputError: it is not an atlas; names what is missing in it.
        """
        if not Path(path).is_file():
            raise MissingDataError(f"there is no atlas {path}; make one with WormAtlas.fit(...).save(path)")
        try:
            arrays = read_arrays(path, _KEYS)
            return cls(arrays["mean"], arrays["covariance"], arrays["residuals"], arrays["names"].tolist())
        except (VoxelExtError, ValueError, TypeError, ArithmeticError, IndexError) as error:
            raise InvalidInputError(f"{path} is not an atlas: {error}") from error


def _canonical_rolls(worms: Sequence[ArrayLike], cells: int) -> list[Array]:
    """Centre worms and turn each to the roll of the first one, by the labels."""
    if len(worms) < 2:
        raise InvalidInputError(f"an atlas needs two worms or more; got {len(worms)}")
    centred: list[Array] = []
    for number, worm in enumerate(worms):
        points, valid = checked_positions(worm, f"worm {number}", 10)
        if len(points) != cells:
            raise InvalidInputError(f"worm {number} has {len(points)} rows for {cells} names")
        points = points - points[valid].mean(axis=0)
        first = centred[0] if centred else points
        centred.append(min(roll_candidates(points), key=lambda turned: float(np.nanmean((turned - first) ** 2))))
    return centred
