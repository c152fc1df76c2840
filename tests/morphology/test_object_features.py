import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from skimage.measure import regionprops_table
from solids import capsule, ellipsoid, torus

from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology.object_features import FEATURE_GROUPS, check_features, crop_features, object_features

SIZE = (16.0, 8.0, 8.0)
LARGE = 2**40 + 3
IDS = (2, 7, LARGE)


@pytest.fixture(scope="module")
def scene():
    """A ball, a rod and a ring side by side, away from the border."""
    masks = [ellipsoid((60,) * 3, SIZE, 0), capsule(40, 150, SIZE, 1), torus(80, 35, SIZE, 2)]
    shape = np.max([mask.shape for mask in masks], axis=0)
    labels = np.zeros(shape * (1, 1, 3), np.int64)
    for place, (mask, number) in enumerate(zip(masks, IDS, strict=True)):
        z, y, x = np.nonzero(mask)
        labels[z, y, x + place * shape[2]] = number
    image = np.random.default_rng(0).random(labels.shape, np.float32)
    return labels, image


@pytest.fixture(scope="module")
def table(scene):
    return object_features(*scene, SIZE, progress=False)


def test_the_table_has_a_row_per_id_and_all_columns(table):
    assert list(table.columns) == ["id", *(name for names in FEATURE_GROUPS.values() for name in names)]
    assert table["id"].tolist() == list(IDS)
    assert table["id"].dtype == np.int64
    assert np.isfinite(table.to_numpy(float)).all()


def test_values_are_those_of_the_solids(table):
    ball, rod, ring = (row for _, row in table.iterrows())
    assert ball["volume_um3"] == pytest.approx(4 / 3 * np.pi * 0.06**3, rel=0.03)
    assert ball["sphericity"] == pytest.approx(1, rel=0.015)
    assert rod["skeleton_length_nm"] == pytest.approx(230, rel=0.08)
    assert rod["elongation"] > 2
    assert (ring["euler_number"], ring["skeleton_loops"], ring["solidity"] < 0.8) == (0, 1, True)
    assert ring["surface_area_um2"] == pytest.approx(4 * np.pi**2 * 0.08 * 0.035, rel=0.02)
    assert ring["inscribed_radius_nm"] == pytest.approx(35, abs=8)


def test_sizes_and_intensities_are_those_of_scikit_image(scene, table):
    labels, image = scene
    small = np.searchsorted([0, *IDS], labels)
    expected = regionprops_table(small, image, properties=("area", "mean_intensity", "max_intensity", "extent"))
    np.testing.assert_array_equal(table["voxels"], expected["area"])
    np.testing.assert_allclose(table["extent"], expected["extent"])
    np.testing.assert_allclose(table["intensity_mean"], expected["mean_intensity"], rtol=1e-5)
    np.testing.assert_allclose(table["intensity_max"], expected["max_intensity"])
    np.testing.assert_allclose(table["intensity_std"], ndimage.standard_deviation(image, small, [1, 2, 3]), rtol=1e-5)


def test_distances_and_densities(scene, table):
    labels, _ = scene
    centers = np.array([np.argwhere(labels == number).mean(axis=0) for number in IDS]) * SIZE
    away = np.linalg.norm(centers[:, None] - centers, axis=2)
    np.testing.assert_allclose(table["nearest_neighbor_nm"], np.sort(away, axis=1)[:, 1])
    one = object_features(labels, None, SIZE, "density", density_blocks=1)
    assert one["block_objects"].tolist() == [3, 3, 3]
    np.testing.assert_allclose(one["block_volume_fraction"], np.count_nonzero(labels) / labels.size)


def test_groups_can_be_chosen_and_have_the_same_values(scene, table):
    labels, image = scene
    for groups in (["thickness", "size"], "sphericity", ("shape",), ["intensity"]):
        some = object_features(labels, image, SIZE, groups, progress=False)
        names = [groups] if isinstance(groups, str) else groups
        assert list(some.columns) == ["id", *(column for name in names for column in FEATURE_GROUPS[name])]
        pd.testing.assert_frame_equal(some, table[some.columns])
    without = object_features(labels, None, SIZE, progress=False)
    assert set(table.columns) - set(without.columns) == set(FEATURE_GROUPS["intensity"])


def test_worker_processes_give_the_same_table(scene, table):
    pd.testing.assert_frame_equal(object_features(*scene, SIZE, num_workers=2, progress=False), table)


