"""Neighborhoods of objects beside the full matrix of distances."""

import numpy as np
import pytest

from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology.neighbors import distance_matrix, measure_neighbors


@pytest.mark.parametrize(("count", "k"), [(2, 1), (3, 5), (6, 5), (40, 1), (40, 7)])
def test_like_the_matrix_of_distances(count, k):
    points = np.random.default_rng(count).uniform(0, 5000, (count, 3))
    matrix = np.sqrt(((points[:, None] - points) ** 2).sum(-1))
    np.testing.assert_allclose(distance_matrix(points), matrix, atol=1e-9)
    np.fill_diagonal(matrix, np.inf)
    nearest = np.sort(matrix, axis=1)[:, : min(k, count - 1)]
    found = measure_neighbors(points, k, radius_nm=1500)
    np.testing.assert_allclose(found.nearest_nm, nearest[:, 0])
    np.testing.assert_allclose(found.mean_nm, nearest.mean(axis=1))
    assert np.array_equal(found.count, (matrix <= 1500).sum(axis=1))
    np.testing.assert_allclose(found.density_per_um3, found.count / (4 / 3 * np.pi * 1.5**3))
    assert found.index.shape == (count, k)
    order = np.argsort(matrix, axis=1)[:, : nearest.shape[1]]
    assert np.array_equal(found.index[:, : nearest.shape[1]], order)
    assert (found.index[:, nearest.shape[1] :] == -1).all()


def test_density_of_a_lattice():
    axis = np.arange(0, 12_000, 1000.0)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    found = measure_neighbors(points, k=6, radius_nm=3900)
    middle = np.all((points > 3900) & (points < 11_000 - 3900), axis=1)
    assert middle.any()
    assert (found.mean_nm[middle] == 1000).all()
    np.testing.assert_allclose(found.density_per_um3[middle], 1, rtol=0.05)


def test_objects_in_the_same_place():
    points = np.zeros((4, 3))
    points[3] = [0, 0, 7]
    found = measure_neighbors(points, k=2)
    assert found.nearest_nm.tolist() == [0, 0, 0, 7]
    assert found.mean_nm.tolist() == [0, 0, 0, 7]
    assert not (found.index == np.arange(4)[:, None]).any()
    many = measure_neighbors(np.zeros((30, 3)), k=3)
    assert (many.count == 29).all()
    assert not (many.index == np.arange(30)[:, None]).any()


def test_one_object_and_none():
    one = measure_neighbors([[1.0, 2.0, 3.0]])
    assert np.isnan(one.nearest_nm).all()
    assert np.isnan(one.mean_nm).all()
    assert one.density_per_um3.tolist() == [0]
    none = measure_neighbors(np.zeros((0, 3)))
    assert all(values.shape == (0,) for values in none.columns().values())
    assert distance_matrix(np.zeros((0, 3))).shape == (0, 0)


def test_columns_are_rows_of_the_objects():
    columns = measure_neighbors(np.random.default_rng(0).uniform(size=(9, 3))).columns()
    assert set(columns) == {
        "nearest_neighbor_nm",
        "mean_neighbor_nm",
        "neighbors_in_radius",
        "neighbor_density_per_um3",
    }
    assert all(values.shape == (9,) for values in columns.values())


def test_bad_input():
    points = np.zeros((6, 3))
    with pytest.raises(InvalidInputError, match=r"shape \(6, 2\)"):
        measure_neighbors(points[:, :2])
    with pytest.raises(InvalidInputError, match="k=0; expected a positive whole number"):
        measure_neighbors(points, k=0)
    with pytest.raises(InvalidInputError, match="radius_nm=-1"):
        measure_neighbors(points, radius_nm=-1)
    with pytest.raises(InvalidInputError, match=r"6 objects takes 0.0 GiB.*limit=5"):
        distance_matrix(points, limit=5)
    points[4, 1] = np.nan
    with pytest.raises(InvalidInputError, match="position 4 is"):
        measure_neighbors(points)
