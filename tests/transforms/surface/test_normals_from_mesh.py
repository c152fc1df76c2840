import itertools

import numpy as np
import pytest

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.surface import SurfaceMesh, normals_from_mesh, vertex_normals
from voxel_ext.transforms.surface.triangles import middles, nearest_weights, quarters


def uv_sphere(center, radius, rows=24, columns=48):
    """A sphere (or ellipsoid: three radii) of triangles with outward normals by (b - a) x (c - a)."""
    theta, phi = np.linspace(0, np.pi, rows + 1)[1:-1], np.linspace(0, 2 * np.pi, columns, endpoint=False)
    ring = np.stack(
        [
            np.cos(theta)[:, None] + 0 * phi,
            np.sin(theta)[:, None] * np.cos(phi),
            np.sin(theta)[:, None] * np.sin(phi),
        ],
        axis=-1,
    ).reshape(-1, 3)
    vertices = np.concatenate([ring, [[1, 0, 0], [-1, 0, 0]]])
    faces, last = [], (rows - 2) * columns
    for j in range(columns):
        k = (j + 1) % columns
        faces += [(len(ring), j, k), (len(ring) + 1, last + k, last + j)]
        for i in range(rows - 2):
            a, b, c, d = (r * columns + s for r, s in ((i, j), (i, k), (i + 1, j), (i + 1, k)))
            faces += [(a, c, b), (b, c, d)]
    return vertices * radius + center, np.array(faces)


def degrees(normals, truth):
    known = normals.any(axis=0)
    return np.degrees(np.arccos(np.clip((normals * truth).sum(axis=0)[known], -1, 1)))


def grid(shape, origin=(0, 0, 0)):
    return np.stack(np.meshgrid(*(np.arange(n) + o for n, o in zip(shape, origin, strict=True)), indexing="ij"))


CENTER = np.array([15.0, 16.3, 14.8])


@pytest.mark.parametrize("method", ["interpolate", "splat"])
def test_a_sphere_has_radial_normals(method):
    vertices, faces = uv_sphere(CENTER, 10.0)
    normals, sheet = normals_from_mesh(vertices, faces, (32, 32, 32), method=method)
    offset = grid((32, 32, 32)) - CENTER.reshape(3, 1, 1, 1)
    radius = np.linalg.norm(offset, axis=0)
    error = degrees(normals, offset / radius)
    assert np.median(error) < 1
    assert error.max() < (2 if method == "interpolate" else 4)
    assert normals.dtype == np.float32
    assert sheet.dtype == np.uint8
    assert np.array_equal(sheet == 1, normals.any(axis=0))


def test_interpolation_covers_what_is_within_the_distance():
    vertices, faces = uv_sphere(CENTER, 10.0, 40, 80)
    for distance in (0.6, 2.0, 3.5):
        _, sheet = normals_from_mesh(vertices, faces, (32, 32, 32), max_distance=distance)
        away = abs(np.linalg.norm(grid((32, 32, 32)) - CENTER.reshape(3, 1, 1, 1), axis=0) - 10)
        assert sheet[away < distance - 0.05].all()
        assert not sheet[away > distance + 0.05].any()


def test_splat_marks_the_voxels_that_the_surface_passes_through():
    vertices = np.array([[4.2, -5, -5], [4.2, -5, 30], [4.2, 30, -5], [4.2, 30, 30]])
    normals, sheet = normals_from_mesh(vertices, [[0, 2, 1], [1, 2, 3]], (9, 8, 7), method="splat")
    assert sheet[4].all()
    assert sheet.sum() == 56
    assert np.allclose(normals[:, 4], np.array([1, 0, 0]).reshape(3, 1, 1))


def test_vertex_normals_are_weighted_by_area():
    # at vertex 0 meet a face of area 2 with the normal z and one of area 1/2 with the normal x
    vertices = np.array([[0.0, 0, 0], [0, 2, 0], [0, 0, 2], [1, 0, 0], [0, 1, 0]])
    faces = np.array([[0, 1, 2], [0, 3, 4]])
    found = vertex_normals(vertices, faces)
    assert np.allclose(found[0], np.array([4, 0, 1]) / np.sqrt(17))
    assert np.allclose(found[1], (1, 0, 0))
    assert np.allclose(found[3], (0, 0, 1))


def test_vertices_without_faces_or_with_faces_that_cancel_have_none():
    vertices = np.array([[0.0, 0, 0], [0, 2, 0], [0, 0, 2], [5, 5, 5]])
    assert not vertex_normals(vertices, np.array([[0, 1, 2], [0, 2, 1]])).any()
    normals, sheet = normals_from_mesh(vertices, [[0, 1, 2], [0, 2, 1]], (3, 3, 3), max_distance=1.0)
    assert sheet.any()
    assert not normals.any()


def test_normals_between_vertices_are_interpolated():
    # a strip whose normals turn from vertex to vertex of its first edge to its second
    vertices = np.array([[2.0, 2, 0], [2, 2, 20], [2, 12, 0], [2, 12, 20], [4, 22, 0], [4, 22, 20]])
    faces = np.array([[0, 1, 2], [2, 1, 3], [2, 3, 4], [4, 3, 5]])
    corner = vertex_normals(vertices, faces)
    normals, _ = normals_from_mesh(vertices, faces, (6, 24, 20), max_distance=0.4)
    share = (5 - 2) / 10
    # the place (2, 5, 10) is on the diagonal's side of the face (0, 1, 2): its barycentric coordinates
    weights = np.array([1 - 10 / 20 - share, 10 / 20, share])
    expected = weights @ corner[[0, 1, 2]]
    assert np.allclose(normals[:, 2, 5, 10], expected / np.linalg.norm(expected), atol=1e-5)