def test_the_order_of_labels_in_memory_does_not_matter(scene, table):
    labels, image = scene
    found = object_features(np.asfortranarray(labels), np.asfortranarray(image), SIZE, progress=False)
    pd.testing.assert_frame_equal(found, table)


def test_objects_are_measured_apart_from_those_they_touch(scene):
    labels, _ = scene
    filled = np.where(labels == 0, 9, labels)
    columns = [name for group in ("sphericity", "skeleton", "thickness") for name in FEATURE_GROUPS[group]]
    apart = object_features(labels, None, SIZE, ["sphericity", "skeleton", "thickness"], progress=False)
    touching = object_features(
        filled, None, SIZE, ["sphericity", "skeleton", "thickness"], bounds=(None, 10**5), progress=False
    )
    touching = touching[touching["id"].isin(IDS)].reset_index(drop=True)
    pd.testing.assert_frame_equal(touching[columns], apart[columns])


def test_bounds_and_border():
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[0:3, 5:9, 5:9], labels[8:12, 8:12, 8:12], labels[15, 15, 15] = 1, 2, 3
    assert object_features(labels, features="size")["id"].tolist() == [1, 2, 3]
    assert object_features(labels, features="size", exclude_border=True)["id"].tolist() == [2, 3]
    assert object_features(labels, features="size", bounds=(48, 63))["id"].tolist() == [1]
    assert object_features(labels, features="size", bounds=(2, None))["id"].tolist() == [1, 2]
    # the one at the border is still a neighbor
    found = object_features(labels, features="distance", bounds=(2, None), exclude_border=True)
    assert found["nearest_neighbor_nm"].tolist() == pytest.approx([np.linalg.norm([8.5, 3, 3])])


def test_single_voxels_and_flat_objects_have_finite_values():
    labels = np.zeros((3, 40, 40), np.uint64)
    labels[1, 5, 5], labels[1, 10:20, 10:20], labels[0, 30, 5:30], labels[:, 35, 35] = 1, 2, 3, 4
    found = object_features(labels, labels.astype(np.float32), (40, 4, 4), progress=False)
    assert np.isfinite(found.to_numpy(float)).all()
    assert found["intensity_mean"].tolist() == [1, 2, 3, 4]


def test_a_single_object_has_no_neighbor():
    found = object_features(np.ones((2, 2, 2), np.uint8), features=["distance", "size"])
    assert found["nearest_neighbor_nm"].isna().all()
    assert found["neighbors_in_radius"].tolist() == [0]


def test_crops_alone():
    mask = np.ones((3, 4, 5), bool)
    assert list(crop_features(mask, groups=["thickness", "size"])) == list(FEATURE_GROUPS["thickness"])
    assert "solidity" in crop_features(mask)


def test_names_of_groups():
    assert check_features(["size", "size", "shape"], False) == ("size", "shape")
    assert check_features(["all"], True) == tuple(FEATURE_GROUPS)
    with pytest.raises(InvalidInputError, match=r"'skelton'.*Did you mean 'skeleton'"):
        check_features(["size", "skelton"], False)
    with pytest.raises(InvalidInputError, match="there is no image"):
        check_features("intensity", False)
    with pytest.raises(InvalidInputError, match="empty"):
        check_features([], True)


def test_refuses_bad_input(scene):
    labels, image = scene
    with pytest.raises(InvalidInputError, match="float32"):
        object_features(image)
    with pytest.raises(InvalidInputError, match="image has shape"):
        object_features(labels, image[1:], features="intensity")
    with pytest.raises(InvalidInputError, match="all voxels are 0"):
        object_features(np.zeros_like(labels))
    with pytest.raises(InvalidInputError, match=r"none of 3 objects is within bounds=\(1, 2\).*they have"):
        object_features(labels, bounds=(1, 2))
    with pytest.raises(InvalidInputError, match=r"bounds=\(9, 2\)"):
        object_features(labels, bounds=(9, 2))
    with pytest.raises(InvalidInputError, match="exclude_border=False"):
        object_features(np.ones((3, 3, 3), np.uint8), exclude_border=True)
    with pytest.raises(InvalidInputError, match="num_workers=-1"):
        object_features(labels, num_workers=-1)
    with pytest.raises(InvalidInputError, match=r"the object 7 .*GiB, more than memory_gib=1e-06"):
        object_features(np.where(labels == 7, 7, 0), features="thickness", memory_gib=1e-6)
