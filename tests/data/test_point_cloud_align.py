"""Point clouds in the frame of their principal axes: independent of the pose, and back again."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from voxel_ext.data import prepare_point_clouds
from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology import principal_frame

OPTIONS = {"points": 2000, "voxel_size": (10, 10, 10), "progress": False}


def bodies():
    """A tapering body as the object 1, and the same turned by a quarter as the object 2."""
    body = np.zeros((10, 20, 40), np.int64)
    for x in range(4, 36):
        body[3 : 4 + x // 9, 5 : 6 + x // 3, x] = 1
    labels = np.zeros((60, 60, 60), np.int64)
    labels[2:12, 5:25, 10:50] = body
    labels[12:52, 30:50, 5:15] += 2 * np.rot90(body, axes=(0, 2))
    return labels


def read(path):
    with h5py.File(path) as file:
        return {name: file[name][:] for name in file}, json.loads(file.attrs["settings"])


def test_the_pose_of_an_object_no_longer_shows(tmp_path):
    data, settings = read(prepare_point_clouds(bodies(), tmp_path / "p.h5", align=True, **OPTIONS).path)
    assert settings["align"] is True
    spread = [(points * scale).std(0) for points, scale in zip(data["points"], data["scale"], strict=True)]
    np.testing.assert_allclose(spread[0], spread[1], rtol=0.05)  # the noise of 2000 points
    for points in data["points"]:
        np.testing.assert_allclose(principal_frame(points), np.eye(3), atol=1e-3)
        np.testing.assert_allclose(points.mean(0), 0, atol=1e-5)
        assert np.linalg.norm(points, axis=1).max() == pytest.approx(1, abs=1e-5)


def test_the_stored_rotation_leads_back_to_the_volume(tmp_path):
    aligned, _ = read(prepare_point_clouds(bodies(), tmp_path / "a.h5", align=True, **OPTIONS).path)
    plain, settings = read(prepare_point_clouds(bodies(), tmp_path / "b.h5", **OPTIONS).path)
    assert settings["align"] is False
    assert "rotation" not in plain
    assert aligned["rotation"].shape == (2, 3, 3)
    np.testing.assert_allclose(np.linalg.det(aligned["rotation"]), 1)
    for row in range(2):
        turned_back = aligned["points"][row] @ aligned["rotation"][row]
        np.testing.assert_allclose(turned_back, plain["points"][row], atol=1e-5)
    np.testing.assert_array_equal(aligned["scale"], plain["scale"])
    np.testing.assert_array_equal(aligned["center"], plain["center"])


def test_a_file_that_is_not_aligned_is_not_taken_for_one_that_is(tmp_path):
    prepare_point_clouds(bodies(), tmp_path / "p.h5", **OPTIONS)
    with pytest.raises(InvalidInputError, match="align"):
        prepare_point_clouds(bodies(), tmp_path / "p.h5", align=True, **OPTIONS)
