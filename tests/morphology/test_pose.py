"""The frame of the principal axes: invariance under rotations, proper rotations, and clouds without a frame."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology import align_points, principal_frame

LINE = np.linspace(-1, 1, 50)[:, None] * [[1.0, 2.0, -0.5]]


def asymmetric_body(seed, count=400):
    """Points whose spread and skewness differ along three axes."""
    rng = np.random.default_rng(seed)
    return rng.gamma(2.0, size=(count, 3)) * [300, 120, 40] @ Rotation.random(random_state=seed).as_matrix().T


@pytest.mark.parametrize("seed", range(8))
def test_turned_and_moved_bodies_come_out_equal(seed):
    points = asymmetric_body(seed)
    turn = Rotation.random(random_state=100 + seed).as_matrix()
    np.testing.assert_allclose(align_points(points @ turn.T + [5e3, -2e3, 700]), align_points(points), atol=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_axes_are_a_proper_rotation_in_order_of_variance(seed):
    points = asymmetric_body(seed)
    frame = principal_frame(points)
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(frame) == pytest.approx(1)
    covariance = np.cov((points @ frame.T).T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-9 * covariance[0, 0]
    assert covariance[0, 0] > covariance[1, 1] > covariance[2, 2]


@pytest.mark.parametrize("seed", range(8))
def test_at_least_the_two_greater_skewnesses_are_positive(seed):
    aligned = align_points(asymmetric_body(seed))
    skewness = (aligned**3).mean(0) / aligned.var(0) ** 1.5
    assert (np.sort(skewness)[1:] > 0).all()
    assert skewness.min() > 0 or np.abs(skewness).argmin() == skewness.argmin()


def test_a_mirror_image_is_another_shape():
    points = asymmetric_body(3)
    assert np.abs(align_points(points * [1, 1, -1]) - align_points(points)).max() > 1


def test_weights_count_points_several_times():
    points, weights = asymmetric_body(4, count=60), np.random.default_rng(0).integers(0, 4, 60)
    np.testing.assert_allclose(
        principal_frame(points, weights), principal_frame(np.repeat(points, weights, axis=0)), atol=1e-9
    )


def test_the_center_becomes_the_origin():
    points = asymmetric_body(5)
    center = points[7]
    aligned = align_points(points, center)
    np.testing.assert_allclose(aligned[7], 0, atol=1e-9)
    np.testing.assert_allclose(aligned @ principal_frame(points) + center, points, atol=1e-6)


@pytest.mark.parametrize(
    "points",
    [
        np.array([[3.0, 4.0, 5.0]]),
        np.full((5, 3), 7.0),
        LINE,
        np.stack(np.meshgrid([0.0], np.arange(5.0), np.arange(5.0)), axis=-1).reshape(-1, 3),
        np.concatenate([np.eye(3), -np.eye(3)]),
        np.random.default_rng(0).normal(size=(500, 3)),
        LINE.astype(np.float32) * 1e6 + 1e7,
        np.arange(12).reshape(4, 3),
    ],
    ids=["one point", "copies", "line", "plane", "octahedron", "ball", "large float32", "integers"],
)
def test_every_cloud_has_a_proper_rotation(points):
    frame = principal_frame(points)
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(frame) == pytest.approx(1)
    np.testing.assert_array_equal(principal_frame(points), frame)


def test_an_axis_without_skewness_has_its_largest_component_positive():
    np.testing.assert_allclose(principal_frame(LINE)[0], np.array([1, 2, -0.5]) / np.sqrt(5.25), atol=1e-12)
    np.testing.assert_allclose(principal_frame(-LINE)[0], np.array([1, 2, -0.5]) / np.sqrt(5.25), atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((np.zeros((4, 2)),), r"shape \(4, 2\)"),
        ((np.zeros((0, 3)),), "at least one"),
        (([[0, np.nan, 0]],), r"\[0\] are not finite"),
        ((np.eye(3), [1, 2]), r"weights have shape \(2,\)"),
        ((np.eye(3), [1, -1, 1]), "at least 0"),
        ((np.eye(3), [0, 0, 0]), "not all 0"),
    ],
)
def test_bad_points_and_weights(arguments, match):
    with pytest.raises(InvalidInputError, match=match):
        principal_frame(*arguments)


@pytest.mark.parametrize("center", [[1.0, 2.0], [0, 0, np.inf]])
def test_bad_center(center):
    with pytest.raises(InvalidInputError, match="center"):
        align_points(np.eye(3), center)
