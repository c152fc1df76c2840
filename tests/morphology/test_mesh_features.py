import numpy as np
import pytest
from scipy.integrate import dblquad
from skimage.measure import marching_cubes, mesh_surface_area
from solids import capsule, ellipsoid, torus

from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology.mesh_features import mesh_features, mesh_volume, smooth_surface

VOXEL_SIZES = [(8, 8, 8), (16, 8, 8), (30, 8, 8)]


def _ellipsoid_area(a, b, c):
    def element(theta, phi):
        normal = (b * c * np.sin(theta) * np.cos(phi), a * c * np.sin(theta) * np.sin(phi), a * b * np.cos(theta))
        return np.sin(theta) * np.linalg.norm(normal)

    return dblquad(element, 0, 2 * np.pi, 0, np.pi, epsabs=1, epsrel=1e-4)[0]


def _solids(voxel_size, seed):
    """Masks, areas, volumes and volumes of convex hulls."""
    balls = 4 / 3 * np.pi
    yield "ball", ellipsoid((120,) * 3, voxel_size, seed), 4 * np.pi * 120**2, balls * 120**3, balls * 120**3
    axes = (200, 140, 100)
    volume = balls * np.prod(axes)
    yield "ellipsoid", ellipsoid(axes, voxel_size, seed), _ellipsoid_area(*axes), volume, volume
    volume = balls * 90**3 + np.pi * 90**2 * 300
    yield "capsule", capsule(90, 300, voxel_size, seed), 4 * np.pi * 90**2 + 2 * np.pi * 90 * 300, volume, volume
    # the hull of a torus is all points within r of a disk of radius R (Steiner)
    hull = np.pi * 200**2 * 160 + np.pi**2 * 200 * 80**2 + balls * 80**3
    yield "torus", torus(200, 80, voxel_size, seed), 4 * np.pi**2 * 200 * 80, 2 * np.pi**2 * 200 * 80**2, hull


@pytest.mark.parametrize("voxel_size", VOXEL_SIZES)
def test_surfaces_of_solids(voxel_size):
    for seed, (name, mask, area, volume, hull) in enumerate(_solids(voxel_size, 3)):
        found = mesh_features(mask, voxel_size, curvature=False)
        case = (name, seed)
        assert found["surface_area_um2"] == pytest.approx(area * 1e-6, rel=0.015), case
        assert found["mesh_volume_um3"] == pytest.approx(volume * 1e-9, rel=0.015), case
        assert found["sphericity"] == pytest.approx(np.cbrt(36 * np.pi * volume**2) / area, rel=0.015), case
        assert found["surface_to_volume_per_um"] == pytest.approx(area / volume * 1e3, rel=0.02), case
        assert found["hull_volume_um3"] == pytest.approx(hull * 1e-9, rel=0.03), case
        assert found["solidity"] == pytest.approx(volume / hull, rel=0.03), case


def test_area_is_closer_than_that_of_marching_cubes_on_the_mask():
    mask = ellipsoid((120,) * 3, (8, 8, 8), 1)
    vertices, faces, _, _ = marching_cubes(mask.astype(np.float32), 0.5, spacing=(8, 8, 8))
    area = 4 * np.pi * 120**2
    assert mesh_surface_area(vertices, faces) > 1.06 * area
    assert mesh_features(mask, (8, 8, 8), curvature=False)["surface_area_um2"] == pytest.approx(area * 1e-6, rel=0.01)


def _spread(values, weights):
    mean = np.average(values, weights=weights)
    return mean, np.sqrt(np.average((values - mean) ** 2, weights=weights))


@pytest.mark.parametrize("voxel_size", [(8, 8, 8), (16, 8, 8)])
def test_curvatures_of_a_ball_a_capsule_and_a_torus(voxel_size):
    ball = mesh_features(ellipsoid((120,) * 3, voxel_size, 5), voxel_size)
    assert ball["mean_curvature_per_um"] == pytest.approx(1e3 / 120, rel=0.04)
    assert ball["gaussian_curvature_per_um2"] == pytest.approx(1e6 / 120**2, rel=0.06)
    assert ball["mean_curvature_std_per_um"] < 0.11 * ball["mean_curvature_per_um"]

    ends, side = 4 * np.pi * 90**2, 2 * np.pi * 90 * 300
    mean, spread = _spread([1 / 90, 1 / 180], [ends, side])
    rod = mesh_features(capsule(90, 300, voxel_size, 5), voxel_size)
    assert rod["mean_curvature_per_um"] == pytest.approx(mean * 1e3, rel=0.05)
    assert rod["mean_curvature_std_per_um"] == pytest.approx(spread * 1e3, rel=0.18)

    angle = np.linspace(0, 2 * np.pi, 1000, endpoint=False)
    away = 200 + 80 * np.cos(angle)
    mean, spread = _spread((200 + 160 * np.cos(angle)) / (160 * away), away)
    _, gaussian = _spread(np.cos(angle) / (80 * away), away)
    ring = mesh_features(torus(200, 80, voxel_size, 5), voxel_size)
    assert ring["mean_curvature_per_um"] == pytest.approx(mean * 1e3, rel=0.05)
    assert ring["mean_curvature_std_per_um"] == pytest.approx(spread * 1e3, rel=0.15)
    assert ring["gaussian_curvature_per_um2"] == pytest.approx(0, abs=0.05 * gaussian * 1e6)
    assert ring["gaussian_curvature_std_per_um2"] == pytest.approx(gaussian * 1e6, rel=0.1)


