"""Clusters against scikit-learn called directly, on planted blobs, and what is refused."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
import sklearn.cluster
import sklearn.mixture
from sklearn.metrics import adjusted_rand_score

from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology.clustering import (
    ALGORITHMS,
    ALIASES,
    FeatureMatrix,
    cluster,
    cluster_table,
    join_features,
    scale_features,
)
from voxel_ext.morphology.clustering.algorithms import knee_distance

COUNTED = ("kmeans", "specCl", "aggloCl", "gaussian_mixture")


def blobs(sizes=(40, 25, 15), seed=0, spread=0.3):
    """Well apart normal blobs, and which is which; ids in random order."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    centers = 10 * np.eye(max(len(sizes), 2))[: len(sizes)]
    values = centers[truth] + rng.normal(0, spread, (len(truth), centers.shape[1]))
    order = rng.permutation(len(truth))
    ids = np.arange(1, len(truth) + 1) + 2**60
    columns = tuple(f"f.{i}" for i in range(values.shape[1]))
    return FeatureMatrix(ids, values[order], columns, {"f": slice(0, values.shape[1])}), truth[order]


def run(matrix, algorithm, count=3, **options):
    return cluster(matrix, algorithm, count if algorithm in COUNTED else None, **options)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_planted_blobs_are_found_with_defaults(algorithm):
    matrix, truth = blobs()
    result = run(matrix, algorithm)
    inside = result.labels >= 0
    assert inside.mean() > 0.9
    assert adjusted_rand_score(truth[inside], result.labels[inside]) == 1
    # numbered by size: what was planted is numbered so, too
    assert np.array_equal(result.labels[inside], truth[inside])
    assert result.sizes.sum() + result.noise == len(matrix)


