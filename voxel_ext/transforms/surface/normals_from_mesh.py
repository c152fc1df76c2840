"""Normals of a triangle mesh in the voxels near it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.transforms.surface.orientation import relative_edges
from voxel_ext.transforms.surface.triangles import areas, longest, middles, nearest_weights, quarters

MESH_METHODS = ("interpolate", "splat")

SPACING = 0.5
"""Longest edge, in shortest voxel edges, of the pieces of faces in whose middles the surface is sampled."""

LARGEST = 16.0
"""Faces with a longer edge are cut into quarters first, so that those far from a block cost nothing."""

MIN_LENGTH = 1e-6
"""Length of an averaged unit normal below which it has no direction."""

TIE_BREAK = np.array([1.1e-4, 2.3e-4, 3.7e-4])
"""Shift of the places asked for, so that which of two equally near samples is taken does not depend on the block."""


def normals_from_mesh(
    vertices: ArrayLike,
    faces: ArrayLike,
    shape: Sequence[int],
    origin: Sequence[int] = (0, 0, 0),
    max_distance: float = 2.0,
    method: str = "interpolate",
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Bring the normals of a triangle mesh into voxels; see :class:`SurfaceMesh` for many blocks of one mesh.

    Args:
        vertices: (N, 3) zyx in voxels of the whole volume; (0, 0, 0) is the middle of its first voxel.
        faces: (M, 3) indices of vertices. The normal of (a, b, c) is (b - a) x (c - a) in the order of the components
            as given, as with scikit-image's ``marching_cubes``.
        shape: (D, H, W) of the result.
        origin: voxel of the whole volume that is the first of the result.
        max_distance: "interpolate": distance from the surface, in shortest voxel edges, up to which voxels get a
            normal. Without effect on "splat".
        method: "interpolate" or "splat", see :meth:`SurfaceMesh.field`.
        voxel_size: (z, y, x); normals and distances are those of physical space.

    Returns:
        the normals, float32 (3, D, H, W) unit vectors zyx, zero where there is none; and the sheet, uint8 (D, H, W), 1
        for the voxels at the surface.

    Raises:
        InvalidInputError: no vertices or faces, wrong shapes, indices out of range, coordinates that are not finite,
            all faces without area, unknown method, a number out of range.
    """
    return SurfaceMesh(vertices, faces, voxel_size).field(shape, origin, max_distance, method)


