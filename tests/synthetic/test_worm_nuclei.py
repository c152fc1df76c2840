"""Nuclei of the synthetic worm: they do not overlap, and their look depends on the identity alone."""

import numpy as np
import pytest
from scipy import ndimage

from voxel_ext.errors import InvalidInputError
from voxel_ext.synthetic.worm import nuclei as module
from voxel_ext.synthetic.worm.nuclei import contact_factors, draw_nuclei, identity_table, inside, label_volume

NAMES = [f"cell{i}" for i in range(300)]
APART = np.stack(np.meshgrid(*[np.arange(7) * 60.0] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:300]


def logs(seed, strength):
    """Logarithms (4, 300) of what the nuclei of a worm look like when none touch."""
    nuclei = draw_nuclei(np.random.default_rng(seed), APART, NAMES, strength)
    return np.log([nuclei.brightness, nuclei.radii, nuclei.contrast, nuclei.grain])


def test_identity_numbers_belong_to_the_name_and_are_standard_normal():
    table = identity_table(NAMES)
    np.testing.assert_array_equal(identity_table(NAMES[::-1]), table[::-1])
    assert np.abs(table.mean(axis=0)).max() < 4 / np.sqrt(len(NAMES))
    np.testing.assert_allclose(table.std(axis=0), 1, atol=0.2)
    assert np.abs(np.corrcoef(table.T) - np.eye(4)).max() < 0.25


def test_without_strength_the_look_is_independent_of_the_identity():
    first, second = logs(0, 0.0), logs(1, 0.0)
    for a, b in zip(first, second, strict=True):
        assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(len(NAMES))
    np.testing.assert_allclose(first[:2].std(axis=1), [module.OWN_BRIGHTNESS, module.OWN_RADIUS], rtol=0.2)


def test_with_strength_the_look_is_that_of_the_identity():
    first, second = logs(0, 1.0), logs(1, 1.0)
    own = np.array([module.OWN_BRIGHTNESS, module.OWN_RADIUS, module.OWN_CONTRAST, module.OWN_GRAIN])
    identity = np.array(
        [module.IDENTITY_BRIGHTNESS, module.IDENTITY_RADIUS, module.IDENTITY_CONTRAST, module.IDENTITY_GRAIN]
    )
    expected = identity**2 / (identity**2 + own**2)
    found = [np.corrcoef(a, b)[0, 1] for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(found, expected, atol=0.08)


def test_contact_factors_keep_ellipsoids_apart_and_leave_lonely_ones():
    rng = np.random.default_rng(2)
    turns = np.linalg.qr(rng.normal(size=(40, 3, 3)))[0]
    shapes = turns @ (rng.uniform(3, 9, (40, 3, 1)) * turns.transpose(0, 2, 1))
    centers = rng.permutation(np.argwhere(np.ones((4, 4, 4))))[:40] * 9.0 + rng.uniform(-1, 1, (40, 3))
    centers[0] = 500
    factor = contact_factors(centers, shapes, NAMES)
    assert factor[0] == 1
    assert 0 < factor.min() < 1
    assert factor.max() <= 1
    # points on every surface lie outside every other ellipsoid
    sphere = rng.normal(size=(2000, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    for i in range(1, 40):
        surface = centers[i] + factor[i] * sphere @ shapes[i]
        for j in set(range(1, 40)) - {i}:
            inverse = np.linalg.inv(factor[j] * shapes[j])
            assert (np.linalg.norm((surface - centers[j]) @ inverse, axis=1) > 1).all()


def test_two_spheres_share_their_distance_by_their_radii():
    shapes = np.eye(3) * np.array([6.0, 3.0])[:, None, None]
    factor = contact_factors(np.array([[0.0, 0, 0], [0, 0, 6.5]]), shapes, NAMES)
    np.testing.assert_allclose(factor, (6.5 - module.GAP) / 9)


def test_inside_is_the_ellipsoid():
    nuclei = draw_nuclei(np.random.default_rng(3), np.array([[12.3, 14.8, 15.5]]), ["a"], 1.0)
    shape = (30, 30, 30)
    label = label_volume(nuclei, np.array([7]), shape)
    offset = np.moveaxis(np.indices(shape), 0, -1) - nuclei.centers[0]
    expected = np.linalg.norm(offset @ np.linalg.inv(nuclei.shapes[0]).T, axis=-1) <= 1
    np.testing.assert_array_equal(label == 7, expected)
    assert (label > 0).sum() == pytest.approx(4 / 3 * np.pi * nuclei.radii[0] ** 3, rel=0.05)
    window, mask = inside(nuclei, 0, shape, margin=3)
    np.testing.assert_array_equal(label[window] > 0, mask)


def test_crowded_labels_are_each_one_piece_around_their_center():
    rng = np.random.default_rng(4)
    centers = np.argwhere(np.ones((3, 3, 5))) * 6.6 + 14 + rng.uniform(-0.5, 0.5, (45, 3))
    numbers = rng.permutation(45) + 1
    nuclei = draw_nuclei(rng, centers, NAMES[:45], 3.0)
    label = label_volume(nuclei, numbers, (42, 42, 55))
    np.testing.assert_array_equal(label[tuple(np.rint(centers).astype(int).T)], numbers)
    for number, center in zip(numbers, centers, strict=True):
        mask = label == number
        assert ndimage.label(mask)[1] == 1
        assert np.linalg.norm(np.argwhere(mask).mean(axis=0) - center) < 0.6


def test_nuclei_at_one_place_are_named():
    centers = np.array([[20.0, 20, 20], [20, 50, 20], [20, 20, 22]])
    with pytest.raises(InvalidInputError, match=r"cell0 and cell2 are 2\.00 voxels apart"):
        draw_nuclei(np.random.default_rng(5), centers, NAMES[:3], 1.0)
