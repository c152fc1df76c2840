import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from voxel_ext.errors import InvalidInputError
from voxel_ext.visualize.arrays import as_image, as_labels, check_voxel_size, normalize, pick_slices, shrink
from voxel_ext.visualize.colors import PREDICTION, blend, outline, overlay, rgb


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 50))
def test_counted_slices_are_distinct_ordered_and_inside(foreground, count):
    chosen = pick_slices(np.array(foreground), count)
    assert 1 <= len(chosen) <= count
    assert chosen == sorted(set(chosen))
    assert 0 <= chosen[0] <= chosen[-1] < len(foreground)


def test_counted_slices_cover_the_foreground_only():
    foreground = np.zeros(100, dtype=int)
    foreground[40:50] = 7
    assert pick_slices(foreground, 10) == list(range(40, 50))
    assert pick_slices(foreground * 0, 4) == [12, 37, 62, 87]
    assert pick_slices(foreground, [3, 99]) == [3, 99]


@pytest.mark.parametrize(
    ("slices", "message"), [(0, "at least 1"), ([], "indices"), ([10], "0 to 9"), ([-1], "0 to 9")]
)
def test_slices_outside_are_refused(slices, message):
    with pytest.raises(InvalidInputError, match=message):
        pick_slices(np.ones(10), slices)


def test_outline_agrees_with_erosion_of_each_object():
    labels = np.random.default_rng(0).integers(0, 3, (4, 5)).repeat(4, 0).repeat(4, 1)
    expected = np.zeros(labels.shape, dtype=bool)
    for index in (1, 2):
        inside = ndimage.binary_erosion(labels == index, border_value=1)
        expected |= (labels == index) & ~inside
    np.testing.assert_array_equal(outline(labels), expected)


def test_overlay_colors_only_the_mask():
    labels = np.zeros((6, 6), dtype=np.int32)
    labels[1:5, 1:5] = 1
    gray = np.full((6, 6, 3), 0.5, dtype=np.float32)
    picture = overlay(gray, labels, PREDICTION)
    np.testing.assert_array_equal(picture[labels == 0], 0.5)
    np.testing.assert_allclose(picture[2, 2], 0.65 * 0.5 + 0.35 * rgb(PREDICTION), rtol=1e-6)
    np.testing.assert_array_equal(blend(gray, labels > 0, "#ff0080")[1, 1], rgb("#ff0080"))
    assert (gray == 0.5).all()


def test_normalize_maps_percentiles():
    image = np.arange(1001, dtype=np.float32)
    result = normalize(image, 10, 90)
    assert result[100] == 0
    assert result[900] == 1
    assert result[500] == pytest.approx(0.5)
    assert normalize(np.full((3, 3), 7, np.float32)).max() == 0


def test_normalize_of_a_sparse_image_uses_its_whole_range():
    image = np.zeros(10_000, dtype=np.float32)
    image[3] = 5
    assert normalize(image)[3] == 1


def test_shrink_keeps_mean_and_extent():
    volume = np.random.default_rng(0).random((12, 8, 6)).astype(np.float32)
    small, sizes = shrink(volume, (1.0, 2.0, 3.0), 4)
    assert small.shape == (4, 4, 4)
    np.testing.assert_allclose(small.mean(axis=(0, 1)).mean(), volume.mean(), rtol=0.05)
    np.testing.assert_allclose(np.array(small.shape) * sizes, [12, 16, 18])
    np.testing.assert_allclose(small[0, 0, 0], volume[:3, :2, :2].mean(), rtol=1e-5)
    assert shrink(volume, (1, 1, 1), 12)[0] is volume


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((1, 1, 2, 2)), r"shape \(1, 1, 2, 2\)"),
        (np.zeros((0, 4)), "no empty axis"),
        (np.array([["a"]]), "real numbers"),
        (np.array([[1, np.nan]]), "1 values that are NaN or infinite of 2"),
        (np.array([[np.inf, -np.inf]]), "2 values"),
    ],
)
def test_images_that_cannot_be_drawn_are_refused(image, message):
    with pytest.raises(InvalidInputError, match=message):
        as_image(image)


def test_large_finite_values_are_not_taken_for_infinity():
    assert as_image(np.full((4, 4), 3e38, dtype=np.float32)).max() > 1e38


def test_labels_of_every_type():
    image = np.zeros((1, 4))
    assert as_labels([[True, False, True, False]], image, "mask").tolist() == [[1, 0, 1, 0]]
    assert as_labels(np.array([[0.2, 0.7, 1, 0]]), image, "mask").tolist() == [[0, 1, 1, 0]]
    assert as_labels(np.array([[0.0, 7, -1, 2]]), image, "mask").tolist() == [[0, 7, 0, 2]]
    assert as_labels(np.array([[0, -1, 2**40, 2]]), image, "mask").tolist() == [[0, 0, 2**31 - 1, 2]]
    with pytest.raises(InvalidInputError, match=r"mask has shape \(4, 1\) but the image has shape \(1, 4\)"):
        as_labels(np.zeros((4, 1)), image, "mask")
    with pytest.raises(InvalidInputError, match="expected bool"):
        as_labels(np.zeros((1, 4), dtype=complex), image, "mask")


@pytest.mark.parametrize("voxel_size", [(1, 1), (1, 0, 1), (1, -2, 1), (1, np.nan, 1)])
def test_wrong_voxel_sizes_are_refused(voxel_size):
    with pytest.raises(InvalidInputError, match="3 positive numbers"):
        check_voxel_size(voxel_size, 3)
