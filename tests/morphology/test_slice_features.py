import numpy as np
import pytest
from skimage.measure import perimeter
from solids import ellipsoid

from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology.slice_features import slice_features


def test_values_of_a_small_box():
    """A row of 1 x 5 pixels has the perimeter 3 by scikit-image's weights: circularity 4 pi 5 / 9."""
    found = slice_features(np.ones((3, 1, 5), bool), (40, 8, 8))
    length = perimeter(np.pad(np.ones((1, 5)), 1), neighborhood=4)
    assert found["slice_circularity"] == pytest.approx(4 * np.pi * 5 / length**2)
    assert found["slice_circularity"] > 1
    assert found["slice_path_nm"] == pytest.approx(80)
    assert found["slice_surface_to_volume_per_um"] == pytest.approx(length / 5 / 0.008)


def test_rods_have_their_extent_along_z_whatever_their_length():
    rod = np.ones((100, 6, 6), bool)
    paths = [slice_features(mask)["slice_path_nm"] for mask in (rod, rod.transpose(1, 0, 2), rod.transpose(1, 2, 0))]
    assert paths == pytest.approx([99, 5, 5])


def test_the_path_follows_centroids_and_bridges_missing_slices():
    mask = np.zeros((6, 12, 30), bool)
    for z in (0, 1, 4, 5):
        mask[z, 3 : 3 + z + 1, 2 * z : 2 * z + 5] = True
    centers = np.array([(z, 3 + z / 2, 2 * z + 2) for z in (0, 1, 4, 5)]) * (30, 8, 4)
    expected = np.linalg.norm(np.diff(centers, axis=0), axis=1).sum()
    assert slice_features(mask, (30, 8, 4))["slice_path_nm"] == pytest.approx(expected)


def test_a_ball_is_round_in_its_slices_and_lacks_caps():
    found = slice_features(ellipsoid((20,) * 3, (1, 1, 1), 0), (1, 1, 1))
    assert found["slice_circularity"] == pytest.approx(1, abs=0.12)
    # without caps: sum of perimeters pi^2 R^2, sum of areas 4/3 pi R^3
    assert found["slice_surface_to_volume_per_um"] == pytest.approx(3 * np.pi / (4 * 20) * 1e3, rel=0.05)


def test_single_voxels_are_finite():
    assert list(slice_features(np.ones((1, 1, 1), bool), (40, 8, 8)).values()) == [0, 0, 0]


def test_refuses_empty_masks():
    with pytest.raises(InvalidInputError, match="empty"):
        slice_features(np.zeros((2, 2, 2), bool))
