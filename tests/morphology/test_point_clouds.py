"""Point clouds against analytic surfaces, uniformity by area, and brute force."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.stats import chi2, kstest

from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology.point_clouds import (
    METHODS,
    _blue_noise,
    farthest_points,
    normalize_points,
    object_surface,
    sample_point_cloud,
)

VOXEL_SIZES = [(1, 1, 1), (30, 8, 8), (40.0, 4.0, 6.5)]


def ball(radius, voxel_size, margin=2):
    """The mask of a ball of a radius in nm, and its center in nm."""
    half = np.ceil(radius / np.array(voxel_size)).astype(int) + margin
    axes = np.meshgrid(*[np.arange(2 * h + 1) * s for h, s in zip(half, voxel_size, strict=True)], indexing="ij")
    center = half * voxel_size
    return sum((axis - c) ** 2 for axis, c in zip(axes, center, strict=True)) <= radius**2, center


def ellipsoid_mesh(radii=(1.0, 1.0, 1.0), subdivisions=4):
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions)
    return sphere.vertices * np.array(radii), sphere.faces


def box(corner, size):
    mask = np.zeros((20, 20, 20), bool)
    mask[tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))] = True
    return mask


def nearest_distances(points):
    return cKDTree(points).query(points, k=2)[0][:, 1]


def chi_square_p(observed, expected):
    return chi2.sf(((observed - expected) ** 2 / expected).sum(), len(observed) - 1)


@pytest.mark.parametrize("voxel_size", VOXEL_SIZES)
@pytest.mark.parametrize("method", METHODS)
def test_points_lie_on_the_sphere_within_half_a_voxel(method, voxel_size):
    radius = 12 * max(voxel_size)
    mask, center = ball(radius, voxel_size)
    points = sample_point_cloud(mask, 500, voxel_size, method)
    assert points.shape == (500, 3)
    assert points.dtype == np.float32
    direction = points - center
    distance = np.linalg.norm(direction, axis=1)
    # half the length of a voxel along the normal
    tolerance = 0.5 * np.abs(direction / distance[:, None]) @ np.array(voxel_size) + 1e-3
    assert (np.abs(distance - radius) <= tolerance).all()
    assert np.abs(distance - radius).mean() < 0.25 * max(voxel_size)


@pytest.mark.parametrize("voxel_size", VOXEL_SIZES)
def test_surface_is_closed_and_at_half_voxels(voxel_size):
    mask = box((3, 5, 2), (1, 4, 7))
    mesh = trimesh.Trimesh(*object_surface(mask, voxel_size), process=True)
    assert mesh.is_watertight
    expected = np.array([[2.5, 4.5, 1.5], [3.5, 8.5, 8.5]]) * voxel_size
    np.testing.assert_allclose(mesh.bounds, expected)


def test_objects_at_the_border_are_closed():
    mask = np.ones((4, 5, 6), np.uint8)
    mesh = trimesh.Trimesh(*object_surface(mask))
    assert mesh.is_watertight
    np.testing.assert_allclose(mesh.bounds, [[-0.5] * 3, [3.5, 4.5, 5.5]])


def test_surface_does_not_depend_on_where_the_object_is_or_how_it_is_marked():
    first, second = object_surface(box((0, 0, 0), (3, 4, 5))), object_surface(box((10, 3, 7), (3, 4, 5)) * 2**62)
    np.testing.assert_allclose(second.vertices, first.vertices + np.array([10, 3, 7]))
    np.testing.assert_array_equal(second.faces, first.faces)


def test_single_voxel_and_two_components():
    points = sample_point_cloud(box((5, 5, 5), (1, 1, 1)), 100)
    assert np.abs(points - 5).max() <= 0.5
    two = sample_point_cloud(box((1, 1, 1), (4, 4, 4)) | box((12, 12, 12), (4, 4, 4)), 1000)
    assert 400 < (two[:, 0] < 8).sum() < 600


def test_uniform_on_a_sphere_by_chi_square():
    points = sample_point_cloud(ellipsoid_mesh(), 20000)
    # the areas between parallel planes at equal distances are equal (Archimedes)
    for axis in range(3):
        assert kstest(points[:, axis], "uniform", (-1, 2)).pvalue > 0.001
    heights = np.clip(((points[:, 0] + 1) * 4).astype(int), 0, 7)
    angles = ((np.arctan2(points[:, 1], points[:, 2]) / (2 * np.pi) + 0.5) * 8).astype(int) % 8
    observed = np.bincount(8 * heights + angles, minlength=64)
    assert chi_square_p(observed, np.full(64, 20000 / 64)) > 0.001


def test_uniform_on_an_ellipsoid_by_chi_square():
    radii = np.array([1.0, 2.0, 5.0])
    points = sample_point_cloud(ellipsoid_mesh(radii), 20000)
    # the area of the image of an element of the unit sphere
    polar, azimuth = np.meshgrid((np.arange(400) + 0.5) / 200 - 1, (np.arange(800) + 0.5) / 800 * 2 * np.pi)
    ring = np.sqrt(1 - polar**2)
    unit = np.stack([polar, ring * np.cos(azimuth), ring * np.sin(azimuth)], -1).reshape(-1, 3)
    area = radii.prod() * np.linalg.norm(unit / radii, axis=1)
    bins = np.linspace(-1, 1, 11)
    for axis in range(3):
        expected = np.histogram(unit[:, axis], bins, weights=area)[0]
        observed = np.histogram(np.clip(points[:, axis] / radii[axis], -1, 1), bins)[0]
        assert chi_square_p(observed, expected / expected.sum() * 20000) > 0.001


def test_uniform_is_by_area_in_physical_units():
    size = np.array([10, 10, 10]) * np.array([30, 8, 4])
    points = sample_point_cloud(box((4, 4, 4), (10, 10, 10)), 20000, (30, 8, 4))
    center = 8.5 * np.array([30, 8, 4])
    on = np.abs(np.abs(points - center) - size / 2) < 1e-3
    areas = np.array([size[1] * size[2], size[0] * size[2], size[0] * size[1]])
    # marching cubes cuts the edges, so that faces are a little smaller than the box's
    np.testing.assert_allclose(on.sum(0) / on.sum(), areas / areas.sum(), rtol=0.1)


def test_uniform_of_a_ball_by_octants_and_bands():
    mask, center = ball(15, (1, 1, 1))
    points = sample_point_cloud(mask, 8000) - center
    octants = np.bincount((points > 0) @ [1, 2, 4], minlength=8)
    assert chi_square_p(octants, np.full(8, 1000)) > 0.001
    bands = np.histogram(points[:, 0] / np.linalg.norm(points, axis=1), 8, (-1, 1))[0]
    np.testing.assert_allclose(bands, 1000, rtol=0.15)


def test_distance_has_its_density():
    # the distance from the centroid along a thin long tube is |x|, so the density is that of |x|: P(|x| < t) = t²
    tube = trimesh.creation.cylinder(0.01, 20, sections=16).subdivide().subdivide()
    points = sample_point_cloud(tube, 10000, method="distance")
    side = np.abs(points[:, 2]) / 10
    assert kstest(side, lambda t: np.clip(t, 0, 1) ** 2).pvalue > 0.001
    uniform = sample_point_cloud(tube, 10000)
    assert kstest(np.abs(uniform[:, 2]) / 10, lambda t: np.clip(t, 0, 1) ** 2).pvalue < 1e-6


def test_farthest_points_are_brute_force():
    points = np.random.default_rng(0).normal(size=(200, 3))
    distances = cdist(points, points)
    chosen = [7]
    while len(chosen) < 40:
        chosen.append(int(distances[chosen].min(0).argmax()))
    np.testing.assert_array_equal(farthest_points(points, 40, first=7), chosen)


def test_farthest_points_takes_each_point_once():
    points = np.repeat(np.eye(3), 4, axis=0)
    assert sorted(farthest_points(points, 12)) == list(range(12))
    assert len(np.unique(points[farthest_points(points, 3)], axis=0)) == 3


def test_blue_noise_is_brute_force():
    candidates = np.random.default_rng(0).random((150, 10, 3))
    chosen = [candidates[0, 0]]
    for row in candidates[1:]:
        chosen.append(row[cdist(row, chosen).min(1).argmax()])
    np.testing.assert_array_equal(_blue_noise(candidates), chosen)


def test_spread_points_keep_farther_apart_than_uniform():
    mask, _ = ball(10, (1, 1, 1))
    apart = {method: nearest_distances(sample_point_cloud(mask, 600, method=method)) for method in METHODS}
    assert apart["blue_noise"].min() > 3 * apart["uniform"].min()
    assert apart["farthest"].min() > apart["blue_noise"].min()
    # the spacing of a hexagonal lattice on the sphere is the most there can be
    assert apart["farthest"].min() > 0.6 * np.sqrt(2 / np.sqrt(3) * 4 * np.pi * 100 / 600)


def test_random_takes_vertices_once():
    surface = object_surface(box((2, 2, 2), (8, 8, 8)))
    count = len(surface.vertices)
    vertices = {tuple(v) for v in surface.vertices.astype(np.float32)}
    some = [tuple(p) for p in sample_point_cloud(tuple(surface), count // 2, method="random")]
    assert set(some) <= vertices
    assert len(set(some)) == count // 2
    points, repeats = np.unique(
        sample_point_cloud(tuple(surface), 2 * count + 5, method="random"), axis=0, return_counts=True
    )
    assert len(points) == count
    assert sorted(repeats)[-6:] == [2, 3, 3, 3, 3, 3]


@pytest.mark.parametrize("method", METHODS)
def test_seeds(method):
    mask = box((2, 3, 4), (9, 9, 9))
    first = sample_point_cloud(mask, 64, method=method, seed=3)
    np.testing.assert_array_equal(sample_point_cloud(mask, 64, method=method, seed=3), first)
    assert not np.array_equal(sample_point_cloud(mask, 64, method=method, seed=4), first)
    rng = np.random.default_rng(3)
    np.testing.assert_array_equal(sample_point_cloud(mask, 64, method=method, seed=rng), first)
    assert not np.array_equal(sample_point_cloud(mask, 64, method=method, seed=rng), first)


def test_mask_and_its_mesh_give_the_same_points():
    mask, voxel_size = box((2, 3, 4), (9, 5, 9)), (30, 8, 8)
    surface = object_surface(mask, voxel_size)
    expected = sample_point_cloud(mask, 50, voxel_size)
    np.testing.assert_array_equal(sample_point_cloud(surface, 50), expected)
    np.testing.assert_array_equal(sample_point_cloud(trimesh.Trimesh(*surface, process=False), 50), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_normalized_points(dtype):
    points = (np.random.default_rng(0).normal(size=(300, 3)) * [100, 10, 50] + [5000, -300, 40]).astype(dtype)
    unit, center, scale = normalize_points(points)
    np.testing.assert_allclose(unit.mean(0), 0, atol=1e-6)
    assert np.linalg.norm(unit, axis=1).max() == pytest.approx(1, rel=1e-6)
    np.testing.assert_allclose(unit * scale + center, points, rtol=1e-5)
    assert unit.dtype == (np.float32 if dtype == np.float32 else np.float64)
    # position and size are gone, proportions are not
    again = normalize_points(points.astype(float) * 7 + [1, 2, 3])
    np.testing.assert_allclose(again[0], unit, atol=1e-5)
    assert again[2] == pytest.approx(7 * scale, rel=1e-5)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((4, 4, 4), bool), "is empty"),
        (np.ones((4, 4), bool), r"shape \(4, 4\)"),
        (np.ones((4, 4, 4), np.float32), "float32"),
    ],
)
def test_bad_masks(mask, message):
    with pytest.raises(InvalidInputError, match=message):
        sample_point_cloud(mask)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "blue"}, "method='blue' is not known"),
        ({"count": 0}, "count=0"),
        ({"voxel_size": (1, 0, 1)}, "three numbers above 0"),
        ({"voxel_size": (8, 8)}, "three numbers above 0"),
        ({"voxel_size": (8, 8, np.nan)}, "three numbers above 0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        sample_point_cloud(box((2, 2, 2), (3, 3, 3)), **settings)


@pytest.mark.parametrize(
    ("mesh", "settings", "message"),
    [
        ((np.eye(3), [[0, 1, 2]]), {"voxel_size": (30, 8, 8)}, "in nm already"),
        ((np.eye(3), [[0, 1, 3]]), {}, "vertices 0 to 3; there are 3"),
        ((np.eye(3), [[0, 1]]), {}, r"expected \(F, 3\)"),
        ((np.zeros((3, 3)), [[0, 1, 2]]), {}, "area of 0"),
        ((np.full((3, 3), np.nan), [[0, 1, 2]]), {}, "not finite"),
    ],
)
def test_bad_meshes(mesh, settings, message):
    with pytest.raises(InvalidInputError, match=message):
        sample_point_cloud(mesh, **settings)


def test_bad_points():
    with pytest.raises(InvalidInputError, match="all 5 points are the same"):
        normalize_points(np.ones((5, 3)))
    with pytest.raises(InvalidInputError, match=r"expected \(P, 3\)"):
        normalize_points(np.ones((5, 2)))
    with pytest.raises(InvalidInputError, match=r"points \[1\] are not finite"):
        normalize_points([[0, 0, 0], [0, np.inf, 0.0]])
    with pytest.raises(InvalidInputError, match="count=6 and first=0"):
        farthest_points(np.eye(3), 6)
    with pytest.raises(InvalidInputError, match="first=3"):
        farthest_points(np.eye(3), 1, first=3)
