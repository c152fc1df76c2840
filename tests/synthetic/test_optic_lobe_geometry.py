"""Surface points, frames, pose and curves of the optic lobe against their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from voxel_ext.errors import InvalidInputError
from voxel_ext.synthetic.optic_lobe import neurites, pose, sphere


@pytest.mark.parametrize("n", [0, 1, 2, 3, 8, 15])
def test_icosphere_has_every_grid_point_once_on_the_unit_sphere(n):
    points = sphere.icosphere_points(n)
    assert points.shape == (10 * (n + 1) ** 2 + 2, 3)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-12)
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert distances.min() > 0.5 * 1.107 / (n + 1)  # 1.107: angle of an icosahedron's edge


def test_icosphere_spacing_is_nearly_even_and_the_cached_array_is_protected():
    points = sphere.icosphere_points(8)
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.min(axis=1)
    assert nearest.max() / nearest.min() < 1.5
    with pytest.raises(ValueError, match="read-only"):
        points[0] = 0


def test_icosahedron_has_20_equilateral_faces_and_central_symmetry():
    corners, faces = sphere.icosahedron()
    assert len(faces) == 20
    edges = [np.linalg.norm(corners[faces[:, i]] - corners[faces[:, j]], axis=1) for i, j in ((0, 1), (1, 2), (0, 2))]
    np.testing.assert_allclose(edges, 4 / np.sqrt(10 + 2 * np.sqrt(5)), rtol=1e-12)
    assert np.abs(corners[:, None] + corners[None]).sum(-1).min(axis=1).max() < 1e-12


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_slerp_moves_at_constant_speed_in_the_plane_of_both_ends(seed, t):
    start, end = pose.normalized(np.random.default_rng(seed).normal(size=(2, 3)))
    angle = np.arccos(np.clip(start @ end, -1, 1))
    point = sphere.slerp(start, end, t)
    assert np.linalg.norm(point) == pytest.approx(1, abs=1e-9)
    assert np.arccos(np.clip(start @ point, -1, 1)) == pytest.approx(t * angle, abs=1e-6)
    assert np.cross(start, end) @ point == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(sphere.slerp(start, end, [0, 1]), [start, end], atol=1e-12)


def test_spherical_frames_are_orthonormal_and_right_about_the_axes():
    points = sphere.icosphere_points(4)
    frames = pose.spherical_frames(points)
    np.testing.assert_allclose(frames @ frames.transpose(0, 2, 1), np.broadcast_to(np.eye(3), frames.shape), atol=1e-12)
    e_phi, e_theta, e_r = frames.transpose(1, 0, 2)
    np.testing.assert_array_equal(e_r, points)
    np.testing.assert_allclose(np.cross(e_theta, e_phi), e_r, atol=1e-12)
    np.testing.assert_allclose(e_phi[:, 2], 0, atol=1e-12)
    assert (e_theta[:, 2] <= 1e-12).all()  # theta grows away from the north pole


def test_rotations_against_scipy():
    angles = np.array([0.3, -1.2, 2.5])
    expected = Rotation.from_euler("xyz", angles).as_matrix()  # extrinsic: R_z R_y R_x
    np.testing.assert_allclose(pose.euler_rotation(angles), expected, atol=1e-12)


@pytest.mark.parametrize("direction", [(0, 0, 1), (0, 0, -1), (1, 0, 0), (0.6, 0, -0.8), (0.48, 0.64, 0.6)])
def test_half_turn_exchanges_direction_and_z(direction):
    turn = pose.half_turn(np.array(direction, dtype=float))
    np.testing.assert_allclose(turn @ direction, [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(turn @ turn, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)


def draw(seed, **settings_):
    defaults = {"min_points": 100, "subdivisions": (8, 15), "scale_range": (0.7, 1.5), "shift_range": (-0.5, 0.5)}
    return pose.draw_lobe(np.random.default_rng(seed), **{**defaults, **settings_})


def test_posed_points_lie_on_the_ellipsoid_with_unit_frames_and_central_radial_directions():
    lobe = draw(3)
    drawn = lobe.parameters
    frame_lengths = np.linalg.norm(lobe.frames, axis=-1)
    np.testing.assert_allclose(frame_lengths, 1, atol=1e-12)
    np.testing.assert_allclose(lobe.radial, pose.normalized(lobe.points - lobe.center), atol=1e-9)
    # Back in the ellipsoid's own axes, the points are those of the sphere times the scale.
    origin = sphere.icosphere_points(drawn["n_subdivisions"])[drawn["origin_index"]] * drawn["scale"]
    turn = pose.half_turn(pose.normalized(origin)) @ pose.euler_rotation(drawn["rotation"])
    local = (lobe.points - lobe.center) @ turn.T / drawn["scale"]
    np.testing.assert_allclose(np.linalg.norm(local, axis=1), 1, atol=1e-9)
    # The tangents are perpendicular to the gradient of the ellipsoid's equation.
    gradient = (local / drawn["scale"]) @ turn
    np.testing.assert_allclose((lobe.frames[:, :2] * gradient[:, None]).sum(-1), 0, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_enough_points_inside_none_far_outside_and_a_straight_cut(seed):
    lobe = draw(seed)
    assert ((lobe.points > 0) & (lobe.points < 1)).all(axis=1).sum() >= 100
    assert lobe.points.min() >= -0.2
    assert lobe.points.max() <= 1.2
    index = np.linalg.norm(lobe.points - lobe.parameters["cut_point"], axis=1).argmin()
    angle = lobe.parameters["cut_angle"]
    normal = np.cos(angle) * lobe.frames[index, 0] + np.sin(angle) * lobe.frames[index, 1]
    assert ((lobe.points - lobe.points[index]) @ normal).min() >= -1e-9


def test_angles_cover_the_full_turn():
    angles = np.concatenate([draw(seed, min_points=1).parameters["rotation"] for seed in range(30)])
    assert angles.min() >= 0
    assert 5.5 < angles.max() < 2 * np.pi


def test_a_number_of_points_that_cannot_be_reached_is_an_error(monkeypatch):
    monkeypatch.setattr(pose, "ATTEMPTS", 20)
    with pytest.raises(InvalidInputError, match=r"min_points=5000.*20 draws.*subdivisions=\(1, 2\)"):
        draw(0, min_points=5000, subdivisions=(1, 2))


def test_bezier_is_the_casteljau_construction_and_meets_its_ends():
    control = np.random.default_rng(0).normal(size=(4, 5, 3))
    t = np.linspace(0, 1, 9)
    curve = neurites.bezier(t, control)
    for step, s in enumerate(t):
        level = control
        while len(level) > 1:
            level = (1 - s) * level[:-1] + s * level[1:]
        np.testing.assert_allclose(curve[step], level[0], atol=1e-12)
    np.testing.assert_allclose(curve[[0, -1]], control[[0, -1]], atol=1e-12)


def test_neurites_start_at_the_surface_leave_inwards_and_pass_over_a_plane():
    lobe = draw(5)
    (start, leave, foot, end), drawn = neurites.draw_control_points(np.random.default_rng(0), lobe)
    np.testing.assert_array_equal(start, lobe.points)
    assert np.linalg.norm(leave - start, axis=1).max() <= 0.2 + 2 * 0.1
    assert ((leave - start) * lobe.radial).sum(axis=1).mean() < 0
    normals = foot - start
    distance = np.linalg.norm(normals, axis=1)
    ends = pose.normalized(normals[distance > 1e-6])
    np.testing.assert_allclose(np.abs(ends @ ends[0]), 1, atol=1e-6)  # all along the plane's normal
    np.testing.assert_allclose((foot - drawn["neurite_plane_point"]) @ ends[0], 0, atol=1e-9)
    offset = end - lobe.center + 0.25 * normals
    assert np.abs(offset).max() < 0.05 * 6
    assert offset.std() == pytest.approx(0.05, rel=0.15)
