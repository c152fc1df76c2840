"""Ids to cluster numbers, against a loop over the objects."""

from __future__ import annotations

import numpy as np
import pytest

from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology.clustering import cluster_values, map_labels


def expected(labels, ids, values):
    result = np.zeros(labels.shape, values.dtype)
    for one, value in zip(ids.tolist(), values.tolist(), strict=True):
        result[labels == one] = value
    return result


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint32, np.int64, np.uint64])
@pytest.mark.parametrize("seed", range(3))
def test_map_against_a_loop(kind, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 100, (6, 7, 8)).astype(kind)
    ids = rng.permutation(np.arange(1, 120))[:60]
    values = rng.integers(0, 9, 60).astype(np.uint8)
    found = map_labels(labels, ids, values)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected(labels, ids, values))


def test_map_is_take_for_consecutive_ids():
    rng = np.random.default_rng(0)
    labels, values = rng.integers(0, 31, (5, 6, 7)), rng.integers(0, 6, 30).astype(np.uint16)
    assert np.array_equal(map_labels(labels, np.arange(1, 31), values), np.take(np.r_[0, values], labels))


@pytest.mark.parametrize("kind", [np.int64, np.uint64])
def test_neighboring_large_ids(kind):
    ids = np.array([2**53, 2**53 + 1, 2**63 - 2, 2**63 - 1])
    labels = np.r_[0, ids[::-1]].astype(kind)
    assert map_labels(labels, ids, np.array([1, 2, 3, 4], np.uint8)).tolist() == [0, 4, 3, 2, 1]


def test_labels_that_are_no_ids():
    ids, values = np.array([1, 2**63 - 1]), np.array([5, 6], np.uint8)
    assert map_labels(np.array([-1, -(2**63), 1]), ids, values).tolist() == [0, 0, 5]
    assert map_labels(np.array([2**64 - 1, 2**63], np.uint64), ids, values).tolist() == [0, 0]
    assert map_labels(np.array([3, 4]), ids[:0], values[:0]).tolist() == [0, 0]


def test_values_of_clusters():
    labels = np.array([0, -1, 2, 1])
    assert cluster_values(labels).tolist() == [1, 0, 3, 2]
    assert cluster_values(labels, "own").tolist() == [1, 4, 3, 2]
    assert cluster_values(np.array([-1, -1]), "own").tolist() == [1, 1]


@pytest.mark.parametrize(("top", "kind"), [(3, np.uint8), (253, np.uint8), (254, np.uint16), (70_000, np.uint32)])
def test_type_holds_all_clusters_and_noise(top, kind):
    for noise in ("background", "own"):
        values = cluster_values(np.array([0, top, -1]), noise)
        assert values.dtype == kind
        assert values.tolist() == [1, top + 1, top + 2 if noise == "own" else 0]


def test_bad_input():
    with pytest.raises(InvalidInputError, match="labels of data type float64"):
        map_labels(np.zeros(3), np.array([1]), np.array([1]))
    with pytest.raises(InvalidInputError, match=r"values of shape \(2,\) for 1 ids"):
        map_labels(np.zeros(3, int), np.array([1]), np.array([1, 2]))
    with pytest.raises(InvalidInputError, match="more than one row has the id 1"):
        map_labels(np.zeros(3, int), np.array([1, 1]), np.array([1, 2]))
    with pytest.raises(InvalidInputError, match="noise='keep' is not known"):
        cluster_values(np.array([0]), "keep")
    with pytest.raises(InvalidInputError, match="expected \\(N,\\) integers from -1 on"):
        cluster_values(np.array([-2]))