DIRECT = {
    "kmeans": (sklearn.cluster.KMeans(4, n_init=10, random_state=7), {}),
    "affprop": (sklearn.cluster.AffinityPropagation(damping=0.8, random_state=7), {"damping": 0.8, "preference": None}),
    "specCl": (sklearn.cluster.SpectralClustering(4, gamma=0.5, random_state=7), {"gamma": 0.5, "affinity": "rbf"}),
    "aggloCl": (sklearn.cluster.AgglomerativeClustering(4, linkage="average"), {"linkage": "average"}),
    "dbscan": (sklearn.cluster.DBSCAN(0.8, min_samples=4), {"eps": 0.8, "min_samples": 4}),
    "hdbscan": (sklearn.cluster.HDBSCAN(6, copy=True), {"min_cluster_size": 6}),
    "gaussian_mixture": (
        sklearn.mixture.GaussianMixture(4, covariance_type="diag", n_init=10, random_state=7),
        {"covariance_type": "diag"},
    ),
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_same_as_scikit_learn_called_directly(algorithm):
    values = np.random.default_rng(1).normal(size=(80, 3))
    matrix = FeatureMatrix(np.arange(1, 81), values, ("f.a", "f.b", "f.c"), {"f": slice(0, 3)})
    estimator, options = DIRECT[algorithm]
    result = run(matrix, algorithm, 4, seed=7, **options)
    expected = estimator.fit_predict(values)
    assert np.array_equal(result.labels < 0, expected < 0)
    assert adjusted_rand_score(expected, result.labels) == 1
    assert np.all(np.diff(result.sizes) <= 0)
    for number in range(result.n_clusters):
        members = values[result.labels == number]
        assert result.centers[number] == pytest.approx(members.mean(0))
        assert result.distances[result.labels == number] == pytest.approx(
            np.linalg.norm(members - members.mean(0), axis=1)
        )
    assert np.array_equal(np.isnan(result.distances), result.labels < 0)


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_names_of_scikit_learn(alias, name):
    matrix, _ = blobs()
    one = cluster(matrix, alias, 3 if name in COUNTED else None)
    assert one.algorithm == name
    assert np.array_equal(one.labels, run(matrix, name).labels)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_order_of_rows_does_not_matter(algorithm):
    matrix, _ = blobs(spread=2.0)
    table = pd.DataFrame(matrix.values, columns=["a", "b", "c"]).assign(id=matrix.ids)
    shuffled = table.sample(frac=1, random_state=5)
    one, other = (scale_features(join_features({"f": given})) for given in (table, shuffled))
    pd.testing.assert_frame_equal(
        cluster_table(one, run(one, algorithm)), cluster_table(other, run(other, algorithm)), check_exact=True
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_same_seed_same_result(algorithm):
    matrix, _ = blobs(spread=3.0)
    assert np.array_equal(run(matrix, algorithm, 5, seed=3).labels, run(matrix, algorithm, 5, seed=3).labels)


def test_weights_decide_which_feature_prevails():
    ids = np.arange(1, 41)
    rng = np.random.default_rng(0)
    first, second = np.repeat([0, 1], 20), np.tile([0, 1], 20)
    given = {
        "one": pd.DataFrame({"id": ids, "v": first + rng.normal(0, 0.01, 40)}),
        "two": pd.DataFrame({"id": ids, "v": second + rng.normal(0, 0.01, 40)}),
    }
    for weights, truth in (([3, 1], first), ([1, 3], second)):
        result = cluster(scale_features(join_features(given), weights=weights), "kmeans", 2)
        assert adjusted_rand_score(truth, result.labels) == 1


@pytest.mark.parametrize(
    ("algorithm", "count"), [(name, count) for name in COUNTED for count in (1, 12) if (name, count) != ("specCl", 12)]
)
def test_one_cluster_and_one_for_each_object(algorithm, count):
    matrix, _ = blobs((5, 4, 3))
    result = cluster(matrix, algorithm, count)
    assert result.n_clusters == count
    assert result.sizes.tolist() == [12 // count] * count


@pytest.mark.filterwarnings("ignore:k >= N:RuntimeWarning")
def test_spectral_clustering_needs_more_objects_than_clusters():
    with pytest.raises(InvalidInputError, match="specCl cannot cluster 12 objects with"):
        cluster(blobs((5, 4, 3))[0], "specCl", 12)


def test_agglomerative_by_threshold():
    matrix, truth = blobs()
    result = cluster(matrix, "aggloCl", distance_threshold=30.0)
    assert np.array_equal(result.labels, truth)


def test_noise_of_dbscan():
    matrix, _ = blobs((20, 20))
    values = np.concatenate([matrix.values, [[100.0, 100.0]]])
    more = FeatureMatrix(np.arange(1, 42), values, matrix.columns, matrix.blocks)
    result = cluster(more, "dbscan", eps=2.0)
    assert (result.noise, result.n_clusters, result.labels[-1]) == (1, 2, -1)


def test_everything_noise():
    matrix, _ = blobs((6, 6))
    result = cluster(matrix, "dbscan", eps=1e-9)
    assert (result.n_clusters, result.noise, result.centers.shape) == (0, 12, (0, 2))


def test_knee_is_between_blob_and_outlier():
    values = np.r_[np.linspace(0, 1, 50), 30.0][:, None]
    assert 1 / 49 <= knee_distance(values, 3) < 1
    assert knee_distance(np.zeros((5, 2)), 2) > 0


def test_unused_number_of_clusters_is_told(caplog):
    with caplog.at_level(logging.WARNING):
        cluster(blobs()[0], "hdbscan", 3)
    assert "n_clusters=3 is not used" in caplog.text


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_equal_objects_are_told(caplog):
    matrix = FeatureMatrix(np.arange(1, 6), np.zeros((5, 1)), ("f.a",), {"f": slice(0, 1)})
    with caplog.at_level(logging.WARNING):
        assert cluster(matrix, "kmeans", 2).n_clusters == 1
    assert "found 1 clusters, not 2" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            ("kmean", 3),
            {},
            "algorithm='kmean' is not known; expected one of 'kmeans', 'affprop'.*Did you mean 'kmeans'",
        ),
        (("kmeans", 81), {}, "n_clusters=81, but there are 80 objects"),
        (("kmeans", 0), {}, "n_clusters=0; expected a whole number of at least 1"),
        (("kmeans", 2.5), {}, "n_clusters=2.5; expected a whole number"),
        (("kmeans",), {}, "n_clusters=None for kmeans; expected n_clusters"),
        (("aggloCl",), {}, "expected n_clusters or distance_threshold, not both"),
        (("aggloCl", 3), {"distance_threshold": 1.0}, "not both"),
        (("kmeans", 3), {"n_inits": 3}, "option of kmeans='n_inits' is not known.*Did you mean 'n_init'"),
        (("kmeans", 3), {"seed": None}, "seed=None; expected a whole number of at least 0"),
        (("kmeans", 3), {"random_state": 3}, "option of kmeans='random_state' is not known"),
        (("kmeans", 3), {"max_iter": -1}, "kmeans cannot cluster 80 objects .*max_iter"),
        (("dbscan",), {"metric": "precomputed"}, "metric='precomputed' of dbscan"),
        (("dbscan",), {"min_samples": 81}, "min_samples=81 of dbscan; expected a whole number from 1 to 80"),
        (("specCl", 3), {"affinity": "precomputed_nearest_neighbors"}, "distances are not given"),
        (("affprop",), {"memory_limit": 1e-5}, "affprop of 80 objects needs .*memory_limit"),
        (("aggloCl", 3), {"memory_limit": 1e-5}, "aggloCl of 80 objects needs"),
        (("specCl", 3), {"memory_limit": 1e-5, "affinity": "rbf"}, "specCl of 80 objects needs"),
    ],
)
def test_bad_settings(arguments, options, message):
    with pytest.raises(InvalidInputError, match=message):
        cluster(blobs()[0], *arguments, **options)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_no_convergence_is_an_error():
    with pytest.raises(InvalidInputError, match=r"affprop did not converge .*raise max_iter"):
        cluster(blobs()[0], "affprop", max_iter=5)


@pytest.mark.parametrize("algorithm", ["kmeans", "specCl", "dbscan", "hdbscan", "gaussian_mixture"])
def test_no_memory_for_pairs_where_none_is_needed(algorithm):
    assert len(run(blobs()[0], algorithm, memory_limit=0).labels) == 80


def test_bad_features():
    values = np.zeros((3, 2))
    values[1, 1] = np.nan
    with pytest.raises(InvalidInputError, match=r"f\.b of object 7 is nan"):
        cluster(FeatureMatrix(np.array([5, 7, 9]), values, ("f.a", "f.b")), "kmeans", 2)
    with pytest.raises(InvalidInputError, match=r"shape \(3, 2\) for 1 ids"):
        cluster(FeatureMatrix(np.array([5]), np.zeros((3, 2)), ("f.a", "f.b")), "kmeans", 2)