def vertex_normals(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """Area-weighted normals: the normalized sum of (b - a) x (c - a) over the faces at a vertex.

    Args:
        vertices: (N, 3).
        faces: (M, 3) indices.

    Returns:
        (N, 3) unit vectors; zero for vertices without faces, or whose faces cancel.
    """
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    crosses = np.cross(b - a, c - a)
    total = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(total, faces[:, corner], crosses)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    known = length > 1e-12 * max(1.0, float(length.max(initial=0.0)))
    return np.where(known, total / np.where(known, length, 1), 0)


class SurfaceMesh:
    """A triangle mesh with area-weighted vertex normals, to be brought into the voxels of any block.

    Args:
        vertices: (N, 3) zyx in voxels.
        faces: (M, 3) indices of vertices; those without area are left out.
        voxel_size: (z, y, x).

    Raises:
        InvalidInputError: as :func:`normals_from_mesh`.
    """

    def __init__(self, vertices: ArrayLike, faces: ArrayLike, voxel_size: Sequence[float] = (1.0, 1.0, 1.0)) -> None:
        points, triangles = _check_mesh(np.asarray(vertices), np.asarray(faces))
        self.edges = relative_edges(voxel_size)
        self._vertices = points * self.edges
        corners = self._vertices[triangles]
        self._faces = triangles[areas(corners) > 0]
        self.degenerate = len(triangles) - len(self._faces)
        if not len(self._faces):
            raise InvalidInputError(f"none of the {len(triangles)} faces has an area; expected a surface of triangles")
        self._normals = vertex_normals(self._vertices, self._faces)
        corners = self._vertices[self._faces]
        self._low, self._high = corners.min(axis=1), corners.max(axis=1)

    @property
    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Least and largest coordinates (z, y, x) of the faces, in voxels."""
        return self._low.min(axis=0) / self.edges, self._high.max(axis=0) / self.edges

    def field(
        self,
        shape: Sequence[int],
        origin: Sequence[int] = (0, 0, 0),
        max_distance: float = 2.0,
        method: str = "interpolate",
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return the normals and the sheet in a box; what a voxel gets does not depend on the box.

        * "interpolate": voxels up to ``max_distance`` from the surface get the normal of the surface's nearest place,
          interpolated between the vertex normals by barycentric coordinates.
        * "splat": voxels that the surface passes through get the sum of its normals in them, weighted by area.

        Args:
            shape: (D, H, W) of the box.
            origin: its first voxel.
            max_distance: of "interpolate", in shortest voxel edges.
            method: "interpolate" or "splat".

        Returns:
            float32 (3, D, H, W) unit vectors zyx and uint8 (D, H, W). Both are zero where the mesh is not near; in the
            sheet a normal is zero where the vertex normals cancel.

        Raises:
            InvalidInputError: unknown method, a shape or distance out of range.
        """
        check_mesh_options(method, max_distance)
        size = tuple(int(length) for length in shape)
        if len(size) != 3 or min(size) < 1 or len(origin) != 3:
            raise InvalidInputError(f"shape={shape!r}, origin={origin!r}; expected positive (D, H, W) and (z, y, x)")
        first = np.asarray(origin)
        if method == "splat":
            total, count = self._splat(size, first)
        else:
            total, count = self._interpolate(size, first, max_distance)
        length = np.linalg.norm(total, axis=0)
        known = length > MIN_LENGTH * np.maximum(count, 1e-300)
        normals = np.where(known, total / np.where(known, length, 1), 0).astype(np.float32)
        return normals, (count > 0).astype(np.uint8)

    def _splat(self, shape: tuple[int, ...], origin: NDArray) -> tuple[NDArray, NDArray]:
        """The sum of the normals weighted by area (3, D, H, W), and the area (D, H, W)."""
        total, area = np.zeros((int(np.prod(shape)), 3)), np.zeros(int(np.prod(shape)))
        low = (origin - 0.5) * self.edges
        for corners, _, points, normals in self._samples(low, low + np.array(shape) * self.edges):
            voxels = np.rint(points / self.edges).astype(np.int64) - origin
            here = ((voxels >= 0) & (voxels < shape)).all(axis=-1)
            index = np.ravel_multi_index(tuple(voxels[here].T), shape)
            weight = np.broadcast_to((areas(corners) / points.shape[1])[:, None], here.shape)[here]
            np.add.at(total, index, weight[:, None] * normals[here])
            np.add.at(area, index, weight)
        return total.T.reshape(3, *shape), area.reshape(shape)

    def _interpolate(self, shape: tuple[int, ...], origin: NDArray, reach: float) -> tuple[NDArray, NDArray]:
        """The normal of the nearest place (3, D, H, W), and 1 where it is near enough (D, H, W)."""
        from scipy.spatial import cKDTree

        total, near = np.zeros((3, *shape)), np.zeros(shape)
        margin = reach + SPACING
        low = origin * self.edges - margin
        pieces = list(self._samples(low, low + (np.array(shape) - 1) * self.edges + 2 * margin))
        if not pieces:
            return total, near
        corners = np.concatenate([piece[0] for piece in pieces])
        ends = np.concatenate([piece[1] for piece in pieces])
        counts = np.concatenate([np.full(len(piece[0]), piece[2].shape[1]) for piece in pieces])
        owner = np.repeat(np.arange(len(corners)), counts)
        tree = cKDTree(np.concatenate([piece[2].reshape(-1, 3) for piece in pieces]))
        for plane in range(shape[0]):
            places = (np.argwhere(np.ones((1, *shape[1:]))) + origin + (plane, 0, 0)) * self.edges
            distance, sample = tree.query(places + TIE_BREAK, distance_upper_bound=margin)
            found = np.flatnonzero(np.isfinite(distance))
            mine = owner[sample[found]]
            weights = nearest_weights(places[found], corners[mine])
            offset = places[found] - np.einsum("nk,nkc->nc", weights, corners[mine])
            kept = np.linalg.norm(offset, axis=1) <= reach
            chosen = np.unravel_index(found[kept], shape[1:])
            total[:, plane, *chosen] = np.einsum("nk,nkc->cn", weights[kept], ends[mine[kept]])
            near[plane, *chosen] = 1
        return total, near

    def _samples(self, low: NDArray, high: NDArray) -> Iterator[tuple[NDArray, NDArray, NDArray, NDArray]]:
        """Sample the faces near a box, in physical units.

        Yields:
            triangles (M, 3, 3) with their vertices' normals (M, 3, 3), places on them (M, K, 3), the middles of K equal
            pieces, and the normals there (M, K, 3), not normalized.
        """
        for corners, normals in self._triangles(low, high):
            parts = np.maximum(np.ceil(longest(corners) / SPACING).astype(np.int64), 1)
            for count in np.unique(parts):
                chosen = parts == count
                table = middles(int(count))
                yield (
                    corners[chosen],
                    normals[chosen],
                    np.einsum("kb,mbc->mkc", table, corners[chosen]),
                    np.einsum("kb,mbc->mkc", table, normals[chosen]),
                )

    def _triangles(self, low: NDArray, high: NDArray) -> Iterator[tuple[NDArray, NDArray]]:
        """The parts of the faces that may be in a box, none with an edge above ``LARGEST``, and their normals."""
        faces = self._faces[((self._high >= low) & (self._low <= high)).all(axis=1)]
        corners, normals = self._vertices[faces], self._normals[faces]
        while len(corners):
            small = longest(corners) <= LARGEST
            if small.any():
                yield corners[small], normals[small]
            corners, normals = quarters(corners[~small]), quarters(normals[~small])
            near = ((corners.max(axis=1) >= low) & (corners.min(axis=1) <= high)).all(axis=1)
            corners, normals = corners[near], normals[near]


def check_mesh_options(method: str, max_distance: float) -> None:
    """Check options of :func:`normals_from_mesh`.

    Raises:
        InvalidInputError: names the one that is unknown or out of range.
    """
    check_option("method", method, MESH_METHODS)
    if not 0 < max_distance < math.inf:
        raise InvalidInputError(f"max_distance={max_distance!r}; expected a positive number of voxel edges")


def _check_mesh(vertices: NDArray, faces: NDArray) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    if vertices.ndim != 2 or vertices.shape[1] != 3 or vertices.dtype.kind not in "iuf":
        raise InvalidInputError(f"vertices of shape {vertices.shape} ({vertices.dtype}); expected numbers (N, 3) zyx")
    if not len(faces):
        raise InvalidInputError(f"the mesh has {len(vertices)} vertices but no faces; expected (M, 3) triangles")
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
        raise InvalidInputError(f"faces of shape {faces.shape} ({faces.dtype}); expected indices (M, 3) of vertices")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise InvalidInputError(
            f"faces refer to the vertices {faces.min()} to {faces.max()}; the mesh has 0 to {len(vertices) - 1}"
        )
    used = vertices[np.unique(faces)]
    if not np.isfinite(used).all():
        raise InvalidInputError("the mesh has vertices with coordinates that are not finite; remove them")
    return np.where(np.isfinite(vertices), vertices, 0).astype(np.float64), faces.astype(np.int64)
