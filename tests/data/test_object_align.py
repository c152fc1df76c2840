from functools import cache

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from voxel_ext.data.object_crops import cut_object, cut_samples
from voxel_ext.data.object_dataset import ObjectDataset
from voxel_ext.data.object_preparation import prepare_objects
from voxel_ext.data.object_resampling import find_pose, resample
from voxel_ext.errors import InvalidInputError

# capsules (from, to, radius) in nm: three of different length and thickness, at no right angles
ARMS = (((0, 0, -300), (0, 0, 400), 70), ((0, 0, 100), (40, 300, 160), 55), ((0, 0, -200), (-160, 60, -260), 60))
ROTATIONS = Rotation.random(3, rng=np.random.default_rng(0)).as_matrix()


@cache
def body(turn=None, voxel_size=(10, 10, 10), reach=480):
    """The union of capsules, turned; and an intensity that turns with it."""
    axes = [np.arange(-reach, reach, step) + step / 2 for step in voxel_size]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    if turn is not None:
        points = points @ ROTATIONS[turn]  # the inverse of the turn of the body
    mask = np.zeros(points.shape[:3], bool)
    for start, end, radius in np.array([(a, b, (r, r, r)) for a, b, r in ARMS], float):
        way = end - start
        along = np.clip((points - start) @ way / (way @ way), 0, 1)[..., None]
        mask |= np.square(points - start - along * way).sum(-1) <= radius[0] ** 2
    return mask, (0.5 + points[..., 2] / 2000).astype(np.float32)


def dice(a, b):
    return 2 * np.logical_and(a, b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("voxel_size", [(10, 10, 10), (24, 12, 12)])
@pytest.mark.parametrize("size", [24, 60])
def test_a_turned_body_has_the_cube_of_the_body_itself(voxel_size, size):
    options = {"size": size, "contents": "both", "align": True}
    (mask, picture), scale = cut_object(*body(), **options, voxel_size=(10, 10, 10))
    plain = cut_object(*body(), **(options | {"align": False}), voxel_size=(10, 10, 10))[0][0]
    for turn in range(len(ROTATIONS)):
        (turned, other), length = cut_object(*body(turn, voxel_size), **options, voxel_size=voxel_size)
        assert dice(mask, turned) > 0.92
        assert length == pytest.approx(scale, rel=0.04)
        both = (mask > 0) & (turned > 0)
        assert np.abs(picture - other)[both].mean() < 0.012  # of a slope of 0.5 over a micrometer
        unaligned = cut_object(body(turn)[0], size=size, contents="mask", voxel_size=(10, 10, 10))[0][0]
        assert dice(plain, unaligned) < 0.6


def test_the_longest_axis_is_z_and_the_box_is_centered():
    mask, _ = body(0)
    (cube,), scale = cut_object(mask, size=40, contents="mask", voxel_size=(10, 10, 10), align=True)
    places = np.argwhere(cube)
    variance = np.cov(places.T)
    assert (np.diff(np.diag(variance)) < 0).all()
    assert np.abs(variance - np.diag(np.diag(variance))).max() < 0.05 * variance[0, 0]
    np.testing.assert_allclose((places.min(0) + places.max(0)) / 2, [19.5] * 3, atol=0.6)
    assert np.ptp(places[:, 0]) >= 37
    assert cube.sum() * scale**3 == pytest.approx(mask.sum() * 1000, rel=0.02)


def test_turning_agrees_with_map_coordinates():
    values = np.random.default_rng(1).random((7, 9, 8)).astype(np.float32)
    steps, scale, center = np.array([3.0, 1.5, 2.0]), 1.2, np.array([10.0, 7.0, 7.5])
    found = resample(values, center, 5, scale, steps, False, ROTATIONS[1])
    grid = (np.stack(np.meshgrid(*[np.arange(5) - 2] * 3, indexing="ij"), axis=-1) * scale) @ ROTATIONS[1]
    index = (grid + center) / steps - 0.5
    expected = ndimage.map_coordinates(np.pad(values, 1), np.moveaxis(index + 1, -1, 0), order=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("beyond", [False, True])
def test_a_turn_by_nothing_is_the_same_as_none(beyond):
    values = ndimage.gaussian_filter(np.random.default_rng(2).random((12, 14, 10)), 2).astype(np.float32)
    place = ((12, 14, 10), 10, 1.9, (2, 2, 2), beyond)
    np.testing.assert_allclose(resample(values, *place, np.eye(3)), resample(values, *place), atol=1e-6)


def test_shrinking_loses_nothing_between_the_centers():
    mask = np.zeros((90, 90, 90), np.float32)
    mask[:, 44:46, 44:46] = 1  # a thin rod, a sixteenth of the section of the cube's voxels
    rng = np.random.default_rng(3)
    centers = 45 + rng.uniform(-4, 4, (40, 3))
    sums = [resample(mask, at, 20, 8.0, (1, 1, 1), False, ROTATIONS[2]).sum() * 8**3 for at in centers]
    assert np.mean(sums) == pytest.approx(mask.sum(), rel=0.05)
    assert min(sums) > 0.5 * mask.sum()


def test_places_go_into_the_frame_and_back():
    mask, _ = body(2)
    pose = find_pose(mask, (10, 10, 10), True)
    at = np.array([300.0, 500.0, 700.0])
    np.testing.assert_allclose(pose.outward(pose.inward(at)), at)
    inside = (np.argwhere(mask) + 0.5) * 10
    along = np.stack([pose.inward(one) for one in inside[::50]])
    assert (along > 0).all()
    assert (along < pose.extent).all()


def test_samples_are_turned_too():
    mask, image = body(0)
    cubes, scale = cut_samples(mask, image, 3, 1, size=16, voxel_size=(10, 10, 10), align=True)
    assert scale == 10
    assert (cubes[:, 0].sum((1, 2, 3)) > 50).all()
    slope = np.gradient(ndimage.gaussian_filter(np.where(cubes[:, 0] > 0, cubes[:, 1], np.nan), 0), axis=(1, 2, 3))
    steepest = np.array([np.nanmedian(one) for one in slope])
    frame = find_pose(mask, (10, 10, 10), True).rotation
    np.testing.assert_allclose(steepest * 2000 / 10, frame @ ROTATIONS[0][:, 2], atol=0.02)


def test_a_file_tells_that_its_objects_are_turned(tmp_path):
    labels = np.zeros((24, 60, 60), np.uint16)
    labels[4:8, 10:14, 10:40] = 7
    options = {"size": 16, "voxel_size": (10, 10, 10), "large_object_samples": 0, "progress": False}
    prepare_objects(labels, None, tmp_path / "objects.h5", "mask", align=True, **options)
    dataset = ObjectDataset(tmp_path / "objects.h5")
    assert dataset.settings["align"] is True
    (cube,) = dataset[0]["image"].numpy()
    assert np.ptp(np.argwhere(cube), axis=0).tolist()[0] == 15
    with pytest.raises(InvalidInputError, match="align"):
        prepare_objects(labels, None, tmp_path / "objects.h5", "mask", align=False, **options)
    with pytest.raises(InvalidInputError, match="align='yes'"):
        prepare_objects(labels, None, tmp_path / "other.h5", "mask", align="yes", **options)


def test_symmetric_and_tiny_objects_have_a_frame():
    for shape in ((1, 1, 1), (3, 3, 3), (2, 1, 1)):
        (cube,), _ = cut_object(np.ones(shape, bool), size=8, contents="mask", align=True)
        assert cube.any()
