"""Statistical shape model of the positions of a worm's nuclei.

The packaged statistics are those of the positions of 558 nuclei in 40 *C. elegans* worms of the first larval stage
(L1), annotated in https://github.com/ChengYuChuan/MA_FeatureLearning (MIT licence).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError, MissingDataError, VoxelExtError
from voxel_ext.files import atomic_path
from voxel_ext.npz import read_arrays
from voxel_ext.synthetic import _checks as checks
from voxel_ext.synthetic.worm.alignment import align_worms, nearest_distances, push_apart

Array = NDArray[np.float64]

PACKAGED = Path(__file__).with_name("shape_statistics.npz")
COMPONENTS = 20  # of 39: pairs of drawn worms are then about as hard to match as pairs of real ones
SPACING_QUANTILE = 0.1  # of a cell's distance to its nearest neighbor: what drawn worms keep at least
POSE_LIMIT = 2.0  # standard deviations, so that no drawn worm is much longer than every real one
HALF_PRECISION = ("components", "noise")  # in files


@dataclass(frozen=True, eq=False)
class WormShapeModel:
    """Mean shape, principal components and pose of worms with N named nuclei.

    A worm is S A. Its shape S is mean + sum over k of sd_k c_k component_k + noise, with c_k standard normal and noise
    independent per nucleus and axis, clipped to where the nucleus was seen. Its pose is A = 1 + (3, 3) normal numbers
    with the covariance of the linear maps of the real worms: their length, thickness and tilts. Coordinates are
    (z, y, x) in voxels about the centroid, with roll 0.

    Attributes:
        names: N names of the cells; row i is Aligned_No i + 1.
        mean: (N, 3) mean positions.
        components: (K, N, 3) orthonormal directions of variation.
        standard_deviations: (K,) along the components, in voxels.
        noise: (N, 3) standard deviation of what the components leave, in voxels.
        limits: (2, N, 3) lowest and highest position of each nucleus in the aligned worms.
        spacing: (N,) distance in voxels that each nucleus keeps from others that keep as much.
        pose_factor: (9, 9) L with L L^T the covariance of the entries of A, row by row.
        credit: where the positions come from.

    Raises:
        InvalidInputError: an array whose shape does not fit the number of names and components.
    """

    names: tuple[str, ...]
    mean: Array
    components: Array
    standard_deviations: Array
    noise: Array
    limits: Array
    spacing: Array
    pose_factor: Array
    credit: str = ""

    def __post_init__(self) -> None:
        count, rank = len(self.names), self.standard_deviations.size
        shapes = {
            "mean": (count, 3),
            "components": (rank, count, 3),
            "standard_deviations": (rank,),
            "noise": (count, 3),
            "limits": (2, count, 3),
            "spacing": (count,),
            "pose_factor": (9, 9),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise InvalidInputError(
                    f"{name} of the shape model has the shape {getattr(self, name).shape}; expected {shape} for "
                    f"{count} names and {rank} components."
                )

    @classmethod
    def fit(
        cls, positions: ArrayLike, names: Sequence[str], components: int = COMPONENTS, credit: str = ""
    ) -> WormShapeModel:
        """Estimate the model from worms whose nuclei are named.

        Args:
            positions: (M, N, 3) (z, y, x) in voxels; M at least 3, N at least 4. Every worm has the same N cells in
                the same order, and a roll near 0 or 180 degrees of the first one, whose roll becomes roll 0.
            names: N names, each once.
            components: number K of principal components, below M.
            credit: where the positions come from.

        Raises:
            InvalidInputError: a wrong shape, a value that is not finite, a name twice, or a K outside [1, M - 1].
        """
        worms = _check_worms(positions, names)
        count = len(worms)
        rank = checks.check_integer("components", components, 1, count - 1)
        aligned, maps, _ = align_worms(worms)
        mean = aligned.mean(axis=0)
        residual = (aligned - mean).reshape(count, -1)
        _, values, rows = np.linalg.svd(residual, full_matrices=False)
        rows, deviations = rows[:rank], values[:rank] / np.sqrt(count - 1)
        left = residual - (residual @ rows.T) @ rows
        eigenvalues, vectors = np.linalg.eigh(np.cov(maps.reshape(count, 9).T))
        return cls(
            names=tuple(str(name) for name in names),
            mean=mean,
            components=rows.reshape(rank, -1, 3),
            standard_deviations=deviations,
            noise=np.sqrt((left**2).sum(axis=0) / (count - 1)).reshape(-1, 3),
            limits=np.stack([aligned.min(axis=0), aligned.max(axis=0)]),
            spacing=np.quantile([nearest_distances(worm) for worm in worms], SPACING_QUANTILE, axis=0),
            pose_factor=vectors * np.sqrt(np.maximum(eigenvalues, 0)),
            credit=credit,
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> WormShapeModel:
        """Read a model that `save` wrote.

        Args:
            path: the ``.npz`` file; ``None`` for the packaged statistics of 558 nuclei.

        Raises:
            MissingDataError: there is no such file.
            InvalidInputError: it is not such a file.
        """
        path = PACKAGED if path is None else Path(path)
        if not path.is_file():
            raise MissingDataError(
                f"there is no shape model at {path}; make one with scripts/build_worm_shape_statistics.py."
            )
        wanted = [field.name for field in fields(cls)]
        try:
            arrays = read_arrays(path, wanted)
            names, credit = tuple(arrays.pop("names").tolist()), str(arrays.pop("credit"))
            return cls(names=names, credit=credit, **{name: array.astype(float) for name, array in arrays.items()})
        except (VoxelExtError, ValueError, TypeError) as error:
            raise InvalidInputError(
                f"{path} is not a shape model ({error}); expected an .npz file with {', '.join(wanted)}."
            ) from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model as a compressed ``.npz``: components and noise in half, the rest in single precision.

        Raises:
            OSError: the file cannot be written; the message names it.
        """
        stored: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value = value.astype(np.float16 if field.name in HALF_PRECISION else np.float32)
            stored[field.name] = np.asarray(value)
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **stored)

    def draw(self, rng: np.random.Generator, scale: float = 1.0) -> Array:
        """Draw the positions of a worm with roll 0.

        Args:
            rng: source of randomness.
            scale: factor on every deviation from the mean worm; 0 gives the mean worm.

        Returns:
            (N, 3) (z, y, x) in voxels, about the centroid.
        """
        weights = rng.standard_normal(len(self.components)) * self.standard_deviations
        noise = rng.standard_normal(self.mean.shape) * self.noise
        shape = np.clip(self.mean + scale * (np.tensordot(weights, self.components, 1) + noise), *self.limits)
        pose = self.pose_factor @ np.clip(rng.standard_normal(9), -POSE_LIMIT, POSE_LIMIT)
        return push_apart(shape @ (np.eye(3) + scale * pose.reshape(3, 3)), self.spacing)


def _check_worms(positions: ArrayLike, names: Sequence[str]) -> Array:
    """The positions of several worms as an array (M, N, 3).

    Raises:
        InvalidInputError: a wrong shape, a value that is not finite, or a name that is missing or there twice.
    """
    worms = np.asarray(positions, dtype=float)
    if worms.ndim != 3 or worms.shape[2] != 3 or worms.shape[0] < 3 or worms.shape[1] < 4:
        raise InvalidInputError(
            f"positions has the shape {worms.shape}; expected (worms, cells, 3) with at least 3 worms and 4 cells."
        )
    if not np.isfinite(worms).all():
        worm, cell, _ = np.argwhere(~np.isfinite(worms))[0]
        raise InvalidInputError(
            f"positions[{worm}, {cell}] is not finite; the model needs worms in which no cell is missing."
        )
    if len(names) != worms.shape[1] or len(set(names)) != len(names):
        raise InvalidInputError(
            f"{len(set(names))} different names for {worms.shape[1]} cells; expected one name for each cell."
        )
    return worms
