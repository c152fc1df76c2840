"""Bodies of mitochondria: volumes against closed forms, topology, poses, the shears that keep volumes."""

import numpy as np
import pytest
from skimage.measure import euler_number

from voxel_ext.synthetic.mitochondria import CLASSES
from voxel_ext.synthetic.mitochondria.bodies import Body, Wobble, draw_body, draw_wobble, tight_box
from voxel_ext.synthetic.mitochondria.classes import DRAW, THINNEST
from voxel_ext.synthetic.mitochondria.placement import is_connected
from voxel_ext.synthetic.mitochondria.solids import Plate, Profile, Rod, Spheroid, Torus
from voxel_ext.synthetic.mitochondria.tubes import Path, Tubes

VOXEL_SIZES = ((8.0, 8.0, 8.0), (20.0, 8.0, 8.0), (12.0, 9.0, 16.0))
STILL = Wobble(np.zeros(3), np.zeros((3, 3)), np.zeros(3))
PROFILE = Profile((0.15, 0.1), (1, 2), (0.4, 2.0))


def turned(solid, seed, scale=100.0, wobble=STILL):
    from scipy.spatial.transform import Rotation

    return Body("any", solid, wobble, Rotation.random(rng=np.random.default_rng(seed)).as_matrix(), scale)


def measured(body, voxel_size, seed=0):
    """Volume in um^3 by counting voxels."""
    shift = np.random.default_rng(seed).uniform(size=3)
    return np.count_nonzero(body.rasterize(voxel_size, shift).mask) * np.prod(voxel_size) * 1e-9


@pytest.mark.parametrize("voxel_size", VOXEL_SIZES)
@pytest.mark.parametrize(
    ("solid", "volume"),
    [
        (Spheroid(1.0), 4 / 3 * np.pi),
        (Spheroid(1.4), 4 / 3 * np.pi * 1.4),
        (Rod(5.0), 5 * np.pi + 4 / 3 * np.pi),
        (Torus(2.5), 2 * np.pi**2 * 2.5),
        (Torus(2.5, stretch=1.2), 2 * np.pi**2 * 2.5),
        (Plate(3.0, 1.2, (0.05, -0.08)), 18 * np.pi + 3 * np.pi**2 + 4 / 3 * np.pi),
    ],
    ids=repr,
)
def test_volumes_of_ideal_solids(solid, volume, voxel_size):
    for seed in range(3):  # poses
        body = turned(solid, seed)
        np.testing.assert_allclose(body.volume, volume * 1e-3, rtol=1e-12)
        np.testing.assert_allclose(measured(body, voxel_size, seed), volume * 1e-3, rtol=0.01)


@pytest.mark.parametrize("solid", [Rod(6.0, PROFILE), Torus(2.8, PROFILE, 1.1)], ids=["rod", "torus"])
def test_volumes_where_the_radius_varies(solid):
    u = (np.arange(1 << 12) + 0.5) / (1 << 12)
    mean_square = np.mean(PROFILE(u) ** 2)
    ends = 4 / 3 * np.pi * PROFILE(np.zeros(1))[0] ** 3
    expected = 6 * np.pi * mean_square + ends if isinstance(solid, Rod) else 2 * np.pi**2 * 2.8 * mean_square
    np.testing.assert_allclose(solid.volume, expected, rtol=1e-9)
    np.testing.assert_allclose(measured(turned(solid, 1), (10, 8, 8)), expected * 1e-3, rtol=0.01)


@pytest.mark.parametrize("name", ["spheroid", "rod", "donut", "sheet"])
@pytest.mark.parametrize("irregularity", [0.0, 0.12, 0.3])
def test_drawn_bodies_have_the_volume_asked_for(name, irregularity):
    body = draw_body(np.random.default_rng(5), name, 0.05, irregularity)
    np.testing.assert_allclose(body.volume, 0.05, rtol=1e-12)
    np.testing.assert_allclose(measured(body, (12, 10, 10)), 0.05, rtol=0.01)


@pytest.mark.parametrize("name", ["curved_tube", "branched"])
def test_volumes_without_closed_form_are_near(name):
    ratios = []
    for seed in range(5):
        body = draw_body(np.random.default_rng(seed), name, 0.05, 0.12)
        assert body.volume is None
        ratios.append(measured(body, (18, 18, 18)) / 0.05)
    assert 0.8 < min(ratios) <= max(ratios) < 1.2


def test_straight_tube_is_a_rod():
    points = np.stack([np.zeros(6), np.zeros(6), np.linspace(-3, 3, 6)], axis=1)
    tube, rod = Tubes((Path(points, np.ones(6)),)), Rod(6.0)
    z, y, x = np.random.default_rng(0).uniform(-5, 5, (3, 1000)).astype(np.float32)
    np.testing.assert_allclose(tube.field(z, y, x), rod.field(z, y, x), atol=1e-5)
    np.testing.assert_allclose(tube.volume, rod.volume, rtol=1e-12)


