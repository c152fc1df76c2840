"""Scores by hand and against scikit-learn; stability; typical members; embeddings."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist, pdist
from sklearn import metrics

from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology.clustering import (
    ClusterResult,
    FeatureMatrix,
    cluster,
    cluster_table,
    embed,
    external_scores,
    internal_scores,
    repeats,
    representatives,
    silhouettes,
    stability,
    write_clusters,
)


def points(values):
    values = np.asarray(values, float)
    columns = tuple(f"f.{i}" for i in range(values.shape[1]))
    return FeatureMatrix(np.arange(1, len(values) + 1), values, columns, {"f": slice(0, values.shape[1])})


def noisy(seed=0, count=60, spread=1.0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, count)
    return points(8 * np.eye(3)[truth] + rng.normal(0, spread, (count, 3))), truth


def test_internal_scores_leave_out_noise():
    matrix, truth = noisy(spread=4.0)
    labels = np.where(np.arange(60) % 7 == 0, -1, truth)
    inside = labels >= 0
    values, clusters = matrix.values[inside], labels[inside]
    assert internal_scores(matrix.values, labels) == pytest.approx(
        {
            "silhouette": metrics.silhouette_score(values, clusters),
            "davies_bouldin": metrics.davies_bouldin_score(values, clusters),
            "calinski_harabasz": metrics.calinski_harabasz_score(values, clusters),
            "clusters": 3,
            "noise": 9,
        }
    )
    found = silhouettes(matrix.values, labels)
    assert np.isnan(found[~inside]).all()
    assert found[inside] == pytest.approx(metrics.silhouette_samples(values, clusters))


def test_silhouette_by_hand():
    # of 0: own cluster 1 away, the other (10 + 12) / 2; of 10: 2 and (10 + 9) / 2
    found = silhouettes([[0.0], [1.0], [10.0], [12.0]], [0, 0, 1, 1])
    assert found == pytest.approx([10 / 11, 9 / 10, 7.5 / 9.5, 9.5 / 11.5])


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2], [-1, -1, -1], [-1, 0, 0]])
def test_undefined_scores_are_nan(labels):
    values = [[0.0], [1.0], [3.0]]
    scores = internal_scores(values, labels)
    assert all(math.isnan(scores[name]) for name in ("silhouette", "davies_bouldin", "calinski_harabasz"))
    assert np.isnan(silhouettes(values, labels)).all()


def test_purity_and_accuracy_by_hand():
    labels = [0, 0, 0, 1, 1, 2, 2, 2]
    classes = ["rod", "rod", "sheet", "sheet", "sheet", "rod", "rod", "sheet"]
    scores = external_scores(labels, classes)
    assert scores["purity"] == pytest.approx((2 + 2 + 2) / 8)
    assert scores["accuracy"] == pytest.approx((2 + 2) / 8)
    assert scores["ari"] == pytest.approx(metrics.adjusted_rand_score(classes, labels))
    assert scores["nmi"] == pytest.approx(metrics.normalized_mutual_info_score(classes, labels))


def test_renamed_classes_are_perfect_agreement():
    scores = external_scores([2, 2, 0, 1], [7, 7, 5, 9])
    assert scores == pytest.approx({"ari": 1, "nmi": 1, "purity": 1, "accuracy": 1, "known": 4})


@pytest.mark.parametrize("unknown", [None, float("nan"), pd.NA])
def test_unknown_classes_are_left_out(unknown):
    scores = external_scores([0, 0, 1, 1], ["a", "a", "b", unknown])
    assert scores == pytest.approx({"ari": 1, "nmi": 1, "purity": 1, "accuracy": 1, "known": 3})


def test_noise_is_a_cluster():
    assert external_scores([0, 0, -1, -1], "aabb")["ari"] == 1
    assert external_scores([0, 0, -1, -1], "abab")["purity"] == 0.5


def test_bad_scores():
    with pytest.raises(InvalidInputError, match="3 classes for labels of shape"):
        external_scores([0, 1], "abc")
    with pytest.raises(InvalidInputError, match="the class of no object is known"):
        external_scores([0, 1], [None, None])
    with pytest.raises(InvalidInputError, match="labels int64 of shape"):
        internal_scores([[0.0], [1.0]], [0, 1, 2])
    with pytest.raises(InvalidInputError, match="labels float64"):
        silhouettes([[0.0], [1.0]], [0.0, 1.0])


@pytest.mark.parametrize("method", ["seeds", "subsamples"])
def test_blobs_are_stable(method):
    found = stability(noisy(spread=0.2)[0], "kmeans", 3, method=method, repeats=4)
    assert (found.mean, found.minimum, len(found.scores)) == (1, 1, 6)


def test_a_cloud_is_not_stable():
    matrix = points(np.random.default_rng(0).random((60, 2)))
    assert stability(matrix, "aggloCl", 8, method="subsamples", repeats=3).mean < 0.95
    found = stability(matrix, "kmeans", 8, repeats=3, n_init=1)
    assert found.mean == pytest.approx(np.mean(found.scores))
    labels = [cluster(matrix, "kmeans", 8, seed, n_init=1).labels for seed in range(3)]
    expected = [metrics.adjusted_rand_score(labels[i], labels[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert found.scores == pytest.approx(expected)
    assert found.mean < 1


def test_an_algorithm_without_a_seed_runs_once(monkeypatch):
    calls = []
    monkeypatch.setattr(repeats, "cluster", lambda *args, **options: calls.append(1) or cluster(*args, **options))
    found = stability(noisy()[0], "aggloCl", 8, repeats=5)
    assert (found.mean, found.minimum, found.scores, len(calls)) == (1, 1, (1.0,) * 10, 1)
    stability(noisy()[0], "aggloCl", 8, method="subsamples", repeats=5)
    assert len(calls) == 6


def test_bad_repeats():
    matrix, _ = noisy()
    with pytest.raises(InvalidInputError, match="method='bootstrap' is not known"):
        stability(matrix, "kmeans", 3, method="bootstrap")
    with pytest.raises(InvalidInputError, match="repeats=1; expected a whole number of at least 2"):
        stability(matrix, "kmeans", 3, repeats=1)
    with pytest.raises(InvalidInputError, match=r"fraction=0\.5; expected a number above 0\.5"):
        stability(matrix, "kmeans", 3, fraction=0.5)
    with pytest.raises(InvalidInputError, match="n_clusters=50 of 60 objects, but a subsample has only 48"):
        stability(matrix, "kmeans", 50, method="subsamples")


def test_medoids_and_farthest_members():
    matrix, _ = noisy(spread=3.0)
    result = cluster(matrix, "kmeans", 3)
    for number, found in enumerate(representatives(matrix, result, farthest=4)):
        rows = np.flatnonzero(result.labels == number)
        distances = cdist(matrix.values[rows], matrix.values[rows])
        assert found.medoid == matrix.ids[rows[distances.sum(1).argmin()]]
        far = rows[np.argsort(-result.distances[rows])]
        assert list(found.farthest) == [i for i in matrix.ids[far] if i != found.medoid][:4]


def test_representatives_of_small_clusters():
    matrix = points([[0.0], [0.1], [9.0]])
    first, second = representatives(matrix, cluster(matrix, "kmeans", 2))
    assert (first.medoid, first.farthest) == (1, (2,))
    assert (second.medoid, second.farthest) == (3, ())


def test_table_and_csv(tmp_path):
    values, ids = np.array([[0.0], [1.0], [50.0], [9.0], [10.0]]), np.arange(5) + 2**62
    matrix = FeatureMatrix(ids, values, ("f.a",), {"f": slice(0, 1)})
    result = cluster(matrix, "dbscan", eps=2.0, min_samples=2)
    table = cluster_table(matrix, result)
    assert list(table.columns) == ["id", "cluster", "silhouette", "distance_to_center"]
    write_clusters(table, tmp_path / "out" / "clusters.csv")
    text = (tmp_path / "out" / "clusters.csv").read_text().splitlines()
    assert text[3] == f"{2**62 + 2},-1,,"
    read = pd.read_csv(tmp_path / "out" / "clusters.csv")
    assert read["id"].tolist() == ids.tolist()
    assert read["cluster"].tolist() == [0, 0, -1, 1, 1]
    assert read["distance_to_center"].tolist() == pytest.approx([0.5, 0.5, math.nan, 0.5, 0.5], nan_ok=True)
    pd.testing.assert_frame_equal(read, table)


def test_clusters_of_other_objects():
    matrix = points([[0.0], [1.0], [9.0]])
    other = ClusterResult(np.array([1, 2]), np.array([0, 0]), np.zeros((1, 1)), np.zeros(2), "kmeans", {})
    with pytest.raises(InvalidInputError, match="the clusters are of 2 objects, the features of 3 others"):
        cluster_table(matrix, other)
    with pytest.raises(InvalidInputError, match="farthest=-1"):
        representatives(matrix, cluster(matrix, "kmeans", 2), farthest=-1)


def test_pca_keeps_distances_of_a_plane():
    rng = np.random.default_rng(0)
    flat = rng.random((20, 2)) @ np.linalg.qr(rng.random((5, 5)))[0][:2]
    assert pdist(embed(points(flat))) == pytest.approx(pdist(flat))


def test_pca_of_one_column_and_one_object():
    placed = embed(points([[1.0], [3.0]]))
    assert np.abs(placed).tolist() == pytest.approx(np.array([[1, 0], [1, 0]]))
    assert embed(points([[1.0, 2.0, 3.0]])).tolist() == [[0, 0]]


def test_bad_embeddings():
    matrix = points(np.eye(3))
    with pytest.raises(InvalidInputError, match="method='tsne' is not known"):
        embed(matrix, "tsne")
    with pytest.raises(InvalidInputError, match="UMAP of 3 objects"):
        embed(matrix, "umap")
    with pytest.raises(InvalidInputError, match=r"options \['n_neighbors'\] of the embedding 'pca'"):
        embed(matrix, n_neighbors=3)


@pytest.mark.slow
def test_umap_keeps_blobs_apart():
    matrix, truth = noisy(spread=0.2)
    placed = embed(matrix, "umap", seed=1, n_neighbors=8)
    assert metrics.silhouette_score(placed, truth) > 0.7
    assert np.array_equal(placed, embed(matrix, "umap", seed=1, n_neighbors=8))
    assert embed(points(np.eye(4)), "umap").shape == (4, 2)
    with pytest.raises(InvalidInputError, match="option of umap='perplexity' is not known"):
        embed(matrix, "umap", perplexity=3)