def test_turns_and_permutations_change_nothing():
    mask, size = capsule(40, 90, (16, 8, 10), 2), (16, 8, 10)
    expected = mesh_features(mask, size)
    turned = mesh_features(np.rot90(mask, axes=(1, 2)), (16, 10, 8))
    permuted = mesh_features(mask.transpose(2, 0, 1), (10, 16, 8))
    mirrored = mesh_features(mask[::-1, :, ::-1], size)
    for name, value in expected.items():
        for other in (turned, permuted, mirrored):
            assert other[name] == pytest.approx(value, rel=5e-3), name


def test_voxel_size_scales_all_features():
    mask = ellipsoid((60, 40, 30), (8, 8, 8), 4)
    small, large = mesh_features(mask, (8, 8, 8)), mesh_features(mask, (80, 80, 80))
    powers = {"um3": 3, "um2": 2, "per_um": -1, "per_um2": -2, "sphericity": 0, "solidity": 0}
    for name, value in small.items():
        power = next(powers[end] for end in ("per_um2", "per_um", *powers) if name.endswith(end))
        assert large[name] == pytest.approx(value * 10.0**power, rel=1e-3), name


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (1, 9, 9), (9, 1, 9), (2, 1, 1)])
@pytest.mark.parametrize("voxel_size", [(1, 1, 1), (40, 4, 4)])
def test_flat_objects_have_finite_features_and_their_volume(shape, voxel_size):
    found = mesh_features(np.ones(shape, bool), voxel_size)
    assert all(np.isfinite(value) for value in found.values())
    assert found["mesh_volume_um3"] == pytest.approx(np.prod(shape) * np.prod(voxel_size) * 1e-9, rel=0.02)
    assert 0 < found["sphericity"] <= 1
    assert 0 < found["solidity"] <= 1


def test_most_of_the_volume_in_parts_that_smoothing_thins_out():
    mask = np.zeros((150, 150, 150), bool)
    mask[::6, ::6, ::6] = True  # a 216th of the volume, which smoothing makes even
    mask[70:79, 70:79, 70:79] = True
    surface = smooth_surface(mask, smoothing=3)
    assert mesh_volume(surface) == pytest.approx(np.count_nonzero(mask), rel=0.05)


def test_the_surface_lies_around_the_mask_with_faces_outwards():
    mask = np.zeros((30, 40, 50), bool)
    mask[10:20, 22:34, 5:25] = True
    surface = smooth_surface(mask, (2, 1, 1))
    middle = (surface.vertices.max(axis=0) + surface.vertices.min(axis=0)) / 2
    np.testing.assert_allclose(middle, np.array([14.5 * 2, 27.5, 14.5]), atol=0.05)
    assert mesh_volume(surface) == pytest.approx(10 * 12 * 20 * 2, rel=0.005)


def test_more_smoothing_rounds_edges_off():
    box = np.ones((20, 20, 20), bool)
    areas = [mesh_features(box, smoothing=sigma, curvature=False)["surface_area_um2"] for sigma in (1, 2, 4)]
    assert areas == sorted(areas, reverse=True)
    assert 0.92 * 2400e-6 < areas[0] < 0.94 * 2400e-6


def test_refuses_empty_masks_and_bad_settings():
    with pytest.raises(InvalidInputError, match="empty"):
        mesh_features(np.zeros((3, 3, 3), bool))
    with pytest.raises(InvalidInputError, match=r"shape \(3, 3\)"):
        mesh_features(np.ones((3, 3), bool))
    with pytest.raises(InvalidInputError, match="float64"):
        smooth_surface(np.ones((3, 3, 3)))
    with pytest.raises(InvalidInputError, match="voxel_size"):
        mesh_features(np.ones((3, 3, 3), bool), (1, 0, 1))
    with pytest.raises(InvalidInputError, match="smoothing=1"):
        mesh_features(np.ones((3, 3, 3), bool), (30, 8, 8), smoothing=1)
