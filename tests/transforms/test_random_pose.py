"""Random rotations, reflections and scales of a cube."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms import RandPose, RandPosed, pose_volume, turn_volume


def smooth_volume(seed: int = 0, shape: tuple[int, int, int] = (13, 15, 17)) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, 2)[None].astype(np.float32)


def test_agrees_with_scipy():
    volume = smooth_volume()
    matrix = 0.9 * Rotation.from_rotvec([0.3, -0.5, 0.8]).as_matrix()
    center = (np.array(volume.shape[1:]) - 1) / 2
    backward = np.linalg.inv(matrix)
    expected = ndimage.affine_transform(
        volume[0], backward, center - backward @ center, order=1, mode="grid-constant", cval=0.0
    )
    np.testing.assert_allclose(pose_volume(volume, matrix)[0], expected, atol=1e-5)


def test_right_angles_are_the_exact_turns():
    volume = smooth_volume(shape=(12, 12, 12))
    quarter = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    for matrix in (np.eye(3, dtype=int), quarter, -quarter):
        np.testing.assert_allclose(pose_volume(volume, matrix), turn_volume(volume, matrix), atol=1e-5)


def test_a_scale_changes_the_volume_of_a_ball_alike():
    grid = np.indices((40, 40, 40)) - 19.5
    ball = (np.sqrt((grid**2).sum(0)) < 12).astype(np.float32)[None]
    for scale in (0.7, 1.3):
        moved = pose_volume(ball, scale * np.eye(3))
        assert moved.sum() == pytest.approx(ball.sum() * scale**3, rel=0.02)


def test_rotations_are_uniform():
    pose = RandPose(reflections=True).set_random_state(0)
    drawn = []
    for _ in range(2000):
        pose.randomize()
        drawn.append(pose.matrix)
    matrices = np.array(drawn)
    np.testing.assert_allclose(
        matrices @ matrices.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (2000, 3, 3)), atol=1e-9
    )
    determinants = np.linalg.det(matrices)
    assert np.mean(determinants < 0) == pytest.approx(0.5, abs=0.04)
    # of a uniform rotation every entry has the mean 0 and the variance 1 / 3, and the trace the variance 1
    assert np.abs(matrices.mean(0)).max() < 0.06
    np.testing.assert_allclose(matrices.var(0), 1 / 3, atol=0.03)
    assert np.var(np.trace(matrices, axis1=1, axis2=2) * determinants) == pytest.approx(1, abs=0.12)


def test_scales_stay_in_their_range_and_are_alike_along_all_axes():
    pose = RandPose(rotate=False, scale_range=(0.5, 2.0)).set_random_state(1)
    factors = []
    for _ in range(500):
        pose.randomize()
        assert np.array_equal(pose.matrix, pose.matrix[0, 0] * np.eye(3))
        factors.append(pose.matrix[0, 0])
    assert 0.5 <= min(factors) < 0.55
    assert 1.8 < max(factors) <= 2.0
    assert np.mean(np.log(factors)) == pytest.approx(0, abs=0.06)


def test_keys_move_alike_and_the_seed_decides():
    volume = smooth_volume()
    transform = RandPosed(["image", "mask"], scale_range=(0.8, 1.2)).set_random_state(3)
    first = transform({"image": volume, "mask": torch.from_numpy(2 * volume), "id": 7})
    assert first["id"] == 7
    assert isinstance(first["image"], np.ndarray)
    assert isinstance(first["mask"], torch.Tensor)
    np.testing.assert_allclose(2 * first["image"], first["mask"].numpy(), atol=1e-5)
    again = RandPosed("image", scale_range=(0.8, 1.2)).set_random_state(3)({"image": volume})
    np.testing.assert_array_equal(first["image"], again["image"])
    other = transform({"image": volume, "mask": volume})
    assert np.abs(other["image"] - first["image"]).max() > 1e-3


def test_probability_zero_leaves_the_volume():
    volume = smooth_volume()
    moved = RandPosed("image", scale_range=(0.5, 0.6), prob=0.0)({"image": volume})["image"]
    np.testing.assert_allclose(moved, volume, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scale_range": (0.0, 1.0)}, "scale_range"),
        ({"scale_range": (1.2, 1.0)}, "scale_range"),
        ({"prob": 1.5}, "prob=1.5"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(InvalidInputError, match=words):
        RandPosed("image", **arguments)


def test_bad_input():
    with pytest.raises(InvalidInputError, match=r"\(C, D, H, W\)"):
        pose_volume(np.zeros((4, 4, 4), np.float32), np.eye(3))
    with pytest.raises(InvalidInputError, match="invertible"):
        pose_volume(np.zeros((1, 4, 4, 4), np.float32), np.zeros((3, 3)))
