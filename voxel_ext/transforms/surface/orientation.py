"""Choosing the sign of normals by a rule that looks at one voxel only, so that blocks of a volume agree."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError


def relative_edges(voxel_size: Sequence[float]) -> NDArray[np.float64]:
    """Return the edges (z, y, x) of a voxel in units of the shortest.

    Args:
        voxel_size: (z, y, x) in any unit.

    Raises:
        InvalidInputError: not three positive numbers.
    """
    size = np.asarray(voxel_size, np.float64)
    if size.shape != (3,) or not np.isfinite(size).all() or not (size > 0).all():
        raise InvalidInputError(f"voxel_size={voxel_size!r}; expected three positive numbers (z, y, x)")
    return size / size.min()


def orient_normals(
    normals: NDArray[np.float32],
    reference: ArrayLike | None = None,
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
    origin: Sequence[int] = (0, 0, 0),
) -> NDArray[np.float32]:
    """Choose the sign of every normal.

    Args:
        normals: (3, D, H, W), components zyx; zero vectors stay zero.
        reference: (3,) a direction zyx: normals have a component along it that is not negative; or (M, 3) points zyx in
            voxels of the whole volume, the corners of a center line (one point is a center): normals point away from
            the nearest place of the line. None: the first component that is not zero is positive.
        voxel_size: (z, y, x).
        origin: voxel of the whole volume that is the first of ``normals``.

    Returns:
        normals of the same shape. A component along the reference of exactly zero leaves the rule of None.

    Raises:
        InvalidInputError: ``reference`` is neither, or has numbers that are not finite.
    """
    known = normals.any(axis=0)
    vectors = normals[:, known].T
    first = vectors[np.arange(len(vectors)), (vectors != 0).argmax(axis=1)]
    vectors = np.where(first[:, None] < 0, -vectors, vectors)
    if reference is not None:
        points = np.argwhere(known) + np.asarray(origin)
        along = np.einsum("nc,nc->n", vectors, _wanted(check_reference(reference), points, relative_edges(voxel_size)))
        vectors = np.where(along[:, None] < 0, -vectors, vectors)
    result = np.zeros_like(normals)
    result[:, known] = vectors.T
    return result


def check_reference(reference: ArrayLike) -> NDArray[np.float64]:
    """Return a reference of :func:`orient_normals` as an array (3,) or (M, 3).

    Raises:
        InvalidInputError: it has another shape, numbers that are not finite, or is the zero vector.
    """
    given = np.asarray(reference, np.float64)
    if given.shape[-1:] != (3,) or given.ndim > 2 or not given.size or not np.isfinite(given).all():
        raise InvalidInputError(
            f"reference={reference!r}; expected a direction (z, y, x), or a list of points (z, y, x) of a center line"
        )
    if given.ndim == 1 and not given.any():
        raise InvalidInputError("reference is the zero vector; expected a direction (z, y, x)")
    return given


def _wanted(reference: NDArray, points: NDArray, edges: NDArray) -> NDArray[np.float64]:
    """(1, 3) or (N, 3) vectors that the normals at the points (N, 3) should go along."""
    if reference.ndim == 1:
        return np.broadcast_to(reference, points.shape)
    places, line = points * edges, reference * edges
    best = places - line[0]
    for start, stop in itertools.pairwise(line):
        along = stop - start
        share = np.clip((places - start) @ along / max(float(along @ along), 1e-300), 0, 1)
        offset = places - start - share[:, None] * along
        nearer = (offset**2).sum(axis=1) < (best**2).sum(axis=1)
        best[nearer] = offset[nearer]
    return best