def test_normals_are_those_of_physical_space():
    # the sphere of radius 12 micrometers, voxels of (3, 1, 1)
    vertices, faces = uv_sphere(np.array([5.0, 15, 15]), np.array([4.0, 12, 12]))
    offset = (grid((11, 31, 31)) - np.array([5.0, 15, 15]).reshape(3, 1, 1, 1)) * np.array([3, 1, 1]).reshape(
        3, 1, 1, 1
    )
    radius = np.linalg.norm(offset, axis=0)
    normals, sheet = normals_from_mesh(vertices, faces, (11, 31, 31), voxel_size=(3, 1, 1))
    assert degrees(normals, offset / np.maximum(radius, 1e-9)).max() < 2
    assert abs(radius[sheet == 1] - 12).max() < 2.1


@pytest.mark.parametrize("method", ["interpolate", "splat"])
@pytest.mark.parametrize("voxel_size", [(1, 1, 1), (2.3, 1, 1.1)])
def test_blocks_equal_the_whole(method, voxel_size):
    vertices, faces = uv_sphere(np.array([11.0, 12, 12]), np.array([8.0, 9, 9]), 9, 8)
    vertices = np.concatenate([vertices, [[-40, -300, 5], [300, 500, 3], [60, -70, 300]]])
    faces = np.concatenate([faces, [[len(vertices) - 3, len(vertices) - 2, len(vertices) - 1]]])
    mesh = SurfaceMesh(vertices, faces, voxel_size)
    normals, sheet = mesh.field((24, 24, 24), (0, 0, 0), 3.0, method)
    assert sheet.any()
    for corner in itertools.product((0, 9, 18), repeat=3):
        shape = [min(9, 24 - start) for start in corner]
        place = tuple(slice(start, start + length) for start, length in zip(corner, shape, strict=True))
        part, marked = mesh.field(shape, corner, 3.0, method)
        assert np.array_equal(marked, sheet[place])
        assert np.allclose(part, normals[(slice(None), *place)], atol=1e-6)


def test_far_faces_give_nothing():
    normals, sheet = normals_from_mesh([[90.0, 0, 0], [90, 9, 0], [90, 0, 9]], [[0, 1, 2]], (8, 8, 8))
    assert not normals.any()
    assert not sheet.any()


def test_faces_without_area_are_left_out():
    vertices = np.array([[4.0, 0, 0], [4, 9, 0], [4, 0, 9], [4, 4, 4]])
    faces = np.array([[0, 1, 2], [3, 3, 1], [0, 0, 0]])
    mesh = SurfaceMesh(vertices, faces)
    assert mesh.degenerate == 2
    one = SurfaceMesh(vertices, faces[:1])
    assert np.array_equal(mesh.field((8, 8, 8))[0], one.field((8, 8, 8))[0])
    assert np.allclose(np.concatenate(mesh.bounds), (4, 0, 0, 4, 9, 9))


def test_cutting_triangles():
    triangle = np.random.default_rng(0).normal(size=(1, 3, 3))
    area = np.linalg.norm(np.cross(triangle[0, 1] - triangle[0, 0], triangle[0, 2] - triangle[0, 0]))
    parts = quarters(triangle)
    assert np.allclose(np.linalg.norm(np.cross(parts[:, 1] - parts[:, 0], parts[:, 2] - parts[:, 0]), axis=1), area / 4)
    for count in (1, 2, 5):
        table = middles(count)
        assert table.shape == (count**2, 3)
        assert (table > 0).all()
        assert np.allclose(table.sum(axis=1), 1)
        assert np.allclose(table.mean(axis=0), 1 / 3)
        assert len(np.unique(table.round(6), axis=0)) == count**2


def test_nearest_place_of_a_triangle():
    random = np.random.default_rng(1)
    corners = random.normal(size=(50, 3, 3))
    weights = random.dirichlet((2, 2, 2), size=50)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    places = np.einsum("nk,nkc->nc", weights, corners) + 0.7 * normal
    assert np.allclose(nearest_weights(places, corners), weights, atol=1e-6)
    outside = nearest_weights(places + 5, corners)
    assert (outside >= 0).all()
    assert np.allclose(outside.sum(axis=1), 1)


TRIANGLE = ([[0.0, 0, 0], [0, 4, 0], [0, 0, 4]], [[0, 1, 2]])


@pytest.mark.parametrize(
    ("vertices", "faces", "options", "message"),
    [
        (TRIANGLE[0], np.zeros((0, 3), int), {}, "no faces"),
        (np.zeros((0, 3)), np.zeros((0, 3), int), {}, "no faces"),
        (np.zeros((3, 2)), TRIANGLE[1], {}, r"\(3, 2\)"),
        (TRIANGLE[0], [[0, 1, 3]], {}, "the mesh has 0 to 2"),
        (TRIANGLE[0], [[0.0, 1.0, 2.0]], {}, "indices"),
        ([[0.0, 0, 0], [0, np.nan, 0], [0, 0, 4]], TRIANGLE[1], {}, "not finite"),
        (TRIANGLE[0], [[0, 0, 1]], {}, "none of the 1 faces has an area"),
        (*TRIANGLE, {"method": "nearest"}, "method='nearest'"),
        (*TRIANGLE, {"max_distance": 0}, "max_distance=0"),
        (*TRIANGLE, {"voxel_size": (1, 1, -1)}, "voxel_size"),
        (*TRIANGLE, {"shape": (4, 4)}, "shape"),
    ],
)
def test_bad_input(vertices, faces, options, message):
    with pytest.raises(InvalidInputError, match=message):
        normals_from_mesh(vertices, faces, **{"shape": (5, 5, 5), **options})
