import numpy as np
import pytest
from scipy import ndimage

from voxel_ext.data.object_crops import cut_object, cut_samples, is_large
from voxel_ext.errors import InvalidInputError


def ellipsoid(shape, radii):
    grid = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
    return (np.square(grid / np.array(radii)[:, None, None, None]).sum(0) <= 1).astype(bool)


def random_image(shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def test_an_object_of_the_size_of_the_cube_stays_as_it_is():
    mask = ellipsoid((16, 16, 16), (8, 7, 6))
    image = random_image(mask.shape)
    volume, scale = cut_object(np.pad(mask, 3), np.pad(image, 3), 16, voxel_size=(8, 8, 8))
    assert volume.dtype == np.float32
    assert scale == 8
    np.testing.assert_array_equal(volume[0], mask)
    np.testing.assert_allclose(volume[1], image * mask, rtol=1e-6)


def test_whole_ratios_give_means():
    cube = np.ones((48, 48, 48), bool)
    image = random_image(cube.shape)
    volume, scale = cut_object(cube, image, 16)
    assert scale == 3
    assert volume[0].all()
    np.testing.assert_allclose(volume[1], image.reshape(16, 3, 16, 3, 16, 3).mean((1, 3, 5)), rtol=1e-5)


def test_enlarging_is_linear_interpolation():
    mask = np.ones((5, 5, 5), bool)
    image = random_image(mask.shape)
    volume, scale = cut_object(mask, image, 16)
    assert scale == pytest.approx(5 / 16)
    at = (np.arange(16) - 7.5) * 5 / 16 + 2
    grid = np.meshgrid(at, at, at, indexing="ij")
    expected = ndimage.map_coordinates(image, grid, order=1, mode="nearest")
    np.testing.assert_allclose(volume[1], expected, rtol=1e-4, atol=1e-6)
    assert volume[0].all()


@pytest.mark.parametrize("voxel_size", [(1, 1, 1), (30, 8, 8), (4, 10, 6)])
@pytest.mark.parametrize("radius", [40.0, 300.0])
def test_a_ball_is_a_centered_ball_of_its_volume_at_any_voxel_size(voxel_size, radius):
    radii = np.array([radius / step for step in voxel_size]) * (0.1 if voxel_size == (1, 1, 1) else 1)
    mask = ellipsoid(tuple(2 * np.ceil(radii).astype(int) + 1), radii)
    (volume,), scale = cut_object(mask, size=24, contents="mask", voxel_size=voxel_size)
    real = mask.sum() * np.prod(voxel_size)
    assert volume.sum() * scale**3 == pytest.approx(real, rel=0.04)
    np.testing.assert_allclose(ndimage.center_of_mass(volume), [11.5] * 3, atol=0.3)
    extents = [np.ptp(np.flatnonzero(volume.any(axis=other))) + 1 for other in ((1, 2), (0, 2), (0, 1))]
    thick = max(voxel_size) / scale  # voxels are this long in the cube
    assert min(extents) >= 24 - 2 - thick


def test_aspect_ratio_is_kept_and_the_rest_is_empty():
    mask = np.ones((4, 20, 40), bool)
    (volume,), scale = cut_object(mask, size=20, contents="mask", voxel_size=(5, 2, 1))
    assert scale == 2  # the bounding box is 20 x 40 x 40 nm
    expected = np.zeros((20, 20, 20))
    expected[5:15] = 1
    np.testing.assert_array_equal(volume, expected)


def test_thin_objects_do_not_vanish():
    mask = np.zeros((300, 300, 300), bool)
    diagonal = np.arange(300)
    mask[diagonal, diagonal, diagonal] = True
    (volume,), _ = cut_object(mask, size=16, contents="mask")
    assert volume.sum() >= 1
    assert volume[np.arange(16), np.arange(16), np.arange(16)].sum() >= 1
    (single,), scale = cut_object(np.ones((1, 1, 1), bool), size=8, contents="mask")
    assert single.all()
    assert scale == 1 / 8


@pytest.mark.parametrize("align", [False, True])
def test_two_voxels_far_apart_are_an_object(align):
    # of each the box covers so little that a mean over a voxel of the cube is below 0.0001
    mask = np.zeros((1600, 4, 4), bool)
    mask[0, 0, 0] = mask[-1, -1, -1] = True
    cube, scale = cut_object(mask, size=32, contents="mask", align=align)
    assert scale == pytest.approx(50, rel=0.01)
    assert cube[0, :2].any()
    assert cube[0, -2:].any()
    assert not cube[0, 3:-3].any()


def test_contents():
    mask = ellipsoid((9, 9, 9), (4, 4, 4))
    image = random_image(mask.shape)
    both, _ = cut_object(mask, image, 8, "both")
    np.testing.assert_array_equal(cut_object(mask, image, 8, "mask")[0], both[:1])
    np.testing.assert_array_equal(cut_object(mask, image, 8, "masked_image")[0], both[1:])
    assert (both[1][both[0] == 0] == 0).all()
    assert (both[1][both[0] == 1] > 0).all()


def test_samples_are_parts_of_the_object_at_full_resolution():
    mask = ellipsoid((40, 14, 33), (20, 7, 16))
    image = random_image(mask.shape) + 1
    cubes, scale = cut_samples(mask, image, 6, 3, size=12, voxel_size=(8, 8, 8))
    assert cubes.shape == (6, 2, 12, 12, 12)
    assert scale == 8
    whole = np.pad(np.where(mask, image, 0), 12)
    windows = np.lib.stride_tricks.sliding_window_view(whole, (12, 12, 12))
    for cube in cubes:
        assert cube[0].any()
        peak = np.unravel_index(cube[1].argmax(), cube[1].shape)
        found = np.argwhere(np.isclose(whole, cube[1].max(), rtol=1e-6))
        assert any(np.allclose(windows[tuple(at - peak)], cube[1], atol=1e-5) for at in found)
    assert len({cube.tobytes() for cube in cubes}) > 1
    np.testing.assert_array_equal(cut_samples(mask, image, 6, 3, size=12, voxel_size=(8, 8, 8))[0], cubes)


def test_samples_of_voxels_that_are_no_cubes_are_cubes_of_the_shortest_edge():
    mask = np.ones((10, 50, 50), bool)
    cubes, scale = cut_samples(mask, None, 2, size=16, contents="mask", voxel_size=(4, 1, 1))
    assert scale == 1
    assert cubes.all()  # 40 nm of z are more than the 16 nm of the cube


def test_large_is_what_does_not_fit_at_full_resolution():
    assert not is_large((64, 64, 64))
    assert is_large((64, 65, 1))
    assert is_large((18, 3, 3), voxel_size=(30, 8, 8))  # 540 nm, of 512
    assert not is_large((17, 3, 3), voxel_size=(30, 8, 8))


def test_bad_input():
    mask = np.ones((3, 3, 3), bool)
    with pytest.raises(InvalidInputError, match="is empty"):
        cut_object(mask & False, contents="mask")
    with pytest.raises(InvalidInputError, match="needs an image"):
        cut_object(mask, contents="both")
    with pytest.raises(InvalidInputError, match=r"image has shape \(2, 3, 3\)"):
        cut_object(mask, np.ones((2, 3, 3)))
    with pytest.raises(InvalidInputError, match=r"contents='masks' is not known.*'mask'"):
        cut_object(mask, contents="masks")
    with pytest.raises(InvalidInputError, match="size=0"):
        cut_object(mask, size=0, contents="mask")
    with pytest.raises(InvalidInputError, match="voxel_size"):
        cut_object(mask, contents="mask", voxel_size=(1, 0, 1))
    with pytest.raises(InvalidInputError, match=r"shape \(3, 3\)"):
        cut_object(mask[0], contents="mask")
