"""The slice-wise side of benchmarks has the values that its formulas give, faults included."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.slice_wise import contours, crops, slice_wise_features, spatial_densityf


def ball(radius: int, number: int = 1) -> np.ndarray:
    grid = np.indices((2 * radius + 3,) * 3) - radius - 1
    return ((grid**2).sum(0) <= radius**2).astype(np.int32) * number


def rod(axis: int) -> np.ndarray:
    shape = [8, 8, 8]
    shape[axis] = 102
    labels = np.zeros(shape, np.int32)
    labels[1:-1, 1:-1, 1:-1] = 1
    return labels


@pytest.mark.parametrize(("axis", "length"), [(0, 99), (1, 5), (2, 5)])
def test_the_path_depends_on_how_a_rod_lies(axis: int, length: float) -> None:
    assert slice_wise_features(rod(axis), ("slenf",))["slenf"] == {1: pytest.approx(length)}


def test_the_perimeter_to_area_ratio_of_a_ball_lacks_the_caps() -> None:
    found = slice_wise_features(ball(10), ("surface_to_volumef",))["surface_to_volumef"][1]
    assert found == pytest.approx(0.237, abs=0.005)
    assert found < 0.9 * 3 / 10


def test_circularity_exceeds_1_for_a_line_and_is_0_for_a_voxel() -> None:
    labels = np.zeros((1, 9, 9), np.int32)
    labels[0, 2, 2:7], labels[0, 6, 6] = 3, 4
    found = slice_wise_features(labels, ("circf",))["circf"]
    assert found[3] == pytest.approx(6.98, abs=0.01)
    assert found[4] == 0


def test_distances_shrink_along_z() -> None:
    labels = np.zeros((250, 23, 23), np.int32)
    labels[:23], labels[200:223] = ball(10, 1), ball(10, 2)
    distances = slice_wise_features(labels, ("distf",))["distf"]
    assert distances.shape == (2, 2)
    assert 9 <= distances[0, 1] <= 10  # not 200


def test_processes_measure_the_same() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (6, 20, 20))
    names = ("sizef", "circf", "slenf", "surface_to_volumef")
    found = slice_wise_features(labels, names, workers=2)
    assert found == slice_wise_features(labels, names)
    assert list(found["sizef"].items()) == [(i, (labels == i).sum()) for i in found["sizef"]]


def test_the_grid_counts_ids_and_voxels_but_for_the_least_value_of_a_block() -> None:
    labels = np.zeros((4, 4, 4), np.int64)
    labels[0, 0, :2], labels[2:, 2:, 2:] = (5, 7), 9
    volume, count = spatial_densityf(labels, blocks=2)
    assert (volume[0, 0, 0], count[0, 0, 0]) == (12, 2)
    assert (volume[1, 1, 1], count[1, 1, 1]) == (0, 0)


def test_crops_are_a_voxel_larger_where_there_is_room() -> None:
    labels, image = ball(4, 6), np.random.default_rng(0).random((11, 11, 11))
    found = crops(labels, image)
    assert list(found) == [6]
    assert found[6].shape == (9, 10, 10)
    assert np.array_equal(found[6], np.where(labels, image, 0)[1:10, 1:11, 1:11])


@pytest.mark.parametrize("number", [1, 5, 5000])
def test_contours_lie_where_the_id_says(number: int) -> None:
    labels = np.zeros((2, 30, 30), np.int32)
    labels[:, 10:20, 10:20] = number
    points = contours(labels)[number]
    outside = 1 - 0.8 / number
    assert points[:, :2].min() == pytest.approx(10 - outside)
    assert points[:, :2].max() == pytest.approx(19 + outside)
    assert math.isclose(points[:, 2].mean(), 0.5)