def test_distance_from_a_path_against_brute_force():
    rng = np.random.default_rng(1)
    points, radii = rng.uniform(-3, 3, (4, 3)), rng.uniform(0.5, 1, 4)
    z, y, x = rng.uniform(-5, 5, (3, 200)).astype(np.float32)
    where = np.linspace(0, 3, 6001)
    dense = np.stack([np.interp(where, np.arange(4), points[:, axis]) for axis in range(3)], axis=1)
    away = np.linalg.norm(np.stack([z, y, x], axis=1)[:, None] - dense, axis=2)
    steps = away.reshape(200, -1)[:, :6000].reshape(200, 3, 2000).argmin(axis=2) + 2000 * np.arange(3)
    nearest = (np.take_along_axis(away, steps, axis=1) - np.interp(where, np.arange(4), radii)[steps]).min(axis=1)
    np.testing.assert_allclose(Path(points, radii).field(z, y, x), nearest, atol=5e-3)


@pytest.mark.parametrize("name", CLASSES)
def test_topology_and_connection(name):
    expected = 0 if name == "donut" else 1
    for seed in range(4):
        body = draw_body(np.random.default_rng(seed), name, 0.05, 0.2)
        mask = np.pad(body.rasterize((24, 14, 14), (0.3, 0.1, 0.7)).mask, 1)
        assert euler_number(mask, connectivity=3) == expected, seed
        assert is_connected(mask)


@pytest.mark.parametrize("name", CLASSES)
def test_bounds_hold_the_body_and_the_thinnest_part_is_bounded(name):
    for seed in range(3):
        body = draw_body(np.random.default_rng(seed), name, 0.05, 0.3)
        low, high = body.bounds()
        edges = (high - low) * 1.5 / 40
        axes = [
            (np.arange(40) * edge + 0.5 * (a + b) - 20 * edge).astype(np.float32)
            for a, b, edge in zip(low, high, edges, strict=True)
        ]
        inside = np.argwhere(body.field((axes[0][:, None, None], axes[1][:, None], axes[2])) < 0)
        found = np.array([axes[axis][inside[:, axis]] for axis in range(3)])
        assert (found >= low[:, None]).all()
        assert (found <= high[:, None]).all()
        assert body.solid.thinnest > THINNEST * np.cbrt(body.solid.volume * 3 / (4 * np.pi))


def test_shears_keep_volumes():
    wobble = draw_wobble(np.random.default_rng(2), 0.3, 1.0)
    points = np.random.default_rng(3).uniform(-2, 2, (3, 50)).astype(np.float64)
    step = 1e-2
    columns = []
    for axis in range(3):
        ahead, behind = points.copy(), points.copy()
        ahead[axis] += step
        behind[axis] -= step
        columns.append((np.array(wobble(list(ahead))) - np.array(wobble(list(behind)))) / (2 * step))
    jacobians = np.moveaxis(np.array(columns), -1, 0)
    np.testing.assert_allclose(np.linalg.det(jacobians), 1, atol=1e-4)
    assert np.abs(np.array(wobble(list(points))) - points).max() > 0.05
    assert np.linalg.norm(np.array(wobble(list(points))) - points, axis=0).max() <= wobble.reach + 1e-6


@pytest.mark.parametrize("solid", [Spheroid(1.0), Rod(5.0), Torus(2.5), Plate(3.0)], ids=repr)
def test_distance_is_that_of_the_distance_transform(solid):
    from scipy.ndimage import distance_transform_edt

    edges = (9.0, 6.0, 6.0)
    raster = turned(solid, 4).rasterize(edges, (0.0, 0.0, 0.0))
    depth = distance_transform_edt(np.pad(raster.mask, 1), sampling=edges)[1:-1, 1:-1, 1:-1]
    near = raster.mask & (raster.distance > -40)
    assert np.abs(depth[near] + raster.distance[near]).max() < 14  # the transform counts from centers of voxels
    assert np.abs((depth + raster.distance)[near].mean() - 3) < 3


def test_rotations_are_proper_and_uniform():
    rotations = np.array([draw_body(np.random.default_rng(s), "rod", 0.05, 0.0).rotation for s in range(400)])
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-12)
    along = rotations[:, :, 2]
    np.testing.assert_allclose(along.mean(axis=0), 0, atol=0.1)  # standard deviation 0.029
    np.testing.assert_allclose((along**2).mean(axis=0), 1 / 3, atol=0.06)  # 0.015


def test_tight_box_of_a_mask():
    mask = np.zeros((8, 9, 10), dtype=bool)
    mask[3:5, 0, 6] = True
    assert tight_box(mask, 1) == (slice(2, 6), slice(0, 2), slice(5, 8))


def test_same_solid_for_the_same_seed():
    for name, draw in DRAW.items():
        first, again, other = (draw(np.random.default_rng(seed), 0.1) for seed in (1, 1, 2))
        assert first.lengths() == again.lengths(), name
        assert first.lengths() != other.lengths(), name
