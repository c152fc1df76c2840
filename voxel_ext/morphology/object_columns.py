"""The table of object statistics: sizes, positions and shape measures in physical units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError, require
from voxel_ext.morphology.feature_names import FEATURE_GROUPS
from voxel_ext.morphology.neighbors import measure_neighbors
from voxel_ext.morphology.spatial_density import SpatialGrid
from voxel_ext.morphology.statistics import ObjectStatistics

if TYPE_CHECKING:
    import pandas

UM3_PER_NM3 = 1e-9


def check_voxel_size(voxel_size: Sequence[float]) -> tuple[float, float, float]:
    """Return the voxel size as three numbers.

    Args:
        voxel_size: (z, y, x) in nm.

    Raises:
        InvalidInputError: not three positive finite numbers.
    """
    sizes = np.asarray(voxel_size, dtype=object).ravel().tolist()
    numbers = [float(size) for size in sizes if isinstance(size, Real) and not isinstance(size, bool)]
    if len(sizes) != 3 or len(numbers) != 3 or not all(0 < size < np.inf for size in numbers):
        raise InvalidInputError(f"voxel_size={voxel_size!r}; expected three positive numbers (z, y, x) in nanometers")
    z, y, x = numbers
    return z, y, x


def principal_axes(
    statistics: ObjectStatistics, voxel_size: Sequence[float] = (1, 1, 1)
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the axes of the ellipsoids that have the same second moments as the objects.

    A solid ellipsoid has the variance a^2/5 along a semi-axis a, so that an axis is 2 sqrt(5 lambda) long with lambda
    an eigenvalue of the covariance in nm^2. Each voxel counts as a solid box, which adds its s^2/12 to the variance
    along an axis of voxel size s: an object one voxel thick has a thickness.

    Args:
        statistics: of N objects.
        voxel_size: (z, y, x) in nm.

    Returns:
        (N, 3) lengths in nm, descending; (N, 3, 3) unit vectors (z, y, x) in physical space, a row per axis, whose
        largest component is positive.

    Raises:
        InvalidInputError: a voxel size that is not three positive numbers.
    """
    size = np.array(check_voxel_size(voxel_size))
    covariance = statistics.covariance * np.outer(size, size) + np.diag(size**2 / 12)
    values, vectors = np.linalg.eigh(covariance)
    vectors = np.swapaxes(vectors[:, :, ::-1], 1, 2)
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=2)[..., None], axis=2)
    return 2 * np.sqrt(5 * np.maximum(values[:, ::-1], 0)), vectors * np.where(largest < 0, -1.0, 1.0)


def statistics_table(
    statistics: ObjectStatistics, shape: Sequence[int], voxel_size: Sequence[float] = (1, 1, 1)
) -> pandas.DataFrame:
    """Make the table of statistics, one row per object.

    Columns: ``id``; ``voxels`` and ``volume_um3``; ``lower_z`` to ``upper_x``, the bounding box in voxels, upper
    corner exclusive; ``centroid_z/y/x`` in voxels and ``centroid_z_nm/…``, from the center of the first voxel;
    ``equivalent_diameter_nm``, of the ball of the same volume, (6 V / pi)^(1/3); ``major_axis_nm``,
    ``middle_axis_nm``, ``minor_axis_nm`` (see :func:`principal_axes`) and ``direction_z/y/x`` of the major axis;
    ``elongation`` = major / middle and ``flatness`` = middle / minor axis, both at least 1, as in ITK's label shapes;
    ``extent``, the fraction of the bounding box that is filled; ``touches_border``; ``euler_number`` for
    26-connectivity where it was measured; and with an image ``intensity_mean``, ``_std`` (ddof = 0), ``_min``,
    ``_max``.

    Args:
        statistics: of N objects.
        shape: (D, H, W) of the volume, for ``touches_border``.
        voxel_size: (z, y, x) in nm.

    Raises:
        InvalidInputError: a voxel size that is not three positive numbers.
        MissingDependencyError: pandas is not installed.
    """
    frame = require("pandas", extra="em").DataFrame
    size = np.array(check_voxel_size(voxel_size))
    geometry = statistics.geometry
    volume = geometry.voxels * np.prod(size)
    columns: dict[str, Any] = {
        "id": statistics.id,
        "voxels": geometry.voxels,
        "volume_um3": volume * UM3_PER_NM3,
        **_by_axis("lower_{}", geometry.lower),
        **_by_axis("upper_{}", geometry.upper),
        **_by_axis("centroid_{}", geometry.centroid),
        **_by_axis("centroid_{}_nm", geometry.centroid * size),
        "equivalent_diameter_nm": np.cbrt(6 * volume / np.pi),
    }
    lengths, vectors = principal_axes(statistics, voxel_size)
    for index, name in enumerate(("major", "middle", "minor")):
        columns[f"{name}_axis_nm"] = lengths[:, index]
    columns.update(_by_axis("direction_{}", vectors[:, 0]))
    columns["elongation"] = lengths[:, 0] / lengths[:, 1]
    columns["flatness"] = lengths[:, 1] / lengths[:, 2]
    columns["extent"] = statistics.extent
    columns["touches_border"] = statistics.touches_border(shape)
    if statistics.euler_number is not None:
        columns["euler_number"] = statistics.euler_number
    if statistics.intensity is not None:
        found = statistics.intensity
        columns["intensity_mean"] = found.mean
        columns["intensity_std"] = np.sqrt(found.scatter / np.maximum(geometry.voxels, 1))
        columns["intensity_min"], columns["intensity_max"] = found.low, found.high
    return frame(columns)


def _by_axis(name: str, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return {name.format(axis): values[:, index] for index, axis in enumerate("zyx")}


def columns_of(groups: Iterable[str]) -> list[str]:
    """Return the columns of groups of features.

    Args:
        groups: of ``FEATURE_GROUPS``.
    """
    return [column for group in groups for column in FEATURE_GROUPS[group]]


def neighbor_columns(table: pandas.DataFrame, neighbors: int, radius_nm: float) -> dict[str, NDArray]:
    """Measure the columns of ``distance`` between all objects of a table.

    Args:
        table: of :func:`statistics_table`.
        neighbors: how many nearest objects the mean is of.
        radius_nm: of the ball in which others are counted.

    Raises:
        InvalidInputError: as ``measure_neighbors``.
    """
    positions = table[[f"centroid_{axis}_nm" for axis in "zyx"]].to_numpy()
    return measure_neighbors(positions, neighbors, radius_nm).columns()


def objects_in_block(
    table: pandas.DataFrame, grid: SpatialGrid
) -> tuple[tuple[NDArray[np.int64], ...], NDArray[np.int64]]:
    """Count, for each object of a table, those with their centroid in the same block of a grid, itself included.

    Args:
        table: of :func:`statistics_table`.
        grid: of blocks over the volume.

    Returns:
        the object's block as three index arrays (N,), and the counts (N,).
    """
    place = tuple(grid.locate(table[[f"centroid_{axis}" for axis in "zyx"]].to_numpy()).T)
    count = np.zeros((grid.blocks,) * 3, np.int64)
    np.add.at(count, place, 1)
    return place, count[place]
