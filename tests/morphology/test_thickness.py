import numpy as np
import pytest
from scipy import ndimage
from solids import capsule, ellipsoid, torus

from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology.thickness import depth_map, thickness_features


@pytest.mark.parametrize("voxel_size", [(1, 1, 1), (30, 8, 4)])
def test_depths_are_those_of_scipy(voxel_size):
    mask = np.random.default_rng(0).random((7, 9, 11)) < 0.9
    expected = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=voxel_size)[1:-1, 1:-1, 1:-1]
    np.testing.assert_allclose(depth_map(mask, voxel_size), expected, rtol=1e-5)
    expected = ndimage.distance_transform_edt(mask, sampling=voxel_size)
    np.testing.assert_allclose(depth_map(mask, voxel_size, black_border=False), expected, rtol=1e-5)


@pytest.mark.parametrize("voxel_size", [(4, 4, 4), (8, 4, 4), (20, 4, 4)])
def test_solids_have_the_depths_of_closed_forms(voxel_size):
    """To half a voxel, or 3 %."""
    half = max(voxel_size) / 2
    for mask, radius, mean in (
        (ellipsoid((100,) * 3, voxel_size, 1), 100, 25),
        # a cylinder has R / 3, balls R / 4, weighted by their volumes
        (capsule(60, 300, voxel_size, 1), 60, 60 * (300 / 3 + 4 * 60 / 3 / 4) / (300 + 4 * 60 / 3)),
        (torus(150, 60, voxel_size, 1), 60, 20),
    ):
        found = thickness_features(mask, voxel_size)
        assert found["inscribed_radius_nm"] == pytest.approx(radius, rel=0.03, abs=half)
        assert found["mean_depth_nm"] == pytest.approx(mean, rel=0.03, abs=half)


def test_border_is_outside_or_unknown():
    slab = np.ones((10, 40, 40), bool)
    assert thickness_features(slab)["inscribed_radius_nm"] == 5
    slab[0] = False
    assert thickness_features(slab)["inscribed_radius_nm"] == 5
    assert thickness_features(slab, black_border=False)["inscribed_radius_nm"] == 9


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (9, 1, 9), (2, 1, 1)])
def test_flat_objects_are_one_voxel_deep(shape):
    found = thickness_features(np.ones(shape, bool), (8, 8, 8))
    assert found == {"inscribed_radius_nm": 8, "mean_depth_nm": 8}


def test_turns_and_permutations_change_nothing():
    mask, size = capsule(20, 50, (3, 2, 1), 2), (3, 2, 1)
    expected = thickness_features(mask, size)
    for other in (
        thickness_features(np.rot90(mask, axes=(0, 2)), (1, 2, 3)),
        thickness_features(mask.transpose(1, 2, 0), (2, 1, 3)),
        thickness_features(mask[:, ::-1], size),
    ):
        assert other == pytest.approx(expected)


def test_refuses_empty_masks_and_bad_sizes():
    with pytest.raises(InvalidInputError, match="empty"):
        thickness_features(np.zeros((2, 2, 2), bool))
    with pytest.raises(InvalidInputError, match="voxel_size"):
        thickness_features(np.ones((2, 2, 2), bool), (1, 1))
